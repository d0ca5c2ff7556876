//! A command as the agent keeps it, and how its task ended. All of it is data that the inbox stores as JSON.

use std::path::PathBuf;

use muster_common::counter::{Epoch, Term};
use muster_common::fault::Fault;
use muster_common::id::{CommandId, OperationId, PointId};
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use muster_engine::request::{BackupOutcome, BackupRequest, DiscardRequest, RestoreOutcome, RestoreRequest, VerifyOutcome, VerifyRequest};
use muster_failover::directive::{Answer, Directive};
use muster_failover::here::Limit;
use serde::{Deserialize, Serialize};

use crate::hook::own::Around;
use crate::hook::ran::Ran;

/// A command, resolved against the assignment when it was taken on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// The term of the controller that sent it.
    pub term: Term,
    /// Its place in the order of a store's commands.
    pub sequence: u64,
    /// The operation it belongs to.
    pub operation: OperationId,
    /// The instance it is about.
    pub instance: InstanceName,
    /// The epoch it was decided in; 0: none was known.
    pub epoch: Epoch,
    /// When it was first issued, by the controller's clock.
    pub issued_at: Timestamp,
    /// The task fails when nothing moved for so many milliseconds. `None`: no limit.
    pub stall_limit_ms: Option<u64>,
    /// W3C trace context. Empty: none.
    #[serde(default)]
    pub traceparent: String,
    /// The hooks before and after it.
    #[serde(default, skip_serializing_if = "Around::is_none")]
    pub hooks: Around,
    /// What to do.
    pub job: Job,
}

/// What to do. (Tagged from outside: serde reads no integer keys, as of tablespaces, within a tag from inside.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Take a recovery point.
    Backup {
        /// Which.
        request: BackupRequest,
    },
    /// Bring one back.
    Restore {
        /// Which, and where to.
        request: RestoreRequest,
        /// The epoch that begins when a writer was restored in place; 0: none begins.
        next_epoch: Epoch,
    },
    /// Check the component's part of its repository.
    Check {
        /// Which part of the data is read, counted from 0; 0 of 0: structure only.
        part: u32,
        /// Of how many.
        of: u32,
    },
    /// Remove a kept directory.
    Discard {
        /// Which.
        request: DiscardRequest,
    },
    /// Remove what no rule keeps and no point needs.
    Prune {
        /// Points that are younger stay. `None`: no rule by age.
        within_seconds: Option<u64>,
        /// So many of the newest stay. `None`: no rule by count.
        last: Option<u32>,
        /// Only tell.
        dry_run: bool,
    },
    /// Hold a point, or let it go.
    Hold {
        /// Which.
        point: PointId,
        /// For how many seconds. `None`: let it go.
        lasts_seconds: Option<u64>,
        /// Who asked.
        holder: String,
        /// Why.
        reason: String,
    },
    /// Who may write: for the keeper of the instance.
    Order {
        /// What a controller told.
        directive: Box<Directive>,
        /// Until when it may be obeyed, as computed when it arrived.
        limit: Option<Limit>,
    },
    /// Prove a point good.
    Verify {
        /// Which, and what it must answer.
        request: VerifyRequest,
    },
    /// Run a hook by itself.
    Hook {
        /// Which.
        hook: Name,
    },
}

impl Job {
    /// Its name in texts, metrics and spans.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::Check { .. } => "check",
            Self::Discard { .. } => "discard",
            Self::Verify { .. } => "verify",
            Self::Prune { .. } => "prune",
            Self::Hold { .. } => "hold",
            Self::Hook { .. } => "hook",
            Self::Order { directive, .. } => directive.errand.name(),
        }
    }

    /// Whether it waits for no other task: a fence must not stand behind a backup.
    #[must_use]
    pub const fn is_at_once(&self) -> bool {
        match self {
            Self::Order { .. } => true,
            Self::Backup { .. }
            | Self::Restore { .. }
            | Self::Check { .. }
            | Self::Discard { .. }
            | Self::Verify { .. }
            | Self::Prune { .. }
            | Self::Hold { .. }
            | Self::Hook { .. } => false,
        }
    }

    /// Whether it needs the instance for itself. What only reads the repository shares it.
    #[must_use]
    pub const fn holds_instance(&self) -> bool {
        match self {
            Self::Backup { .. } | Self::Discard { .. } => true,
            Self::Restore { request, .. } => !request.dry_run,
            Self::Check { .. } | Self::Verify { .. } | Self::Prune { .. } | Self::Hold { .. } | Self::Hook { .. } => false,
            // The keeper's own lock is what keeps orders and looks apart: a fence waits for no backup.
            Self::Order { .. } => false,
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// How.
    pub result: Result<Done, Fault>,
    /// The hooks that ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Ran>,
}

/// What a task did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// A point was taken.
    Backup {
        /// Which.
        outcome: BackupOutcome,
    },
    /// A point was brought back, or the plan of it.
    Restore {
        /// The point.
        point: PointId,
        /// How.
        outcome: RestoreOutcome,
    },
    /// The check's findings.
    Check {
        /// They.
        outcome: CheckOutcome,
    },
    /// The directory is gone.
    Discard {
        /// Where it lay.
        path: PathBuf,
    },
    /// What no rule keeps was marked or removed.
    Prune {
        /// What it did.
        outcome: PruneOutcome,
    },
    /// A hold was taken, or holds let go.
    Hold {
        /// The point.
        point: PointId,
        /// Until when it is held, by the store's clock. `None`: it was let go.
        until: Option<Timestamp>,
        /// How many holds ended.
        ended: u64,
    },
    /// An order was carried out.
    Order {
        /// What came of it.
        answer: Answer,
    },
    /// A point was proved good.
    Verify {
        /// How.
        outcome: VerifyOutcome,
    },
    /// A hook ran by itself.
    Hook {
        /// Which.
        hook: Name,
    },
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneOutcome {
    /// Whether it only told.
    pub dry_run: bool,
    /// What becomes of each point, newest first; 1,000 at most.
    pub points: Vec<FateOutcome>,
    /// Points that are not told of.
    pub more_points: u64,
    /// Points removed.
    pub removed_points: u64,
    /// Packs removed, and their bytes.
    pub removed: (u64, u64),
    /// Packs marked, and their bytes.
    pub marked: (u64, u64),
    /// Packs that wait, and their bytes.
    pub waiting: (u64, u64),
    /// From when on something that is marked can go.
    pub next_at: Option<Timestamp>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What becomes of one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateOutcome {
    /// The point.
    pub point: PointId,
    /// When the store took it.
    pub stored_at: Timestamp,
    /// Whether it stays.
    pub stays: bool,
    /// Why.
    pub why: String,
    /// Bytes that no other point needs.
    pub bytes_alone: u64,
    /// Since when it is marked.
    pub marked_at: Option<Timestamp>,
    /// Until when it is held.
    pub held_until: Option<Timestamp>,
    /// Whether it is gone, or would go now.
    pub removed: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutcome {
    /// Recovery points read.
    pub points: u64,
    /// Packs read.
    pub packs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong, each with object and offset; 1,000 at most.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub problem_count: u64,
    /// What the store can and cannot do, in words.
    pub store_notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use muster_common::id::ComponentId;
    use muster_engine::request::RestoreTarget;

    use super::*;

    #[test]
    fn a_restore_with_tablespaces_comes_back_from_json() {
        let request = RestoreRequest {
            component: ComponentId::from_bytes([1; 16]),
            point: PointId::from_bytes([2; 16]),
            target: RestoreTarget::Beside { directory: "/srv/beside".into(), port: 5433 },
            dry_run: false,
            tablespaces: [(16_384, PathBuf::from("/srv/ts"))].into(),
            keep_old_seconds: 60,
            start: true,
            consent: false,
        };
        let job = Job::Restore { request, next_epoch: Epoch(2) };
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job, "{text}");
    }
}
