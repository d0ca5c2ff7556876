//! Removes what a restore in place moved aside: the old data directory and the version folders of its tablespaces.

use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::request::DiscardRequest;

use crate::backup::listing;
use crate::data_directory::{self, Postmaster};
use crate::engine::Postgres;
use crate::restore::{folders, plan};

/// What stands between the data directory's name and the command's id.
const ENDING: &str = ".muster-old-";

/// Removes it. Gone already is done.
///
/// # Errors
/// Where the path is none of this instance's kept directories, or cannot be removed.
pub async fn discard(instance: &Postgres, request: &DiscardRequest) -> Result<(), Fault> {
    let data = plan::real(&instance.config.data_directory);
    let path = request.path.clone();
    let command = command_of(&data, &path).ok_or_else(|| {
        Fault::refused(
            ErrorKind::InvalidArgument,
            format!("{} is no directory that a restore of {} kept aside", path.display(), instance.config.name),
        )
        .hint(format!("such directories are named {}{ENDING}<command>", data.display()))
    })?;
    let done = tokio::task::spawn_blocking(move || remove(&path, &command)).await;
    done.unwrap_or_else(|ended| Err(Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}"))))
}

/// The command's id in the name of a kept directory beside `data`.
fn command_of(data: &Path, path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let command = name.strip_prefix(data.file_name()?.to_str()?)?.strip_prefix(ENDING)?;
    let same = path.parent()?.canonicalize().ok()? == data.parent()?.canonicalize().ok()?;
    let id = command.len() == 32 && command.bytes().all(|b| b.is_ascii_hexdigit());
    (same && id).then(|| command.to_owned())
}

fn remove(path: &Path, command: &str) -> Result<(), Fault> {
    if !path.exists() {
        return Ok(());
    }
    if let Ok(Postmaster::Alive { pid, .. }) = data_directory::postmaster(path) {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("a server (process {pid}) runs in {}", path.display()))
            .hint("stop it first"));
    }
    // The links of the old directory still tell where its tablespaces are: they go first.
    for (_, location) in listing::tablespaces(path).unwrap_or_default() {
        let Ok(entries) = std::fs::read_dir(&location) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("PG_") && name.ends_with(&format!("{ENDING}{command}"))) {
                folders::remove(&entry.path())?;
            }
        }
    }
    folders::remove(path)?;
    folders::sync(path.parent().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_a_restore_kept_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let id = "ab".repeat(16);
        assert_eq!(command_of(&data, &folder.path().join(format!("data.muster-old-{id}"))), Some(id.clone()));
        for bad in ["data", "data.muster-old-", "data.muster-old-../../x", &format!("other.muster-old-{id}")] {
            assert_eq!(command_of(&data, &folder.path().join(bad)), None, "{bad}");
        }
        assert_eq!(command_of(&data, &Path::new("/tmp").join(format!("data.muster-old-{id}"))), None);
    }
}
