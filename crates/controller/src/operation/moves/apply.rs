//! What a move's own events make of its journaled state. The transitions of the shard are not here: they are `change`'s.

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::operation::done::Done;
use crate::operation::event::Event;
use crate::operation::kind::Phase;
use crate::operation::life::{end, step};
use crate::operation::moves::part;
use crate::operation::moves::route::{Acted, Deed};
use crate::operation::moves::task::{self, Approval};
use crate::operation::state::{Act, Stands, State, Step, Work};

/// The operation after an event that only moves have. Every other one is `life`'s and changes nothing here.
pub fn apply(state: &mut State, event: &Event, at: Timestamp) {
    match event {
        Event::Part(given) => {
            let operation = part::id(state.id, &given.step);
            state.steps.push(step(&given.step, Work::Child { operation }, at));
            begun(state);
        }
        Event::PartEnded { step, stands, fault } => end_part(state, step, *stands, fault.as_ref(), at),
        Event::Changed { deed, .. } => {
            let acted = step(&deed.name(), Work::Action(Act::Shard(deed.clone())), at);
            state.steps.push(Step { stands: Stands::Succeeded, finished: Some(at), ..acted });
            begun(state);
        }
        Event::Chosen(chosen) => {
            let another = state.moving.chosen.as_ref().is_some_and(|known| known.candidate != chosen.candidate);
            if another {
                // What was approved was approved of somebody else.
                state.moving.ceiling = None;
            }
            state.moving.chosen = Some((**chosen).clone());
            begun(state);
        }
        Event::Approved { by, approval } => approve_in(state, by, approval, at),
        Event::RouteBegun { route, deed } => {
            let acted = Acted { route: route.clone(), deed: *deed, old_ttl: None };
            let before = state.steps.iter().filter(|step| is_act(step, route, *deed)).count();
            state.steps.push(step(&acted.step(before + 1), Work::Action(Act::Route(acted)), at));
            begun(state);
        }
        Event::RouteEnded { route, deed, old_ttl, fault } => {
            for step in state.steps.iter_mut().filter(|step| step.stands == Stands::Started && is_act(step, route, *deed)) {
                step.stands = if fault.is_none() { Stands::Succeeded } else { Stands::Failed };
                step.work = Work::Action(Act::Route(Acted { route: route.clone(), deed: *deed, old_ttl: Some(*old_ttl) }));
                step.fault.clone_from(fault);
                step.finished = Some(at);
            }
        }
        Event::TurnedBack(fault) => state.moving.back = Some(fault.clone()),
        Event::WentBack => {
            let phase = if state.cancel.is_some() { Phase::Cancelled } else { Phase::Failed };
            let fault = state.moving.back.clone();
            end(state, phase, fault, at);
        }
        Event::Finished(done) => {
            state.done = Some(Done::Move(done.clone()));
            end(state, Phase::Succeeded, None, at);
        }
        Event::WaitStarted(_)
        | Event::WaitEnded
        | Event::Issued { .. }
        | Event::TakenOn
        | Event::ReignMoved { .. }
        | Event::Hook(_)
        | Event::Reported(_)
        | Event::Unheard
        | Event::Lost
        | Event::Stood
        | Event::Found
        | Event::Released
        | Event::CancelAsked { .. }
        | Event::Dropped
        | Event::GaveUp(_)
        | Event::Resolved { .. }
        | Event::Suspended { .. }
        | Event::Late(_)
        | Event::Begun { .. }
        | Event::Aside { .. }
        | Event::SiteEnded(_) => {}
    }
}

fn is_act(step: &Step, route: &Name, deed: Deed) -> bool {
    matches!(&step.work, Work::Action(Act::Route(acted)) if acted.route == *route && acted.deed == deed)
}

/// A move that did anything is under way.
fn begun(state: &mut State) {
    if state.phase == Phase::Pending {
        state.phase = Phase::Running;
    }
}

fn end_part(state: &mut State, name: &str, stands: Stands, fault: Option<&Fault>, at: Timestamp) {
    for step in state.steps.iter_mut().filter(|step| step.name == name && step.stands == Stands::Started) {
        step.stands = stands;
        step.fault = fault.cloned();
        step.finished = Some(at);
    }
}

fn approve_in(state: &mut State, by: &str, approval: &Approval, at: Timestamp) {
    let operator = by.rsplit('/').next().and_then(|name| name.parse().ok());
    if let Some(operator) = operator {
        for (instance, states) in &approval.words {
            state.moving.words.insert(instance.clone(), task::Given { operator: Name::clone(&operator), states: *states, at });
        }
    }
    if approval.ceiling.is_some() {
        state.moving.ceiling = approval.ceiling;
    }
}
