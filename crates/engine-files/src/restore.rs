//! Restore of a folder: built beside its place, made durable, renamed into it; what was there is kept aside.
//!
//! The note is kept right before the first rename. A run that finds it goes on with the renames, whatever is left to do; one
//! that finds none begins anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::size::Size;
use muster_engine::request::{KeptDirectory, RestoreOutcome, RestorePlan, RestoreRequest, RestoreTarget};
use muster_engine::work::Work;
use muster_repository::counters::Counters;
use muster_repository::reading::Point;
use muster_repository::restoring::{Extract, ExtractOptions};
use serde::{Deserialize, Serialize};

use crate::backup::below;
use crate::engine::blocking;
use crate::observe::now;
use crate::swap;
use crate::walk::{What, walk};

/// What a restore is thought to write each second, before any was measured: for the plan only.
const GUESS: u64 = 100 << 20;

/// Free space that has to be left at the target.
const SPARE: u64 = 64 << 20;

/// What the renames need, kept before the first of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    place: PathBuf,
    kept: Option<KeptDirectory>,
    plan: Plan,
    fetch_seconds: f64,
}

/// The plan's numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Plan {
    bytes: u64,
    files: u64,
}

/// What stands at the target now.
struct Present {
    entries: u64,
    bytes: u64,
    free: u64,
}

/// Restores, or tells what that would do.
pub async fn restore(name: &str, folder: &Path, work: &Work, request: &RestoreRequest) -> Result<RestoreOutcome, Fault> {
    let place = match &request.target {
        RestoreTarget::Empty | RestoreTarget::InPlace => folder.to_owned(),
        RestoreTarget::Database { .. } => {
            return Err(Fault::refused(ErrorKind::InvalidArgument, format!("restore {name}: a folder of files has no databases"))
                .hint("restore --in-place or --beside FOLDER"));
        }
        RestoreTarget::Beside { directory, .. } => directory.clone(),
    };
    if !request.dry_run
        && let Some(note) = work.notes.read().await?
    {
        let note: Note = serde_json::from_slice(&note).map_err(|error| {
            Fault::failed(ErrorKind::DataLoss, format!("resume the restore of {name}: its note: {error}")).hint(look(&place))
        })?;
        return finish(name, note, work).await;
    }
    let open = work.repository()?;
    work.tell(|progress| progress.phase = "reading the point".to_owned());
    let read = open.repository.read_point(&open.keys, request.component, request.point);
    let point = tokio::select! {
        point = read => point.map_err(|error| error.fault().effect(Effect::None))?,
        () = work.cancel.cancelled() => return Err(stopped(name)),
    };
    if point.summary.details.kind != crate::backup::KIND {
        let message =
            format!("restore {name}: point {} is of kind {}, not {}", request.point, point.summary.details.kind, crate::backup::KIND);
        return Err(Fault::refused(ErrorKind::InvalidArgument, message).hint("choose a point of this component: `muster points`"));
    }
    let target = place.clone();
    let present =
        blocking(move || present(&target)).await?.map_err(|error| cannot(name, "look at", &place, &error).effect(Effect::None))?;
    let plan = plan(&place, &point, &present, request);
    let refusal = refusal(name, &place, &plan, &present, request);
    if request.dry_run {
        let mut plan = plan;
        plan.notes.extend(refusal.map(|fault| format!("it would be refused: {fault}")));
        return Ok(RestoreOutcome { plan, directory: place, kept: None, position: None, phases: BTreeMap::new() });
    }
    if let Some(fault) = refusal {
        return Err(fault);
    }
    let began = Instant::now();
    let staging = swap::staging(&place, work.command);
    if let Err(fault) = fetch(name, &staging, point, work).await {
        let removed = blocking(move || remove(&staging)).await?;
        return Err(match removed {
            Ok(()) => fault.effect(Effect::None),
            Err(error) => fault.evidence(format!("what was restored so far is left beside the place: {error}")),
        });
    }
    let kept = (present.entries > 0).then(|| KeptDirectory {
        path: swap::kept(&place, work.command),
        bytes: present.bytes,
        until: now().plus(Duration::from_secs(request.keep_old_seconds)),
    });
    let note = Note { place, kept, plan: Plan { bytes: plan.bytes, files: plan.files }, fetch_seconds: began.elapsed().as_secs_f64() };
    let bytes = serde_json::to_vec(&note).map_err(|error| Fault::failed(ErrorKind::Internal, error.to_string()))?;
    work.notes.keep(&bytes).await?;
    finish(name, note, work).await
}

/// The renames. From here on it is not cancelled: they take milliseconds.
async fn finish(name: &str, note: Note, work: &Work) -> Result<RestoreOutcome, Fault> {
    work.tell(|progress| progress.phase = "putting it in place".to_owned());
    let began = Instant::now();
    let (place, command) = (note.place.clone(), work.command);
    let kept = note.kept.as_ref().map(|kept| kept.path.clone());
    blocking(move || swap::swap(&place, &swap::staging(&place, command), kept.as_deref()))
        .await?
        .map_err(|error| cannot(name, "put the restored folder in place of", &note.place, &error))?;
    let plan = RestorePlan { bytes: note.plan.bytes, files: note.plan.files, ..RestorePlan::default() };
    let phases = [("fetch".to_owned(), note.fetch_seconds), ("swap".to_owned(), began.elapsed().as_secs_f64())].into();
    Ok(RestoreOutcome { plan, directory: note.place, kept: note.kept, position: None, phases })
}

fn present(place: &Path) -> io::Result<Present> {
    let exists = match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => true,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let (mut entries, mut bytes) = (0, 0);
    if exists {
        let walked = walk(place, None, |found| {
            entries += 1;
            if let What::File { bytes: size, .. } = found.what {
                bytes += size;
            }
        });
        if let Err(ended) = walked {
            return Err(io::Error::other(format!("{ended:?}")));
        }
    }
    let parent = place.parent().unwrap_or(Path::new("/"));
    let space = rustix::fs::statvfs(parent)?;
    Ok(Present { entries, bytes, free: space.f_bavail.saturating_mul(space.f_frsize) })
}

fn plan(place: &Path, point: &Point, present: &Present, request: &RestoreRequest) -> RestorePlan {
    let bytes = point.summary.bytes;
    let mut plan = RestorePlan {
        bytes,
        files: point.summary.files,
        predicted_seconds: bytes / GUESS + 1,
        free_bytes: present.free,
        replaces: Vec::new(),
        notes: vec![format!("the time is a guess of {} a second", Size(GUESS))],
    };
    if present.entries > 0 {
        let until = muster_common::duration::show(Duration::from_secs(request.keep_old_seconds));
        let (there, size, entries) = (place.display(), Size(present.bytes), present.entries);
        plan.replaces.push(format!("{there} ({size} in {entries} entries) is moved aside, to {there}.muster-kept-…, and kept for {until}"));
    }
    plan
}

fn refusal(name: &str, place: &Path, plan: &RestorePlan, present: &Present, request: &RestoreRequest) -> Option<Fault> {
    let refused = |kind, why: String, hint: String| Some(Fault::refused(kind, format!("restore {name}: {why}")).hint(hint));
    let holds = || format!("{} holds {} entries", place.display(), present.entries);
    match request.target {
        RestoreTarget::Empty | RestoreTarget::Beside { .. } if present.entries > 0 => {
            let hint = "empty it, choose another folder, or restore in place, which keeps what is there".to_owned();
            return refused(ErrorKind::FailedPrecondition, holds(), hint);
        }
        RestoreTarget::InPlace if present.entries > 0 && !request.consent => {
            return refused(
                ErrorKind::FailedPrecondition,
                format!("{} and nobody agreed to replace them", holds()),
                "say `--yes`".to_owned(),
            );
        }
        RestoreTarget::Empty | RestoreTarget::Beside { .. } | RestoreTarget::InPlace | RestoreTarget::Database { .. } => {}
    }
    if plan.bytes.saturating_add(SPARE) > present.free {
        let why = format!("{} are needed beside {}, {} are free", Size(plan.bytes + SPARE), place.display(), Size(present.free));
        return refused(
            ErrorKind::ResourceExhausted,
            why,
            "make room on that file system, or discard what earlier restores kept".to_owned(),
        );
    }
    None
}

/// Writes the whole point below a new folder; every file is durable then.
pub async fn fetch(name: &str, staging: &Path, point: Point, work: &Work) -> Result<Arc<Point>, Fault> {
    let jobs: Vec<Extract> =
        point.files.iter().enumerate().map(|(file, found)| Extract { file, destination: below(staging, &found.entry.path) }).collect();
    let point = Arc::new(point);
    let (root, source) = (staging.to_owned(), point.clone());
    blocking(move || make_folders(&root, &source)).await?.map_err(|error| cannot(name, "make folders in", staging, &error))?;
    let counters = Arc::new(Counters::default());
    work.tell(|progress| {
        progress.phase = "restoring".to_owned();
        (progress.bytes_total, progress.files_total) = (point.summary.bytes, point.summary.files);
    });
    let options = ExtractOptions { threads: work.threads.clamp(1, 64), in_flight: 8, cancel: work.cancel.clone(), fsync: true };
    let extract = point.extract(jobs, options, &counters);
    tokio::pin!(extract);
    let mut tell = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            extracted = &mut extract => {
                extracted.map_err(|error| error.fault())?;
                break;
            }
            _ = tell.tick() => work.tell(|progress| {
                progress.bytes_done = counters.bytes_done.load(Ordering::Relaxed);
                progress.files_done = counters.files_done.load(Ordering::Relaxed);
            }),
        }
    }
    if work.cancel.is_cancelled() {
        return Err(stopped(name));
    }
    let (root, source) = (staging.to_owned(), point.clone());
    blocking(move || complete(&root, &source)).await?.map_err(|error| cannot(name, "complete", staging, &error))?;
    Ok(point.clone())
}

/// The staging folder anew, with every folder of the point, writable until all is there.
fn make_folders(root: &Path, point: &Point) -> io::Result<()> {
    remove(root)?;
    fs::create_dir(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
    for folder in &point.folders {
        fs::create_dir_all(below(root, &folder.path))?;
    }
    for file in &point.files {
        if let Some(parent) = below(root, &file.entry.path).parent() {
            fs::create_dir_all(parent)?;
        }
    }
    Ok(())
}

/// Links, then the folders' modes from the innermost out, each made durable.
fn complete(root: &Path, point: &Point) -> io::Result<()> {
    for link in &point.symlinks {
        let path = below(root, &link.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        symlink(Path::new(std::ffi::OsStr::from_bytes(&link.target)), path)?;
    }
    let mut folders: Vec<(PathBuf, u32)> = point.folders.iter().map(|folder| (below(root, &folder.path), folder.mode)).collect();
    folders.sort_by(|a, b| b.0.cmp(&a.0));
    for (path, mode) in folders {
        File::open(&path)?.sync_all()?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    File::open(root)?.sync_all()
}

/// Removes a folder with all that is in it. Gone is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn stopped(name: &str) -> Fault {
    Fault::refused(ErrorKind::Cancelled, format!("restore {name}: stopped before anything was replaced"))
}

fn cannot(name: &str, act: &str, path: &Path, error: &io::Error) -> Fault {
    let kind = if error.kind() == io::ErrorKind::StorageFull { ErrorKind::ResourceExhausted } else { ErrorKind::FailedPrecondition };
    Fault::failed(kind, format!("restore {name}: {act} {}: {error}", path.display())).hint(look(path))
}

fn look(path: &Path) -> String {
    format!(
        "look at {} and what stands beside it; nothing is removed there but by a restore that succeeds or `muster discard`",
        path.display()
    )
}
