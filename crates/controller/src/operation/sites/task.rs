//! What is asked of a site's move, with everything chosen, and what came of it.

use std::time::Duration;

use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_failover::loss::Loss;
use muster_failover::proof::Statement;
use serde::{Deserialize, Serialize};

use crate::operation::kind::Kind;

/// A site's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The site that is left.
    pub site: Name,
    /// Where the writers go. `None`: to any other site.
    pub to_site: Option<Name>,
    /// How.
    pub how: How,
    /// What a component that failed does to the rest.
    pub on_failure: OnFailure,
    /// How many are moved at once.
    pub at_once: u32,
    /// The components, in the order in which they begin.
    pub components: Vec<Planned>,
}

/// How a site is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Planned: nothing is lost.
    Switchover {
        /// How long a stopped writer waits before it asks to come back. `None`: the default of one.
        stop_limit: Option<Duration>,
    },
    /// It is gone.
    Failover {
        /// What is stated of every machine there. `None`: nothing.
        states: Option<Statement>,
        /// What may be lost of each component at most. `None`: nothing.
        ceiling: Option<Loss>,
    },
}

impl How {
    /// The operation's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Switchover { .. } => Kind::SwitchoverSite,
            Self::Failover { .. } => Kind::FailoverSite,
        }
    }
}

/// What a component that failed does to the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// None begins any more; those under way go on to their ends.
    Stop,
    /// All others are moved, but what depends on it.
    GoOn,
}

/// A component whose writer stands at the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name.
    pub component: Name,
    /// Those of the plan that are moved before it.
    pub after: Vec<Name>,
    /// Its instances at the site.
    pub here: Vec<Name>,
}

/// What came of a site's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Every planned component, in order.
    pub components: Vec<Ended>,
}

/// What came of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its name.
    pub component: Name,
    /// The operation that moved it. `None`: none was begun.
    pub operation: Option<OperationId>,
    /// How it ended.
    pub end: End,
    /// Why, where it was not moved. Empty: it was.
    pub why: String,
}

/// How one component ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Its writer is elsewhere now.
    Moved,
    /// Its writer was elsewhere when its turn came.
    Elsewhere,
    /// Its operation failed, or none was accepted.
    Failed,
    /// Nothing was begun.
    NotBegun,
}
