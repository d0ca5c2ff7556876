//! Run a hook by itself: a program that an agent's own file declares, for one of the instances that the agent keeps.
//!
//! ```text
//!  accepted: instance chosen -> command run_hook -> exit code 0 -> succeeded
//!                                                -> fault (no such hook: nothing ran; another exit code, its timeout) -> failed | cancelled
//! ```
//! What the hook is stands in the agent's file: here is its name alone.

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_wire::proto::agent::v1::RunHookWork;
use serde::{Deserialize, Serialize};

use crate::operation::asked::AskedHook;
use crate::operation::fleet::Fleet;
use crate::operation::kinds::Settled;
use crate::operation::state;

/// A run with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The hook.
    pub hook: Name,
}

/// Finds the instance.
///
/// # Errors
/// Where there is none of that name.
pub fn settle(asked: &AskedHook, fleet: &Fleet) -> Result<Settled, Fault> {
    let instance = fleet.instance(&asked.instance)?;
    Ok(Settled::on(fleet, instance, state::Task::Hook(Task { hook: asked.hook.clone() })))
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> RunHookWork {
    RunHookWork { hook: task.hook.to_string() }
}
