//! Hold a recovery point, or let it go, by one of the component's agents: holds stand in the repository, and outlive every controller.
//!
//! ```text
//!  accepted: point and instance chosen -> command hold -> hold -> succeeded; the point is shown as held
//!                                                      -> fault (the point is being removed, the store refuses) -> failed | cancelled
//! ```

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::PointId;
use muster_wire::convert::duration_to_proto;
use muster_wire::proto::agent::v1::HoldWork;
use serde::{Deserialize, Serialize};

use crate::operation::asked::AskedHold;
use crate::operation::done::prune::{Fate, Told};
use crate::operation::done::{Done, Outcome};
use crate::operation::fleet::Fleet;
use crate::operation::kinds::{Settled, prune};
use crate::operation::state;

/// The longest reason, in bytes.
const MOST_REASON: usize = 500;
/// A hundred years.
const MOST_SECONDS: u64 = 100 * 365 * 86_400;

/// A hold with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The point.
    pub point: PointId,
    /// For how many seconds. `None`: let it go.
    pub lasts_seconds: Option<u64>,
    /// Who asked.
    pub holder: String,
    /// Why.
    pub reason: String,
}

/// Chooses the instance.
///
/// # Errors
/// Why it cannot be done now.
pub fn settle(asked: &AskedHold, fleet: &Fleet, point: PointId) -> Result<Settled, Fault> {
    if asked.reason.len() > MOST_REASON {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("the reason has {} bytes", asked.reason.len()))
            .hint(format!("{MOST_REASON} bytes at most")));
    }
    if asked.lasts_seconds.is_some_and(|seconds| !(60..=MOST_SECONDS).contains(&seconds)) {
        return Err(Fault::refused(ErrorKind::InvalidArgument, "a hold lasts from 1 minute to 100 years").hint("for example 90d"));
    }
    fleet.repository()?;
    let instance = prune::chosen(None, fleet)?;
    let task = Task { point, lasts_seconds: asked.lasts_seconds, holder: asked.holder.clone(), reason: asked.reason.clone() };
    Ok(Settled::on(fleet, instance, state::Task::Hold(task)))
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> HoldWork {
    HoldWork {
        point_id: task.point.to_string(),
        lasts: task.lasts_seconds.map(|seconds| duration_to_proto(Duration::from_secs(seconds))),
        holder: task.holder.clone(),
        reason: task.reason.clone(),
    }
}

/// What is known of the point afterwards.
#[must_use]
pub fn fates(task: &Task, outcome: &Outcome) -> Option<Vec<Fate>> {
    match outcome {
        Outcome::Done(Done::Hold(done)) => {
            let why = if done.until.is_some() { format!("held: {} ({})", task.reason, task.holder) } else { String::new() };
            let told = Told { stays: true, why, held_until: done.until, ..Told::default() };
            Some(vec![Fate::Told(task.point, told)])
        }
        Outcome::Done(
            Done::Backup(_)
            | Done::Restore(_)
            | Done::Check(_)
            | Done::Discard { .. }
            | Done::Verify(_)
            | Done::Prune(_)
            | Done::Hook { .. }
            | Done::Order(_)
            | Done::Move(_)
            | Done::Site(_),
        )
        | Outcome::Fault(_) => None,
    }
}
