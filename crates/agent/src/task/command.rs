//! A command as the agent keeps it, and how its task ended. All of it is data that the inbox stores as JSON.

use std::path::PathBuf;

use muster_common::counter::{Epoch, Term};
use muster_common::fault::Fault;
use muster_common::id::{CommandId, OperationId, PointId};
use muster_common::name::InstanceName;
use muster_common::time::Timestamp;
use muster_engine::request::{BackupOutcome, BackupRequest, DiscardRequest, RestoreOutcome, RestoreRequest, VerifyOutcome, VerifyRequest};
use serde::{Deserialize, Serialize};

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
    /// Prove a point good.
    Verify {
        /// Which, and what it must answer.
        request: VerifyRequest,
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
        }
    }

    /// Whether it needs the instance for itself. What only reads the repository shares it.
    #[must_use]
    pub const fn holds_instance(&self) -> bool {
        match self {
            Self::Backup { .. } | Self::Discard { .. } => true,
            Self::Restore { request, .. } => !request.dry_run,
            Self::Check { .. } | Self::Verify { .. } => false,
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
    /// A point was proved good.
    Verify {
        /// How.
        outcome: VerifyOutcome,
    },
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
