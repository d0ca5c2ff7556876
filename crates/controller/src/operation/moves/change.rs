//! What a move changes in the shard's record: each is one transition of `muster_failover::shard`, under the name that the journal shows.
//!
//! What always holds: a change is applied to the very record that it was decided on (the journal compares), and where the rules refuse it
//! nothing is written.

use muster_common::id::{Nonce, OperationId, ReignId};
use muster_common::name::Name;
use muster_failover::proof::Proof;
use muster_failover::refusal::{Check, Refusal};
use muster_failover::reign::Mark;
use muster_failover::shard::ShardRecord;
use serde::{Deserialize, Serialize};

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first reign.
    First {
        /// Who writes.
        writer: Name,
        /// Its id.
        id: ReignId,
    },
    /// Somebody is to be the next writer.
    Begin(Name),
    /// The candidate stands ready.
    Pledged(Name, Nonce),
    /// The preparation goes back.
    Back,
    /// The next reign exists: the one point of no return.
    Move {
        /// The reign that ends.
        expected: Mark,
        /// The id of the next.
        id: ReignId,
    },
    /// A possible writer is proved to write no more.
    Proved {
        /// Who.
        instance: Name,
        /// By what.
        proof: Box<Proof>,
        /// What speaks against a word: it was seen.
        seen: Option<String>,
    },
    /// The writer of this reign takes writes.
    Promoted(Mark),
    /// It follows the writer again.
    Rejoined(Name),
}

/// What of a change is kept in the operation's steps: no nonce, no proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// See [`Change::First`].
    First(Mark),
    /// See [`Change::Begin`].
    Begin(Name),
    /// See [`Change::Pledged`].
    Pledged(Name),
    /// See [`Change::Back`].
    Back,
    /// See [`Change::Move`].
    Move {
        /// The reign that ended.
        from: Mark,
        /// The one that began.
        to: Mark,
    },
    /// See [`Change::Proved`].
    Proved {
        /// Who.
        instance: Name,
        /// `receipt`, `word`, `external fence`.
        by: String,
    },
    /// See [`Change::Promoted`].
    Promoted(Mark),
    /// See [`Change::Rejoined`].
    Rejoined(Name),
}

impl Change {
    /// The record after it.
    ///
    /// # Errors
    /// As the rules have it.
    pub fn apply(&self, operation: OperationId, record: Option<&ShardRecord>) -> Result<ShardRecord, Refusal> {
        let Some(record) = record else {
            return match self {
                Self::First { writer, id } => Ok(ShardRecord::first(writer.clone(), *id)),
                Self::Begin(_)
                | Self::Pledged(..)
                | Self::Back
                | Self::Move { .. }
                | Self::Proved { .. }
                | Self::Promoted(_)
                | Self::Rejoined(_) => Err(Refusal::new(Check::Phase, "no writer is known", "muster manage")),
            };
        };
        match self {
            Self::First { .. } => Err(Refusal::new(Check::Phase, format!("{} is there already", record.reign.mark()), "nothing")),
            Self::Begin(candidate) => record.begin(operation, candidate),
            Self::Pledged(candidate, nonce) => record.pledged(operation, candidate, *nonce),
            Self::Back => Ok(record.back(operation)),
            Self::Move { expected, id } => record.moved(operation, *expected, *id),
            Self::Proved { instance, proof, seen } => record.proved(instance, (**proof).clone(), false, seen.as_deref()),
            Self::Promoted(reign) => Ok(record.promoted(*reign)),
            Self::Rejoined(instance) => Ok(record.rejoined(instance)),
        }
    }

    /// What is kept of it. `after` is the record after it.
    #[must_use]
    pub fn deed(&self, after: &ShardRecord) -> Deed {
        match self {
            Self::First { .. } => Deed::First(after.reign.mark()),
            Self::Begin(candidate) => Deed::Begin(candidate.clone()),
            Self::Pledged(candidate, _) => Deed::Pledged(candidate.clone()),
            Self::Back => Deed::Back,
            Self::Move { expected, .. } => Deed::Move { from: *expected, to: after.reign.mark() },
            Self::Proved { instance, proof, .. } => Deed::Proved { instance: instance.clone(), by: proof.name().to_owned() },
            Self::Promoted(reign) => Deed::Promoted(*reign),
            Self::Rejoined(instance) => Deed::Rejoined(instance.clone()),
        }
    }
}

impl Deed {
    /// The name of its step.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::First(_) => "first reign".into(),
            Self::Begin(_) => "candidate".into(),
            Self::Pledged(_) => "pledged".into(),
            Self::Back => "back".into(),
            Self::Move { .. } => "move".into(),
            Self::Proved { instance, .. } => format!("proved/{instance}"),
            Self::Promoted(_) => "promoted".into(),
            Self::Rejoined(instance) => format!("rejoined/{instance}"),
        }
    }

    /// What happened, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::First(mark) => format!("the first reign is {mark}"),
            Self::Begin(candidate) => format!("{candidate} is to be the next writer"),
            Self::Pledged(candidate) => format!("{candidate} stands ready"),
            Self::Back => "the preparation went back: the writer stays who it was".into(),
            Self::Move { from, to } => format!("{from} is over, {to} began: from here it only goes on"),
            Self::Proved { instance, by } => format!("{instance} writes no more, by {by}"),
            Self::Promoted(mark) => format!("the writer of {mark} takes writes"),
            Self::Rejoined(instance) => format!("{instance} follows the writer"),
        }
    }
}
