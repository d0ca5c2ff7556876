//! Backup of a folder: every regular file, folder and symbolic link; what is known already is not stored again.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::time::Timestamp;
use muster_engine::observation::Position;
use muster_engine::request::{BackupOutcome, BackupRequest};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::counters::Counters;
use muster_repository::entry::{FileEntry, FileKind, FolderEntry, Group, RelPath, SymlinkEntry};
use muster_repository::error::Error;
use muster_repository::reading::PointSummary;
use muster_repository::writing::{NewPoint, PointDetails, PointWriter};

use crate::engine::blocking;
use crate::observe::now;
use crate::walk::{Ended, Found, What, walk};

/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

/// The kind that points of this engine carry.
pub const KIND: &str = "files";

/// Takes a point.
pub async fn backup(name: &str, folder: &Path, work: &Work, request: &BackupRequest) -> Result<BackupOutcome, Fault> {
    let open = work.repository()?;
    if let Some(summary) = taken_before(open, request).await? {
        return Ok(outcome(request, &summary));
    }
    work.tell(|progress| progress.phase = "listing files".to_owned());
    let root = folder.to_owned();
    let (found, specials) = blocking(move || list(&root)).await??;
    let started = now();
    let writer = begin(open, name, work, request).await?;
    let counters = Arc::new(Counters::default());
    let bytes: u64 = found.iter().map(|found| if let What::File { bytes, .. } = found.what { bytes } else { 0 }).sum();
    let files = found.iter().filter(|found| matches!(found.what, What::File { .. })).count() as u64;
    counters.bytes_total.store(bytes, Ordering::Relaxed);
    work.tell(|progress| {
        progress.phase = "reading".to_owned();
        (progress.bytes_total, progress.files_total) = (bytes, files);
    });
    let position = position(&found);
    let writer = Arc::new(writer);
    let vanished = match write_all(folder, found, &writer, &counters, work).await {
        Ok(vanished) => vanished,
        Err(fault) => {
            if let Some(writer) = Arc::into_inner(writer) {
                writer.abort().await;
            }
            return Err(fault);
        }
    };
    let Some(writer) = Arc::into_inner(writer) else {
        return Err(Fault::failed(ErrorKind::Internal, format!("back up {name}: a thread still writes")).hint("please report this"));
    };
    work.tell(|progress| progress.phase = "storing".to_owned());
    let details = PointDetails {
        kind: KIND.to_owned(),
        started,
        finished: now(),
        position_text: format!("{files} files"),
        label: request.label.clone(),
        settings: [("specials".to_owned(), specials.to_string()), ("vanished".to_owned(), vanished.to_string())].into(),
        engine: serde_json::to_vec(&position).map_err(|error| Fault::failed(ErrorKind::Internal, error.to_string()))?,
        damaged: Vec::new(),
    };
    let summary = writer.finish(details).await.map_err(|error| told(&error, "store", folder))?;
    Ok(outcome(request, &summary))
}

/// The point of this very command, where an earlier run of it came so far.
async fn taken_before(open: &OpenRepository, request: &BackupRequest) -> Result<Option<PointSummary>, Fault> {
    let published = open.repository.published(&open.keys, request.component, request.point).await;
    published.map_err(|error| error.fault().effect(Effect::None))
}

async fn begin(open: &OpenRepository, name: &str, work: &Work, request: &BackupRequest) -> Result<PointWriter, Fault> {
    let listed = open.repository.list_points(Some(request.component)).await.map_err(|error| error.fault().effect(Effect::None))?;
    let parent = listed.iter().rev().find(|point| point.problem.is_none()).map(|point| point.point);
    let new = NewPoint {
        point: request.point,
        component: request.component,
        instance: name.to_owned(),
        parent,
        level: request.level,
        threads: work.threads.clamp(1, 64),
        cache: Some(open.cache.clone()),
        cancel: work.cancel.clone(),
    };
    open.repository.begin_point(&open.keys, new).await.map_err(|error| error.fault().effect(Effect::None))
}

fn list(root: &Path) -> Result<(Vec<Found>, u64), Fault> {
    let mut all = Vec::new();
    let mut specials = 0;
    let refused = |kind, message: String, hint: &str| Err(Fault::refused(kind, message).hint(hint));
    match walk(root, None, |found| if found.what == What::Special { specials += 1 } else { all.push(found) }) {
        Ok(()) => Ok((all, specials)),
        Err(Ended::Unreadable(path, error)) => {
            let message = format!("back up {}: read {}: {error}", root.display(), path.display());
            refused(ErrorKind::FailedPrecondition, message, "see that the folder exists and that the agent's user may read all of it")
        }
        Err(Ended::TooMany | Ended::TooLong) => {
            let message = format!("back up {}: it has more than {} entries", root.display(), crate::walk::MAX_ENTRIES);
            refused(ErrorKind::ResourceExhausted, message, "declare parts of it as components of their own")
        }
    }
}

fn position(found: &[Found]) -> Position {
    let mut newest = Timestamp::default();
    let mut count = 0;
    for found in found {
        if let What::File { mtime, .. } = found.what {
            count += 1;
            newest = newest.max(mtime);
        }
    }
    Position::Files { count, newest }
}

/// Several threads take entries in turn. Answers how many files vanished before they were read.
async fn write_all(root: &Path, found: Vec<Found>, writer: &Arc<PointWriter>, counters: &Arc<Counters>, work: &Work) -> Result<u64, Fault> {
    let entries = Arc::new(Mutex::new(found.into_iter()));
    let vanished = Arc::new(AtomicU64::new(0));
    let mut threads = tokio::task::JoinSet::new();
    for _ in 0..work.threads.clamp(1, 64) {
        let (entries, vanished, writer, counters, root) =
            (entries.clone(), vanished.clone(), writer.clone(), counters.clone(), root.to_owned());
        threads.spawn_blocking(move || {
            loop {
                let next = entries.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(found) = next else { return Ok(()) };
                if !write_one(&root, &found, &writer, &counters)? {
                    vanished.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let mut tell = tokio::time::interval(TELL);
    let mut first: Result<(), Fault> = Ok(());
    loop {
        tokio::select! {
            ended = threads.join_next() => match ended {
                None => break,
                Some(ended) => {
                    let ended = ended.unwrap_or_else(|error| Err(Fault::failed(ErrorKind::Internal, error.to_string())));
                    if ended.is_err() {
                        // The others find nothing more to do.
                        entries.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
                    }
                    first = first.and(ended);
                }
            },
            _ = tell.tick() => {
                let stored = writer.bytes_stored();
                work.tell(|progress| {
                    progress.bytes_done = counters.bytes_done.load(Ordering::Relaxed);
                    progress.files_done = counters.files_done.load(Ordering::Relaxed);
                    progress.bytes_stored = stored;
                });
            }
        }
    }
    first.map(|()| vanished.load(Ordering::Relaxed))
}

/// `false` where it vanished meanwhile.
fn write_one(root: &Path, found: &Found, writer: &PointWriter, counters: &Counters) -> Result<bool, Fault> {
    let absolute = root.join(&found.path);
    let path = RelPath::from_path(&found.path).map_err(|error| told(&error, "back up", &absolute))?;
    let (mode, group) = (found.mode, Group::Data);
    let added = match &found.what {
        What::Folder => writer.add_folder(&FolderEntry { path, mode, group }),
        What::Link { target } => writer.add_symlink(&SymlinkEntry { path, target: target.as_os_str().as_bytes().to_vec(), group }),
        What::File { bytes, mtime } => {
            let mut source = match File::open(&absolute) {
                Ok(source) => source,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(unreadable(&absolute, &error)),
            };
            let entry = FileEntry { path, kind: FileKind::Plain, mode, mtime: *mtime, size_hint: *bytes, group };
            writer.write_file(entry, &mut source, counters).map(drop)
        }
        What::Special => Ok(()),
    };
    added.map(|()| true).map_err(|error| told(&error, "back up", &absolute))
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::refused(ErrorKind::FailedPrecondition, format!("back up {}: {error}", path.display()))
        .hint("let the agent's user read everything below the folder")
}

/// The repository's fault with what was being done. No point is published before `finish` ends, so the effect is none but there.
fn told(error: &Error, act: &str, path: &Path) -> Fault {
    let fault = error.fault();
    let effect = if act == "store" { fault.effect } else { Effect::None };
    Fault { message: format!("{act} {}: {}", path.display(), fault.message), effect, ..fault }
}

fn outcome(request: &BackupRequest, summary: &PointSummary) -> BackupOutcome {
    BackupOutcome {
        point: request.point,
        started: summary.details.started,
        finished: summary.details.finished,
        position: serde_json::from_slice(&summary.details.engine).ok(),
        bytes_total: summary.bytes,
        bytes_stored: summary.bytes_stored,
        files: summary.files,
        damage: Vec::new(),
        damaged_pages: 0,
        notes: Vec::new(),
    }
}

/// Where an entry of a point belongs below a folder.
pub fn below(folder: &Path, path: &RelPath) -> PathBuf {
    folder.join(path.as_path())
}
