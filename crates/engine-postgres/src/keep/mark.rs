//! Muster's mark in the data directory: with it, a control file that is not there was lost, and the server is no foreign one.

use std::io::ErrorKind as Io;
use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::Keeping;
use serde::{Deserialize, Serialize};

use crate::keep::{io, position};
use crate::restore::folders;

/// The file, in the data directory.
pub const FILE: &str = "muster.mark";

/// Whose data these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    component: String,
    instance: String,
    system_id: u64,
}

fn of(keeping: &Keeping, data: &Path) -> Result<Mark, Fault> {
    let control = position::control(data)?;
    Ok(Mark { component: keeping.component.to_string(), instance: keeping.instance.to_string(), system_id: control.system_id })
}

/// Puts the mark of this instance there. Already there is there.
///
/// # Errors
/// Where it cannot be written.
pub fn put(keeping: &Keeping, data: &Path) -> Result<(), Fault> {
    if is(keeping, data)? {
        return Ok(());
    }
    let text = serde_json::to_vec(&of(keeping, data)?).map_err(|error| Fault::refused(ErrorKind::Internal, error.to_string()))?;
    folders::write(&data.join(FILE), &text)?;
    folders::sync(data)
}

/// Whether the data carry the mark of this very instance. A copy carries the one of what it was copied from, which counts nothing.
///
/// # Errors
/// Where it cannot be read.
pub fn is(keeping: &Keeping, data: &Path) -> Result<bool, Fault> {
    match read(data)? {
        Some(found) => Ok(found == of(keeping, data)?),
        None => Ok(false),
    }
}

/// The same, whatever cluster lies there now: a control file that is damaged is no obstacle.
///
/// # Errors
/// Where the mark cannot be read.
pub fn names(keeping: &Keeping, data: &Path) -> Result<bool, Fault> {
    let own = |found: &Mark| found.component == keeping.component.as_str() && found.instance == keeping.instance.as_str();
    Ok(read(data)?.is_some_and(|found| own(&found)))
}

fn read(data: &Path) -> Result<Option<Mark>, Fault> {
    let path = data.join(FILE);
    match std::fs::read(&path) {
        // What is no mark of ours is none.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(io("read the mark", &path, &error)),
    }
}
