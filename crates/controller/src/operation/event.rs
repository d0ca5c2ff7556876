//! What can happen to an operation. Each is journaled with a number and one sentence for people.

use muster_common::counter::Epoch;
use muster_common::duration;
use muster_common::fault::Fault;
use muster_common::id::OperationId;
use muster_common::name::Name;

use crate::operation::done::Outcome;
use crate::operation::done::hooks::Ran;
use crate::operation::moves::change::{Change, Deed};
use crate::operation::moves::part::Given;
use crate::operation::moves::route::Deed as RouteDeed;
use crate::operation::moves::task::{Approval, Chosen, Done as Moved};
use crate::operation::sites::task::{Done as SiteDone, End};
use crate::operation::state::{Awaited, Stands, State};

/// A transition.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It waits before its command can be issued.
    WaitStarted(Awaited),
    /// What it waited for is there.
    WaitEnded,
    /// Intent: its command was issued, journaled before it is sent.
    Issued {
        /// The shard's epoch then. 0: none is known.
        epoch: Epoch,
    },
    /// The agent has the command in its inbox.
    TakenOn,
    /// A restore of the writer in place moved the epoch. Comes with the outcome, in one transaction, before it.
    ReignMoved {
        /// The epoch before.
        from: Epoch,
        /// The epoch that began.
        to: Epoch,
        /// Instances that hold what the writer no longer has.
        superseded: Vec<Name>,
    },
    /// A hook ran. Comes with the outcome, before it.
    Hook(Box<Ran>),
    /// The agent told how the command ended.
    Reported(Outcome),
    /// The agent never got the command and will not get it: nothing happened.
    Unheard,
    /// The agent had the command and knows nothing of it any more.
    Lost,
    /// Nothing moved for the stall limit.
    Stood,
    /// The agent has the command whose outcome was not known.
    Found,
    /// Somebody asked it to stop.
    CancelAsked {
        /// Who.
        by: String,
        /// Why. May be empty.
        reason: String,
    },
    /// It stopped before anything was issued.
    Dropped,
    /// It failed before anything was issued.
    GaveUp(Fault),
    /// An operator's word ended it.
    Resolved {
        /// Whose.
        by: String,
        /// Whether it counts as done.
        succeeded: bool,
        /// The word.
        word: String,
    },
    /// The store may be behind its agents: nothing is done until its agent was asked.
    Suspended {
        /// How that was seen.
        why: String,
    },
    /// Its agent was asked: it goes on.
    Released,
    /// An outcome came after the operation had been ended by a word.
    Late(Outcome),
    /// A part of a move was given: an operation of its own, journaled together with this.
    Part(Box<Given>),
    /// A part of a move ended.
    PartEnded {
        /// The step.
        step: String,
        /// How.
        stands: Stands,
        /// Why it failed.
        fault: Option<Fault>,
    },
    /// A move changes the record of who writes, in the same transaction.
    Changed {
        /// The change.
        change: Box<Change>,
        /// What is kept of it.
        deed: Deed,
    },
    /// A candidate was chosen, or another one, or what it loses changed.
    Chosen(Box<Chosen>),
    /// An operator added a word or a ceiling.
    Approved {
        /// Who.
        by: String,
        /// What.
        approval: Approval,
    },
    /// A move is about to change a name that follows the writer.
    RouteBegun {
        /// The route.
        route: Name,
        /// What is done to it.
        deed: RouteDeed,
    },
    /// What came of it.
    RouteEnded {
        /// The route.
        route: Name,
        /// What was done to it.
        deed: RouteDeed,
        /// For how long resolvers may still answer what stood there before, in seconds.
        old_ttl: u32,
        /// Why it was not done.
        fault: Option<Fault>,
    },
    /// A move goes back, for this reason.
    TurnedBack(Fault),
    /// A move went back.
    WentBack,
    /// A move is done.
    Finished(Box<Moved>),
    /// Of a site's move: an operation was begun for a component.
    Begun {
        /// The component.
        component: Name,
        /// The operation.
        operation: OperationId,
    },
    /// Of a site's move: a component is not moved.
    Aside {
        /// The component.
        component: Name,
        /// Why. `None`: its writer stands elsewhere, nothing is to be done.
        fault: Option<Box<Fault>>,
    },
    /// Of a site's move: all that was begun has ended.
    SiteEnded(Box<SiteDone>),
}

/// What happened, in one sentence. `before` is the operation as it was.
#[must_use]
pub fn sentence(event: &Event, before: &State) -> String {
    let agent = &before.agent;
    match event {
        Event::WaitStarted(Awaited::Agent(agent)) => format!("waits for agent {agent} to connect"),
        Event::WaitEnded => format!("agent {agent} is connected"),
        Event::Issued { .. } => format!("command {} was issued to agent {agent}", before.command_id()),
        Event::TakenOn => format!("agent {agent} has taken it on"),
        Event::ReignMoved { from, to, superseded } => match superseded.len() {
            0 => format!("the writer went back in time: epoch {from} ended, epoch {to} began"),
            _ => {
                let names: Vec<_> = superseded.iter().map(Name::as_str).collect();
                format!("the writer went back in time: epoch {from} ended, epoch {to} began; superseded: {}", names.join(", "))
            }
        },
        Event::Hook(ran) => ran.sentence(),
        Event::Reported(Outcome::Done(_)) => format!("agent {agent} has done it"),
        Event::Reported(Outcome::Fault(fault)) => fault.message.clone(),
        Event::Unheard => format!("agent {agent} never got the command: nothing was done"),
        Event::Lost => format!("agent {agent} had taken it on and knows nothing of it any more"),
        Event::Stood => format!("nothing moved for {}", duration::show(before.stall_limit())),
        Event::Found => format!("agent {agent} still has it"),
        Event::CancelAsked { by, reason } if reason.is_empty() => format!("{by} asked it to stop"),
        Event::CancelAsked { by, reason } => format!("{by} asked it to stop: {reason}"),
        Event::Dropped => "stopped before anything was done".to_owned(),
        Event::GaveUp(fault) => fault.message.clone(),
        Event::Resolved { by, succeeded: true, word } => format!("{by} said that it is done: {word}"),
        Event::Resolved { by, succeeded: false, word } => format!("{by} said that it is not done: {word}"),
        Event::Suspended { why } => format!("suspended until agent {agent} was asked: {why}"),
        Event::Released => format!("agent {agent} was asked: it goes on"),
        Event::Late(Outcome::Done(_)) => format!("agent {agent} told later that it had done it"),
        Event::Late(Outcome::Fault(fault)) => format!("agent {agent} told later: {}", fault.message),
        Event::Part(given) => format!("{} is told: {}", given.instance, given.order.errand.name()),
        Event::PartEnded { step, stands: Stands::Succeeded, .. } => format!("{step} is done"),
        Event::PartEnded { step, fault: Some(fault), .. } => format!("{step} failed: {}", fault.message),
        Event::PartEnded { step, fault: None, .. } => format!("{step} ended badly"),
        Event::Changed { deed, .. } => deed.sentence(),
        Event::Chosen(chosen) => format!("{} becomes the writer, with the loss of {}: {}", chosen.candidate, chosen.loss, chosen.evidence),
        Event::Approved { by, approval } => approved(by, approval),
        Event::RouteBegun { route, deed } => format!("route {route}: {}", deed.name()),
        Event::RouteEnded { route, deed, fault: None, .. } => format!("route {route}: {} is done", deed.name()),
        Event::RouteEnded { route, deed, fault: Some(fault), .. } => format!("route {route}: {} failed: {}", deed.name(), fault.message),
        Event::TurnedBack(fault) => format!("it goes back: {}", fault.message),
        Event::WentBack => "it went back".to_owned(),
        Event::Finished(done) => match &done.writer {
            Some(writer) => format!("{writer} writes in {}", done.reign),
            None => "done".to_owned(),
        },
        Event::Begun { component, operation } => format!("{component} is moved by operation {operation}"),
        Event::Aside { component, fault: None } => format!("the writer of {component} stands elsewhere: nothing is to be done"),
        Event::Aside { component, fault: Some(fault) } => format!("{component} is not moved: {}", fault.message),
        Event::SiteEnded(done) => {
            let moved = done.components.iter().filter(|ended| matches!(ended.end, End::Moved | End::Elsewhere)).count();
            format!("{moved} of {} components write elsewhere", done.components.len())
        }
    }
}

fn approved(by: &str, approval: &Approval) -> String {
    let words: Vec<String> = approval.words.keys().map(|name| format!("the machine of {name} is off, or fenced there")).collect();
    let ceiling = approval.ceiling.map(|ceiling| format!("what may be lost: {ceiling}"));
    format!("{by} stated: {}", words.into_iter().chain(ceiling).collect::<Vec<_>>().join("; "))
}
