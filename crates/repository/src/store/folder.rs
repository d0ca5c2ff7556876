//! A repository in a folder: temporary file, fsync, `link` (which never replaces), fsync of the folder.
//!
//! All work happens on the blocking pool. The folder itself is never made: a disk that is not mounted is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::{Failed, Listed, timestamp};
use crate::error::StoreErrorKind;
use crate::format::layout;

/// Temporary files lie here, in the same file system, and in no listing.
const TEMPORARY: &str = ".tmp";

/// No object takes this long to be written.
const LEFTOVER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct Folder {
    root: Arc<PathBuf>,
    config_required: AtomicBool,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root: Arc::new(root), config_required: AtomicBool::new(false) }
    }

    pub(super) fn require_config(&self) {
        self.config_required.store(true, Ordering::Relaxed);
    }

    pub(super) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<(), Failed> {
        let (root, path, guard) = (self.root.clone(), path.to_owned(), self.config_required.load(Ordering::Relaxed));
        blocking(move || {
            check_root(&root, guard)?;
            write(&root, &path, &bytes)
        })
        .await
    }

    pub(super) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, Failed> {
        let (root, path, guard) = (self.root.clone(), path.to_owned(), self.config_required.load(Ordering::Relaxed));
        blocking(move || {
            let file = File::open(root.join(&path)).map_err(|error| absent(&root, guard, &error))?;
            let length =
                usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| Failed(StoreErrorKind::Wrong, "too long".into()))?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, range.start).map_err(|error| failed(&error))?;
            Ok(bytes.into())
        })
        .await
    }

    pub(super) async fn look(&self, path: &str) -> Result<Listed, Failed> {
        let (root, path, guard) = (self.root.clone(), path.to_owned(), self.config_required.load(Ordering::Relaxed));
        blocking(move || {
            let meta = fs::metadata(root.join(&path)).map_err(|error| absent(&root, guard, &error))?;
            let modified = meta.modified().map(timestamp).map_err(|error| failed(&error))?;
            Ok(Listed { path, size: meta.len(), modified })
        })
        .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failed> {
        let (root, prefix, guard) = (self.root.clone(), prefix.to_owned(), self.config_required.load(Ordering::Relaxed));
        blocking(move || {
            check_root(&root, guard)?;
            let mut found = Vec::new();
            walk(&root, &prefix, &mut found)?;
            // A disk that went away meanwhile would have left some out, which then looked as if they were gone.
            check_root(&root, guard)?;
            Ok(found)
        })
        .await
    }

    pub(super) async fn remove_leftovers(&self) -> Result<(), Failed> {
        let folder = self.root.join(TEMPORARY);
        blocking(move || {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(&error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed(&error))?;
                let modified = entry.metadata().and_then(|meta| meta.modified()).map_err(|error| failed(&error))?;
                if modified.elapsed().is_ok_and(|age| age > LEFTOVER) {
                    fs::remove_file(entry.path()).map_err(|error| failed(&error))?;
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), Failed> {
        let (root, path, guard) = (self.root.clone(), path.to_owned(), self.config_required.load(Ordering::Relaxed));
        blocking(move || {
            let path = root.join(path);
            fs::remove_file(&path).map_err(|error| absent(&root, guard, &error))?;
            path.parent().map_or(Ok(()), sync_folder)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failed> + Send + 'static) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => Err(Failed(StoreErrorKind::Unavailable, format!("the process is ending: {ended}"))),
    }
}

fn failed(error: &std::io::Error) -> Failed {
    let kind = match error.kind() {
        ErrorKind::NotFound => StoreErrorKind::NotFound,
        ErrorKind::AlreadyExists => StoreErrorKind::AlreadyExists,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => StoreErrorKind::Full,
        ErrorKind::UnexpectedEof => StoreErrorKind::Wrong,
        ErrorKind::Unsupported => StoreErrorKind::Unsupported,
        // A network file system that is away, too many open files, an I/O error: asking again can help.
        _ => StoreErrorKind::Unavailable,
    };
    Failed(kind, error.to_string())
}

/// The folder has to be there, and with `guard` the repository in it: what was seen once is away, and can come back.
fn check_root(root: &Path, guard: bool) -> Result<(), Failed> {
    let away = if guard { StoreErrorKind::Unavailable } else { StoreErrorKind::NotFound };
    let meta = fs::metadata(root).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failed(away, format!("{} does not exist; is it mounted?", root.display())),
        _ => failed(&error),
    })?;
    if !meta.is_dir() {
        return Err(Failed(StoreErrorKind::Unsupported, format!("{} is no folder", root.display())));
    }
    if guard && !root.join(layout::CONFIG).exists() {
        let what = format!("{} holds no repository now; is it mounted?", root.display());
        return Err(Failed(StoreErrorKind::Unavailable, what));
    }
    Ok(())
}

/// An object that is absent from a repository that is absent is no missing object.
fn absent(root: &Path, guard: bool, error: &std::io::Error) -> Failed {
    match (error.kind(), check_root(root, guard)) {
        (ErrorKind::NotFound, Err(away)) => away,
        _ => failed(error),
    }
}

fn write(root: &Path, path: &str, bytes: &[u8]) -> Result<(), Failed> {
    let target = root.join(path);
    let folder = target.parent().ok_or_else(|| Failed(StoreErrorKind::Wrong, "no path".into()))?;
    make_folders(root, folder)?;
    let temporary_folder = root.join(TEMPORARY);
    make_folders(root, &temporary_folder)?;
    let temporary = temporary_folder.join(format!("{:032x}", rand::random::<u128>()));
    let written = write_and_link(&temporary, &target, bytes);
    // The temporary name goes in each case; what it held is linked, or was never there.
    let removed = fs::remove_file(&temporary);
    written?;
    removed.map_err(|error| failed(&error))?;
    sync_folder(folder)
}

fn write_and_link(temporary: &Path, target: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary).map_err(|error| failed(&error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    file.sync_all().map_err(|error| failed(&error))?;
    fs::hard_link(temporary, target).map_err(|error| match error.raw_os_error() {
        // EPERM, EOPNOTSUPP: the file system has no hard links.
        Some(1 | 95) => Failed(StoreErrorKind::Unsupported, format!("the file system has no hard links ({error})")),
        _ => failed(&error),
    })
}

/// Makes what is missing between `root` and `folder`, each made durable in its parent.
fn make_folders(root: &Path, folder: &Path) -> Result<(), Failed> {
    if folder.is_dir() || folder == root {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(root, parent)?;
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(parent)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), Failed> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))
}

fn walk(root: &Path, folder: &str, found: &mut Vec<Listed>) -> Result<(), Failed> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        // A name that is no UTF-8 is none of ours.
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let meta = match entry.metadata() {
            // Prune removed it since the folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|error| failed(&error))?,
        };
        if meta.is_dir() && path != TEMPORARY {
            walk(root, &path, found)?;
        } else if meta.is_file() {
            found.push(Listed { path, size: meta.len(), modified: meta.modified().map(timestamp).map_err(|error| failed(&error))? });
        }
    }
    Ok(())
}
