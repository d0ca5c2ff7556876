//! What a site's move does now: one pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::operation::event::Event;
use crate::operation::kind::Phase;
use crate::operation::sites::task::{Done, End, Ended, OnFailure, Planned, Task};
use crate::operation::state::{Stands, State, Work};

/// How long a component's operation that is refused is asked for again before the component counts as failed.
const REFUSED: Duration = Duration::from_secs(20);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);
/// The most components whose waits are told.
const MOST_TOLD: usize = 5;

/// All that is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The site's move.
    pub state: State,
    /// The operations that were begun, by component.
    pub parts: BTreeMap<Name, Part>,
    /// The components whose recorded writer stands at the site still.
    pub here: BTreeSet<Name>,
    /// Components whose operation was refused by now.
    pub refused: BTreeMap<Name, Refused>,
    /// Now.
    pub now: Timestamp,
}

/// One component's operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where it stands.
    pub phase: Phase,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// What it waits for.
    pub waits: String,
}

/// That a component's operation was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Why, the last time.
    pub fault: Fault,
    /// When first.
    pub since: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Journal these in one transaction, then decide again.
    Record(Vec<Event>),
    /// Ask for this component's operation.
    Begin(Name),
    /// Nothing before this moment, or before there is news.
    Wait {
        /// What for, in words.
        reason: String,
        /// When to decide again at the latest.
        until: Option<Timestamp>,
    },
}

/// Where one component stands.
#[derive(Clone, Debug, PartialEq)]
enum Standing<'a> {
    NotBegun,
    Open,
    Well,
    Badly(Option<&'a Fault>),
}

/// What is to be done now.
#[must_use]
pub fn decide(view: &View, task: &Task) -> Action {
    match view.state.phase {
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => return Action::Wait { reason: String::new(), until: None },
        // Its components' operations were suspended too, and ask their own agents.
        Phase::Suspended => return Action::Record(vec![Event::Released]),
        Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Unknown => {}
    }
    let ended = ended_parts(view);
    if !ended.is_empty() {
        return Action::Record(ended);
    }
    let open = task.components.iter().filter(|planned| standing(view, planned) == Standing::Open).count();
    let failed = task.components.iter().any(|planned| matches!(standing(view, planned), Standing::Badly(_)));
    let begins = view.state.cancel.is_none() && !(failed && task.on_failure == OnFailure::Stop);
    let mut until = None;
    if begins {
        for planned in task.components.iter().filter(|planned| standing(view, planned) == Standing::NotBegun) {
            match next(view, task, planned, open) {
                Some(Action::Wait { until: again, .. }) => until = until.into_iter().chain(again).min(),
                Some(action) => return action,
                None => {}
            }
        }
    }
    let waits_for_turn = begins && task.components.iter().any(|planned| standing(view, planned) == Standing::NotBegun);
    if open == 0 && !waits_for_turn {
        return Action::Record(vec![end(view, task)]);
    }
    Action::Wait { reason: reason(view, task), until }
}

/// What one that was not begun does now. `None`: its turn has not come.
fn next(view: &View, task: &Task, planned: &Planned, open: usize) -> Option<Action> {
    let aside =
        |fault: Option<Fault>| Action::Record(vec![Event::Aside { component: planned.component.clone(), fault: fault.map(Box::new) }]);
    for before in task.components.iter().filter(|before| planned.after.contains(&before.component)) {
        match standing(view, before) {
            Standing::Well => {}
            Standing::NotBegun | Standing::Open => return None,
            Standing::Badly(_) => {
                let fault = Fault::refused(
                    ErrorKind::FailedPrecondition,
                    format!("{} depends on {}, which was not moved", planned.component, before.component),
                );
                return Some(aside(Some(fault.hint(format!("move {} first, then this one", before.component)))));
            }
        }
    }
    if !view.here.contains(&planned.component) {
        return Some(aside(None));
    }
    if let Some(refused) = view.refused.get(&planned.component) {
        if view.now.since(refused.since) >= REFUSED {
            return Some(aside(Some(refused.fault.clone())));
        }
        let again = refused.last.plus(AGAIN);
        if view.now < again {
            return Some(Action::Wait { reason: String::new(), until: Some(again) });
        }
    }
    (open < task.at_once as usize).then(|| Action::Begin(planned.component.clone()))
}

fn standing<'a>(view: &'a View, planned: &Planned) -> Standing<'a> {
    if let Some(aside) = view.state.moving.aside.get(&planned.component) {
        return aside.as_ref().map_or(Standing::Well, |fault| Standing::Badly(Some(fault)));
    }
    let step = view.state.steps.iter().find(|step| matches!(step.work, Work::Child { .. }) && step.name == planned.component.as_str());
    match step.map(|step| (step.stands, step.fault.as_ref())) {
        None => Standing::NotBegun,
        Some((Stands::Started | Stands::Unknown, _)) => Standing::Open,
        Some((Stands::Succeeded, _)) => Standing::Well,
        Some((Stands::Failed | Stands::Cancelled, fault)) => Standing::Badly(fault),
    }
}

/// The ends of operations that are not journaled on the site's move yet.
fn ended_parts(view: &View) -> Vec<Event> {
    let open = view.state.steps.iter().filter(|step| step.stands == Stands::Started && matches!(step.work, Work::Child { .. }));
    open.filter_map(|step| {
        let part = view.parts.iter().find(|(component, _)| component.as_str() == step.name).map(|(_, part)| part)?;
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

fn end(view: &View, task: &Task) -> Event {
    let ended = |planned: &Planned| {
        let step = view.state.steps.iter().find(|step| step.name == planned.component.as_str());
        let operation = step.and_then(|step| match &step.work {
            Work::Child { operation } => Some(*operation),
            Work::Command { .. } | Work::Wait(_) | Work::Action(_) => None,
        });
        let aside = view.state.moving.aside.contains_key(&planned.component);
        let (end, why) = match standing(view, planned) {
            Standing::Well if aside => (End::Elsewhere, "its writer stood elsewhere when its turn came".to_owned()),
            Standing::Well => (End::Moved, String::new()),
            Standing::Badly(fault) => {
                (End::Failed, fault.map_or_else(|| "its operation ended badly".to_owned(), |fault| fault.message.clone()))
            }
            Standing::NotBegun | Standing::Open => (End::NotBegun, "nothing was begun any more".to_owned()),
        };
        Ended { component: planned.component.clone(), operation, end, why }
    };
    Event::SiteEnded(Box::new(Done { components: task.components.iter().map(ended).collect() }))
}

/// `2 of 5 moved; orders-db: approval: …`.
fn reason(view: &View, task: &Task) -> String {
    let well = task.components.iter().filter(|planned| standing(view, planned) == Standing::Well).count();
    let waits = task.components.iter().filter_map(|planned| {
        let part = view.parts.get(&planned.component)?;
        (!part.phase.ended()).then(|| match part.waits.as_str() {
            "" => format!("{} is under way", planned.component),
            waits => format!("{}: {waits}", planned.component),
        })
    });
    let refused = view.refused.iter().filter(|(component, _)| !view.parts.contains_key(*component));
    let refused = refused.map(|(component, refused)| format!("{component}: {}", refused.fault.message));
    let told: Vec<String> = waits.chain(refused).take(MOST_TOLD).collect();
    format!("the components: {well} of {} moved; {}", task.components.len(), told.join("; "))
}

#[cfg(test)]
mod tests;
