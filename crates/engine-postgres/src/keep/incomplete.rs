//! Data that are half-made: no permit is given for them and nothing starts them, until who began is done. A note beside the data
//! directory says so; inside of it `pg_rewind` would remove it.

use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::Rejoined;
use serde::{Deserialize, Serialize};

use crate::keep::io;
use crate::restore::folders;

/// How far a rejoin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The data are as they were, or recovered on their own line; what a second attempt needs is being saved.
    Preparing,
    /// All that is needed to begin again is saved; files are being replaced.
    Rewinding,
    /// There were no data; they are being copied from the writer.
    Copying,
}

/// The note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// How far it is.
    pub phase: Phase,
    /// What was measured before anything was changed.
    pub measured: Rejoined,
    /// The writer's timeline then.
    pub timeline: u32,
    /// Where the log and the configuration are saved.
    pub aside: PathBuf,
}

/// Where the note lies.
#[must_use]
pub fn path(data: &Path) -> PathBuf {
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    data.with_file_name(format!("{name}.muster-incomplete"))
}

/// Whether the data are half-made. What cannot be looked at counts so.
#[must_use]
pub fn is(data: &Path) -> bool {
    match path(data).symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != Io::NotFound,
    }
}

/// The note that is there.
///
/// # Errors
/// Where it cannot be read, or is none of this version.
pub fn read(data: &Path) -> Result<Option<Note>, Fault> {
    let path = path(data);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == Io::NotFound => return Ok(None),
        Err(error) => return Err(io("read", &path, &error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("{}: {error}", path.display()))
            .hint("move the data and that note aside, make the folder again, empty, and rejoin: it is copied from the writer")
    })
}

/// Writes it; durable when it returns.
///
/// # Errors
/// Where it cannot be written.
pub fn keep(data: &Path, note: &Note) -> Result<(), Fault> {
    let path = path(data);
    let bytes = serde_json::to_vec(note).map_err(|error| Fault::refused(ErrorKind::Internal, error.to_string()))?;
    folders::write(&path, &bytes)?;
    path.parent().map_or(Ok(()), folders::sync)
}

/// The data are whole. Done already is done.
///
/// # Errors
/// Where the note cannot be removed.
pub fn end(data: &Path) -> Result<(), Fault> {
    let path = path(data);
    folders::remove(&path)?;
    path.parent().map_or(Ok(()), folders::sync)
}

/// Refuses half-made data.
///
/// # Errors
/// [`ErrorKind::FailedPrecondition`].
pub fn refuse(data: &Path) -> Result<(), Fault> {
    if !is(data) {
        return Ok(());
    }
    Err(Fault::refused(
        ErrorKind::FailedPrecondition,
        format!("{} is half-made: a rejoin was begun and not finished ({})", data.display(), path(data).display()),
    )
    .hint("muster rejoin NAME goes on with it; where it cannot, move the data and that note aside, make the folder again, empty, and rejoin: it is copied from the writer"))
}
