//! The reign of a writer, and the record of a shard.
//!
//! ```text
//!  (no record) --observed writer--> epoch 1 --restored in place--> epoch n+1, same writer, followers superseded
//! ```

use std::collections::BTreeSet;

use muster_common::counter::Epoch;
use muster_common::id::ReignId;
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

/// One reign: the epoch is its number, the id tells two of one number apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What is known of who writes in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// The present reign.
    pub reign: Reign,
    /// Instances that hold what the writer no longer has: never followed or promoted until seeded anew.
    pub superseded: BTreeSet<Name>,
}

/// Why a record cannot change so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The reign is not the one that the caller saw.
    #[error("the reign moved from epoch {expected} to {present} meanwhile")]
    Moved {
        /// What the caller saw.
        expected: Epoch,
        /// What is.
        present: Epoch,
    },
    /// The end of 64 bits.
    #[error("epochs are used up")]
    UsedUp,
}

impl ShardRecord {
    /// The first record: `writer` was observed as the only instance that takes writes.
    #[must_use]
    pub fn first(writer: Name, id: ReignId) -> Self {
        Self { reign: Reign { epoch: Epoch(1), id, writer, parent: None }, superseded: BTreeSet::new() }
    }

    /// `instance` is restored in place while the reign is `expected`. Where it is the writer, a new reign of the same
    /// writer begins and all `others` are superseded; where it is not, nothing changes but that it is no longer superseded.
    ///
    /// # Errors
    /// Where the reign moved since the caller saw it.
    pub fn restored_in_place(&self, instance: &Name, expected: Epoch, others: &[Name], id: ReignId) -> Result<Self, Refused> {
        let present = self.reign.epoch;
        if present != expected {
            return Err(Refused::Moved { expected, present });
        }
        let mut superseded = self.superseded.clone();
        if *instance != self.reign.writer {
            superseded.remove(instance);
            return Ok(Self { reign: self.reign.clone(), superseded });
        }
        let epoch = present.next().ok_or(Refused::UsedUp)?;
        superseded.extend(others.iter().filter(|other| *other != instance).cloned());
        superseded.remove(instance);
        Ok(Self { reign: Reign { epoch, id, writer: instance.clone(), parent: Some(self.reign.id) }, superseded })
    }

    /// An agent remembers the higher epoch `epoch` of this shard: the record was restored from an older copy. It is adopted, never
    /// lowered. The epoch moves when the writer goes back in time, so all `others` count as superseded until they are seeded anew.
    #[must_use]
    pub fn adopted(&self, epoch: Epoch, id: ReignId, others: &[Name]) -> Self {
        if epoch <= self.reign.epoch {
            return self.clone();
        }
        let mut superseded = self.superseded.clone();
        superseded.extend(others.iter().filter(|other| **other != self.reign.writer).cloned());
        Self { reign: Reign { epoch, id, writer: self.reign.writer.clone(), parent: Some(self.reign.id) }, superseded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn id(byte: u8) -> ReignId {
        ReignId::from_bytes([byte; 16])
    }

    #[test]
    fn a_writer_that_is_restored_in_place_opens_a_reign_and_supersedes_its_followers() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let next = first.restored_in_place(&name("istanbul"), Epoch(1), &[name("istanbul"), name("ankara")], id(2)).unwrap();
        assert_eq!(next.reign, Reign { epoch: Epoch(2), id: id(2), writer: name("istanbul"), parent: Some(id(1)) });
        assert_eq!(next.superseded, BTreeSet::from([name("ankara")]));
    }

    #[test]
    fn a_restore_that_is_decided_on_an_older_reign_is_refused() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let next = first.restored_in_place(&name("istanbul"), Epoch(1), &[], id(2)).unwrap();
        assert_eq!(
            next.restored_in_place(&name("istanbul"), Epoch(1), &[], id(3)),
            Err(Refused::Moved { expected: Epoch(1), present: Epoch(2) })
        );
    }

    #[test]
    fn an_epoch_that_an_agent_remembers_is_adopted_and_none_is_ever_lowered() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let adopted = first.adopted(Epoch(4), id(9), &[name("istanbul"), name("ankara")]);
        assert_eq!(adopted.reign, Reign { epoch: Epoch(4), id: id(9), writer: name("istanbul"), parent: Some(id(1)) });
        assert_eq!(adopted.superseded, BTreeSet::from([name("ankara")]));
        for older in [Epoch(0), Epoch(3), Epoch(4)] {
            assert_eq!(adopted.adopted(older, id(8), &[name("izmir")]), adopted);
        }
    }

    #[test]
    fn a_follower_that_is_restored_moves_no_epoch() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let next = first.restored_in_place(&name("ankara"), Epoch(1), &[name("istanbul")], id(2)).unwrap();
        assert_eq!(next, first);
    }
}
