//! Folders on the way: made durable, marked as ours, emptied, measured, moved. Each act may be done again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};

use crate::restore::note::Swap;
use crate::wal_get;

/// The file inside of the restore's folder that names the command which builds a data directory.
const MARK: &str = "command";

/// A failure of the file system as a fault.
#[must_use]
pub fn io_fault(doing: &str, path: &Path, error: &io::Error) -> Fault {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (ErrorKind::ResourceExhausted, "free space there, then restore again"),
        _ => (ErrorKind::FailedPrecondition, "see that the agent's user owns the folder and the one above it"),
    };
    Fault::failed(kind, format!("{doing} {}: {error}", path.display())).hint(hint)
}

/// Makes a folder for the server's owner alone, and those above it.
///
/// # Errors
/// Where that fails.
pub fn make(path: &Path, mode: u32) -> Result<(), Fault> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| io_fault("make", path, &error))
}

/// Makes what a folder or file holds durable.
///
/// # Errors
/// Where that fails.
pub fn sync(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| io_fault("sync", path, &error))
}

/// Writes a file whole and durably; its folder is synced by whoever knows when.
///
/// # Errors
/// Where that fails.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    use io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: io::Error| io_fault("write", path, &error);
    let next = path.with_extension("muster-next");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&next).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&next, path).map_err(failed)
}

/// Puts the mark of `command` into a data directory that is being built.
///
/// # Errors
/// Where that fails.
pub fn mark(data: &Path, command: &str) -> Result<(), Fault> {
    let folder = data.join(wal_get::FOLDER);
    make(&folder, 0o700)?;
    write(&folder.join(MARK), command.as_bytes())?;
    sync(&folder)?;
    sync(data)
}

/// The command whose mark a data directory bears.
#[must_use]
pub fn marked_by(data: &Path) -> Option<String> {
    fs::read_to_string(data.join(wal_get::FOLDER).join(MARK)).ok()
}

/// Removes everything in a folder, `pg_control` and the mark being the first and the last of it: what is left half removed
/// can neither start nor be taken for somebody else's.
///
/// # Errors
/// Where something cannot be removed.
pub fn empty(folder: &Path) -> Result<(), Fault> {
    remove_file(&folder.join("global/pg_control"))?;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_fault("list", folder, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| io_fault("list", folder, &error))?;
        if entry.file_name() != wal_get::FOLDER && entry.file_name() != "lost+found" {
            remove(&entry.path())?;
        }
    }
    remove(&folder.join(wal_get::FOLDER))
}

/// Removes a file or a folder with all that is in it. Gone is fine.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(path: &Path) -> Result<(), Fault> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_fault("remove", path, &error)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_fault("remove", path, &error)),
        _ => Ok(()),
    }
}

/// True where a folder is absent or holds nothing but `lost+found`.
///
/// # Errors
/// Where it cannot be listed, or is no folder.
pub fn is_free(path: &Path) -> Result<bool, Fault> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(entries.flatten().all(|entry| entry.file_name() == "lost+found")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_fault("list", path, &error)),
    }
}

/// The bytes that a folder's files take; symbolic links are not followed. What vanishes meanwhile counts nothing.
#[must_use]
pub fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| size(&entry.path())).sum())
}

/// The nearest folder above `path` that exists.
#[must_use]
pub fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|above| above.is_dir()).map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// The device of the nearest folder that exists, and the bytes that are free there for this user.
#[must_use]
pub fn free(path: &Path) -> (u64, u64) {
    let there = existing(path);
    let bytes = rustix::fs::statvfs(&there).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    (fs::metadata(&there).map_or(0, |meta| meta.dev()), bytes)
}

fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    fs::rename(from, to).map_err(|error| io_fault(&format!("move {} to", from.display()), to, &error))?;
    for folder in [from.parent(), to.parent()].into_iter().flatten() {
        sync(folder)?;
    }
    Ok(())
}

impl Swap {
    /// Moves what is there aside, as long as the new one waits.
    ///
    /// # Errors
    /// Where a folder cannot be moved, or something stands where the old one goes.
    pub fn move_aside(&self) -> Result<(), Fault> {
        let Some(old) = &self.old else { return Ok(()) };
        if self.new.exists() && self.current.exists() {
            if old.exists() {
                return Err(Fault::failed(ErrorKind::Conflict, format!("{} and {} both exist", self.current.display(), old.display()))
                    .hint("find out which of the two is wanted and move the other one away"));
            }
            rename(&self.current, old)?;
        }
        Ok(())
    }

    /// Puts the new one in its place.
    ///
    /// # Errors
    /// Where the folder cannot be moved.
    pub fn move_in(&self) -> Result<(), Fault> {
        if self.new.exists() { rename(&self.new, &self.current) } else { Ok(()) }
    }

    /// Puts the old one back; the new one goes back to where it was built.
    ///
    /// # Errors
    /// Where a folder cannot be moved.
    pub fn put_back(&self) -> Result<(), Fault> {
        let moved_in = !self.new.exists() && self.current.exists();
        let old_waits = self.old.as_ref().is_some_and(|old| old.exists());
        if moved_in && (old_waits || self.old.is_none()) {
            rename(&self.current, &self.new)?;
        }
        match &self.old {
            Some(old) if old.exists() => rename(old, &self.current),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(folder: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path.join("who")).unwrap()))
            .collect();
        found.sort();
        found
    }

    fn world(with_old: bool) -> (tempfile::TempDir, Swap) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, made) in [("data", with_old), ("data.new", true)] {
            if made {
                fs::create_dir(at(name)).unwrap();
                fs::write(at(name).join("who"), name).unwrap();
            }
        }
        let swap = Swap { current: at("data"), new: at("data.new"), old: with_old.then(|| at("data.old")) };
        (folder, swap)
    }

    fn expect(folder: &Path, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(there(folder), expected);
    }

    #[test]
    fn a_swap_goes_forward_and_back_from_wherever_it_was_left() {
        for again in 1..3 {
            let (folder, swap) = world(true);
            for step in [Swap::move_aside, Swap::move_in] {
                for _ in 0..again {
                    step(&swap).unwrap();
                }
            }
            expect(folder.path(), &[("data", "data.new"), ("data.old", "data")]);
            for _ in 0..again {
                swap.move_aside().unwrap();
                swap.move_in().unwrap();
            }
            expect(folder.path(), &[("data", "data.new"), ("data.old", "data")]);
            for _ in 0..again {
                swap.put_back().unwrap();
            }
            expect(folder.path(), &[("data", "data"), ("data.new", "data.new")]);
        }
        let (folder, swap) = world(true);
        swap.move_aside().unwrap();
        swap.put_back().unwrap();
        expect(folder.path(), &[("data", "data"), ("data.new", "data.new")]);
        swap.put_back().unwrap();
        expect(folder.path(), &[("data", "data"), ("data.new", "data.new")]);
    }

    #[test]
    fn where_nothing_was_nothing_is_put_back() {
        let (folder, swap) = world(false);
        swap.move_aside().unwrap();
        swap.move_in().unwrap();
        expect(folder.path(), &[("data", "data.new")]);
        swap.put_back().unwrap();
        swap.put_back().unwrap();
        expect(folder.path(), &[("data.new", "data.new")]);
    }

    #[test]
    fn an_emptied_folder_loses_its_control_file_first_and_its_mark_last() {
        let folder = tempfile::tempdir().unwrap();
        mark(folder.path(), "abc").unwrap();
        fs::create_dir_all(folder.path().join("global")).unwrap();
        fs::write(folder.path().join("global/pg_control"), "x").unwrap();
        assert_eq!(marked_by(folder.path()), Some("abc".into()));
        assert!(!is_free(folder.path()).unwrap());
        assert_eq!(size(folder.path()), 4);
        empty(folder.path()).unwrap();
        assert!(is_free(folder.path()).unwrap() && is_free(&folder.path().join("absent")).unwrap());
    }
}
