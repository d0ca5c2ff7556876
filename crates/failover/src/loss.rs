//! What a move may lose: an upper bound, with what it rests on. What is not known is never zero.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use muster_common::position::Ancestry;
use serde::{Deserialize, Serialize};

use crate::position::Position;

/// An upper bound of what is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loss {
    /// Of log, in bytes. `None`: no bound is known.
    pub bytes: Option<u64>,
    /// Of commits, in time. `None`: no bound is known.
    pub time: Option<Duration>,
}

/// What the bound rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The writer is stopped, and this is its final position, by its receipt.
    Final(Position),
    /// Nothing can have been acknowledged that one of those heard does not hold: `heard` of the `of` listed synchronous
    /// standbys answered, each commit waits for `any` of them, and no second went unobserved since.
    Quorum {
        /// How many of the set each commit waits for.
        any: usize,
        /// How many are in the set.
        of: usize,
        /// How many of the set were heard.
        heard: usize,
        /// The most that one of them holds.
        most: Position,
        /// Synchronous replication was on, and known to be, the whole time.
        unbroken: bool,
    },
    /// The writer was last seen there so long before its end (its fence, or when it was declared dead).
    Seen {
        /// Its position then.
        position: Position,
        /// How long before its end.
        before_end: Duration,
        /// Since when the candidate was last proved equal to it. `None`: never seen equal.
        equal_before_end: Option<Duration>,
        /// The fastest that it wrote, in bytes a second, over the last hour. `None`: not measured.
        fastest: Option<u64>,
    },
    /// Nothing is known.
    Nothing,
}

impl Loss {
    /// Nothing is lost.
    pub const NONE: Self = Self { bytes: Some(0), time: Some(Duration::ZERO) };
    /// No bound is known.
    pub const UNKNOWN: Self = Self { bytes: None, time: None };

    /// The bound for a candidate that is at `candidate`, on `evidence`.
    #[must_use]
    pub fn bound(candidate: &Position, evidence: &Evidence) -> Self {
        match evidence {
            Evidence::Nothing => Self::UNKNOWN,
            Evidence::Final(position) => match position.compare(candidate) {
                Ancestry::Line(Ordering::Less | Ordering::Equal) => Self::NONE,
                // The bytes are known; how long their writing took is not.
                Ancestry::Line(Ordering::Greater) => Self { bytes: candidate.bytes_to(position), time: None },
                Ancestry::Diverged(_) | Ancestry::Foreign => Self::UNKNOWN,
            },
            Evidence::Quorum { any, of, heard, most, unbroken } => {
                // Every set of `any` that could have acknowledged meets those heard.
                let meets = *any > 0 && any <= of && heard.saturating_add(*any) > *of;
                if *unbroken && meets && candidate.covers(most) { Self::NONE } else { Self::UNKNOWN }
            }
            Evidence::Seen { position, before_end, equal_before_end, fastest } => {
                let behind = candidate.bytes_to(position).or_else(|| candidate.covers(position).then_some(0));
                let since = fastest.map(|rate| rate.saturating_mul(before_end.as_secs().saturating_add(1)));
                let bytes = behind.zip(since).map(|(behind, since)| behind.saturating_add(since));
                Self { bytes, time: *equal_before_end }
            }
        }
    }

    /// Whether this is within `ceiling`. An unknown part is within nothing but an unknown part: who approves that, types it.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> bool {
        fn part<T: PartialOrd>(own: Option<T>, ceiling: Option<T>) -> bool {
            match (own, ceiling) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(ceiling)) => own <= ceiling,
            }
        }
        part(self.bytes, ceiling.bytes) && part(self.time, ceiling.time)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            Some(bytes) => write!(f, "at most {bytes} bytes of log")?,
            None => write!(f, "no known bound in bytes")?,
        }
        match self.time {
            Some(time) => write!(f, ", at most {} s of commits", time.as_secs_f64().ceil()),
            None => write!(f, ", no known bound in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_common::position::{Lsn, PostgresPosition};

    use super::*;

    fn at(lsn: u64) -> Position {
        Position::Postgres(PostgresPosition { system_id: 1, timeline: 1, history: Vec::new(), lsn: Lsn(lsn) })
    }

    #[test]
    fn zero_is_said_only_where_every_set_that_could_have_acknowledged_was_heard() {
        let quorum = |any, of, heard, unbroken| Evidence::Quorum { any, of, heard, most: at(100), unbroken };
        for (evidence, candidate, zero) in [
            (quorum(1, 2, 2, true), 100, true),
            (quorum(1, 2, 1, true), 100, false),
            (quorum(2, 2, 1, true), 100, true),
            (quorum(2, 3, 2, true), 100, true),
            (quorum(2, 3, 1, true), 100, false),
            (quorum(1, 1, 1, false), 100, false),
            (quorum(1, 1, 1, true), 99, false),
            (quorum(0, 1, 1, true), 100, false),
            (Evidence::Nothing, 100, false),
            (Evidence::Final(at(100)), 100, true),
            (Evidence::Final(at(101)), 100, false),
        ] {
            assert_eq!(Loss::bound(&at(candidate), &evidence) == Loss::NONE, zero, "{evidence:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_never_zero_and_within_no_ceiling() {
        let seen = Evidence::Seen { position: at(100), before_end: Duration::from_secs(9), equal_before_end: None, fastest: None };
        let loss = Loss::bound(&at(100), &seen);
        assert_eq!(loss, Loss::UNKNOWN);
        assert!(!loss.within(&Loss { bytes: Some(u64::MAX), time: Some(Duration::MAX) }));
        assert!(loss.within(&Loss::UNKNOWN), "an operator may approve even that, by name");
    }

    #[test]
    fn positions_ten_seconds_old_bound_the_loss_by_what_can_have_been_written_since() {
        let seen = Evidence::Seen {
            position: at(100),
            before_end: Duration::from_secs(9),
            equal_before_end: Some(Duration::from_secs(12)),
            fastest: Some(10),
        };
        assert_eq!(Loss::bound(&at(60), &seen), Loss { bytes: Some(140), time: Some(Duration::from_secs(12)) });
    }
}
