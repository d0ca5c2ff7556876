//! What a move does now: one pure function. It says what to journal next, or what is waited for.

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::directive::{Answer, Errand};
use muster_failover::refusal::Refusal;
use muster_failover::shard::ShardRecord;

use crate::operation::event::Event;
use crate::operation::kind::Phase;
use crate::operation::moves::change::{Change, Deed};
use crate::operation::moves::part::{self, Stand};
use crate::operation::moves::task::Task;
use crate::operation::moves::view::{Part, View};
use crate::operation::moves::{failover, fence, manage, rejoin, route, switchover};
use crate::operation::state::{Act, Stands, State, Step, Task as Any, Work};

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Journal these in one transaction, then decide again.
    Record(Vec<Event>),
    /// Carry this out and journal what came of it: its intent is journaled.
    Route {
        /// The route.
        route: Name,
        /// What is done to it.
        deed: route::Deed,
    },
    /// Nothing before this moment, or before there is news.
    Wait {
        /// What for, in words.
        reason: String,
        /// When to decide again at the latest.
        until: Option<Timestamp>,
    },
}

/// A recipe's value, or what has to be done before there is one.
pub type Next<T> = Result<T, Action>;

/// What is to be done now.
#[must_use]
pub fn decide(view: &View) -> Action {
    match view.state.phase {
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => return idle(""),
        // Its parts were suspended too, and ask their own agents.
        Phase::Suspended if view.members.iter().any(|member| member.connected) => return Action::Record(vec![Event::Released]),
        Phase::Suspended => return idle("an agent to connect"),
        Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Unknown => {}
    }
    let ended = ended_parts(view);
    if !ended.is_empty() {
        return Action::Record(ended);
    }
    let Any::Move(task) = &view.state.task else { return idle("") };
    let done = match task {
        Task::Manage { writer, followers } => manage::decide(view, writer, followers),
        Task::Switchover { from, to, stop_seconds } => switchover::decide(view, from, to, Duration::from_secs(*stop_seconds)),
        Task::Failover { to } => failover::decide(view, to.as_ref()),
        Task::Fence { instance } => fence::fence(view, instance),
        Task::Unfence { instance, by_itself } => fence::unfence(view, instance, *by_itself),
        Task::Rejoin { instance } => rejoin::decide(view, instance),
    };
    match done {
        Ok(done) => Action::Record(vec![Event::Finished(Box::new(done))]),
        Err(action) => action,
    }
}

/// The ends of parts that are not journaled on the move yet: its steps tell how long each took.
fn ended_parts(view: &View) -> Vec<Event> {
    let open = view.state.steps.iter().filter(|step| step.stands == Stands::Started && matches!(step.work, Work::Child { .. }));
    open.filter_map(|step| {
        let part = view.parts.get(&step.name)?;
        let stands = match part.phase {
            Phase::Succeeded => Stands::Succeeded,
            Phase::Failed => Stands::Failed,
            Phase::Cancelled => Stands::Cancelled,
            Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Unknown | Phase::Suspended => return None,
        };
        Some(Event::PartEnded { step: step.name.clone(), stands, fault: part.fault.clone() })
    })
    .collect()
}

/// Waits for news.
#[must_use]
pub fn idle(reason: impl Into<String>) -> Action {
    Action::Wait { reason: reason.into(), until: None }
}

/// Waits for news, and looks again after `pause`.
#[must_use]
pub fn wait(view: &View, reason: impl Into<String>, pause: Duration) -> Action {
    Action::Wait { reason: reason.into(), until: Some(view.now.plus(pause)) }
}

/// Ends it as failed. Only where nothing is to be undone.
#[must_use]
pub fn give_up(fault: Fault) -> Action {
    Action::Record(vec![Event::GaveUp(fault)])
}

/// A refusal of the rules, as a fault.
#[must_use]
pub fn refused(view: &View, refusal: &Refusal) -> Fault {
    let seen = match refusal.age {
        Some(age) => format!("{} (seen {} ago)", refusal.evidence, muster_common::duration::show(age)),
        None => refusal.evidence.clone(),
    };
    Fault::refused(ErrorKind::FailedPrecondition, format!("{}: {seen}", view.state.title()))
        .hint(format!("lifted by: {}", refusal.lifted_by))
}

/// A change of the shard's record, where the rules allow it on the record that is seen.
///
/// # Errors
/// The rules' refusal.
pub fn changed(view: &View, change: Change) -> Result<Event, Refusal> {
    let after = change.apply(view.state.id, view.record.as_ref())?;
    let deed = change.deed(&after);
    Ok(Event::Changed { change: Box::new(change), deed })
}

/// Journals a change now; where the rules refuse it, ends.
#[must_use]
pub fn change(view: &View, what: Change) -> Action {
    match changed(view, what) {
        Ok(event) => Action::Record(vec![event]),
        Err(refusal) => give_up(refused(view, &refusal)),
    }
}

/// The shard's record.
///
/// # Errors
/// Ends where there is none.
pub fn record(view: &View) -> Next<&ShardRecord> {
    view.record.as_ref().ok_or_else(|| {
        give_up(
            Fault::refused(ErrorKind::FailedPrecondition, format!("{}: no writer is known", view.state.title()))
                .hint(format!("muster manage {} --writer INSTANCE", view.state.target.component)),
        )
    })
}

/// Gives a part and waits for its answer.
///
/// # Errors
/// To give it, or to wait for it. Inside: how it failed.
pub fn answer<'a>(
    view: &'a View,
    name: &str,
    instance: &Name,
    errand: &Errand,
    lasts: Option<Duration>,
) -> Next<Result<&'a Answer, &'a Part>> {
    match part::stand(view, name) {
        Stand::None => Err(give(view, name, instance, errand.clone(), lasts)),
        Stand::Open(_) => Err(idle(waits_for(view, instance, errand.name()))),
        Stand::Answered(answer, _) => Ok(Ok(answer)),
        Stand::Failed(part) => Ok(Err(part)),
    }
}

/// Gives a part (again).
#[must_use]
pub fn give(view: &View, name: &str, instance: &Name, errand: Errand, lasts: Option<Duration>) -> Action {
    if part::tries(view, name) >= part::MOST_TRIES {
        let why = format!(
            "{}, which was tried {} times; `muster logs {}` tells why",
            waits_for(view, instance, name),
            part::MOST_TRIES,
            view.state.id
        );
        return wait(view, why, Duration::from_secs(10));
    }
    match part::give(view, name, instance, errand, lasts) {
        Ok(event) => Action::Record(vec![event]),
        Err(fault) => wait(view, format!("{}; {}", fault.message, fault.hint), Duration::from_secs(10)),
    }
}

/// `istanbul to answer stop`.
#[must_use]
pub fn waits_for(view: &View, instance: &Name, errand: &str) -> String {
    match view.member(instance) {
        Some(member) if !member.connected => format!("agent {} to connect, for: {errand} {instance}", member.agent),
        Some(_) | None => format!("{instance}: {errand}"),
    }
}

/// What a failed part says, as the move's own fault.
#[must_use]
pub fn failed(view: &View, part: &Part, what: &str) -> Fault {
    let title = view.state.title();
    match &part.fault {
        Some(fault) => Fault { message: format!("{title}: {what}: {}", fault.message), ..fault.clone() },
        None => Fault::failed(ErrorKind::Unavailable, format!("{title}: {what}: what became of it is not known"))
            .hint("ask again: what was done already is found done"),
    }
}

/// How often this move moved the reign.
#[must_use]
pub fn generation(state: &State) -> usize {
    deeds(state).filter(|(_, deed)| matches!(deed, Deed::Move { .. })).count()
}

/// What it changed in the record, in order.
pub fn deeds(state: &State) -> impl Iterator<Item = (&Step, &Deed)> {
    state.steps.iter().filter_map(|step| match &step.work {
        Work::Action(Act::Shard(deed)) => Some((step, deed)),
        Work::Action(Act::MoveReign { .. } | Act::Route(_)) | Work::Command { .. } | Work::Child { .. } | Work::Wait(_) => None,
    })
}
