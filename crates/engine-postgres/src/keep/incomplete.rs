//! Data that are half-made carry `muster.incomplete`: no permit is given for them and nothing starts them, until who made it is done.

use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};

use crate::restore::folders;

/// The file, in the data directory. It is left out of backups and ended by a restore, which builds the folder anew.
pub const FILE: &str = "muster.incomplete";

/// Whether the data are half-made.
#[must_use]
pub fn is(data: &Path) -> bool {
    data.join(FILE).symlink_metadata().is_ok()
}

/// Marks them so; durable when it returns.
///
/// # Errors
/// Where the file cannot be written.
pub fn begin(data: &Path, why: &str) -> Result<(), Fault> {
    folders::write(&data.join(FILE), why.as_bytes())?;
    folders::sync(data)
}

/// They are whole again.
///
/// # Errors
/// Where the file cannot be removed.
pub fn end(data: &Path) -> Result<(), Fault> {
    folders::remove(&data.join(FILE))?;
    folders::sync(data)
}

/// Refuses half-made data.
///
/// # Errors
/// [`ErrorKind::FailedPrecondition`], with what made them so.
pub fn refuse(data: &Path) -> Result<(), Fault> {
    if !is(data) {
        return Ok(());
    }
    let why = std::fs::read_to_string(data.join(FILE)).unwrap_or_default();
    Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} is half-made: {}", data.display(), why.trim()))
        .hint("rejoin the instance again, or restore it: muster rejoin NAME"))
}
