//! Where the valid log on disk ends, read as the server reads it when it recovers: record by record, with checksum and back link.
//!
//! `pg_control` tells the last checkpoint only; a server that was killed holds more. Formats: `access/xlogrecord.h` and
//! `access/xlog_internal.h` of PostgreSQL 15 to 18. It never reads more than it was allowed to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use muster_common::position::{Fork, Lsn};

use crate::wal::{Segment, SegmentSize};

/// `XLogRecord` without its data.
const RECORD_HEADER: usize = 24;
/// Where `xl_crc` stands in it; the checksum covers what is before it, after the data.
const CRC_AT: usize = 20;
/// A page's header, aligned.
const SHORT_HEADER: usize = 24;
/// The header of a segment's first page, aligned.
const LONG_HEADER: usize = 40;
const FIRST_IS_CONTINUED: u16 = 0x0001;
const LONG: u16 = 0x0002;
const OVERWRITES_CONTINUED: u16 = 0x0008;
/// `XLOG_SWITCH` of the resource manager `RM_XLOG_ID`.
const SWITCH: u8 = 0x40;

/// The log of one line in one folder.
#[derive(Clone, Debug)]
pub struct Log {
    /// `pg_wal`.
    pub folder: PathBuf,
    /// A segment's size.
    pub segment_size: SegmentSize,
    /// A page's size.
    pub page_size: u32,
    /// The timeline.
    pub timeline: u32,
    /// The timelines that it came by.
    pub history: Vec<Fork>,
}

/// How far the log is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The end of the last whole record.
    pub lsn: Lsn,
    /// Where that record begins.
    pub last: Lsn,
    /// Whether there is no more; else the allowance was used up or the limit reached.
    pub whole: bool,
}

/// Reads records from the one that begins at `start` up to the end of what is valid, at most `allowance` bytes and not beyond `limit`.
/// `None`: no valid record begins there.
#[must_use]
pub fn end(log: &Log, start: Lsn, limit: Option<Lsn>, allowance: u64) -> Option<End> {
    let mut pages = Pages { log, file: None, at: None, page: vec![0; log.page_size as usize], flags: 0, left: 0, magic: None };
    let until = start.0.saturating_add(allowance);
    let mut found: Option<End> = None;
    let mut at = start.0;
    loop {
        match pages.record(at, found.map(|end| end.last.0)) {
            Read::Record { begins, ends } => {
                if limit.is_some_and(|limit| ends > limit.0) {
                    return found.map(|end| End { whole: false, ..end });
                }
                found = Some(End { lsn: Lsn(ends), last: Lsn(begins), whole: true });
                at = ends;
                if ends >= until {
                    return found.map(|end| End { whole: false, ..end });
                }
            }
            Read::Overwritten { next } => at = next,
            Read::Nothing => return found,
        }
    }
}

enum Read {
    Record {
        begins: u64,
        ends: u64,
    },
    /// The record that began was given up in a crash; the page at `next` begins with another one.
    Overwritten {
        next: u64,
    },
    Nothing,
}

struct Pages<'a> {
    log: &'a Log,
    file: Option<(u64, File)>,
    at: Option<u64>,
    page: Vec<u8>,
    flags: u16,
    left: u32,
    magic: Option<u16>,
}

impl Pages<'_> {
    /// Reads the record at `at`; `before` is where the one before it begins.
    fn record(&mut self, at: u64, before: Option<u64>) -> Read {
        self.try_record(at, before).unwrap_or(Read::Nothing)
    }

    fn try_record(&mut self, at: u64, before: Option<u64>) -> Option<Read> {
        let size = u64::from(self.log.page_size);
        let mut begins = at;
        if at.checked_rem(size)? == 0 {
            self.load(at)?;
            let continued = self.flags & FIRST_IS_CONTINUED != 0;
            if continued {
                return None;
            }
            begins = at + self.header() as u64;
        }
        let mut header = [0_u8; RECORD_HEADER];
        let mut cursor = begins;
        self.load(begins - begins.checked_rem(size)?)?;
        let total = u32::from_le_bytes(self.bytes(cursor, 4)?.try_into().ok()?);
        if (total as usize) < RECORD_HEADER || total > 1 << 30 {
            return None;
        }
        let mut crc = 0_u32;
        let mut done = 0_usize;
        while done < total as usize {
            let in_page = usize::try_from(size - cursor.checked_rem(size)?).ok()?;
            let take = in_page.min(total as usize - done);
            let bytes = self.bytes(cursor, take)?;
            let of_header = RECORD_HEADER.saturating_sub(done).min(take);
            if of_header > 0 {
                header.get_mut(done..done + of_header)?.copy_from_slice(bytes.get(..of_header)?);
            }
            crc = crc32c::crc32c_append(crc, bytes.get(of_header..)?);
            done += take;
            cursor += take as u64;
            if done < total as usize {
                self.load(cursor)?;
                if self.flags & OVERWRITES_CONTINUED != 0 {
                    return Some(Read::Overwritten { next: cursor });
                }
                if self.flags & FIRST_IS_CONTINUED == 0 || self.left as usize != total as usize - done {
                    return None;
                }
                cursor += self.header() as u64;
            }
        }
        let crc = crc32c::crc32c_append(crc, header.get(..CRC_AT)?);
        let word = |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let previous = u64::from(word(8)?) | u64::from(word(12)?) << 32;
        if crc != word(CRC_AT)? || previous >= begins || before.is_some_and(|before| before != previous) {
            return None;
        }
        let mut ends = cursor.checked_next_multiple_of(8)?;
        let (info, manager) = (*header.get(16)?, *header.get(17)?);
        if manager == 0 && info & 0xF0 == SWITCH {
            ends = ends.checked_next_multiple_of(self.log.segment_size.0.into())?;
        }
        Some(Read::Record { begins, ends })
    }

    /// Bytes of the page that is loaded.
    fn bytes(&self, at: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.at?)?).ok()?;
        self.page.get(from..from.checked_add(length)?)
    }

    fn header(&self) -> usize {
        if self.flags & LONG != 0 { LONG_HEADER } else { SHORT_HEADER }
    }

    /// Makes the page at `at` the present one, if it is a page of this log.
    fn load(&mut self, at: u64) -> Option<()> {
        if self.at == Some(at) {
            return Some(());
        }
        self.at = None;
        let size = u64::from(self.log.segment_size.0);
        let number = at.checked_div(size)?;
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            self.file = Some((number, open(self.log, number)?));
        }
        let (_, file) = self.file.as_ref()?;
        file.read_exact_at(&mut self.page, at.checked_rem(size)?).ok()?;
        let short = |from: usize| self.page.get(from..from + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
        let word = |from: usize| self.page.get(from..from + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let (magic, flags, timeline) = (short(0)?, short(2)?, word(4)?);
        let address = u64::from(word(8)?) | u64::from(word(12)?) << 32;
        let left = word(16)?;
        let known = timeline == self.log.timeline || self.log.history.iter().any(|fork| fork.timeline == timeline);
        if address != at || !known || magic == 0 || self.magic.is_some_and(|first| first != magic) || flags > 0x000F {
            return None;
        }
        self.magic = Some(magic);
        self.flags = flags;
        self.left = left;
        self.at = Some(at);
        Some(())
    }
}

/// The file of a segment: of the newest timeline of the line that has it.
fn open(log: &Log, number: u64) -> Option<File> {
    let last = log.history.last();
    let newest = (log.timeline, last.map_or(0, |fork| log.segment_size.number(fork.at)));
    let begins =
        |index: usize| index.checked_sub(1).and_then(|before| log.history.get(before)).map(|fork| log.segment_size.number(fork.at));
    let older = log.history.iter().enumerate().rev().map(|(index, fork)| (fork.timeline, begins(index).unwrap_or(0)));
    [newest].into_iter().chain(older).filter(|(_, from)| number >= *from).find_map(|(timeline, _)| {
        let name = log.segment_size.name(Segment { timeline, number });
        File::open(log.folder.join(name)).ok()
    })
}

/// The newest timeline of which a folder holds segments.
#[must_use]
pub fn newest_timeline(folder: &Path, size: SegmentSize) -> Option<u32> {
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| size.parse(name.to_str()?)).map(|segment| segment.timeline).max()
}

/// The same place as a record's end: what a server tells as the place of its next insert stands behind the page's header where a
/// record ended with the page.
#[must_use]
pub fn as_an_end(lsn: Lsn, page_size: u32, segment_size: u32) -> Lsn {
    let offset = lsn.0.checked_rem(page_size.into()).unwrap_or_default();
    let first = lsn.0.checked_rem(segment_size.into()).is_some_and(|at| at < page_size.into());
    let header = if first { LONG_HEADER } else { SHORT_HEADER } as u64;
    if offset == header { Lsn(lsn.0 - offset) } else { lsn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_behind_a_page_header_is_the_end_of_the_page_before() {
        let end = |lsn| as_an_end(Lsn(lsn), 8192, 1 << 24).0;
        assert_eq!(end(0x0100_2018), 0x0100_2000);
        assert_eq!(end(0x0100_0028), 0x0100_0000);
        assert_eq!(end(0x0100_0018), 0x0100_0018);
        assert_eq!(end(0x0100_2028), 0x0100_2028);
    }

    #[test]
    fn a_folder_without_log_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let log =
            Log { folder: folder.path().into(), segment_size: SegmentSize(1 << 24), page_size: 8192, timeline: 1, history: Vec::new() };
        assert_eq!(end(&log, Lsn(0x0100_0028), None, u64::MAX), None);
        std::fs::write(folder.path().join("000000010000000000000001"), vec![7; 8192]).unwrap();
        assert_eq!(end(&log, Lsn(0x0100_0028), None, u64::MAX), None);
        assert_eq!(newest_timeline(folder.path(), SegmentSize(1 << 24)), Some(1));
    }
}
