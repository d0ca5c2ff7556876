//! Walks the records of a run of WAL and proves that it is whole (`access/xlogrecord.h`, `access/xlog_internal.h`).
//!
//! Pure. Every record's checksum and its link to the one before are verified; a page that is not of its place, a torn
//! record, a gap is an error. What it keeps is the last whole record: a restore's target.

use muster_common::position::Lsn;

/// A record's header (`SizeOfXLogRecord`).
const HEADER: usize = 24;
/// `xlp_info`: the page begins with the rest of a record.
const FIRST_IS_CONTRECORD: u16 = 0x0001;
/// `xlp_info`: the header is the long one.
const LONG_HEADER: u16 = 0x0002;
/// `xlp_info`: the record that was begun before this page was given up.
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
/// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`.
const SHORT_PAGE: usize = 24;
const LONG_PAGE: usize = 40;
/// `RM_XLOG_ID` with `XLOG_SWITCH`: the rest of the segment is empty.
const RM_XLOG: u8 = 0;
const XLOG_SWITCH: u8 = 0x40;

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its first byte.
    pub start: Lsn,
    /// The byte behind it, aligned.
    pub end: Lsn,
}

/// Why WAL is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// A page of another place, or none.
    #[error("the WAL page at {at} is not of its place (it says {says})")]
    Page {
        /// Where it lies.
        at: Lsn,
        /// What its header says.
        says: Lsn,
    },
    /// The rest of a record is missing.
    #[error("the WAL page at {0} does not go on with the record before it")]
    Continuation(Lsn),
    /// A record whose length cannot be.
    #[error("the WAL record at {at} claims {length} bytes")]
    Length {
        /// Where it begins.
        at: Lsn,
        /// What it claims.
        length: u32,
    },
    /// A record that does not follow the one before it.
    #[error("the WAL record at {at} follows {says}, not {expected}")]
    Link {
        /// Where it begins.
        at: Lsn,
        /// What it says.
        says: Lsn,
        /// The one before it.
        expected: Lsn,
    },
    /// A damaged record.
    #[error("the WAL record at {0} has a wrong checksum")]
    Checksum(Lsn),
    /// Bytes were handed over out of order.
    #[error("WAL was handed over at {found} where {expected} comes next")]
    Order {
        /// What came.
        found: Lsn,
        /// What had to come.
        expected: Lsn,
    },
}

/// A record that is not whole yet.
#[derive(Clone, Debug)]
struct Partial {
    start: Lsn,
    length: u32,
    header: [u8; HEADER],
    taken: u32,
    crc: u32,
}

/// Walks WAL from a record's start. Pages are handed over in order.
#[derive(Clone, Debug)]
pub struct Walker {
    page_size: usize,
    segment_size: u32,
    start: Lsn,
    next_page: Lsn,
    partial: Option<Partial>,
    /// Nothing is looked at before this: the end of a segment that was switched away from.
    skip_to: Lsn,
    last: Option<Record>,
}

impl Walker {
    /// Begins at `start`, where a record begins. The first page handed over must be the first of `start`'s segment.
    #[must_use]
    pub const fn new(start: Lsn, page_size: u32, segment_size: u32) -> Self {
        let first = start.0 - start.0 % segment_size as u64;
        Self { page_size: page_size as usize, segment_size, start, next_page: Lsn(first), partial: None, skip_to: start, last: None }
    }

    /// The last whole record.
    #[must_use]
    pub const fn last(&self) -> Option<Record> {
        self.last
    }

    /// Where the next page is expected.
    #[must_use]
    pub const fn next_page(&self) -> Lsn {
        self.next_page
    }

    /// Walks the first `valid` bytes of what lies at `at`. After a page that is not whole the walk is over.
    ///
    /// # Errors
    /// The first thing that is not whole.
    pub fn walk(&mut self, at: Lsn, bytes: &[u8], valid: usize) -> Result<(), WalError> {
        if at != self.next_page {
            return Err(WalError::Order { found: at, expected: self.next_page });
        }
        let bytes = bytes.get(..valid).unwrap_or(bytes);
        for page in bytes.chunks(self.page_size) {
            let here = self.next_page;
            if page.len() == self.page_size {
                self.next_page = Lsn(here.0 + self.page_size as u64);
            }
            if here.0 + self.page_size as u64 > self.skip_to.0 {
                self.page(here, page)?;
            }
        }
        Ok(())
    }

    fn page(&mut self, here: Lsn, page: &[u8]) -> Result<(), WalError> {
        let (Some(info), Some(says), Some(rest)) = (half(page, 2), long(page, 8), word(page, 16)) else { return Ok(()) };
        if says != here.0 || page.iter().take(2).all(|b| *b == 0) {
            return Err(WalError::Page { at: here, says: Lsn(says) });
        }
        let mut at = if info & LONG_HEADER == 0 { SHORT_PAGE } else { LONG_PAGE };
        match self.partial.take() {
            Some(_) if info & FIRST_IS_OVERWRITE_CONTRECORD != 0 => {}
            Some(partial) => {
                if info & FIRST_IS_CONTRECORD == 0 || rest != partial.length - partial.taken {
                    return Err(WalError::Continuation(here));
                }
                at = self.take(partial, here, page, at)?;
            }
            // Before the start: the rest of a record that is not asked for.
            None if self.skip_to > here => at = at.max(usize::try_from(self.skip_to.0 - here.0).unwrap_or(at)),
            None if info & FIRST_IS_CONTRECORD != 0 => return Err(WalError::Continuation(here)),
            None => {}
        }
        while self.partial.is_none() && Lsn(here.0 + at as u64) >= self.skip_to {
            let Some(length) = word(page, at) else { break };
            let start = Lsn(here.0 + at as u64);
            if length == 0 {
                // Nothing was written from here on; whoever needs more than the last record asks for it.
                break;
            }
            if (length as usize) < HEADER || length > 1 << 30 {
                return Err(WalError::Length { at: start, length });
            }
            at = self.take(Partial { start, length, header: [0; HEADER], taken: 0, crc: 0 }, here, page, at)?;
        }
        Ok(())
    }

    /// Takes what this page holds of a record; gives the offset behind it.
    fn take(&mut self, mut partial: Partial, here: Lsn, page: &[u8], at: usize) -> Result<usize, WalError> {
        let wanted = (partial.length - partial.taken) as usize;
        let piece = page.get(at..).unwrap_or_default();
        let piece = piece.get(..wanted.min(piece.len())).unwrap_or_default();
        let (of_header, of_body) = piece.split_at(HEADER.saturating_sub(partial.taken as usize).min(piece.len()));
        for (to, from) in partial.header.iter_mut().skip(partial.taken as usize).zip(of_header) {
            *to = *from;
        }
        partial.crc = crc32c::crc32c_append(partial.crc, of_body);
        partial.taken += u32::try_from(piece.len()).unwrap_or_default();
        let end = (at + piece.len()).next_multiple_of(8);
        if partial.taken < partial.length {
            self.partial = Some(partial);
            return Ok(page.len());
        }
        self.whole(&partial, Lsn(here.0 + end as u64))?;
        Ok(end)
    }

    fn whole(&mut self, partial: &Partial, end: Lsn) -> Result<(), WalError> {
        let header = &partial.header;
        let stored = word(header, 20).unwrap_or_default();
        if crc32c::crc32c_append(partial.crc, header.get(..20).unwrap_or_default()) != stored {
            return Err(WalError::Checksum(partial.start));
        }
        let says = Lsn(long(header, 8).unwrap_or_default());
        if let Some(last) = self.last.filter(|last| last.start != says) {
            return Err(WalError::Link { at: partial.start, says, expected: last.start });
        }
        let (info, manager) = (header.get(16).copied().unwrap_or_default(), header.get(17).copied().unwrap_or_default());
        let end =
            if manager == RM_XLOG && info & 0xF0 == XLOG_SWITCH { Lsn(end.0.next_multiple_of(self.segment_size.into())) } else { end };
        self.skip_to = self.skip_to.max(end).max(self.start);
        self.last = Some(Record { start: partial.start, end });
        Ok(())
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 8192;
    const SEGMENT: u32 = 1 << 20;

    /// Writes records as a server does, from the first page of segment 1 on.
    struct Writer {
        bytes: Vec<u8>,
        last: u64,
    }

    impl Writer {
        const BASE: u64 = SEGMENT as u64;

        fn new() -> Self {
            Self { bytes: Vec::new(), last: 0 }
        }

        fn at(&self) -> u64 {
            Self::BASE + self.bytes.len() as u64
        }

        fn page_header(&mut self, rest: u32) {
            if !self.bytes.len().is_multiple_of(PAGE) {
                return;
            }
            let long = self.bytes.len().is_multiple_of(SEGMENT as usize);
            let info = u16::from(rest > 0) | if long { LONG_HEADER } else { 0 };
            let at = self.at();
            self.bytes.extend(0xD110_u16.to_le_bytes());
            self.bytes.extend(info.to_le_bytes());
            self.bytes.extend(1_u32.to_le_bytes());
            self.bytes.extend(at.to_le_bytes());
            self.bytes.extend(rest.to_le_bytes());
            self.bytes.extend([0; 4]);
            if long {
                self.bytes.extend([0; 16]);
            }
        }

        fn record(&mut self, body: &[u8], info: u8, manager: u8) -> Record {
            self.page_header(0);
            let start = self.at();
            let mut record = Vec::new();
            record.extend((HEADER as u32 + body.len() as u32).to_le_bytes());
            record.extend([0; 4]);
            record.extend(self.last.to_le_bytes());
            record.extend([info, manager, 0, 0]);
            let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
            record.extend(crc.to_le_bytes());
            record.extend(body);
            let mut left = record.as_slice();
            while !left.is_empty() {
                self.page_header(left.len() as u32);
                let room = PAGE - self.bytes.len() % PAGE;
                let (now, later) = left.split_at(room.min(left.len()));
                self.bytes.extend(now);
                left = later;
            }
            self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
            self.last = start;
            Record { start: Lsn(start), end: Lsn(self.at()) }
        }

        fn switch(&mut self) -> Record {
            let mut record = self.record(&[], XLOG_SWITCH, RM_XLOG);
            self.bytes.resize(self.bytes.len().next_multiple_of(SEGMENT as usize), 0);
            record.end = Lsn(self.at());
            record
        }
    }

    fn walk(writer: &Writer, start: Lsn) -> Result<Option<Record>, WalError> {
        let mut walker = Walker::new(start, PAGE as u32, SEGMENT);
        let from = walker.next_page();
        let bytes = &writer.bytes[(from.0 - Writer::BASE) as usize..];
        walker.walk(from, bytes, bytes.len())?;
        Ok(walker.last())
    }

    #[test]
    fn the_last_record_is_found_across_pages_segments_and_a_switch() {
        let mut writer = Writer::new();
        let first = writer.record(b"first", 0, 1);
        for size in [0, 1, 100, 8_000, 9_000, 50_000, 8_168] {
            let record = writer.record(&vec![7; size], 0, 10);
            assert_eq!(walk(&writer, first.start), Ok(Some(record)), "{size}");
        }
        let switch = writer.switch();
        assert_eq!(walk(&writer, first.start), Ok(Some(switch)));
        let second = writer.record(&vec![9; 3_000_000], 0, 10);
        let last = writer.record(b"last", 0, 1);
        assert_eq!(walk(&writer, first.start), Ok(Some(last)));
        assert_eq!(walk(&writer, second.start), Ok(Some(last)));
        // Whole pages only, then the rest: as it is walked while it streams.
        let mut walker = Walker::new(first.start, PAGE as u32, SEGMENT);
        for (number, page) in writer.bytes.chunks(PAGE).enumerate() {
            walker.walk(Lsn(Writer::BASE + (number * PAGE) as u64), page, page.len()).unwrap();
        }
        assert_eq!(walker.last(), Some(last));
    }

    #[test]
    fn a_record_that_is_cut_off_is_not_the_last_one() {
        let mut writer = Writer::new();
        let first = writer.record(b"first", 0, 1);
        let second = writer.record(b"second", 0, 1);
        writer.record(&vec![1; 20_000], 0, 1);
        writer.bytes.truncate(writer.bytes.len() - 100);
        assert_eq!(walk(&writer, first.start), Ok(Some(second)));
    }

    #[test]
    fn damage_a_missing_page_and_a_foreign_page_are_found() {
        let mut writer = Writer::new();
        let first = writer.record(b"first", 0, 1);
        for _ in 0..50 {
            writer.record(&vec![1; 1_000], 0, 1);
        }
        assert!(walk(&writer, first.start).is_ok());
        for at in [200, 5_000, PAGE + 100, 3 * PAGE + 9] {
            let mut bad = Writer { bytes: writer.bytes.clone(), last: 0 };
            bad.bytes[at] ^= 0x10;
            assert!(walk(&bad, first.start).is_err(), "byte {at}");
        }
        let mut missing = Writer { bytes: writer.bytes.clone(), last: 0 };
        missing.bytes.drain(PAGE..2 * PAGE);
        assert!(matches!(walk(&missing, first.start), Err(WalError::Page { .. })));
        let mut walker = Walker::new(first.start, PAGE as u32, SEGMENT);
        assert!(matches!(walker.walk(Lsn(Writer::BASE + PAGE as u64), &writer.bytes, PAGE), Err(WalError::Order { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_walker_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20_000), start in 0_u64..10_000) {
            let mut walker = Walker::new(Lsn(Writer::BASE + start), PAGE as u32, SEGMENT);
            walker.walk(Lsn(Writer::BASE), &bytes, bytes.len()).ok();
        }
    }
}
