//! The kinds of operations, and the phases they go through, by name.
//!
//! ```text
//!             suspended <---- (the store is behind its agents) ---- any that has not ended
//!                 | its agent was asked
//!                 v
//!  pending --> running --> cancelling --> cancelled
//!     |          |  ^          |
//!     |          v  |          +--> succeeded | failed   (it came too late)
//!     |        unknown --resolve--> succeeded | failed
//!     |          |
//!     +----------+--------> succeeded | failed
//! ```

use muster_wire::proto::v1::{OperationKind, OperationState};
use serde::{Deserialize, Serialize};

/// What an operation can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Takes a recovery point.
    Backup,
    /// Brings one back.
    Restore,
    /// Checks a repository.
    Check,
    /// Removes what a restore in place kept aside.
    Discard,
    /// Proves a recovery point good.
    Verify,
    /// Removes recovery points that no rule keeps.
    Prune,
    /// Holds a recovery point, or lets it go.
    Hold,
    /// Runs a hook by itself.
    Hook,
    /// Tells one instance what to do: a part of a move.
    Order,
    /// Keeps what runs from now on.
    Manage,
    /// The writer changes, planned.
    Switchover,
    /// The writer changes because the old one is gone.
    Failover,
    /// An instance is stopped until somebody lifts it.
    Fence,
    /// The stopped writer starts again.
    Unfence,
    /// What wrote before follows again.
    Rejoin,
    /// Every writer leaves a site, planned.
    SwitchoverSite,
    /// Every writer leaves a site that is gone.
    FailoverSite,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Backup,
        Self::Restore,
        Self::Check,
        Self::Discard,
        Self::Verify,
        Self::Prune,
        Self::Hold,
        Self::Hook,
        Self::Order,
        Self::Manage,
        Self::Switchover,
        Self::Failover,
        Self::Fence,
        Self::Unfence,
        Self::Rejoin,
        Self::SwitchoverSite,
        Self::FailoverSite,
    ];

    /// As it is stored and said.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Check => "check",
            Self::Discard => "discard",
            Self::Verify => "verify",
            Self::Prune => "prune",
            Self::Hold => "hold",
            Self::Hook => "hook",
            Self::Order => "order",
            Self::Manage => "manage",
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Fence => "fence",
            Self::Unfence => "unfence",
            Self::Rejoin => "rejoin",
            Self::SwitchoverSite => "switchover-site",
            Self::FailoverSite => "failover-site",
        }
    }

    /// As it is sent.
    #[must_use]
    pub const fn proto(self) -> OperationKind {
        match self {
            Self::Backup => OperationKind::Backup,
            Self::Restore => OperationKind::Restore,
            Self::Check => OperationKind::Check,
            Self::Discard => OperationKind::Discard,
            Self::Verify => OperationKind::Verify,
            Self::Prune => OperationKind::Prune,
            Self::Hold => OperationKind::Hold,
            Self::Hook => OperationKind::Hook,
            Self::Order => OperationKind::Order,
            Self::Manage => OperationKind::Manage,
            Self::Switchover => OperationKind::Switchover,
            Self::Failover => OperationKind::Failover,
            Self::Fence => OperationKind::Fence,
            Self::Unfence => OperationKind::Unfence,
            Self::Rejoin => OperationKind::Rejoin,
            Self::SwitchoverSite => OperationKind::SwitchoverSite,
            Self::FailoverSite => OperationKind::FailoverSite,
        }
    }
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted; no command was issued yet.
    Pending,
    /// A command was issued.
    Running,
    /// Asked to stop; the agent has not answered yet.
    Cancelling,
    /// A command's outcome is not known.
    Unknown,
    /// The store may be behind: its agent is to be asked before anything is done.
    Suspended,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Pending, Self::Running, Self::Cancelling, Self::Unknown, Self::Suspended, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Running | Self::Cancelling | Self::Unknown | Self::Suspended => false,
        }
    }

    /// As it is stored and said.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Unknown => "unknown",
            Self::Suspended => "suspended",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// As it is sent.
    #[must_use]
    pub const fn proto(self) -> OperationState {
        match self {
            Self::Pending => OperationState::Pending,
            Self::Running => OperationState::Running,
            Self::Cancelling => OperationState::Cancelling,
            Self::Unknown => OperationState::Unknown,
            Self::Suspended => OperationState::Suspended,
            Self::Succeeded => OperationState::Succeeded,
            Self::Failed => OperationState::Failed,
            Self::Cancelled => OperationState::Cancelled,
        }
    }
}
