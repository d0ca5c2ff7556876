//! Putting a restored folder in its place by renames alone, found again after kill -9 at any point.
//!
//! ```text
//! place                     what is there now
//! place.muster-restore-ID   what is restored, until it is whole
//! place.muster-kept-ID      what was there before
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use muster_common::id::CommandId;

/// Where the restored folder is built.
pub fn staging(place: &Path, command: CommandId) -> PathBuf {
    beside(place, &format!(".muster-restore-{command}"))
}

/// Where what was there is kept.
pub fn kept(place: &Path, command: CommandId) -> PathBuf {
    beside(place, &format!(".muster-kept-{command}"))
}

/// Whether `path` is a kept copy of `place`.
pub fn is_kept(place: &Path, path: &Path) -> bool {
    let prefix = beside(place, ".muster-kept-");
    let id = path.as_os_str().as_encoded_bytes().strip_prefix(prefix.as_os_str().as_encoded_bytes());
    id.and_then(|id| std::str::from_utf8(id).ok()).is_some_and(|id| id.parse::<CommandId>().is_ok())
}

/// Puts `staging` in `place`; what is there goes to `kept` where that is asked for. May be called again after a crash within it:
/// it finds how far it came. Where the new folder cannot be put in place, the old one is put back.
pub fn swap(place: &Path, staging: &Path, kept: Option<&Path>) -> io::Result<()> {
    if !exists(staging)? {
        // The last rename was done before.
        return sync(place);
    }
    if let Some(kept) = kept
        && !exists(kept)?
    {
        fs::rename(place, kept)?;
        sync(place)?;
    }
    muster_failpoint::hit("engine-files.swap").map_err(io::Error::other)?;
    if let Err(error) = fs::rename(staging, place) {
        if let Some(kept) = kept {
            fs::rename(kept, place)?;
            sync(place)?;
        }
        return Err(error);
    }
    sync(place)
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names beside `place` durable.
fn sync(place: &Path) -> io::Result<()> {
    File::open(place.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = place.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    place.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CommandId {
        CommandId::from_bytes([n; 16])
    }

    #[test]
    fn only_kept_copies_of_the_very_folder_are_kept_copies() {
        let place = Path::new("/srv/files");
        assert!(is_kept(place, &kept(place, id(1))));
        for other in ["/srv/files", "/srv/files.muster-kept-x", "/srv/other.muster-kept-01010101010101010101010101010101", "/etc"] {
            assert!(!is_kept(place, Path::new(other)), "{other}");
        }
        assert!(!is_kept(place, &kept(place, id(1)).join("below")));
        assert!(!is_kept(place, &staging(place, id(1))));
    }

    #[test]
    fn a_swap_that_was_cut_between_its_renames_is_finished_and_one_that_is_done_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("files");
        let (staging, kept) = (staging(&place, id(1)), kept(&place, id(1)));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("old"), "").unwrap();
        fs::create_dir(&staging).unwrap();
        fs::write(staging.join("new"), "").unwrap();
        for _ in 0..2 {
            swap(&place, &staging, Some(&kept)).unwrap();
            assert!(place.join("new").exists() && kept.join("old").exists() && !staging.exists());
        }
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_the_old_one_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("files");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("old"), "").unwrap();
        let (staging, kept) = (staging(&place, id(1)), kept(&place, id(1)));
        // A file cannot be renamed into the parent of a folder that is in use as a name with a trailing part.
        fs::create_dir(&staging).unwrap();
        let impossible = place.join("below").join("too-deep");
        assert!(swap(&impossible, &staging, None).is_err());
        swap(&place, &staging, Some(&kept)).unwrap();
        assert!(kept.join("old").exists());
    }
}
