//! Restoring files of a point: each pack is read in large ranges, frames are opened on several threads, files are written
//! in place once.
//!
//! What always holds: every frame is authenticated and named anew, every leaf's digest is computed from what was written;
//! what is damaged is told by pack and offset, and everything else is restored all the same.

mod plan;
mod worker;

use std::collections::{BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::error::{Error, StoreErrorKind};
use crate::reading::{LeafPlace, Point};

use plan::{FileState, Unit, Window};
use worker::{Fetched, Shared, Work};

/// A file to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Its number in [`Point::files`].
    pub file: usize,
    /// Where to. Its folder has to exist; a file that is there is emptied first, a symbolic link is refused.
    pub destination: PathBuf,
}

/// How to restore.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Threads that open frames and write, 1 to 64.
    pub threads: usize,
    /// Ranged reads at once, 1 to 64; each is up to 8 MiB.
    pub in_flight: usize,
    /// Stops it; what was written so far stays.
    pub cancel: CancellationToken,
    /// Whether each file is fsynced, and at the end each folder that got one.
    pub fsync: bool,
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractSummary {
    /// Files.
    pub files: u64,
    /// Their plain bytes.
    pub bytes: u64,
}

impl Point {
    /// Restores files. The caller makes folders and symbolic links; with `fsync` every file is durable when this returns, and so
    /// are the folders that files were made in. Mode and time of change are set. A file that is hurt stays as far as it could be
    /// restored, at its full length, and is named in the error.
    ///
    /// # Errors
    /// [`Error::DamagedFiles`] after everything else was restored; [`Error::Destination`], [`Error::Cancelled`], what a store can do.
    pub async fn extract(&self, jobs: Vec<Extract>, options: ExtractOptions, counters: &Arc<Counters>) -> Result<ExtractSummary, Error> {
        if !(1..=64).contains(&options.threads) || !(1..=64).contains(&options.in_flight) {
            return Err(Error::Invalid(format!("{} threads, {} reads in flight; expected 1 to 64", options.threads, options.in_flight)));
        }
        let summary = self.check_jobs(&jobs)?;
        let folders = if options.fsync { folders_of(&jobs) } else { BTreeSet::new() };
        let shared = Arc::new(Shared::new(self.tables.clone(), options.fsync, options.cancel.child_token(), counters.clone()));
        let (work, received) = mpsc::channel(options.threads * 2);
        let threads = worker::start(&shared, received, options.threads);
        let (units, planned) = mpsc::channel(options.in_flight * 2);
        let planning = plan_all(self, &shared, jobs, units, work.clone());
        let fetching = fetch_all(&shared, planned, work, options.in_flight);
        let both = async { tokio::join!(planning, fetching) };
        let (planned, fetched) = tokio::select! {
            both = both => both,
            () = shared.stop.cancelled() => (Ok(()), Ok(())),
        };
        for ended in [planned, fetched] {
            ended.unwrap_or_else(|error| shared.fail(error));
        }
        threads.join().await?;
        shared.check()?;
        if options.fsync {
            sync_folders(folders).await?;
        }
        match shared.damaged() {
            Some(damaged) => Err(Error::DamagedFiles(Arc::new(damaged))),
            None => Ok(summary),
        }
    }

    fn check_jobs(&self, jobs: &[Extract]) -> Result<ExtractSummary, Error> {
        let mut hashes = Vec::with_capacity(jobs.len());
        let mut summary = ExtractSummary::default();
        for job in jobs {
            let file = self.files.get(job.file).ok_or_else(|| Error::Invalid(format!("the point has no file number {}", job.file)))?;
            hashes.push(blake3::hash(job.destination.as_os_str().as_bytes()).as_bytes().first_chunk::<8>().copied());
            summary.files += 1;
            summary.bytes += file.size;
        }
        // Short hashes first: a million paths are not kept twice for a mistake that is rarely made.
        hashes.sort_unstable();
        if hashes.windows(2).any(|pair| pair.first() == pair.last()) {
            let mut destinations = HashSet::new();
            if let Some(twice) = jobs.iter().find(|job| !destinations.insert(&job.destination)) {
                return Err(Error::Invalid(format!("two files are to be restored to {}", twice.destination.display())));
            }
        }
        Ok(summary)
    }
}

/// What is handed on for each leaf of each file; none for an empty file.
type Planned = (Arc<FileState>, Result<Option<LeafPlace>, Error>);

/// The leaves of one file as items of a stream.
fn leaf_items(state: &Arc<FileState>, leaves: Result<Vec<LeafPlace>, Error>) -> Vec<Planned> {
    match leaves {
        Ok(leaves) if leaves.is_empty() => vec![(state.clone(), Ok(None))],
        Ok(leaves) => leaves.into_iter().map(|leaf| (state.clone(), Ok(Some(leaf)))).collect(),
        Err(error) => vec![(state.clone(), Err(error))],
    }
}

/// Reads the maps of the files in order, and plans the reads of one window after the other. What is known of a file lives from
/// here until it is whole, so that a million files take no more memory than their paths.
async fn plan_all(
    point: &Point,
    shared: &Shared,
    jobs: Vec<Extract>,
    units: mpsc::Sender<Unit>,
    work: mpsc::Sender<Work>,
) -> Result<(), Error> {
    let hung_up = |_| Error::Cancelled;
    // The streams own what they hand on: futures over borrowed items could not be spawned.
    let mut leaves = stream::iter(jobs)
        .map(|job| async move {
            let state = Arc::new(plan::file_state(point, job)?);
            let leaves = plan::leaves(point, &state).await;
            Ok::<_, Error>(leaf_items(&state, leaves))
        })
        .buffered(crate::repository::AT_ONCE)
        .flat_map(|planned| match planned {
            Ok(items) => stream::iter(items.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        })
        .map(|planned| async move {
            let (state, leaf): Planned = planned?;
            let pieces = match leaf {
                Ok(Some(leaf)) => plan::pieces(point, &state, leaf).await.map(|pieces| Some((leaf.offset, pieces))),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            Ok::<_, Error>((state, pieces))
        })
        .buffered(crate::repository::AT_ONCE);
    let mut window = Window::default();
    while let Some(planned) = leaves.next().await {
        let (state, pieces) = planned?;
        match pieces {
            Ok(Some((offset, pieces))) => window.add(&state, offset, pieces),
            Ok(None) => work.send(Work::Empty(state)).await.map_err(|_| Error::Cancelled)?,
            Err(error) => shared.hurt(std::iter::once(&state), error)?,
        }
        if window.is_full() {
            for unit in std::mem::take(&mut window).units(point, shared).await? {
                units.send(unit).await.map_err(hung_up)?;
            }
        }
    }
    for unit in window.units(point, shared).await? {
        units.send(unit).await.map_err(hung_up)?;
    }
    Ok(())
}

/// Reads what was planned, several ranges at once, and hands it to the threads.
async fn fetch_all(shared: &Shared, planned: mpsc::Receiver<Unit>, work: mpsc::Sender<Work>, in_flight: usize) -> Result<(), Error> {
    let units = stream::unfold(planned, |mut planned| async move { planned.recv().await.map(|unit| (unit, planned)) });
    let mut fetched = std::pin::pin!(
        units
            .map(|unit| async move {
                let path = shared.tables.path(unit.pack);
                let bytes = shared.tables.repository.store().get_range(&path, unit.range.clone()).await;
                (unit, bytes)
            })
            .buffered(in_flight)
    );
    while let Some((unit, bytes)) = fetched.next().await {
        match bytes {
            Ok(bytes) => {
                Counters::add(&shared.counters.bytes_stored, bytes.len() as u64);
                work.send(Work::Fetched(Fetched { unit, bytes })).await.map_err(|_| Error::Cancelled)?;
            }
            // A pack that is gone or cut short hurts its files only.
            Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Wrong) => {
                shared.hurt(unit.files(), error.into())?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn folders_of(jobs: &[Extract]) -> BTreeSet<PathBuf> {
    jobs.iter().filter_map(|job| job.destination.parent()).map(PathBuf::from).collect()
}

async fn sync_folders(folders: BTreeSet<PathBuf>) -> Result<(), Error> {
    let sync = move || {
        for folder in folders {
            let synced = std::fs::File::open(&folder).and_then(|file| file.sync_all());
            synced.map_err(|source| Error::Destination { doing: "fsync folder", path: folder, source: Arc::new(source) })?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(sync).await.map_err(|ended| Error::Defect(format!("a thread ended: {ended}")))?
}

#[cfg(test)]
mod tests;
