//! Writes a point's files to where the data directory is built. Touches nothing that was there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::counters::Counters;
use muster_repository::entry::{Group, RelPath};
use muster_repository::reading::Point;
use muster_repository::restoring::{Extract, ExtractOptions};

use crate::backup::{cancelled, failpoint, tell_trouble};
use crate::restore::folders::{self, io_fault};
use crate::restore::plan::Layout;
use crate::wal_get;

/// Ranged reads at once.
const IN_FLIGHT: usize = 12;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// A configuration file is at most this large.
const MAX_CONFIG: u64 = 1 << 20;

/// Where each part of a point goes.
struct Destinations<'a> {
    layout: &'a Layout,
}

impl Destinations<'_> {
    /// `None`: this restore does not write it.
    fn of(&self, group: Group, path: &RelPath) -> Option<PathBuf> {
        let building = self.layout.building();
        match group {
            Group::Data => Some(building.join(path.as_path())),
            Group::Wal => Some(building.join(wal_get::FOLDER).join(wal_get::LOG_FOLDER).join(path.as_path())),
            Group::Config => None,
            Group::Tablespace(oid) => {
                let place = self.layout.tablespaces.iter().find(|place| place.oid == oid)?;
                let inner = path.as_path().strip_prefix(&place.version_folder).ok()?;
                Some(if inner.as_os_str().is_empty() { place.swap.new.clone() } else { place.swap.new.join(inner) })
            }
        }
    }
}

/// Removes what an interrupted run left, makes the folders and links. Everything made is marked as `command`'s.
///
/// # Errors
/// Where the file system refuses.
pub fn prepare(point: &Point, layout: &Layout, command: &str) -> Result<(), Fault> {
    clear(layout)?;
    let building = layout.building();
    folders::make(building, 0o700)?;
    // The server wants 0700 or 0750: what was there stays as it was.
    let mode =
        layout.data_swap.as_ref().and_then(|swap| fs::metadata(&swap.current).ok()).map_or(0o700, |meta| meta.permissions().mode() & 0o750);
    fs::set_permissions(building, fs::Permissions::from_mode(mode)).map_err(|error| io_fault("set the mode of", building, &error))?;
    folders::mark(building, command)?;
    folders::make(&building.join(wal_get::FOLDER).join(wal_get::LOG_FOLDER), 0o700)?;
    for place in &layout.tablespaces {
        folders::make(&place.location, 0o700)?;
        folders::make(&place.swap.new, 0o700)?;
    }
    let destinations = Destinations { layout };
    for folder in &point.folders {
        if let Some(path) = destinations.of(folder.group, &folder.path) {
            folders::make(&path, folder.mode & 0o777 | 0o700)?;
        }
    }
    for link in &point.symlinks {
        if let Some(path) = destinations.of(link.group, &link.path) {
            let target = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&link.target));
            symlink(target, &path).map_err(|error| io_fault("make the link", &path, &error))?;
        }
    }
    for place in &layout.tablespaces {
        let link = building.join("pg_tblspc").join(place.oid.to_string());
        symlink(&place.location, &link).map_err(|error| io_fault("make the link", &link, &error))?;
    }
    Ok(())
}

/// Removes what a restore built so far.
///
/// # Errors
/// Where something cannot be removed.
pub fn clear(layout: &Layout) -> Result<(), Fault> {
    for place in &layout.tablespaces {
        folders::remove(&place.swap.new)?;
    }
    match &layout.data_swap {
        Some(swap) => {
            folders::empty(&swap.new)?;
            folders::remove(&swap.new)
        }
        None => folders::empty(&layout.data),
    }
}

/// Writes the files. Every file is durable when this returns.
///
/// # Errors
/// Damage in the repository (everything else is written), the file system's refusals, a cancellation.
pub async fn files(work: &Work, open: &OpenRepository, point: &Point, layout: &Layout) -> Result<(), Fault> {
    let destinations = Destinations { layout };
    let jobs: Vec<Extract> = point
        .files
        .iter()
        .enumerate()
        .filter_map(|(file, found)| Some(Extract { file, destination: destinations.of(found.entry.group, &found.entry.path)? }))
        .collect();
    let counters = Arc::new(Counters::default());
    let total: u64 = point.files.iter().map(|file| file.size).sum();
    let files_total = jobs.len() as u64;
    let options = ExtractOptions { threads: work.threads.clamp(1, 64), in_flight: IN_FLIGHT, cancel: work.cancel.clone(), fsync: true };
    let mut extracting = std::pin::pin!(point.extract(jobs, options, &counters));
    let mut tick = tokio::time::interval(TICK);
    let extracted = loop {
        tokio::select! {
            done = &mut extracting => break done,
            _ = tick.tick() => {
                let waiting = tell_trouble(work, open);
                work.tell(|progress| {
                    if !waiting {
                        progress.phase = "fetching".into();
                    }
                    progress.bytes_done = counters.bytes_done.load(Ordering::Relaxed);
                    progress.bytes_total = total;
                    progress.files_done = counters.files_done.load(Ordering::Relaxed);
                    progress.files_total = files_total;
                });
            }
        }
    };
    if work.cancel.is_cancelled() {
        return Err(cancelled());
    }
    extracted.map(drop).map_err(|error| error.fault())?;
    failpoint("postgres.restore.fetched")
}

/// The point's configuration files from outside of the data directory, by their absolute path.
///
/// # Errors
/// Damage in the repository.
pub async fn configuration(point: &Point) -> Result<BTreeMap<PathBuf, Vec<u8>>, Fault> {
    let mut found = BTreeMap::new();
    for (number, file) in point.files.iter().enumerate().filter(|(_, file)| file.entry.group == Group::Config) {
        let bytes = point.read_small(number, MAX_CONFIG).await.map_err(|error| error.fault())?;
        found.insert(Path::new("/").join(file.entry.path.as_path()), bytes);
    }
    Ok(found)
}

/// The names of the log files that there are, for the helper's list.
#[must_use]
pub fn log_files(point: &Point) -> Vec<String> {
    point.files.iter().filter(|file| file.entry.group == Group::Wal).map(|file| file.entry.path.to_string()).collect()
}

/// Makes all folders below the built ones durable; their files are.
///
/// # Errors
/// Where a folder cannot be synced.
pub fn sync_all(point: &Point, layout: &Layout) -> Result<(), Fault> {
    let destinations = Destinations { layout };
    for folder in &point.folders {
        if let Some(path) = destinations.of(folder.group, &folder.path) {
            folders::sync(&path)?;
        }
    }
    for place in &layout.tablespaces {
        folders::sync(&place.swap.new)?;
        folders::sync(&place.location)?;
    }
    let own = layout.building().join(wal_get::FOLDER);
    for path in [&own.join(wal_get::LOG_FOLDER), &own, layout.building(), layout.building().parent().unwrap_or(layout.building())] {
        folders::sync(path)?;
    }
    Ok(())
}

/// Refuses a point that lacks what no data directory lacks.
///
/// # Errors
/// Data loss, with what is missing.
pub fn check_whole(point: &Point) -> Result<(), Fault> {
    for needed in ["PG_VERSION", "base/1/PG_VERSION", "global/pg_filenode.map"] {
        let there = point.files.iter().any(|file| file.entry.group == Group::Data && file.entry.path.as_bytes() == needed.as_bytes());
        if !there {
            return Err(Fault::refused(ErrorKind::DataLoss, format!("the recovery point lacks {needed}"))
                .hint("take another point; run a check of the repository"));
        }
    }
    Ok(())
}
