//! What is asked of a move, with everything chosen, and what is journaled of it while it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::loss::Loss;
use muster_failover::proof::Statement;
use muster_failover::reign::Mark;
use serde::{Deserialize, Serialize};

use crate::operation::kind::Kind;

/// A move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Keep what runs from now on.
    Manage {
        /// The one instance that takes writes.
        writer: Name,
        /// Those that follow it.
        followers: Vec<Name>,
    },
    /// The writer changes, planned: nothing is lost.
    Switchover {
        /// The writer, when it was accepted.
        from: Name,
        /// The next one.
        to: Name,
        /// How long the stopped writer waits before it asks to come back, in seconds.
        stop_seconds: u64,
    },
    /// The writer changes because the old one is gone.
    Failover {
        /// The next one. `None`: whoever loses least.
        to: Option<Name>,
    },
    /// The writer is stopped until somebody lifts it.
    Fence {
        /// The instance.
        instance: Name,
    },
    /// The recorded writer, which is stopped, starts again.
    Unfence {
        /// The instance.
        instance: Name,
        /// Its own agent asked, as after a boot: it is not told to ask.
        by_itself: bool,
    },
    /// What wrote before follows again.
    Rejoin {
        /// The instance.
        instance: Name,
    },
}

impl Task {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Manage { .. } => Kind::Manage,
            Self::Switchover { .. } => Kind::Switchover,
            Self::Failover { .. } => Kind::Failover,
            Self::Fence { .. } => Kind::Fence,
            Self::Unfence { .. } => Kind::Unfence,
            Self::Rejoin { .. } => Kind::Rejoin,
        }
    }
}

/// What is journaled of a move beside its steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moving {
    /// Who was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// Words that were given for this move, by instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<Name, Given>,
    /// What may be lost at most. `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Loss>,
    /// Why it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Fault>,
    /// Of a site's move: the components that are not moved, and why; `None`: their writers stand elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aside: BTreeMap<Name, Option<Fault>>,
}

/// A candidate with what its promotion may lose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The instance.
    pub candidate: Name,
    /// The bound.
    pub loss: Loss,
    /// What it rests on, in words.
    pub evidence: String,
}

/// A word that an operator gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Who.
    pub operator: Name,
    /// What is stated.
    pub states: Statement,
    /// When.
    pub at: Timestamp,
}

impl Moving {
    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What may be lost at most.
    #[must_use]
    pub fn ceiling(&self) -> Loss {
        self.ceiling.unwrap_or(Loss::NONE)
    }
}

/// What an operator adds to a move that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What is stated of which instance's machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<Name, Statement>,
    /// What may be lost at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Loss>,
}

impl Approval {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What came of a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Who takes writes now. `None`: nobody does, as after a fence.
    pub writer: Option<Name>,
    /// The reign now.
    pub reign: Mark,
    /// The epoch before. The same: it did not move.
    pub before: Epoch,
    /// How long nobody took writes, as the controller's journal has it, in microseconds. `None`: it was not interrupted, or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_us: Option<u64>,
    /// What was lost at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What else a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How long a part may take before the move goes on without it, where it can.
pub const REACH: Duration = Duration::from_secs(20);
