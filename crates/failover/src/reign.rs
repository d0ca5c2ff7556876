//! Reigns, and how two of them stand to each other.
//!
//! *Higher* means descendant, never the bigger number alone: two reigns of which neither descends from the other are a
//! conflict, and no code here picks one of them.

use muster_common::counter::Epoch;
use muster_common::id::ReignId;
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

/// As many ancestors are carried at most; a shard that moves each day reaches it after three years. An ancestor that was
/// dropped counts as unknown, and so as a conflict: both stop, nothing is lost.
pub const MOST_ANCESTORS: usize = 1_024;

/// One reign: the epoch is its number, the id tells two of one number apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reign {
    /// Grows by one each time the writer changes or goes back in time; never reused.
    pub epoch: Epoch,
    /// Drawn at random by whoever opened the reign.
    pub id: ReignId,
    /// The one instance that takes writes.
    pub writer: Name,
    /// The reign before it; `None` of epoch 1.
    pub parent: Option<ReignId>,
}

impl Reign {
    /// Its number and id.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark { epoch: self.epoch, id: self.id }
    }
}

/// A reign's number and id, without who writes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Its number.
    pub epoch: Epoch,
    /// Its id.
    pub id: ReignId,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Eight digits tell two reigns of one number apart in a text; comparing always takes the whole id.
        let id = self.id.to_string();
        write!(f, "epoch {} ({})", self.epoch, id.get(..8).unwrap_or(&id))
    }
}

/// A reign with those that it came by, oldest first, itself last. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Line {
    ancestors: Vec<Mark>,
    last: Mark,
}

/// How one line stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// Both end in the same reign.
    Same,
    /// It goes on from the other one: it is higher.
    Descends,
    /// The other one goes on from it: it is lower.
    Ancestor,
    /// Each has a reign that the other does not have.
    Conflict,
}

impl Line {
    /// A line of one reign.
    #[must_use]
    pub const fn of(first: Mark) -> Self {
        Self { ancestors: Vec::new(), last: first }
    }

    /// A line with these ancestors, oldest first. More than [`MOST_ANCESTORS`] are cut at the old end.
    #[must_use]
    pub fn with(mut ancestors: Vec<Mark>, last: Mark) -> Self {
        let surplus = ancestors.len().saturating_sub(MOST_ANCESTORS);
        ancestors.drain(..surplus);
        Self { ancestors, last }
    }

    /// The line that goes on from this one by `next`.
    #[must_use]
    pub fn then(&self, next: Mark) -> Self {
        let mut ancestors = self.ancestors.clone();
        ancestors.push(self.last);
        Self::with(ancestors, next)
    }

    /// The reign that it ends in.
    #[must_use]
    pub const fn last(&self) -> Mark {
        self.last
    }

    /// The reigns before the last one, oldest first.
    #[must_use]
    pub fn ancestors(&self) -> &[Mark] {
        &self.ancestors
    }

    /// Whether `mark` is on this line, its end included.
    #[must_use]
    pub fn holds(&self, mark: Mark) -> bool {
        self.last == mark || self.ancestors.contains(&mark)
    }

    /// How this line stands to `other`.
    #[must_use]
    pub fn kin(&self, other: &Self) -> Kin {
        if self.last == other.last {
            Kin::Same
        } else if self.ancestors.contains(&other.last) {
            Kin::Descends
        } else if other.ancestors.contains(&self.last) {
            Kin::Ancestor
        } else {
            Kin::Conflict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64, id: u8) -> Mark {
        Mark { epoch: Epoch(epoch), id: ReignId::from_bytes([id; 16]) }
    }

    #[test]
    fn higher_means_descendant_and_a_bigger_number_alone_is_a_conflict() {
        let first = Line::of(mark(1, 1));
        let second = first.then(mark(2, 2));
        let third = second.then(mark(3, 3));
        let foreign = first.then(mark(9, 9));
        for (a, b, kin) in [
            (&third, &third, Kin::Same),
            (&third, &first, Kin::Descends),
            (&first, &third, Kin::Ancestor),
            (&foreign, &third, Kin::Conflict),
            (&third, &foreign, Kin::Conflict),
            (&foreign, &first, Kin::Descends),
        ] {
            assert_eq!(a.kin(b), kin, "{a:?} and {b:?}");
        }
        assert_eq!(first.then(mark(2, 2)).kin(&first.then(mark(2, 7))), Kin::Conflict, "two of one number");
    }

    #[test]
    fn a_line_that_was_cut_at_its_old_end_calls_what_it_forgot_a_conflict() {
        let first = Line::of(mark(0, 0));
        let id = |n: u64| {
            ReignId::from_bytes({
                let mut bytes = [7; 16];
                bytes[..8].copy_from_slice(&n.to_be_bytes());
                bytes
            })
        };
        let long = (1..=MOST_ANCESTORS as u64 + 1).fold(first.clone(), |line, n| line.then(Mark { epoch: Epoch(n), id: id(n) }));
        assert_eq!(long.ancestors().len(), MOST_ANCESTORS);
        assert_eq!(long.kin(&first), Kin::Conflict);
    }
}
