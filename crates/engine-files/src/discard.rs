//! Removes what a restore in place kept aside, and nothing else.

use std::fs;
use std::io;
use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};

use crate::engine::blocking;
use crate::swap;

/// Removes `path`, which must be a kept copy of `folder`. Gone already is done.
pub async fn discard(folder: &Path, path: &Path) -> Result<(), Fault> {
    if !swap::is_kept(folder, path) {
        let message = format!("discard {}: it is no folder that a restore of {} kept aside", path.display(), folder.display());
        return Err(Fault::refused(ErrorKind::InvalidArgument, message).hint("name the directory as the restore told it"));
    }
    let path = path.to_owned();
    blocking(move || match fs::remove_dir_all(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::failed(ErrorKind::FailedPrecondition, format!("discard {}: {error}", path.display()))
            .hint("see that the agent's user may remove everything in it, then discard it again")),
    })
    .await?
}
