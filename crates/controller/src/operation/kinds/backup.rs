//! Take a recovery point of one instance.
//!
//! ```text
//!  accepted: instance chosen, point id drawn
//!     -> command backup{point} -> point kept here, in the outcome's transaction -> succeeded
//!                              -> fault -> failed | cancelled (what reached the repository is no point)
//! ```
//! The point's id is drawn when it is accepted, so that a command that is sent again finds its own point.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::PointId;
use muster_wire::proto::agent::v1::BackupWork;
use muster_wire::proto::v1::{Condition, DumpScope, InstanceRole};
use serde::{Deserialize, Serialize};

use crate::operation::asked::{AskedBackup, Scope};
use crate::operation::fleet::{Fleet, Instance};
use crate::operation::kinds::Settled;
use crate::operation::state;

/// Conditions of an instance that only speak against a physical backup.
const PHYSICAL: [&str; 3] = ["BackupRights", "ReplicationRights", "DataDirectory"];
/// The longest label, in bytes.
const MOST_LABEL: usize = 200;

/// A backup with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The id that the point will have.
    pub point: PointId,
    /// The caller's label.
    pub label: String,
    /// zstd level, 1 to 19.
    pub compression_level: u32,
    /// Ask for a checkpoint at once.
    pub fast_checkpoint: bool,
    /// A logical point of this scope. `None`: a physical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<Scope>,
}

/// Chooses the instance and checks all that can be checked without asking the agent.
///
/// # Errors
/// Why it cannot be done now.
pub fn settle(asked: &AskedBackup, fleet: &Fleet, point: PointId) -> Result<Settled, Fault> {
    if asked.label.len() > MOST_LABEL {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("the label has {} bytes", asked.label.len()))
            .hint(format!("{MOST_LABEL} bytes at most")));
    }
    if asked.compression_level > 19 {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("compression level {}", asked.compression_level))
            .hint("zstd levels 1 to 19; 0 means 1"));
    }
    fleet.repository()?;
    let instance = match &asked.instance {
        Some(name) => fleet.instance(name)?,
        None => choose(fleet)?,
    };
    let of_others = |condition: &Condition| matches!(condition.name.as_str(), "RestoreHooks" | "VerifyHooks");
    let physical = |condition: &Condition| PHYSICAL.contains(&condition.name.as_str());
    let counts = |condition: &Condition| !of_others(condition) && (asked.dump.is_none() || !physical(condition));
    instance.refuse_on(&format!("back up {}", fleet.full_name(instance)), counts)?;
    let task = Task {
        point,
        label: asked.label.clone(),
        compression_level: asked.compression_level.max(1),
        fast_checkpoint: !asked.slow_checkpoint,
        dump: asked.dump.clone(),
    };
    Ok(Settled::on(fleet, instance, state::Task::Backup(task)))
}

/// A standby that is fit for it, else the writer; where nobody is connected, the one that wrote last.
fn choose(fleet: &Fleet) -> Result<&Instance, Fault> {
    let fit = |instance: &&Instance| instance.connected && instance.blocking.is_empty();
    let of = |role: InstanceRole| fleet.instances.iter().filter(fit).find(|instance| instance.role == role && !instance.superseded);
    if let Some(best) = of(InstanceRole::Standby).or_else(|| of(InstanceRole::ReadWrite)) {
        return Ok(best);
    }
    let writer = fleet.shard.record.as_ref().map(|record| &record.reign.writer);
    let known = |instance: &&Instance| Some(&instance.name) == writer;
    // Somebody is there, but not fit: what is wrong with it is the answer.
    let connected = || fleet.instances.iter().find(|instance| instance.connected);
    let fallback = fleet.instances.iter().find(known).or_else(connected).or_else(|| fleet.instances.first());
    fallback.ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("component {} has no instance", fleet.component))
            .hint("declare one in the component's spec, then `muster apply`")
    })
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> BackupWork {
    BackupWork {
        point_id: task.point.to_string(),
        label: task.label.clone(),
        compression_level: task.compression_level,
        fast_checkpoint: task.fast_checkpoint,
        dump: task.dump.as_ref().map(|scope| DumpScope {
            databases: scope.databases.clone(),
            schemas: scope.schemas.clone(),
            tables: scope.tables.clone(),
        }),
    }
}
