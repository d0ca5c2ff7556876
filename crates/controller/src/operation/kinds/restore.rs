//! Bring a recovery point back: into an empty place, in place of what is there, or beside it.
//!
//! ```text
//!  accepted: point chosen, consent given, next epoch set where the writer is restored in place
//!     -> command restore{point, place} -> done  -> [writer in place: epoch moves, followers superseded] -> succeeded
//!                                      -> fault -> [it was done, what failed came after: the epoch moves] -> failed
//!                                      -> fault cancelled -> cancelled
//! ```
//! The point of no return of a restore in place is the agent's: once the old directory was moved aside it goes on, and a cancel that
//! comes later is answered by the outcome. A dry run asks the agent and touches nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::PointId;
use muster_wire::convert::duration_to_proto;
use muster_wire::proto::agent::v1::{RestorePlace, RestoreWork};
use muster_wire::proto::v1::Condition;
use serde::{Deserialize, Serialize};

use crate::operation::asked::{AskedRestore, Place};
use crate::operation::done::Outcome;
use crate::operation::fleet::{Fleet, Instance};
use crate::operation::kinds::Settled;
use crate::operation::state;

/// How long the old directory is kept where nobody said otherwise.
const KEEP_OLD: Duration = Duration::from_secs(86_400);
/// The longest that it can be kept.
const MOST_KEPT: Duration = Duration::from_secs(366 * 86_400);
/// Tablespaces that one restore can map.
const MOST_TABLESPACES: usize = 1_000;

/// A restore with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The point.
    pub point: PointId,
    /// Where to.
    pub place: Place,
    /// Only tell what it would do.
    pub dry_run: bool,
    /// Where tablespaces go, by OID.
    pub tablespaces: BTreeMap<u32, String>,
    /// How long the old directory is kept, in seconds.
    pub keep_old_s: u64,
    /// Start the server and wait for it.
    pub start: bool,
    /// What is there now may be replaced.
    pub consent: bool,
    /// The epoch that begins when it is done. 0: none begins.
    pub next_epoch: Epoch,
}

/// Checks all that can be checked without asking the agent.
///
/// # Errors
/// Why it cannot be done now.
pub fn settle(asked: &AskedRestore, fleet: &Fleet, point: PointId) -> Result<Settled, Fault> {
    fleet.repository()?;
    let instance = fleet.instance(&asked.instance)?;
    let title = format!("restore {}", fleet.full_name(instance));
    let consent = asked.consent == fleet.component.as_str();
    check_place(asked, &title, consent)?;
    check_paths(asked, &title)?;
    // A server that is down or broken is what a restore is for: only what the repository lacks speaks against it.
    let hooks = |condition: &Condition| condition.name == "RestoreHooks" && !asked.dry_run;
    instance.refuse_on(&title, |condition| about_repository(condition) || hooks(condition))?;
    let keep_old = asked.keep_old.unwrap_or(KEEP_OLD);
    if keep_old > MOST_KEPT {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{title}: the old directory would be kept too long"))
            .hint("366 days at most"));
    }
    let task = Task {
        point,
        place: asked.place.clone(),
        dry_run: asked.dry_run,
        tablespaces: asked.tablespaces.clone(),
        keep_old_s: keep_old.as_secs(),
        start: !asked.no_start,
        consent,
        next_epoch: next_epoch(asked, fleet, instance)?,
    };
    Ok(Settled::on(fleet, instance, state::Task::Restore(task)))
}

fn check_place(asked: &AskedRestore, title: &str, consent: bool) -> Result<(), Fault> {
    if !asked.consent.is_empty() && !consent {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{title}: the consent names {:?}", asked.consent))
            .hint(format!("consent is the component's name: {}", asked.component)));
    }
    match asked.place {
        Place::InPlace if !consent && !asked.dry_run => Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("{title}: what is there now would be replaced, and nobody consented"),
        )
        .evidence("the old directory is moved aside and kept for a while; connections to the server are ended")
        .hint(format!("look with --dry-run, then consent by the component's name: {}", asked.component))),
        Place::InPlace | Place::Empty | Place::Beside { .. } | Place::Database { .. } => Ok(()),
    }
}

fn check_paths(asked: &AskedRestore, title: &str) -> Result<(), Fault> {
    if asked.tablespaces.len() > MOST_TABLESPACES {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{title}: {} tablespaces are mapped", asked.tablespaces.len()))
            .hint(format!("{MOST_TABLESPACES} at most")));
    }
    let beside = match &asked.place {
        Place::Beside { directory, .. } => Some(directory),
        Place::Empty | Place::InPlace | Place::Database { .. } => None,
    };
    match beside.into_iter().chain(asked.tablespaces.values()).find(|path| !path.starts_with('/')) {
        Some(path) => Err(Fault::refused(ErrorKind::InvalidArgument, format!("{title}: {path:?} is no absolute path"))
            .hint("give a path that begins with / on the agent's machine")),
        None => Ok(()),
    }
}

/// Whether a condition tells that the repository or its keys cannot be used.
#[must_use]
pub fn about_repository(condition: &Condition) -> bool {
    condition.name.starts_with("DataKey") || condition.name.starts_with("Repository")
}

fn next_epoch(asked: &AskedRestore, fleet: &Fleet, instance: &Instance) -> Result<Epoch, Fault> {
    let Some(record) = &fleet.shard.record else { return Ok(Epoch(0)) };
    match asked.place {
        Place::InPlace | Place::Empty if record.reign.writer == instance.name && !asked.dry_run => {
            record.reign.epoch.next().ok_or_else(|| Fault::refused(ErrorKind::Internal, "epochs are used up"))
        }
        Place::InPlace | Place::Empty | Place::Beside { .. } | Place::Database { .. } => Ok(Epoch(0)),
    }
}

/// Whether the instance holds the point's data now, in its own place.
#[must_use]
pub fn restored_here(task: &Task, outcome: &Outcome) -> bool {
    let done = match outcome {
        Outcome::Done(_) => true,
        Outcome::Fault(fault) => fault.effect == Effect::Done,
    };
    done && is_here(task)
}

/// Whether it writes where the instance lives.
#[must_use]
pub fn is_here(task: &Task) -> bool {
    match task.place {
        Place::Empty | Place::InPlace => !task.dry_run,
        Place::Beside { .. } | Place::Database { .. } => false,
    }
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> RestoreWork {
    let (place, directory, port) = match &task.place {
        Place::Empty => (RestorePlace::Empty, String::new(), 0),
        Place::InPlace => (RestorePlace::InPlace, String::new(), 0),
        Place::Beside { directory, port } => (RestorePlace::Beside, directory.clone(), u32::from(*port)),
        Place::Database { .. } => (RestorePlace::Database, String::new(), 0),
    };
    let (database, from_database) = match &task.place {
        Place::Database { name, from } => (name.clone(), from.clone()),
        Place::Empty | Place::InPlace | Place::Beside { .. } => (String::new(), String::new()),
    };
    RestoreWork {
        point_id: task.point.to_string(),
        place: place.into(),
        directory,
        port,
        dry_run: task.dry_run,
        tablespaces: task.tablespaces.clone().into_iter().collect(),
        keep_old: Some(duration_to_proto(Duration::from_secs(task.keep_old_s))),
        start: task.start,
        consent: task.consent,
        next_epoch: task.next_epoch.0,
        database,
        from_database,
    }
}
