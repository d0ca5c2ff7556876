//! Check a component's part of its repository, by one of its agents: the controller itself has no key.
//!
//! ```text
//!  accepted: instance chosen -> command check -> findings -> succeeded (also where problems were found: they are the result)
//!                                             -> fault    -> failed | cancelled
//! ```

use muster_common::fault::{ErrorKind, Fault};
use muster_wire::proto::agent::v1::CheckWork;
use serde::{Deserialize, Serialize};

use crate::operation::asked::AskedCheck;
use crate::operation::fleet::Fleet;
use crate::operation::kinds::Settled;
use crate::operation::state;

/// A check with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which part of the data is read.
    pub read_data_part: u32,
    /// Of how many. 0: none is read.
    pub read_data_of: u32,
}

/// Chooses the instance.
///
/// # Errors
/// Why it cannot be done now.
pub fn settle(asked: &AskedCheck, fleet: &Fleet) -> Result<Settled, Fault> {
    if asked.read_data_of != 0 && asked.read_data_part >= asked.read_data_of {
        let part = format!("part {} of {}", asked.read_data_part, asked.read_data_of);
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("read {part} of the data: there is no such part"))
            .hint("parts count from 0; 0 of 1 reads all"));
    }
    fleet.repository()?;
    let instance = match &asked.instance {
        Some(name) => Some(fleet.instance(name)?),
        None => fleet.instances.iter().find(|instance| instance.connected).or_else(|| fleet.instances.first()),
    };
    let instance = instance.ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("component {} has no instance", fleet.component))
            .hint("declare one in the component's spec, then `muster apply`")
    })?;
    let task = Task { read_data_part: asked.read_data_part, read_data_of: asked.read_data_of };
    Ok(Settled::on(fleet, instance, state::Task::Check(task)))
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> CheckWork {
    CheckWork { read_data_part: task.read_data_part, read_data_of: task.read_data_of }
}
