//! Names and ranges of WAL segments and timeline histories (`access/xlog_internal.h`, `timeline.c`). Pure.

use std::fmt;
use std::str::FromStr;

use muster_common::position::{Fork, Lsn};

/// One segment file of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// The timeline that its name carries.
    pub timeline: u32,
    /// Its number: LSN divided by the segment's size.
    pub number: u64,
}

/// How large segments are, in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize(pub u32);

impl SegmentSize {
    /// The number of the segment that holds the byte at `lsn`.
    #[must_use]
    pub fn number(self, lsn: Lsn) -> u64 {
        lsn.0.checked_div(self.0.into()).unwrap_or_default()
    }

    /// The first byte of segment `number`.
    #[must_use]
    pub fn start(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.0.into()))
    }

    /// The segments that hold the bytes from `start` up to and without `end`.
    #[must_use]
    pub fn covering(self, start: Lsn, end: Lsn) -> std::ops::RangeInclusive<u64> {
        let last = Lsn(end.0.saturating_sub(1)).max(start);
        self.number(start)..=self.number(last)
    }

    /// The file name of a segment: `000000010000000000000001`.
    #[must_use]
    pub fn name(self, segment: Segment) -> String {
        let per_id = 0x1_0000_0000_u64.checked_div(self.0.into()).unwrap_or(1).max(1);
        format!("{:08X}{:08X}{:08X}", segment.timeline, segment.number / per_id, segment.number % per_id)
    }

    /// Reads a segment's file name.
    #[must_use]
    pub fn parse(self, name: &str) -> Option<Segment> {
        if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)) {
            return None;
        }
        let part = |from: usize| u32::from_str_radix(name.get(from..from + 8)?, 16).ok();
        let per_id = 0x1_0000_0000_u64.checked_div(self.0.into())?;
        let (timeline, high, low) = (part(0)?, u64::from(part(8)?), u64::from(part(16)?));
        (low < per_id).then_some(Segment { timeline, number: high * per_id + low })
    }
}

/// The file name of a timeline's history.
#[must_use]
pub fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// A timeline history file: the timelines that one came by, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(pub Vec<Fork>);

/// A history file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history is no timeline and LSN: {text:?}")]
pub struct InvalidHistory {
    line: usize,
    text: String,
}

impl FromStr for History {
    type Err = InvalidHistory;

    /// Rows are `parent TLI, LSN of the switch, reason`, by tabs; `#` begins a comment (`readTimeLineHistory`).
    fn from_str(text: &str) -> Result<Self, InvalidHistory> {
        let mut forks: Vec<Fork> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let row = line.split('#').next().unwrap_or_default().trim();
            if row.is_empty() {
                continue;
            }
            let mut words = row.split_whitespace();
            let parsed = || -> Option<Fork> {
                let timeline = words.next()?.parse().ok()?;
                let at: Lsn = words.next()?.parse().ok()?;
                Some(Fork { timeline, at })
            }();
            let later = |fork: &Fork| forks.last().is_none_or(|last| last.timeline < fork.timeline && last.at <= fork.at);
            match parsed.filter(later) {
                Some(fork) => forks.push(fork),
                None => return Err(InvalidHistory { line: number + 1, text: line.chars().take(100).collect() }),
            }
        }
        Ok(Self(forks))
    }
}

/// Bytes of WAL that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first missing segment.
    pub from: u64,
    /// The last missing one.
    pub to: u64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segments {:X} to {:X}", self.from, self.to)
    }
}

/// Proves that `have` (sorted, any number of extra ones) covers all of `wanted`.
///
/// # Errors
/// The first gap.
pub fn contiguous(wanted: std::ops::RangeInclusive<u64>, have: impl IntoIterator<Item = u64>) -> Result<(), Gap> {
    let (mut next, last) = wanted.into_inner();
    for number in have {
        if number > next && next <= last {
            return Err(Gap { from: next, to: (number - 1).min(last) });
        }
        if number == next {
            next += 1;
        }
    }
    if next <= last { Err(Gap { from: next, to: last }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB16: SegmentSize = SegmentSize(1 << 24);

    #[test]
    fn segments_are_named_as_postgresql_names_them() {
        for (size, number, name) in [
            (MB16, 1, "000000010000000000000001"),
            (MB16, 255, "0000000100000000000000FF"),
            (MB16, 256, "000000010000000100000000"),
            (SegmentSize(1 << 20), 4096, "000000010000000100000000"),
            (SegmentSize(1 << 30), 5, "000000010000000100000001"),
        ] {
            let segment = Segment { timeline: 1, number };
            assert_eq!(size.name(segment), name);
            assert_eq!(size.parse(name), Some(segment));
        }
        for bad in ["", "00000001000000000000000g", "0000000100000000000001FF", "000000010000000000000001.partial", "00000001.history"] {
            assert_eq!(MB16.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_that_ends_on_a_boundary_needs_no_segment_behind_it() {
        assert_eq!(MB16.covering(Lsn(0x0100_0028), Lsn(0x0200_0000)), 1..=1);
        assert_eq!(MB16.covering(Lsn(0x0100_0028), Lsn(0x0200_0001)), 1..=2);
        assert_eq!(MB16.covering(Lsn(0x0100_0000), Lsn(0x0100_0000)), 1..=1);
    }

    #[test]
    fn a_gap_is_found_wherever_it_lies() {
        assert_eq!(contiguous(3..=5, [3, 4, 5]), Ok(()));
        assert_eq!(contiguous(3..=5, [1, 2, 3, 4, 5, 6]), Ok(()));
        assert_eq!(contiguous(3..=5, [4, 5]), Err(Gap { from: 3, to: 3 }));
        assert_eq!(contiguous(3..=6, [3, 6]), Err(Gap { from: 4, to: 5 }));
        assert_eq!(contiguous(3..=5, [3, 4]), Err(Gap { from: 5, to: 5 }));
        assert_eq!(contiguous(3..=5, []), Err(Gap { from: 3, to: 5 }));
    }

    #[test]
    fn a_history_file_is_read_and_a_wrong_one_refused() {
        let text = "1\t0/3000000\tno recovery target specified\n\n# a comment\n2\t0/5000028\tbefore 2000-01-01\n";
        let fork = |timeline, at| Fork { timeline, at: Lsn(at) };
        assert_eq!(text.parse(), Ok(History(vec![fork(1, 0x300_0000), fork(2, 0x500_0028)])));
        for bad in ["x", "1", "2\t0/1\n1\t0/2", "1\t0/5\n2\t0/4"] {
            assert!(bad.parse::<History>().is_err(), "{bad:?}");
        }
    }
}
