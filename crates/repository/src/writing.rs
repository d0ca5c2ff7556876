//! Writing a point: several plain threads read, digest, compress and seal in place; packs are put by a task of their own.
//!
//! What always holds: at most four packs exist at once (filled or on their way), so that a slow store slows the threads;
//! a frame that the component has already is referenced, not stored again, unless prune has marked its pack; the point is put
//! last, after every pack that it needs was looked at once more.

mod assembly;
mod file;
mod list;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use muster_common::id::{ComponentId, PackId, PointId};
use muster_common::time::Timestamp;
use prost::Message;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::entry::{FileEntry, FolderEntry, RelPath, SymlinkEntry};
use crate::error::Error;
use crate::format::message::{DamagedPage, FrameRef, PointBody, PointHeader};
use crate::format::object::{ObjectKind, seal_object};
use crate::format::{MIN_READER, layout};
use crate::keys::{DataKeys, random};
use crate::marks::Marks;
use crate::pack::Tables;
use crate::reading::PointSummary;
use crate::repository::{AT_ONCE, Repository};
use crate::store::lock;

use assembly::{Assembly, FULL_PACKS};
use file::Worker;
use list::List;

/// How many of the component's newest points a new one looks for known frames in, besides its parent.
const NEWEST_POINTS: usize = 4;

/// A point to be written.
#[derive(Clone, Debug)]
pub struct NewPoint {
    /// Its id, drawn at random.
    pub point: PointId,
    /// Its component; the keys have to be of it.
    pub component: ComponentId,
    /// The instance that it is taken from, a label.
    pub instance: String,
    /// The point that most of it is thought to be like.
    pub parent: Option<PointId>,
    /// The zstd level, -7 to 19; 1 is right for database pages.
    pub level: i32,
    /// How many threads will write, 1 to 64; for buffers only.
    pub threads: usize,
    /// A folder for what spares requests; nothing in it is trusted.
    pub cache: Option<PathBuf>,
    /// Stops the threads and the uploads.
    pub cancel: CancellationToken,
}

/// What a point says of itself, as its engine knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointDetails {
    /// What kind of backup: `postgres.physical`, `files`.
    pub kind: String,
    /// When it was begun.
    pub started: Timestamp,
    /// When its source was read.
    pub finished: Timestamp,
    /// The position that it brings back, as text.
    pub position_text: String,
    /// A label for people.
    pub label: String,
    /// Settings worth knowing at a restore.
    pub settings: BTreeMap<String, String>,
    /// The engine's own message.
    pub engine: Vec<u8>,
    /// What was found bad while reading; up to 10,000.
    pub damaged: Vec<BadPage>,
}

/// A page of the source that was bad when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// The file.
    pub path: RelPath,
    /// The block's number in it.
    pub block: u64,
    /// What is wrong with it.
    pub what: String,
}

/// What became of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSummary {
    /// Plain bytes read.
    pub size: u64,
    /// Frames that had to be stored.
    pub frames_new: u64,
    /// Frames that were there already.
    pub frames_known: u64,
    /// Sealed bytes of the frames that had to be stored.
    pub bytes_stored: u64,
}

/// Writes one point. Used from several plain threads at once.
pub struct PointWriter {
    shared: Arc<Shared>,
    uploads: JoinHandle<()>,
}

struct Shared {
    repository: Repository,
    keys: DataKeys,
    new: NewPoint,
    /// The marks of prune when the packs were chosen that this point may lean on.
    marks: Marks,
    assembly: Mutex<Assembly>,
    list: Mutex<List>,
    workers: Mutex<Vec<Worker>>,
    /// What ended the writing, for every thread to tell.
    failed: Mutex<Option<Error>>,
    /// Cancelled with the point, or by its first failure.
    stop: CancellationToken,
}

impl Shared {
    fn fail(&self, error: Error) {
        lock(&self.failed).get_or_insert(error);
        self.stop.cancel();
    }

    /// The first failure; else whether somebody asked to stop.
    fn check(&self) -> Result<(), Error> {
        if !self.stop.is_cancelled() {
            return Ok(());
        }
        Err(lock(&self.failed).clone().unwrap_or(Error::Cancelled))
    }
}

impl Repository {
    /// Begins a point: loads the names of the frames that its parent and the component's newest points need.
    ///
    /// # Errors
    /// What a store can do; [`Error::Invalid`] for a setting out of its range. A pack that cannot be read is left out: nothing
    /// is deduplicated against it.
    pub async fn begin_point(&self, keys: &DataKeys, new: NewPoint) -> Result<PointWriter, Error> {
        if keys.component() != new.component {
            return Err(Error::Invalid(format!("the keys are of component {}, not of {}", keys.component(), new.component)));
        }
        if !(-7..=19).contains(&new.level) || !(1..=64).contains(&new.threads) {
            return Err(Error::Invalid(format!("zstd level {} and {} threads; expected -7 to 19 and 1 to 64", new.level, new.threads)));
        }
        self.store().learn_checksums().await?;
        self.store().remove_leftovers().await;
        let tables = Tables::new(self.clone(), keys.clone(), new.cache.clone());
        let (buffers, free) = crossbeam_channel::bounded(FULL_PACKS);
        for _ in 0..FULL_PACKS {
            buffers.send(BytesMut::new()).map_err(|_| Error::Defect("no room for buffers".into()))?;
        }
        let (full, queue) = tokio::sync::mpsc::channel(FULL_PACKS);
        let mut assembly = Assembly::new(keys.clone(), free, full);
        let load = async {
            let marks = self.load_marks(new.component).await?;
            self.load_known(&tables, &new, &marks, &mut assembly).await?;
            Ok::<_, Error>(marks)
        };
        let marks = tokio::select! {
            loaded = load => loaded?,
            () = new.cancel.cancelled() => return Err(Error::Cancelled),
        };
        let stop = new.cancel.child_token();
        let shared = Arc::new(Shared {
            repository: self.clone(),
            keys: keys.clone(),
            new,
            marks,
            assembly: Mutex::new(assembly),
            list: Mutex::default(),
            workers: Mutex::default(),
            failed: Mutex::default(),
            stop,
        });
        let uploads = tokio::spawn(upload(shared.clone(), queue, buffers));
        Ok(PointWriter { shared, uploads })
    }

    async fn load_known(&self, tables: &Tables, new: &NewPoint, marks: &Marks, assembly: &mut Assembly) -> Result<(), Error> {
        if let Some(damage) = marks.unreadable.first() {
            tracing::warn!("nothing is deduplicated, because nobody knows what this mark of prune names: {damage}");
        }
        let mut points = self.list_points(Some(new.component)).await?;
        if points.iter().any(|point| point.point == new.point) {
            return Err(Error::Invalid(format!("component {} has a point {} already", new.component, new.point)));
        }
        points.retain(|point| !point.is_late(self.grace()));
        let newest = points.iter().rev().take(NEWEST_POINTS);
        let parent = points.iter().filter(|point| Some(point.point) == new.parent);
        let mut needed: Vec<PackId> = parent.chain(newest).flat_map(|point| point.packs.iter().copied()).collect();
        needed.sort_unstable();
        needed.dedup();
        if needed.is_empty() {
            return Ok(());
        }
        let sizes = self.pack_sizes(new.component).await?;
        let trusted = needed.into_iter().filter(|pack| !self.is_distrusted(*pack) && marks.allows(*pack));
        let present = trusted.filter_map(|pack| sizes.get(&pack).map(|size| (pack, *size)));
        let present: Vec<_> = present.collect();
        let mut read = stream::iter(present)
            .map(|(pack, size)| async move { (pack, size, tables.read(pack, Some(size)).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((pack, size, table)) = read.next().await {
            match table {
                Ok(table) => assembly.learn(pack, size, &table)?,
                Err(error @ (Error::Damaged(_) | Error::Newer { .. })) => {
                    tracing::warn!(%pack, "nothing is deduplicated against this pack: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The sizes of all packs of a domain.
    pub(crate) async fn pack_sizes(&self, domain: ComponentId) -> Result<BTreeMap<PackId, u64>, Error> {
        let listed = self.store().list(&layout::packs_of(domain)).await?;
        Ok(listed.into_iter().filter_map(|listed| Some((layout::parse_pack(&listed.path)?.1, listed.size))).collect())
    }
}

/// Puts full packs, several at once, and gives their buffers back.
async fn upload(
    shared: Arc<Shared>,
    mut queue: tokio::sync::mpsc::Receiver<(PackId, Bytes)>,
    buffers: crossbeam_channel::Sender<BytesMut>,
) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            next = queue.recv() => match next {
                Some((pack, bytes)) => { running.spawn(put(shared.clone(), pack, bytes, buffers.clone())); }
                None => break,
            },
            Some(ended) = running.join_next(), if !running.is_empty() => tell(&shared, ended),
        }
    }
    while let Some(ended) = running.join_next().await {
        tell(&shared, ended);
    }
}

fn tell(shared: &Shared, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        shared.fail(Error::Defect(format!("an upload ended: {error}")));
    }
}

async fn put(shared: Arc<Shared>, pack: PackId, bytes: Bytes, buffers: crossbeam_channel::Sender<BytesMut>) {
    let path = layout::pack(shared.new.component, pack);
    let done = tokio::select! {
        done = shared.repository.store().put_new(&path, bytes.clone()) => done.map_err(Error::from),
        () = shared.stop.cancelled() => Err(Error::Cancelled),
    };
    if let Err(error) = done {
        shared.fail(error);
    }
    // Whoever waits for a buffer looks at the failure; the channel has room for every buffer there is.
    let buffer = bytes.try_into_mut().unwrap_or_default();
    if buffers.try_send(buffer).is_err() {
        tracing::debug!(%pack, "the writer is gone");
    }
}

impl PointWriter {
    /// Reads a file to its end and adds it. Blocks while the store is slow; call it from a plain or a blocking thread.
    ///
    /// # Errors
    /// [`Error::Source`], [`Error::Cancelled`], or what ended the uploads. After an error the point can only be aborted, unless
    /// it was the source's: then the file is not in the point, and another one can follow.
    pub fn write_file(&self, entry: FileEntry, source: &mut dyn std::io::Read, counters: &Counters) -> Result<FileSummary, Error> {
        self.shared.check()?;
        entry.kind.check()?;
        lock(&self.shared.list).claim(entry.group, &entry.path)?;
        let spare = lock(&self.shared.workers).pop();
        let mut worker = match spare {
            Some(worker) => worker,
            None => Worker::new(self.shared.new.level)?,
        };
        let written = worker.write(&self.shared, &entry, source, counters);
        lock(&self.shared.workers).push(worker);
        let (root, summary) = written.inspect_err(|error| match error {
            Error::Source { .. } => lock(&self.shared.list).release(entry.group, &entry.path),
            other => self.shared.fail(other.clone()),
        })?;
        let encoded = list::file_row(&entry, summary.size, root);
        self.add_row(encoded, |totals| {
            totals.files += 1;
            totals.bytes += summary.size;
        })?;
        Counters::add(&counters.files_done, 1);
        Ok(summary)
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// As [`PointWriter::write_file`].
    pub fn add_folder(&self, entry: &FolderEntry) -> Result<(), Error> {
        lock(&self.shared.list).claim(entry.group, &entry.path)?;
        self.add_row(list::folder_row(entry), |totals| totals.folders += 1)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`PointWriter::write_file`]; [`Error::Invalid`] for a target that no file system takes.
    pub fn add_symlink(&self, entry: &SymlinkEntry) -> Result<(), Error> {
        if entry.target.is_empty() || entry.target.len() > crate::entry::MAX_PATH || entry.target.contains(&0) {
            return Err(Error::Invalid(format!("the target of symbolic link {} is empty, too long or holds a NUL", entry.path)));
        }
        lock(&self.shared.list).claim(entry.group, &entry.path)?;
        self.add_row(list::symlink_row(entry), |totals| totals.symlinks += 1)
    }

    fn add_row(&self, encoded: Vec<u8>, count: impl FnOnce(&mut list::Totals)) -> Result<(), Error> {
        let mut list = lock(&self.shared.list);
        count(&mut list.totals);
        if let Some(piece) = list.add(&encoded) {
            let placed = self.shared.store_list(&piece)?;
            list.placed(placed)?;
        }
        Ok(())
    }

    /// Sealed bytes that this point had to store so far.
    #[must_use]
    pub fn bytes_stored(&self) -> u64 {
        lock(&self.shared.assembly).bytes_stored
    }

    /// Ends the point: all packs durable, every pack that it needs looked at again, then the point itself is put, and once more
    /// looked at: prune may run beside it.
    ///
    /// # Errors
    /// What ended the uploads, [`Error::Cancelled`], [`Error::TooLate`], or a pack that is gone. Then there is no point that counts.
    pub async fn finish(self, details: PointDetails) -> Result<PointSummary, Error> {
        let Self { shared, uploads } = self;
        if details.damaged.len() > 10_000 {
            return Err(Error::Invalid(format!("{} damaged pages; at most 10,000 are kept in a point", details.damaged.len())));
        }
        let closing = shared.clone();
        // Sealing the last pack and waiting for its buffer must not hold the runtime.
        let closed = tokio::task::spawn_blocking(move || closing.close()).await;
        closed.map_err(|ended| Error::Defect(format!("a thread ended: {ended}")))??;
        uploads.await.map_err(|ended| Error::Defect(format!("the uploads ended: {ended}")))?;
        shared.check()?;
        let at = (shared.new.component, shared.new.point);
        let needed: Vec<(PackId, u64)> = lock(&shared.assembly).needed().collect();
        let loaded = shared.repository.settle_marks(at, &shared.marks, &needed).await?;
        let (header, bytes_stored) = shared.header(loaded)?;
        shared.repository.check_needed(at.0, &needed).await?;
        let body = shared.body(details, bytes_stored)?;
        let path = layout::point(shared.new.component, shared.new.point);
        let set = shared.keys.current().map_err(|wrong| Error::Defect(wrong.to_string()))?;
        let object = seal_object(set, ObjectKind::Point, random()?, &path, &header.encode_to_vec(), &body.encode_to_vec());
        let object = object.map_err(|wrong| Error::Invalid(format!("point {}: {wrong}", shared.new.point)))?;
        // From here on nobody can cancel: whether the point exists must be known.
        shared.check()?;
        shared.repository.store().put_new(&path, object.into()).await?;
        muster_failpoint::hit("repository.published")?;
        shared.repository.acknowledge(at, loaded, &needed).await?;
        PointSummary::from_body(shared.new.component, shared.new.point, &body).map_err(|wrong| Error::Defect(wrong.to_string()))
    }

    /// Gives the point up. What was stored of it stays until prune removes it.
    pub async fn abort(self) {
        self.shared.stop.cancel();
        lock(&self.shared.assembly).hang_up();
        if let Err(ended) = self.uploads.await {
            tracing::warn!("the uploads ended: {ended}");
        }
    }
}

impl Shared {
    /// Stores what is left of the list, closes the last pack, and lets the uploads come to their end.
    fn close(&self) -> Result<(), Error> {
        let mut list = lock(&self.list);
        if let Some(piece) = list.rest() {
            let placed = self.store_list(&piece)?;
            list.placed(placed)?;
        }
        let mut assembly = lock(&self.assembly);
        let closed = assembly.close_pack();
        assembly.hang_up();
        closed
    }

    fn header(&self, marks_loaded: Timestamp) -> Result<(PointHeader, u64), Error> {
        let assembly = lock(&self.assembly);
        let set = self.keys.current().map_err(|wrong| Error::Defect(wrong.to_string()))?;
        let header = PointHeader {
            min_reader: MIN_READER,
            repository: self.repository.pin().id.as_bytes().to_vec(),
            component: self.new.component.as_bytes().to_vec(),
            point: self.new.point.as_bytes().to_vec(),
            packs: assembly.needed().flat_map(|(pack, _)| *pack.as_bytes()).collect(),
            keys: set.id.as_bytes().to_vec(),
            logs: Vec::new(),
            marks_loaded: marks_loaded.0,
        };
        Ok((header, assembly.bytes_stored))
    }

    fn body(&self, details: PointDetails, bytes_stored: u64) -> Result<PointBody, Error> {
        let list = lock(&self.list);
        let damaged = details.damaged.into_iter();
        Ok(PointBody {
            kind: details.kind,
            instance: self.new.instance.clone(),
            started: details.started.0,
            finished: details.finished.0,
            position: details.position_text,
            label: details.label,
            settings: details.settings,
            engine: details.engine,
            damaged: damaged.map(|bad| DamagedPage { path: bad.path.as_bytes().to_vec(), block: bad.block, what: bad.what }).collect(),
            parent: self.new.parent.map(|parent| parent.as_bytes().to_vec()).unwrap_or_default(),
            files: list.totals.files,
            bytes: list.totals.bytes,
            bytes_stored,
            folders: list.totals.folders,
            symlinks: list.totals.symlinks,
            lists: list.pieces.clone(),
        })
    }

    fn store_list(&self, piece: &[u8]) -> Result<FrameRef, Error> {
        let mut worker = Worker::new(self.new.level)?;
        worker.store_list(self, piece)
    }
}
