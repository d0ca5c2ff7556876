//! The threads of a restore: they open frames, write pieces, check leaves; others fsync what is whole.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{FileState, FrameWork, LeafState, Target, Unit};
use crate::counters::Counters;
use crate::error::{Damage, DamagedFiles, Error};
use crate::format::Malformed;
use crate::format::frame::{FrameKind, Opener};
use crate::pack::Tables;
use crate::store::lock;

/// The most damage that is told.
const MAX_DAMAGE: usize = 1_000;
/// Files that wait for their fsync.
const SYNC_QUEUE: usize = 256;
/// Threads that fsync. They wait for the disk and not for a core; a file system's journal commits what several ask for at once in one
/// go (ext4: a thousand small files took 0.7 s on two threads).
const SYNC_THREADS: usize = 16;
/// Bytes of one file after which what is written of it goes to the disk already: the last file's fsync has little left to wait for.
const EARLY_SYNC: u64 = 32 << 20;

/// What a range brought.
pub(super) struct Fetched {
    pub(super) unit: Unit,
    pub(super) bytes: Bytes,
}

/// Work for a thread.
pub(super) enum Work {
    Fetched(Fetched),
    Empty(Arc<FileState>),
}

/// What all threads of a restore share.
pub(super) struct Shared {
    pub(super) tables: Tables,
    pub(super) fsync: bool,
    pub(super) stop: CancellationToken,
    pub(super) counters: Arc<Counters>,
    damaged: Mutex<DamagedFiles>,
    failed: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(tables: Tables, fsync: bool, stop: CancellationToken, counters: Arc<Counters>) -> Self {
        Self { tables, fsync, stop, counters, damaged: Mutex::default(), failed: Mutex::default() }
    }

    /// Ends the restore.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.failed).get_or_insert(error);
        self.stop.cancel();
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(error) = lock(&self.failed).clone() {
            return Err(error);
        }
        if self.stop.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Notes damage of these files and goes on; anything but damage ends the restore.
    pub(super) fn hurt<'a>(&self, files: impl Iterator<Item = &'a Arc<FileState>>, error: Error) -> Result<(), Error> {
        let damage = match error {
            Error::Damaged(damage) => damage,
            Error::Store(error) if matches!(error.kind, crate::error::StoreErrorKind::NotFound | crate::error::StoreErrorKind::Wrong) => {
                Damage { object: error.path, offset: None, what: error.reason }
            }
            other => return Err(other),
        };
        self.tables.repository.distrust(&damage);
        let mut told = lock(&self.damaged);
        for file in files {
            if file.hurt.swap(true, Ordering::Relaxed) {
                continue;
            }
            told.files += 1;
            if told.destinations.len() < MAX_DAMAGE {
                told.destinations.push(file.destination.clone());
            }
        }
        if told.damage.len() < MAX_DAMAGE && !told.damage.contains(&damage) {
            told.damage.push(damage);
        }
        Ok(())
    }

    /// What was hurt, if anything was.
    pub(super) fn damaged(&self) -> Option<DamagedFiles> {
        let damaged = lock(&self.damaged).clone();
        (damaged.files > 0 || !damaged.damage.is_empty()).then_some(damaged)
    }
}

/// The running threads.
pub(super) struct Threads(JoinSet<()>);

impl Threads {
    pub(super) async fn join(mut self) -> Result<(), Error> {
        while let Some(ended) = self.0.join_next().await {
            ended.map_err(|ended| Error::Defect(format!("a thread of the restore ended: {ended}")))?;
        }
        Ok(())
    }
}

pub(super) fn start(shared: &Arc<Shared>, work: mpsc::Receiver<Work>, threads: usize) -> Threads {
    let mut set = JoinSet::new();
    let (to_sync, syncs) = mpsc::channel(SYNC_QUEUE);
    let (work, syncs) = (Arc::new(Mutex::new(work)), Arc::new(Mutex::new(syncs)));
    for _ in 0..threads {
        let (shared, work, to_sync) = (shared.clone(), work.clone(), to_sync.clone());
        set.spawn_blocking(move || {
            let mut worker = Worker { shared: &shared, to_sync };
            if let Err(error) = worker.run(&work) {
                shared.fail(error);
            }
        });
    }
    for _ in 0..SYNC_THREADS {
        let (shared, syncs) = (shared.clone(), syncs.clone());
        set.spawn_blocking(move || {
            if let Err(error) = sync_all(&shared, &syncs) {
                shared.fail(error);
            }
        });
    }
    Threads(set)
}

/// A file for the threads that fsync.
struct ToSync {
    state: Arc<FileState>,
    file: Arc<File>,
    /// Nothing more is written to it. Else this only sends the disk ahead what there is.
    whole: bool,
}

fn sync_all(shared: &Shared, queue: &Mutex<mpsc::Receiver<ToSync>>) -> Result<(), Error> {
    loop {
        let next = lock(queue).blocking_recv();
        let Some(ToSync { state, file, whole }) = next else { return Ok(()) };
        if shared.stop.is_cancelled() {
            continue;
        }
        if shared.fsync {
            let synced = if whole { file.sync_all() } else { file.sync_data() };
            synced.map_err(|error| at_destination("fsync", &state, error))?;
        }
        if whole {
            Counters::add(&shared.counters.files_done, 1);
        }
    }
}

fn at_destination(doing: &'static str, state: &FileState, source: std::io::Error) -> Error {
    Error::Destination { doing, path: state.destination.clone(), source: Arc::new(source) }
}

struct Worker<'a> {
    shared: &'a Shared,
    to_sync: mpsc::Sender<ToSync>,
}

impl Worker<'_> {
    fn run(&mut self, work: &Mutex<mpsc::Receiver<Work>>) -> Result<(), Error> {
        let mut opener = Opener::new().map_err(|wrong| Error::Defect(wrong.to_string()))?;
        loop {
            let next = lock(work).blocking_recv();
            let Some(next) = next else { return Ok(()) };
            if self.shared.stop.is_cancelled() {
                continue;
            }
            match next {
                Work::Fetched(Fetched { unit, bytes }) => {
                    for frame in &unit.frames {
                        self.frame(&mut opener, &unit, frame, &bytes)?;
                    }
                }
                Work::Empty(state) => {
                    let file = self.open(&state)?;
                    self.finish(&state, file)?;
                }
            }
        }
    }

    fn frame(&self, opener: &mut Opener, unit: &Unit, frame: &FrameWork, bytes: &[u8]) -> Result<(), Error> {
        let row = &frame.row;
        let at = |offset: u64| usize::try_from(offset.saturating_sub(unit.range.start)).unwrap_or(usize::MAX);
        let stored = bytes.get(at(row.range().start)..at(row.range().end)).unwrap_or_default();
        let opened = match opener.open(&self.shared.tables.keys, &row.header, row.slots, stored) {
            Ok(opened) => opened,
            Err(wrong) => {
                let damaged = wrong.at_offset(self.shared.tables.path(unit.pack), Some(u64::from(row.offset)));
                return self.shared.hurt(frame.targets.iter().map(|target| &target.file), damaged);
            }
        };
        let own_name = [row.header.name.0];
        let rows = if row.header.kind == FrameKind::Pages { opened.digests } else { &own_name };
        for target in &frame.targets {
            let piece = opened.plain.get(target.start as usize..(target.start + target.length) as usize);
            let piece_rows = rows.get(usize::from(target.slot)..usize::from(target.slot) + usize::from(target.rows));
            let (Some(piece), Some(piece_rows)) = (piece, piece_rows) else {
                let damaged = Malformed::wrong("a leaf reaches behind its frame")
                    .at_offset(self.shared.tables.path(unit.pack), Some(row.range().start));
                self.shared.hurt(std::iter::once(&target.file), damaged)?;
                continue;
            };
            self.write(target, piece)?;
            if let Some(leaf) = &target.leaf {
                self.check_leaf(target, leaf, piece_rows)?;
            }
            self.count(target)?;
        }
        Ok(())
    }

    fn write(&self, target: &Target, piece: &[u8]) -> Result<(), Error> {
        let file = self.open(&target.file)?;
        file.write_all_at(piece, target.offset).map_err(|error| at_destination("write", &target.file, error))?;
        Counters::add(&self.shared.counters.bytes_done, piece.len() as u64);
        Ok(())
    }

    /// When the last rows of a leaf are there, its digest must be what the leaf says.
    fn check_leaf(&self, target: &Target, leaf: &LeafState, piece_rows: &[[u8; 16]]) -> Result<(), Error> {
        let first = usize::from(target.first_row);
        let mut rows = lock(&leaf.rows);
        if let Some(room) = rows.get_mut(first..first + piece_rows.len()) {
            room.copy_from_slice(piece_rows);
        }
        if leaf.missing.fetch_sub(piece_rows.len(), Ordering::AcqRel) > piece_rows.len() {
            return Ok(());
        }
        let set = self.shared.tables.keys.current().map_err(|wrong| Error::Defect(wrong.to_string()))?;
        if set.leaf_digest(&rows) == leaf.digest {
            return Ok(());
        }
        let what = "the pages of a leaf are not the ones that were read when it was written";
        self.shared.hurt(std::iter::once(&target.file), Malformed::wrong(what).at(self.shared.tables.path(leaf.pack)))
    }

    fn count(&self, target: &Target) -> Result<(), Error> {
        let length = u64::from(target.length);
        let missing = target.file.missing.fetch_sub(length, Ordering::AcqRel);
        if missing > length {
            if self.shared.fsync && missing / EARLY_SYNC > (missing - length) / EARLY_SYNC {
                self.send_ahead(&target.file);
            }
            return Ok(());
        }
        let file = lock(&target.file.open).take();
        match file {
            Some(file) => self.finish(&target.file, file),
            None => Err(Error::Defect(format!("{} was finished twice", target.file.destination.display()))),
        }
    }

    /// Where the disk is behind by a whole queue already, nothing is asked of it.
    fn send_ahead(&self, state: &Arc<FileState>) {
        let file = lock(&state.open).clone();
        if let Some(file) = file {
            let asked = self.to_sync.try_send(ToSync { state: state.clone(), file, whole: false });
            asked.unwrap_or_else(|full| tracing::trace!(%full, "the disk is behind"));
        }
    }

    /// The file at the destination: made, emptied and given its full length when its first piece comes.
    fn open(&self, state: &FileState) -> Result<Arc<File>, Error> {
        let mut open = lock(&state.open);
        if let Some(file) = open.as_ref() {
            return Ok(file.clone());
        }
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(&state.destination);
        let file = file.map_err(|error| at_destination("make", state, error))?;
        if state.size > 0 {
            preallocate(&file, state.size).map_err(|error| at_destination("allocate", state, error))?;
        }
        let file = Arc::new(file);
        *open = Some(file.clone());
        Ok(file)
    }

    fn finish(&self, state: &Arc<FileState>, file: Arc<File>) -> Result<(), Error> {
        *lock(&state.open) = None;
        let mode = std::fs::Permissions::from_mode(state.mode & 0o7777);
        file.set_permissions(mode).map_err(|error| at_destination("set the mode of", state, error))?;
        let since = Duration::from_micros(u64::try_from(state.mtime.0).unwrap_or(0));
        file.set_modified(SystemTime::UNIX_EPOCH + since).map_err(|error| at_destination("set the time of", state, error))?;
        self.to_sync.blocking_send(ToSync { state: state.clone(), file, whole: true }).map_err(|_| Error::Cancelled)
    }
}

/// Blocks are taken before they are written: a file that grows piece by piece costs four times as much, and a full disk shows
/// before anything is written. Where the file system cannot, the length is set.
fn preallocate(file: &File, size: u64) -> std::io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => file.set_len(size),
        Err(error) => Err(error.into()),
    }
}
