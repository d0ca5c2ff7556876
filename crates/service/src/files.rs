//! Small files that must be whole or absent: the one place that writes them.
//!
//! What always holds: a reader sees the old bytes or the new ones, never a part; when a write returns, the new ones survive a
//! power cut. It is for files of kilobytes and blocks: on a runtime, call it on a blocking thread where latency counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::RngExt;

/// A file that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub act: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    fn at(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { act, path, source }
    }

    /// Whether the file or its folder does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Replaces or makes the file `path` with exactly `bytes` and the permission bits `mode` (0o600 for secrets).
///
/// A temporary file beside it takes the bytes, is fsynced, renamed over it, and the folder is fsynced.
///
/// # Errors
/// Where any of that fails; the temporary file is removed and the old file stands.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path).map_err(FileError::at("rename to", path)));
    if let Err(error) = written {
        // The write has failed already and is told; what cannot be removed is found by `remove_temporaries`.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    sync_folder(folder_of(path))
}

/// Makes the file `path` with these bytes and refuses to replace one that is there.
///
/// # Errors
/// `AlreadyExists` where there is one, else as [`write_atomically`].
pub fn create_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::hard_link(&temporary, path).map_err(FileError::at("create", path)));
    let removed = fs::remove_file(&temporary).map_err(FileError::at("remove", &temporary));
    written.and(removed)?;
    sync_folder(folder_of(path))
}

/// Makes a folder and its parents, readable by its owner alone, and makes that durable.
///
/// # Errors
/// Where it cannot be made, or something else stands there.
pub fn create_private_folder(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileError::at("create", path))?;
    missing.iter().try_for_each(|made| sync_folder(folder_of(made)))
}

/// Reads a file of at most `limit` bytes as text.
///
/// # Errors
/// Where it cannot be read, is longer, or is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    use std::io::Read;
    let mut text = String::new();
    let file = File::open(path).map_err(FileError::at("read", path))?;
    file.take(limit.saturating_add(1)).read_to_string(&mut text).map_err(FileError::at("read", path))?;
    if text.len() as u64 > limit {
        return Err(FileError::at("read", path)(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {limit} bytes"))));
    }
    Ok(text)
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// Where it cannot be opened or synced.
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(FileError::at("sync", path))
}

/// Removes what killed processes left half-written in a folder. Call it at start, before anything is written there.
///
/// # Errors
/// Where the folder cannot be listed or a file not removed.
pub fn remove_temporaries(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::at("list", folder))? {
        let path = entry.map_err(FileError::at("list", folder))?.path();
        if path.extension().is_some_and(|end| end == "tmp")
            && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
        }
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o700).open(path).map_err(FileError::at("create", path))?;
    // The umask may have taken bits away that were asked for.
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(FileError::at("set the mode of", path))?;
    file.write_all(bytes).map_err(FileError::at("write", path))?;
    file.sync_all().map_err(FileError::at("sync", path))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{:016x}.tmp", rand::rng().random::<u64>()))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"x").unwrap();
        let error = write_atomically(&path, b"two", 0o600).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_exists_is_not_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        create_atomically(&path, b"one", 0o600).unwrap();
        let error = create_atomically(&path, b"two", 0o600).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn temporaries_of_a_killed_process_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".a.0000.tmp", "b.tmp", ".hidden"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        remove_temporaries(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".hidden", "b.tmp"]);
    }

    #[test]
    fn a_file_over_its_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert!(read_text(&path, 4).unwrap_err().to_string().contains("longer than 4 bytes"));
    }
}
