//! The WAL of a backup's own span: streamed from a temporary slot while files are read, walked record by record, and
//! stored as whole segments in the point.
//!
//! A task owns the connection and keeps it alive however slow the repository is; a thread owns the segments. Pieces go
//! from one to the other through a bounded channel. What always holds: a piece that does not begin where the last one
//! ended ends the backup.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;
use muster_repository::counters::Counters;
use muster_repository::entry::{FileEntry, FileKind, Group, RelPath};
use muster_repository::writing::PointWriter;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::record::{Record, Walker};
use crate::replication::client::Replication;
use crate::replication::protocol::Incoming;
use crate::wal::{self, Segment, SegmentSize};

/// Pieces on their way to the thread; each is up to 128 KiB.
const PIECES: usize = 64;
/// How often the server hears of us. `wal_sender_timeout` is 60 s unless set.
const REPORT: Duration = Duration::from_secs(5);
/// How long the end of the span may take to arrive once the server said where it is.
const LAST_PIECE: Duration = Duration::from_secs(120);
/// A segment is walked in pieces of so many bytes; a multiple of every WAL page size.
const WALK: usize = 1 << 20;

/// Where a span lies.
#[derive(Clone, Copy, Debug)]
pub struct SpanStart {
    /// The first record.
    pub lsn: Lsn,
    /// The timeline of all of it.
    pub timeline: u32,
    /// Bytes of a segment.
    pub segment_size: u32,
    /// Bytes of a WAL page.
    pub page_size: u32,
}

enum Piece {
    Wal(Lsn, Bytes),
    /// No more comes; the span has to reach this.
    End(Lsn),
}

/// A span that is being streamed. Dropped, it ends by itself.
pub struct Span {
    stop: oneshot::Sender<Lsn>,
    streaming: tokio::task::JoinHandle<Result<(), Fault>>,
    thread: JoinHandle<Result<Record, Fault>>,
}

impl Span {
    /// Begins to stream from the segment that holds `start.lsn`. With `flush` the server may recycle what has arrived; it
    /// must not be set where the server waits for synchronous standbys: it could take this client for one.
    ///
    /// # Errors
    /// Where the server refuses to stream.
    pub async fn begin(
        mut replication: Replication,
        slot: &str,
        start: SpanStart,
        flush: bool,
        writer: Arc<PointWriter>,
        scratch: PathBuf,
    ) -> Result<Self, Fault> {
        let size = SegmentSize(start.segment_size);
        let from = size.start(size.number(start.lsn));
        replication.start(slot, from, start.timeline).await.map_err(|error| error.fault("stream the backup's WAL"))?;
        let (pieces, received) = mpsc::channel(PIECES);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("backup-wal".into())
            .spawn(move || {
                Store {
                    start,
                    size,
                    writer,
                    scratch,
                    current: None,
                    walker: Walker::new(start.lsn, start.page_size, start.segment_size),
                    segments: Vec::new(),
                    at: from,
                }
                .run(received)
            })
            .map_err(|error| {
                Fault::failed(ErrorKind::ResourceExhausted, format!("start a thread: {error}")).hint("raise the agent's limit of threads")
            })?;
        let streaming = tokio::spawn(stream(replication, from, flush, pieces, stopped));
        Ok(Self { stop, streaming, thread })
    }

    /// Goes on to `stop`, then ends the stream; gives the last whole record. All of it is in the point when this returns.
    ///
    /// # Errors
    /// Where the stream broke, is not whole, or does not reach `stop`.
    pub async fn finish(self, stop: Lsn) -> Result<Record, Fault> {
        // Where the task has ended already its own result tells why.
        if self.stop.send(stop).is_err() {
            tracing::debug!("the WAL stream ended before the backup");
        }
        let streamed = self.streaming.await.unwrap_or_else(|ended| Err(defect(format!("the WAL stream ended: {ended}"))));
        let thread = self.thread;
        let stored = tokio::task::spawn_blocking(move || thread.join()).await;
        let stored = stored
            .map_err(|ended| defect(format!("the WAL thread ended: {ended}")))?
            .unwrap_or_else(|_| Err(defect("the WAL thread panicked".into())));
        // The thread fails too when the stream does; the stream's own word says more.
        streamed.and(stored)
    }

    /// True while nothing has failed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.streaming.is_finished() && !self.thread.is_finished()
    }
}

fn defect(what: String) -> Fault {
    Fault::failed(ErrorKind::Internal, what).hint("please report this with the log")
}

/// Owns the connection. Ends when the span's end arrived, the thread is gone, or the backup was given up.
async fn stream(
    mut replication: Replication,
    from: Lsn,
    flush: bool,
    pieces: mpsc::Sender<Piece>,
    mut stopped: oneshot::Receiver<Lsn>,
) -> Result<(), Fault> {
    let broken = |error: crate::replication::client::ReplicationError| error.fault("stream the backup's WAL");
    let flushed = |at: Lsn| if flush { at } else { Lsn(0) };
    let mut at = from;
    let mut stop = None;
    let mut late = Box::pin(tokio::time::sleep(Duration::from_secs(86_400 * 365)));
    let mut report = tokio::time::interval(REPORT);
    loop {
        if let Some(stop) = stop.filter(|stop| at >= *stop) {
            replication.close().await;
            return pieces.send(Piece::End(stop)).await.map_err(|_| gone());
        }
        // A place in the channel first: what was taken off the socket is never in the way of a report.
        let place = tokio::select! {
            place = pieces.reserve() => place.map_err(|_| gone())?,
            _ = report.tick() => { replication.report(at, flushed(at)).await.map_err(broken)?; continue }
            () = &mut late => return Err(too_late(at)),
        };
        tokio::select! {
            told = &mut stopped, if stop.is_none() => match told {
                Ok(lsn) => {
                    stop = Some(lsn);
                    late.as_mut().reset(tokio::time::Instant::now() + LAST_PIECE);
                }
                Err(_) => return Ok(()),
            },
            _ = report.tick() => replication.report(at, flushed(at)).await.map_err(broken)?,
            () = &mut late => return Err(too_late(at)),
            incoming = replication.next() => match incoming.map_err(broken)? {
                Incoming::Wal { start, data, .. } => {
                    if start != at {
                        return Err(Fault::failed(ErrorKind::DataLoss, format!("the server streamed WAL from {start} where {at} comes next")).hint("back up again; if it happens again, report it"));
                    }
                    at = Lsn(at.0 + data.len() as u64);
                    place.send(Piece::Wal(start, data));
                }
                Incoming::Keepalive { reply, .. } => if reply { replication.report(at, flushed(at)).await.map_err(broken)? },
                Incoming::StreamEnds => return Err(Fault::failed(ErrorKind::Conflict, format!("the server's timeline ended at {at} during the backup")).hint("the instance or its upstream was promoted: back up again")),
                Incoming::StreamBegins | Incoming::Other(_) => {}
            },
        }
    }
}

fn gone() -> Fault {
    Fault::failed(ErrorKind::Cancelled, "the backup's WAL is no longer wanted")
}

fn too_late(at: Lsn) -> Fault {
    Fault::failed(
        ErrorKind::Unavailable,
        format!("the end of the backup's WAL did not arrive within {} s; the stream stands at {at}", LAST_PIECE.as_secs()),
    )
    .hint("see whether the standby still follows its upstream, then back up again")
}

/// Owns the segment that is being received, and the walk.
struct Store {
    start: SpanStart,
    size: SegmentSize,
    writer: Arc<PointWriter>,
    scratch: PathBuf,
    current: Option<(File, PathBuf)>,
    walker: Walker,
    segments: Vec<u64>,
    at: Lsn,
}

impl Store {
    fn run(mut self, mut received: mpsc::Receiver<Piece>) -> Result<Record, Fault> {
        loop {
            match received.blocking_recv() {
                Some(Piece::Wal(start, bytes)) => self.take(start, &bytes)?,
                Some(Piece::End(stop)) => return self.end(stop),
                None => return Err(gone()),
            }
        }
    }

    /// Adds a piece to the segments that it touches.
    fn take(&mut self, start: Lsn, mut bytes: &[u8]) -> Result<(), Fault> {
        if start != self.at {
            return Err(defect(format!("WAL at {start} where {} comes next", self.at)));
        }
        while !bytes.is_empty() {
            let number = self.size.number(self.at);
            let room = self.size.start(number + 1).0 - self.at.0;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            let (file, path) = match &mut self.current {
                Some(current) => current,
                None => {
                    let path = self.scratch.join(format!("wal-{number:x}"));
                    let file = File::options()
                        .read(true)
                        .write(true)
                        .create(true)
                        .truncate(true)
                        .open(&path)
                        .map_err(|error| io_fault("create", &path, &error))?;
                    self.current.insert((file, path))
                }
            };
            file.write_all(now).map_err(|error| io_fault("write", path, &error))?;
            self.at = Lsn(self.at.0 + now.len() as u64);
            bytes = later;
            if self.at == self.size.start(number + 1) {
                self.walk(number)?;
                self.store(number)?;
            }
        }
        Ok(())
    }

    /// Walks what was received of the present segment.
    fn walk(&mut self, number: u64) -> Result<(), Fault> {
        let Some((file, path)) = &mut self.current else { return Ok(()) };
        let failed = |error: std::io::Error| io_fault("read", path, &error);
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![0; WALK.min(self.start.segment_size as usize)];
        let (mut here, end) = (self.size.start(number), self.at);
        while here < end {
            let wanted = usize::try_from(end.0 - here.0).unwrap_or(usize::MAX).min(buffer.len());
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact(room).map_err(failed)?;
            self.walker.walk(here, room, wanted).map_err(|error| {
                Fault::failed(ErrorKind::DataLoss, format!("the backup's WAL is not whole: {error}"))
                    .hint("see whether the server's disk is sound (its log, pg_waldump), then back up again")
            })?;
            here = Lsn(here.0 + wanted as u64);
        }
        Ok(())
    }

    /// Puts the present segment into the point and removes it from the scratch folder.
    fn store(&mut self, number: u64) -> Result<(), Fault> {
        let Some((mut file, path)) = self.current.take() else { return Ok(()) };
        file.seek(SeekFrom::Start(0)).map_err(|error| io_fault("read", &path, &error))?;
        let name = self.size.name(Segment { timeline: self.start.timeline, number });
        put(&self.writer, &name, self.start.segment_size.into(), &mut file)?;
        self.segments.push(number);
        std::fs::remove_file(&path).map_err(|error| io_fault("remove", &path, &error))
    }

    /// The span's last segment: cut behind its last record and filled with zeros, as a server would find it.
    fn end(mut self, stop: Lsn) -> Result<Record, Fault> {
        let number = self.size.number(self.at);
        self.walk(number)?;
        let last = self.walker.last().filter(|last| last.end >= stop).ok_or_else(|| {
            Fault::failed(ErrorKind::DataLoss, format!("the backup's WAL ends before {stop}, where pg_backup_stop said that it ends"))
                .hint("back up again; if it happens again, report it")
        })?;
        if let Some((file, path)) = &self.current {
            let valid = last.end.0.saturating_sub(self.size.start(number).0);
            let cut = file.set_len(valid).and_then(|()| file.set_len(self.start.segment_size.into()));
            cut.map_err(|error| io_fault("cut", path, &error))?;
        }
        self.store(number)?;
        wal::contiguous(self.size.covering(self.start.lsn, last.end), self.segments.iter().copied()).map_err(|gap| {
            Fault::failed(ErrorKind::DataLoss, format!("the backup's WAL lacks {gap}"))
                .hint("back up again; if it happens again, report it")
        })?;
        Ok(last)
    }
}

/// Adds a file of WAL to the point.
pub(super) fn put(writer: &PointWriter, name: &str, size: u64, source: &mut dyn Read) -> Result<(), Fault> {
    let path = RelPath::new(name.as_bytes()).map_err(|error| error.fault())?;
    let entry = FileEntry { path, kind: FileKind::Plain, mode: 0o600, mtime: clock::now(), size_hint: size, group: Group::Wal };
    // Its bytes are no part of the data that the progress counts.
    writer.write_file(entry, source, &Counters::default()).map(drop).map_err(|error| error.fault())
}

fn io_fault(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Fault {
    let kind = if error.kind() == std::io::ErrorKind::StorageFull { ErrorKind::ResourceExhausted } else { ErrorKind::FailedPrecondition };
    Fault::failed(kind, format!("{doing} {}: {error}", path.display()))
        .hint("see that the agent's scratch folder has room and can be written")
}
