//! What the events of a site's move make of its journaled state.

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::time::Timestamp;

use crate::operation::done::Done;
use crate::operation::event::Event;
use crate::operation::kind::Phase;
use crate::operation::life::{end, step};
use crate::operation::sites::task::{Done as Moved, End};
use crate::operation::state::{State, Work};

/// The operation after an event that only a site's move has. Every other one changes nothing here.
pub fn apply(state: &mut State, event: &Event, at: Timestamp) {
    if let Event::Begun { component, operation } = event {
        state.steps.push(step(component.as_str(), Work::Child { operation: *operation }, at));
        if state.phase == Phase::Pending {
            state.phase = Phase::Running;
        }
    }
    if let Event::Aside { component, fault } = event {
        state.moving.aside.insert(component.clone(), fault.as_deref().cloned());
    }
    if let Event::SiteEnded(done) = event {
        ended(state, done, at);
    }
}

/// All that was begun has ended.
fn ended(state: &mut State, done: &Moved, at: Timestamp) {
    let left: Vec<_> = done.components.iter().filter(|ended| !matches!(ended.end, End::Moved | End::Elsewhere)).collect();
    let phase = match (left.is_empty(), state.cancel.is_some()) {
        (true, _) => Phase::Succeeded,
        (false, true) => Phase::Cancelled,
        (false, false) => Phase::Failed,
    };
    let fault = left.first().map(|first| {
        let kind = if phase == Phase::Cancelled { ErrorKind::Cancelled } else { ErrorKind::FailedPrecondition };
        let message = format!("{}: {} of {} were not moved", state.title(), left.len(), done.components.len());
        let fault = Fault::failed(kind, message).effect(Effect::Unknown);
        let told = left.iter().take(20).map(|ended| format!("{}: {}", ended.component, ended.why));
        told.fold(fault, Fault::evidence).hint(format!(
            "`muster status {}` shows who writes; then move each by its own command, or ask for the site again",
            first.component
        ))
    });
    state.done = Some(Done::Site(Box::new(done.clone())));
    end(state, phase, fault, at);
}
