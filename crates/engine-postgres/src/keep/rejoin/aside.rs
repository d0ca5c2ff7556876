//! What is kept beside the data while they are rewound: their log, which `pg_rewind` reads and removes, and their configuration, which
//! it replaces by the writer's. After it the log after the fork stays: it is what only this instance held.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;

use crate::keep::io;
use crate::restore::folders;
use crate::wal::SegmentSize;

const LOG: &str = "pg_wal";
const CONFIGURATION: &str = "configuration";

/// Saves log and configuration. Begun again, it goes on. Blocks.
///
/// # Errors
/// Where there is no space, or a file cannot be copied.
pub fn save(data: &Path, aside: &Path, size: SegmentSize, configuration: &Path) -> Result<(), Fault> {
    let (from, to) = (data.join(LOG), aside.join(LOG));
    let files = log_files(&from, size)?;
    let needed: u64 = files.iter().map(|path| folders::size(path)).sum();
    let (_, free) = folders::free(aside);
    if free < needed.saturating_add(needed / 10) {
        return Err(Fault::refused(
            ErrorKind::ResourceExhausted,
            format!("keep what only {} held: {needed} bytes of log are copied to {}, {free} are free", data.display(), aside.display()),
        )
        .hint("free space there, then rejoin again; or move the data aside, make the folder again, empty, and rejoin: it is copied from the writer"));
    }
    for folder in [&to, &aside.join(CONFIGURATION)] {
        folders::make(folder, 0o700)?;
    }
    for path in files {
        copy(&path, &to)?;
    }
    // A configuration elsewhere is not touched.
    let inside = configuration.starts_with(data);
    for path in if inside { configurations(data)? } else { vec![data.join("postgresql.auto.conf")] } {
        copy(&path, &aside.join(CONFIGURATION))?;
    }
    folders::sync(&to)?;
    folders::sync(&aside.join(CONFIGURATION))?;
    folders::sync(aside)
}

/// Puts the saved log back where `pg_rewind` reads it. Blocks.
///
/// # Errors
/// Where a file cannot be copied.
pub fn put_log_back(data: &Path, aside: &Path) -> Result<(), Fault> {
    copy_all(&aside.join(LOG), &data.join(LOG))
}

/// Puts this instance's own configuration back. Blocks.
///
/// # Errors
/// Where a file cannot be copied.
pub fn put_configuration_back(data: &Path, aside: &Path) -> Result<(), Fault> {
    let from = aside.join(CONFIGURATION);
    if from.is_dir() { copy_all(&from, data) } else { Ok(()) }
}

/// Removes all but the log from the fork on. Blocks.
///
/// # Errors
/// Where a file cannot be removed.
pub fn keep_only_what_left(aside: &Path, size: SegmentSize, fork: Lsn) -> Result<(), Fault> {
    folders::remove(&aside.join(CONFIGURATION))?;
    let log = aside.join(LOG);
    if !log.is_dir() {
        return Ok(());
    }
    for path in log_files(&log, size)? {
        let older =
            path.file_name().and_then(OsStr::to_str).and_then(|name| size.parse(name)).is_some_and(|at| at.number < size.number(fork));
        if older {
            folders::remove(&path)?;
        }
    }
    folders::sync(&log)
}

/// Segments and histories.
fn log_files(folder: &Path, size: SegmentSize) -> Result<Vec<PathBuf>, Fault> {
    let wanted = |name: &str| size.parse(name).is_some() || name.ends_with(".history");
    list(folder, wanted)
}

fn configurations(data: &Path) -> Result<Vec<PathBuf>, Fault> {
    list(data, |name| name.ends_with(".conf"))
}

fn list(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Fault> {
    let entries = fs::read_dir(folder).map_err(|error| io("list", folder, &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| io("list", folder, &error))?.path();
        if path.is_file() && path.file_name().and_then(OsStr::to_str).is_some_and(&wanted) {
            found.push(path);
        }
    }
    Ok(found)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Fault> {
    for path in list(from, |_| true)? {
        copy(&path, to)?;
    }
    folders::sync(to)
}

/// Copies a file into a folder, whole or not at all.
fn copy(path: &Path, folder: &Path) -> Result<(), Fault> {
    let Some(name) = path.file_name() else { return Ok(()) };
    if !path.exists() {
        return Ok(());
    }
    let to = folder.join(name);
    let next = folder.join(format!("{}.muster-next", name.to_string_lossy()));
    fs::copy(path, &next).map_err(|error| io("copy", path, &error))?;
    folders::sync(&next)?;
    fs::rename(&next, &to).map_err(|error| io("write", &to, &error))
}
