//! What lies below a folder, in the order of its names. Links are not followed.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use muster_common::time::Timestamp;

/// The most entries that are backed up of one folder.
pub const MAX_ENTRIES: usize = 5_000_000;

/// One thing below the folder; `path` is relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where, relative.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// What.
    pub what: What,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file: its bytes and its time of change.
    File { bytes: u64, mtime: Timestamp },
    /// A folder.
    Folder,
    /// A symbolic link and its target, raw.
    Link { target: PathBuf },
    /// A socket, pipe or device: not backed up.
    Special,
}

/// Why a walk ended early.
#[derive(Debug)]
pub enum Ended {
    /// Something could not be read.
    Unreadable(PathBuf, io::Error),
    /// There are more than [`MAX_ENTRIES`].
    TooMany,
    /// The time was over.
    TooLong,
}

/// Calls `visit` for everything below `root`, until `deadline` where one is given. What vanishes meanwhile is left out.
pub fn walk(root: &Path, deadline: Option<Instant>, mut visit: impl FnMut(Found)) -> Result<(), Ended> {
    let mut folders = vec![PathBuf::new()];
    let mut seen = 0_usize;
    while let Some(folder) = folders.pop() {
        let absolute = root.join(&folder);
        let unreadable = |error| Ended::Unreadable(absolute.clone(), error);
        let mut names = Vec::new();
        let entries = match fs::read_dir(&absolute) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.as_os_str().is_empty() => continue,
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            names.push(entry.map_err(unreadable)?.file_name());
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(Ended::TooMany);
            }
        }
        names.sort();
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Ended::TooLong);
        }
        let mut below = Vec::new();
        for name in names {
            let path = folder.join(name);
            let Some(found) = look(root, &path)? else { continue };
            if found.what == What::Folder {
                below.push(path);
            }
            visit(found);
        }
        folders.extend(below.into_iter().rev());
    }
    Ok(())
}

fn look(root: &Path, path: &Path) -> Result<Option<Found>, Ended> {
    let absolute = root.join(path);
    let seen = fs::symlink_metadata(&absolute).and_then(|metadata| {
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            What::Folder
        } else if kind.is_file() {
            What::File { bytes: metadata.len(), mtime: mtime(&metadata) }
        } else if kind.is_symlink() {
            What::Link { target: fs::read_link(&absolute)? }
        } else {
            What::Special
        };
        Ok(Found { path: path.to_owned(), mode: metadata.permissions().mode() & 0o7777, what })
    });
    match seen {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Ended::Unreadable(absolute, error)),
    }
}

fn mtime(metadata: &fs::Metadata) -> Timestamp {
    Timestamp(metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1_000))
}
