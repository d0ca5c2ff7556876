//! The writer changes because the old one is gone. What can be reached of it is stopped, what is lost is bounded and shown before.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::command::Order;
use muster_failover::directive::{Answer, Errand};
use muster_failover::loss::Loss;
use muster_failover::position::Position;
use muster_failover::shard::{Phase, ShardRecord};

use crate::operation::event::Event;
use crate::operation::moves::choose::choose;
use crate::operation::moves::decide::{Action, Next, failed, generation, idle, record, wait, waits_for};
use crate::operation::moves::forward::{back, done, follow, forward, pledge_step, prepare, turn_back};
use crate::operation::moves::part::{self, Stand, ago, stand};
use crate::operation::moves::route;
use crate::operation::moves::task::{Chosen, Done, REACH};
use crate::operation::moves::view::View;

/// How long a stopped writer waits before it asks to come back.
const STOP_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long after the writer's stop what the candidate lacks counts as lost. A server that is shut down in order has sent everything before it ends;
/// what is waited for is the candidate's next looks, one a second.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How long after its acceptance a candidate is waited for.
const CHOOSE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What is to be done now; at last what came of it.
///
/// # Errors
/// What to do before.
pub fn decide(view: &View, to: Option<&Name>) -> Next<Done> {
    if generation(&view.state) == 0 {
        before_the_move(view, to)?;
    }
    forward(view)?;
    route::cut_over(view)?;
    let mut notes = follow(view)?;
    notes.extend(route::settle(view)?);
    done(view, notes)
}

fn before_the_move(view: &View, to: Option<&Name>) -> Next<()> {
    let record = record(view)?;
    let stop = format!("stop/{}", record.reign.writer);
    if view.moving().back.is_some() {
        return Err(back(view, &stop));
    }
    let title = view.state.title();
    if let Some(cancel) = &view.state.cancel {
        return Err(turn_back(Fault::refused(ErrorKind::Cancelled, format!("{title}: {} stopped it before the move", cancel.by))));
    }
    if let Some(own) = record.candidate.as_ref().filter(|own| own.operation == view.state.id) {
        if own.nonce.is_none()
            && let Stand::Failed(part) = stand(view, &pledge_step(view))
            && part::tries(view, &pledge_step(view)) >= 3
        {
            return Err(turn_back(failed(view, part, "pledge")));
        }
        return prepare(view, &own.name, |_| Ok(()));
    }
    stop_whom_it_reaches(view, record, to)?;
    let chosen = chosen(view, record, to)?;
    let ceiling = view.moving().ceiling();
    if !chosen.loss.within(&ceiling) {
        return Err(idle(format!(
            "approval: {} becomes the writer and {} is lost ({}); approved is {ceiling}. Type: muster approve {} --accept-loss {}, or muster reject {}",
            chosen.candidate,
            chosen.loss,
            chosen.evidence,
            view.state.id,
            typed(&chosen.loss),
            view.state.id
        )));
    }
    prepare(view, &chosen.candidate, |_| Ok(()))
}

/// The ceiling as it is typed.
#[must_use]
pub fn typed(loss: &Loss) -> String {
    match (loss.bytes, loss.time) {
        (Some(bytes), Some(_)) => bytes.to_string(),
        // Where the time is not known a number of bytes would approve only half of it.
        (Some(_) | None, _) => "unknown".into(),
    }
}

/// Whoever may write and can be reached is stopped before anybody chooses.
fn stop_whom_it_reaches(view: &View, record: &ShardRecord, to: Option<&Name>) -> Next<()> {
    let (mut given, mut open) = (Vec::new(), Vec::new());
    for name in record.possible_writers().keys().filter(|name| Some(*name) != to || record.phase == Phase::Steady) {
        let step = format!("stop/{name}");
        match stand(view, &step) {
            Stand::None if view.reaches(name) => {
                let errand = Errand::Order(Order::Stop { for_operation: Some(STOP_LIMIT) });
                given.extend(part::give(view, &step, name, errand, None).ok());
            }
            Stand::Open(part) if view.reaches(name) && ago(view, part.since) < REACH => open.push(waits_for(view, name, "stop")),
            Stand::None | Stand::Open(_) | Stand::Failed(_) | Stand::Answered(..) => {}
        }
    }
    if !given.is_empty() {
        return Err(Action::Record(given));
    }
    if !open.is_empty() {
        return Err(wait(view, open.join("; "), LOOK));
    }
    Ok(())
}

/// Who becomes the writer. It is journaled, and again where it changed: what was approved for another one lapses.
fn chosen<'a>(view: &'a View, record: &ShardRecord, to: Option<&Name>) -> Next<&'a Chosen> {
    let found = match choose(&view.members, &ends(view, record), record, to) {
        Ok(found) => found,
        Err(reasons) if ago(view, view.state.created) < CHOOSE => {
            return Err(wait(view, format!("a candidate: {}", reasons.join("; ")), LOOK));
        }
        Err(reasons) => {
            let fault = Fault::refused(ErrorKind::FailedPrecondition, format!("{}: nobody can become the writer", view.state.title()));
            let fault = reasons.into_iter().fold(fault, Fault::evidence);
            return Err(turn_back(
                fault.hint(format!("muster preflight {} --to INSTANCE tells what each needs", view.state.target.component)),
            ));
        }
    };
    let catches_up = view
        .parts
        .iter()
        .any(|(step, part)| step.starts_with("stop/") && part.answer.is_some() && part.finished.is_some_and(|at| ago(view, at) < CATCH_UP));
    if found.loss != Loss::NONE && catches_up {
        return Err(wait(view, format!("{} to replay what the writer left", found.candidate), LOOK));
    }
    match &view.moving().chosen {
        Some(known) if known.candidate == found.candidate && known.loss == found.loss => Ok(known),
        Some(_) | None => Err(Action::Record(vec![Event::Chosen(Box::new(found))])),
    }
}

/// Where those that were stopped for this ended.
fn ends(view: &View, record: &ShardRecord) -> BTreeMap<Name, Position> {
    let end = |name: &Name| match stand(view, &format!("stop/{name}")) {
        Stand::Answered(Answer::Stopped(Some(end)), _) => Some((name.clone(), end.clone())),
        Stand::Answered(..) | Stand::None | Stand::Open(_) | Stand::Failed(_) => None,
    };
    record.possible_writers().keys().filter_map(end).collect()
}
