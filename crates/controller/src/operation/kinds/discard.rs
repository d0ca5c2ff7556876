//! Remove the directory that a restore in place kept aside, before its time.
//!
//! ```text
//!  accepted: the restore's outcome names the directory -> command discard{path} -> gone  -> succeeded
//!                                                                              -> fault -> failed | cancelled
//! ```

use muster_common::counter::Epoch;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::OperationId;
use muster_wire::proto::agent::v1::DiscardWork;
use serde::{Deserialize, Serialize};

use crate::operation::done::Done;
use crate::operation::done::hooks::Around;
use crate::operation::kinds::Settled;
use crate::operation::state::{self, State};

/// A discard with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The restore.
    pub restore: OperationId,
    /// The directory, as the restore told it.
    pub path: String,
}

/// Takes instance, agent and path from the restore. `epoch` is the shard's present one.
///
/// # Errors
/// Where it was no restore that kept a directory.
pub fn settle(restore: &State, epoch: Epoch) -> Result<Settled, Fault> {
    let kept = match &restore.done {
        Some(Done::Restore(done)) => done.kept.as_ref(),
        Some(
            Done::Backup(_)
            | Done::Check(_)
            | Done::Discard { .. }
            | Done::Verify(_)
            | Done::Prune(_)
            | Done::Hold(_)
            | Done::Hook { .. }
            | Done::Order(_)
            | Done::Move(_)
            | Done::Site(_),
        )
        | None => None,
    };
    let kept = kept.ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("operation {} kept no directory aside", restore.id))
            .hint("only a restore in place that has succeeded does; `muster ops` lists operations")
    })?;
    let task = Task { restore: restore.id, path: kept.path.clone() };
    Ok(Settled {
        task: state::Task::Discard(task),
        target: restore.target.clone(),
        agent: restore.agent.clone(),
        repository: None,
        epoch,
        hooks: Around::default(),
    })
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> DiscardWork {
    DiscardWork { path: task.path.clone() }
}
