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
    let path = data.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == Io::NotFound => return Ok(false),
        Err(error) => return Err(io("read the mark", &path, &error)),
    };
    let Ok(found) = serde_json::from_slice::<Mark>(&bytes) else { return Ok(false) };
    Ok(found == of(keeping, data)?)
}
