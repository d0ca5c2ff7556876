//! Remove recovery points that the component's retention does not keep, by one of its agents: points are proved by the component's key.
//!
//! ```text
//!  accepted: instance chosen, rules taken from the spec -> command prune -> what it did -> succeeded; known points are brought up to date
//!                                                                        -> fault       -> failed | cancelled; the next one goes on
//! ```

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_wire::convert::{duration_from_proto, duration_to_proto};
use muster_wire::proto::agent::v1::PruneWork;
use muster_wire::proto::v1::RetentionSpec;
use serde::{Deserialize, Serialize};

use crate::operation::asked::AskedPrune;
use crate::operation::done::prune::Fate;
use crate::operation::done::{Done, Outcome};
use crate::operation::fleet::{Fleet, Instance};
use crate::operation::kinds::Settled;
use crate::operation::state;

/// A prune with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Points that are younger stay. `None`: no rule by age.
    pub keep_within_seconds: Option<u64>,
    /// So many of the newest stay. 0: no rule by count.
    pub keep_last: u32,
    /// Only tell.
    pub dry_run: bool,
}

/// Chooses the instance and takes the component's rules along.
///
/// # Errors
/// Why it cannot be done now.
pub fn settle(asked: &AskedPrune, fleet: &Fleet, rules: &RetentionSpec) -> Result<Settled, Fault> {
    fleet.repository()?;
    let instance = chosen(asked.instance.as_ref(), fleet)?;
    let keep_within = rules.keep_within.as_ref().map(|within| duration_from_proto(within, "retention.keep_within")).transpose()?;
    let task = Task { keep_within_seconds: keep_within.map(|within| within.as_secs()), keep_last: rules.keep_last, dry_run: asked.dry_run };
    Ok(Settled::on(fleet, instance, state::Task::Prune(task)))
}

/// The instance that was named, or any that is connected.
pub(super) fn chosen<'a>(named: Option<&muster_common::name::Name>, fleet: &'a Fleet) -> Result<&'a Instance, Fault> {
    let instance = match named {
        Some(name) => Some(fleet.instance(name)?),
        None => fleet.instances.iter().find(|instance| instance.connected).or_else(|| fleet.instances.first()),
    };
    instance.ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("component {} has no instance", fleet.component))
            .hint("declare one in the component's spec, then `muster apply`")
    })
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> PruneWork {
    let within = task.keep_within_seconds.map(|seconds| duration_to_proto(Duration::from_secs(seconds)));
    PruneWork { keep_within: within, keep_last: task.keep_last, dry_run: task.dry_run }
}

/// What is known of the points afterwards.
#[must_use]
pub fn fates(task: &Task, outcome: &Outcome) -> Option<Vec<Fate>> {
    match outcome {
        Outcome::Done(Done::Prune(done)) => {
            let fate = |(point, told): &(_, crate::operation::done::prune::Told)| {
                if told.removed && !task.dry_run { Fate::Gone(*point) } else { Fate::Told(*point, told.clone()) }
            };
            Some(done.points.iter().map(fate).collect())
        }
        Outcome::Done(
            Done::Backup(_)
            | Done::Restore(_)
            | Done::Check(_)
            | Done::Discard { .. }
            | Done::Verify(_)
            | Done::Hold(_)
            | Done::Hook { .. }
            | Done::Order(_)
            | Done::Move(_)
            | Done::Site(_),
        )
        | Outcome::Fault(_) => None,
    }
}
