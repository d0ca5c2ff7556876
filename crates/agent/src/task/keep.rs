//! What stays in a component's part of its repository: prunes, holds, and the hold under which a restore or a verification runs.
//! The repository does it; this tells how far it is and what became of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_common::fault::{Effect, Fault};
use muster_common::id::PointId;
use muster_common::time::Timestamp;
use muster_engine::work::Work;
use muster_repository::error::Error;
use muster_repository::prune::{PointFate, PruneOptions, PruneReport};
use muster_repository::retention::{Decision, Keep, Remove, Rules};

use crate::task::command::{Command, Done, FateOutcome, PruneOutcome};

/// How many points are told of.
const MAX_POINTS: usize = 1_000;

/// Runs a verb while its point is held.
pub async fn held<T>(work: &Work, point: PointId, command: &Command, verb: impl Future<Output = T>) -> T {
    // Without a repository the verb itself says what is missing.
    let Ok(open) = work.repository() else { return verb.await };
    let at = (open.keys.component(), point);
    let holder = format!("{} {}", command.job.name(), command.instance);
    open.repository.while_held(at, (&holder, &format!("command {} runs", command.id)), &work.cancel, verb).await
}

/// Prunes the component's part.
///
/// # Errors
/// Where nobody knows what is needed, or the store refuses.
pub async fn prune(work: &Work, rules: Rules, dry_run: bool) -> Result<PruneOutcome, Fault> {
    let open = work.repository()?;
    work.tell(|progress| progress.phase = "pruning".to_owned());
    let options = PruneOptions { rules, dry_run, cancel: work.cancel.clone() };
    let removed = AtomicU64::new(0);
    let prune = open.repository.prune(open.keys.component(), Some(&open.keys), &options, &removed);
    tokio::pin!(prune);
    let mut tell = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            report = &mut prune => return report.map(|report| outcome(report, dry_run)).map_err(|error| told(&error, &removed)),
            _ = tell.tick() => work.tell(|progress| progress.files_done = removed.load(Ordering::Relaxed)),
        }
    }
}

fn told(error: &Error, removed: &AtomicU64) -> Fault {
    // What is marked only is not changed for anyone.
    let effect = if removed.load(Ordering::Relaxed) == 0 { Effect::None } else { Effect::Unknown };
    error.fault().effect(effect)
}

fn outcome(report: PruneReport, dry_run: bool) -> PruneOutcome {
    PruneOutcome {
        dry_run,
        more_points: report.points.len().saturating_sub(MAX_POINTS) as u64,
        removed_points: report.points.iter().filter(|fate| fate.removed).count() as u64,
        removed: (report.removed_packs, report.removed_bytes),
        marked: (report.marked_packs, report.marked_bytes),
        waiting: (report.waiting_packs, report.waiting_bytes),
        next_at: report.next_at,
        notes: report.notes.into_iter().take(MAX_POINTS).collect(),
        points: report.points.iter().take(MAX_POINTS).map(fate).collect(),
    }
}

fn fate(fate: &PointFate) -> FateOutcome {
    FateOutcome {
        point: fate.point,
        stored_at: fate.stored_at,
        stays: fate.decision.keeps(),
        why: fate.decision.why(),
        bytes_alone: fate.bytes_alone,
        marked_at: fate.marked_at,
        held_until: held_until(&fate.decision),
        removed: fate.removed,
    }
}

fn held_until(decision: &Decision) -> Option<Timestamp> {
    match decision {
        Decision::Keep(Keep::Held(until, _)) => Some(*until),
        Decision::Keep(Keep::NoRules | Keep::Newest | Keep::NotSuperseded | Keep::Future | Keep::Within | Keep::Last(_))
        | Decision::Remove(Remove::NoRuleKeepsIt | Remove::NeverAcknowledged) => None,
    }
}

/// Holds a point, or lets all its holds go. One that this command has taken before it was killed stays beside the new one, and ends with it.
///
/// # Errors
/// Where there is no such point, it is being removed, or the store refuses.
pub async fn hold(work: &Work, point: PointId, lasts: Option<Duration>, holder: &str, reason: &str) -> Result<Done, Fault> {
    let open = work.repository()?;
    let component = open.keys.component();
    let act = async {
        match lasts {
            Some(lasts) => {
                let hold = open.repository.hold((component, point), lasts, holder, reason).await?;
                Ok(Done::Hold { point, until: Some(hold.until), ended: 0 })
            }
            None => {
                let ended = open.repository.release_point(component, point).await?;
                Ok(Done::Hold { point, until: None, ended: ended as u64 })
            }
        }
    };
    let done: Result<Done, Error> = tokio::select! {
        done = act => done,
        () = work.cancel.cancelled() => Err(Error::Cancelled),
    };
    done.map_err(|error| error.fault())
}
