//! The writer changes, planned. Nothing is lost, or it goes back.

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::command::Order;
use muster_failover::directive::{Answer, Errand};
use muster_failover::position::Position;

use crate::operation::moves::change::Change;
use crate::operation::moves::decide::{Action, Next, answer, changed, failed, generation, give, record, refused, wait};
use crate::operation::moves::forward::{back, done, follow, forward, pledge, pledge_step, prepare, turn_back};
use crate::operation::moves::part::{Stand, ago, stand};
use crate::operation::moves::route;
use crate::operation::moves::task::Done;
use crate::operation::moves::view::View;

/// How long the candidate may take to replay what the writer left.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// How long the stop may be obeyed from its arrival: later nobody means it any more.
const STOP: Duration = Duration::from_secs(60);

/// What is to be done now; at last what came of it.
///
/// # Errors
/// What to do before.
pub fn decide(view: &View, from: &Name, to: &Name, stop_limit: Duration) -> Next<Done> {
    if generation(&view.state) == 0 {
        before_the_move(view, from, to, stop_limit)?;
    }
    forward(view)?;
    route::cut_over(view)?;
    let mut notes = follow(view)?;
    notes.extend(route::settle(view)?);
    done(view, notes)
}

fn before_the_move(view: &View, from: &Name, to: &Name, stop_limit: Duration) -> Next<()> {
    if view.moving().back.is_some() {
        return Err(back(view, "stop"));
    }
    let title = view.state.title();
    if let Some(cancel) = &view.state.cancel {
        return Err(turn_back(Fault::refused(ErrorKind::Cancelled, format!("{title}: {} stopped it before the move", cancel.by))));
    }
    let record = record(view)?;
    if record.reign.writer != *from {
        let fault = Fault::refused(ErrorKind::Conflict, format!("{title}: {} writes now, not {from}", record.reign.writer));
        return Err(turn_back(fault.hint("ask again if it is still wanted")));
    }
    // Names are made ready while everything runs still; what cannot be changed later stops it now.
    if record.candidate.is_none()
        && let Err(fault) = route::lower(view)?
    {
        return Err(turn_back(fault));
    }
    // The candidate stands in the record before the writer stops: nobody is confirmed to start meanwhile.
    if record.candidate.is_none() {
        return Err(match changed(view, Change::Begin(to.clone())) {
            Ok(event) => Action::Record(vec![event]),
            Err(refusal) => turn_back(refused(view, &refusal)),
        });
    }
    let end = stopped(view, from, stop_limit)?;
    let stopped_at = match stand(view, "stop") {
        Stand::Answered(_, part) => part.finished.unwrap_or(part.since),
        Stand::None | Stand::Open(_) | Stand::Failed(_) => view.now,
    };
    let is_late = ago(view, stopped_at) > CATCH_UP;
    let is_moving = record.candidate.as_ref().is_some_and(|own| own.nonce.is_some());
    if is_late && !is_moving {
        let fault = Fault::refused(ErrorKind::Stalled, format!("{title}: {to} did not reach the end of {from} in time"));
        let at = view.member(to).and_then(|member| member.position.as_ref()).map_or("unknown".into(), |(at, _)| at.to_string());
        return Err(turn_back(
            fault.evidence(format!("{from} ended at {end}, {to} is at {at}")).hint("look at its replication, then ask again"),
        ));
    }
    if let Stand::Failed(part) = stand(view, &pledge_step(view)) {
        return Err(turn_back(failed(view, part, "pledge")));
    }
    prepare(view, to, |position| match position {
        Some(own) if own.covers(&end) => Ok(()),
        Some(_) | None => Err(look_again(view, to, &end)),
    })
}

/// Where the writer ended.
fn stopped(view: &View, from: &Name, stop_limit: Duration) -> Next<Position> {
    let title = view.state.title();
    if let Stand::Open(part) = stand(view, "stop")
        && ago(view, part.since) > STOP + stop_limit
    {
        let fault = Fault::failed(ErrorKind::Stalled, format!("{title}: {from} was not stopped in time"));
        return Err(turn_back(fault.hint(format!("look at agent and server of {from}; its way back begins by itself"))));
    }
    match answer(view, "stop", from, &Errand::Order(Order::Stop { for_operation: Some(stop_limit) }), Some(STOP))? {
        Ok(Answer::Stopped(Some(end))) => Ok(end.clone()),
        Ok(_) => Err(turn_back(
            Fault::failed(ErrorKind::DataLoss, format!("{title}: the final position of {from} cannot be read"))
                .hint("look at its data directory; a failover tells what would be lost"),
        )),
        Err(part) => Err(turn_back(failed(view, part, &format!("stop {from}")))),
    }
}

/// Asks the candidate again how far it is: the pledge is the same one.
fn look_again(view: &View, to: &Name, end: &Position) -> Action {
    let step = pledge_step(view);
    match stand(view, &step) {
        Stand::Answered(_, part) if ago(view, part.finished.unwrap_or(part.since)) >= LOOK => give(view, &step, to, pledge(), None),
        Stand::Answered(..) | Stand::None | Stand::Open(_) | Stand::Failed(_) => wait(view, format!("{to} to reach {end}"), LOOK),
    }
}
