//! How far an instance is. Two positions are compared along their history, never by the bigger number alone.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A PostgreSQL log sequence number: a byte offset in the WAL, written `16/B374D848` (PostgreSQL `pg_lsn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A text that is no LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no LSN; expected for example 16/B374D848")]
pub struct InvalidLsn(String);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let parse = || {
            let (high, low) = text.split_once('/')?;
            let part = |s: &str| (s.len() <= 8 && !s.starts_with('+')).then(|| u32::from_str_radix(s, 16).ok()).flatten();
            Some(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
        };
        parse().ok_or_else(|| InvalidLsn(text.chars().take(40).collect()))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where one timeline left its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fork {
    /// The parent's timeline number.
    pub timeline: u32,
    /// The first byte that no longer belongs to the parent.
    pub at: Lsn,
}

/// The position of a PostgreSQL instance, with all that is needed to tell whether two are of one line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PostgresPosition {
    /// `pg_control`'s system identifier; another one is another cluster.
    pub system_id: u64,
    /// The timeline it is on.
    pub timeline: u32,
    /// Oldest first: the timelines it came by (a history file's rows). Empty on timeline 1.
    #[serde(default)]
    pub history: Vec<Fork>,
    /// How far it is.
    pub lsn: Lsn,
}

/// How two positions stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// The first is behind or equal and on the second's line, or the other way round.
    Line(Ordering),
    /// Of one cluster, but each has what the other lacks, from here on.
    Diverged(Lsn),
    /// Two different clusters.
    Foreign,
}

impl PostgresPosition {
    /// How this position stands to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ancestry {
        if self.system_id != other.system_id {
            return Ancestry::Foreign;
        }
        if self.timeline == other.timeline && self.history == other.history {
            return Ancestry::Line(self.lsn.cmp(&other.lsn));
        }
        match (self.left_line_of(other), other.left_line_of(self)) {
            (None, _) => Ancestry::Line(Ordering::Less),
            (Some(_), None) => Ancestry::Line(Ordering::Greater),
            (Some(at), Some(_)) => Ancestry::Diverged(at),
        }
    }

    /// Where `self` holds WAL that `other`'s line does not have; `None` where `self` lies wholly on `other`'s line.
    fn left_line_of(&self, other: &Self) -> Option<Lsn> {
        let mut own = self.forks();
        let mut others = other.forks();
        let mut common = Lsn(0);
        loop {
            match (own.next(), others.next()) {
                (Some(a), Some(b)) if a == b => common = a.at,
                // `self` ends inside the timeline that `other` left at `b.at`.
                (Some(a), Some(b)) if a.timeline == b.timeline => {
                    let until = a.at.min(b.at);
                    return (a.at > b.at || own.next().is_some()).then_some(until);
                }
                (Some(_), _) => return Some(common),
                (None, _) => return None,
            }
        }
    }

    /// The history with the present timeline as its last row, which ends at the present LSN.
    fn forks(&self) -> impl Iterator<Item = Fork> {
        self.history.iter().copied().chain([Fork { timeline: self.timeline, at: self.lsn }])
    }
}

impl fmt::Display for PostgresPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.lsn, self.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, history: &[(u32, u64)], lsn: u64) -> PostgresPosition {
        let history = history.iter().map(|(timeline, at)| Fork { timeline: *timeline, at: Lsn(*at) }).collect();
        PostgresPosition { system_id: 7, timeline, history, lsn: Lsn(lsn) }
    }

    #[test]
    fn lsns_are_written_as_postgresql_writes_them() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        for bad in ["", "16", "16/", "x/1", "123456789/0", "+1/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn positions_compare_along_their_history() {
        use Ordering::{Equal, Greater, Less};
        let old = at(1, &[], 100);
        for (a, b, expected) in [
            (old.clone(), at(1, &[], 100), Ancestry::Line(Equal)),
            (old.clone(), at(1, &[], 200), Ancestry::Line(Less)),
            // Promoted at 150: what stopped at 100 can follow.
            (old.clone(), at(2, &[(1, 150)], 160), Ancestry::Line(Less)),
            (at(2, &[(1, 150)], 160), old.clone(), Ancestry::Line(Greater)),
            // Promoted at 90: what went on to 100 has ten bytes of its own.
            (old.clone(), at(2, &[(1, 90)], 300), Ancestry::Diverged(Lsn(90))),
            (at(2, &[(1, 90)], 300), old.clone(), Ancestry::Diverged(Lsn(90))),
            // Two promoted copies of one point share the number of their timeline.
            (at(2, &[(1, 90)], 300), at(2, &[(1, 95)], 300), Ancestry::Diverged(Lsn(90))),
            (PostgresPosition { system_id: 8, ..old.clone() }, old, Ancestry::Foreign),
        ] {
            assert_eq!(a.compare(&b), expected, "{a:?} and {b:?}");
        }
    }
}
