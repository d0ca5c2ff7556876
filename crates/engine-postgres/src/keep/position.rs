//! How far a kept server is, so that two looks never contradict each other: always the end of a whole record that is durable.
//!
//! Of a server that does not run: the end of the valid log on disk. Of a standby: the end of what it holds, replayed or not. Of a
//! writer: a place between two records that it has flushed; what it flushed last may be half a record.

use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::{Lsn, PostgresPosition};
use muster_failover::position::Position;

use crate::control_file::{ControlFile, State};
use crate::data_directory;
use crate::keep::wal_end::{self, End, Log};
use crate::wal::SegmentSize;

/// A look reads at most so much log.
pub const ALLOWANCE: u64 = 256 << 20;

/// What looks remember of each other.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The end that was found on disk, with what it was found from.
    pub end: Option<(FoundFrom, End)>,
    /// Of a writer: a place between two records that was not flushed when it was seen.
    pub next: Option<Lsn>,
    /// Of a writer: the last such place that was flushed, and on which timeline.
    pub flushed: Option<(u32, Lsn)>,
}

/// What a search for the end began from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundFrom {
    system_id: u64,
    checkpoint: Lsn,
    timeline: u32,
}

/// The control file, read.
///
/// # Errors
/// Where it cannot be read.
pub fn control(data: &Path) -> Result<ControlFile, Fault> {
    data_directory::control_file(data).map_err(|error| {
        Fault::refused(ErrorKind::FailedPrecondition, error.to_string())
            .hint("see that dataDirectory names the server's data and that the agent runs as their owner")
    })
}

/// Whether it ended by itself, in order.
#[must_use]
pub fn is_clean(control: &ControlFile) -> bool {
    match control.state {
        State::ShutDown | State::ShutDownInRecovery => true,
        State::Startup | State::ShuttingDown | State::InCrashRecovery | State::InArchiveRecovery | State::InProduction => false,
    }
}

/// The log that the data would recover from: the newest timeline that there is log of, where it descends from the checkpoint's.
#[must_use]
pub fn log_of(data: &Path, control: &ControlFile) -> Option<Log> {
    let folder = data.join("pg_wal");
    let segment_size = SegmentSize(control.wal_segment_size);
    let newest = wal_end::newest_timeline(&folder, segment_size).unwrap_or(control.timeline).max(control.timeline);
    let (own, newest) = (line(data, control.timeline), line(data, newest));
    let descends = |log: &(u32, Vec<_>)| {
        let own: Option<&(u32, Vec<muster_common::position::Fork>)> = own.as_ref();
        own.is_some_and(|own| {
            log.0 == own.0
                || log.1.iter().any(|fork: &muster_common::position::Fork| fork.timeline == own.0 && fork.at >= control.checkpoint)
        })
    };
    let (timeline, history) = newest.filter(descends).or_else(|| own.clone())?;
    Some(Log { folder, segment_size, page_size: control.wal_block_size, timeline, history })
}

fn line(data: &Path, timeline: u32) -> Option<(u32, Vec<muster_common::position::Fork>)> {
    data_directory::history(data, timeline).map(|history| (timeline, history.0))
}

/// A place on a line. Up to a fork it is on the timeline that was left there, whatever comes after.
fn position(control: &ControlFile, log: Log, lsn: Lsn) -> Position {
    let Log { mut timeline, mut history, .. } = log;
    while let Some(fork) = history.pop_if(|fork| lsn <= fork.at) {
        timeline = fork.timeline;
    }
    Position::Postgres(PostgresPosition { system_id: control.system_id, timeline, history, lsn })
}

/// The position of data that no server works on, and what to remember for the next look; no position where more than `allowance` bytes
/// are still to be read, which the next look goes on with. Blocks: the first look reads all log since the last checkpoint.
#[must_use]
pub fn at_rest(
    data: &Path,
    control: &ControlFile,
    known: Option<(FoundFrom, End)>,
    allowance: u64,
) -> Option<(Option<Position>, (FoundFrom, End))> {
    let log = log_of(data, control)?;
    let from = FoundFrom { system_id: control.system_id, checkpoint: control.checkpoint, timeline: log.timeline };
    // Its last record is read again: where it is gone, the disk was rolled back.
    let begun = known.filter(|(before, _)| *before == from).and_then(|(_, end)| wal_end::end(&log, end.last, None, allowance));
    let end = begun.or_else(|| wal_end::end(&log, control.checkpoint, None, allowance))?;
    Some((end.whole.then(|| position(control, log, end.lsn)), (from, end)))
}

/// The position of a standby that runs: it has replayed up to `replayed`, and received up to `received`. Blocks for a moment.
///
/// One that has just started holds log that it has neither replayed nor received since. The timeline is the disk's, running or not: the
/// server tells the one that it receives, and only while it does.
#[must_use]
pub fn standby(data: &Path, control: &ControlFile, replayed: Lsn, received: Option<Lsn>) -> Option<Position> {
    let log = log_of(data, control)?;
    let more = match received {
        Some(received) if received == replayed => None,
        Some(received) if received > replayed => wal_end::end(&log, replayed, Some(received), ALLOWANCE),
        Some(_) | None => wal_end::end(&log, replayed, None, ALLOWANCE),
    };
    Some(position(control, log, more.map_or(replayed, |end| end.lsn)))
}

/// The position of a writer that runs, and what to remember: it has flushed up to `flushed` and would insert at `inserts`.
#[must_use]
pub fn writer(data: &Path, control: &ControlFile, timeline: u32, flushed: Lsn, inserts: Lsn, known: &mut Known) -> Option<Position> {
    let (timeline, history) = line(data, timeline)?;
    let end = |lsn| wal_end::as_an_end(lsn, control.wal_block_size, control.wal_segment_size);
    let mut keep = |lsn: Lsn| known.flushed = Some((timeline, lsn));
    match known.next.filter(|next| flushed >= *next) {
        _ if flushed >= end(inserts) => {
            keep(end(inserts));
            known.next = None;
        }
        Some(next) => {
            keep(next);
            known.next = Some(end(inserts));
        }
        None if known.next.is_none_or(|next| next > end(inserts)) => known.next = Some(end(inserts)),
        None => {}
    }
    // Replay would begin at the last checkpoint's redo: what is before it is whole and durable.
    let redo = Some(end(control.redo)).filter(|_| control.timeline == timeline);
    let flushed = known.flushed.filter(|(of, _)| *of == timeline).map(|(_, lsn)| lsn);
    let lsn = flushed.max(redo)?;
    Some(Position::Postgres(PostgresPosition { system_id: control.system_id, timeline, history, lsn }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_common::position::Fork;

    #[test]
    fn a_place_up_to_a_fork_is_on_the_timeline_that_was_left_there() {
        let mut bytes = vec![0; 8192];
        for (at, value) in [(8_usize, 1300_u32), (216, 8192), (220, 131_072), (224, 8192), (228, 1 << 24)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&crc.to_le_bytes());
        let control = crate::control_file::parse(&bytes).unwrap();
        let log = Log {
            folder: "/srv/pg/pg_wal".into(),
            segment_size: SegmentSize(1 << 24),
            page_size: 8192,
            timeline: 3,
            history: vec![Fork { timeline: 1, at: Lsn(100) }, Fork { timeline: 2, at: Lsn(200) }],
        };
        for (lsn, timeline, history) in [(50, 1, 0), (100, 1, 0), (101, 2, 1), (200, 2, 1), (201, 3, 2)] {
            let Position::Postgres(found) = position(&control, log.clone(), Lsn(lsn));
            assert_eq!((found.timeline, found.history.len()), (timeline, history), "{lsn}");
        }
    }
}
