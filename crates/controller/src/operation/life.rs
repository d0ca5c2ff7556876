//! The life of an operation that is one command to one agent: what news means, what follows, what is to be done next.
//!
//! Pure: the time and what is known of the world are arguments; the same functions serve production, restart and tests. The phases'
//! diagram stands in `kind`. What always holds: the command's intent is journaled before it is sent; news that is told twice, late or in
//! another order changes nothing twice; an operation ends once.

use std::time::Duration;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::operation::done::hooks::Ran;
use crate::operation::done::{Done, Outcome};
use crate::operation::event::Event;
use crate::operation::kind::{Kind, Phase};
use crate::operation::moves::task::Approval;
use crate::operation::moves::{apply, task};
use crate::operation::sites;
use crate::operation::state::{Act, Awaited, Cancel, Stands, State, Step, Task, Work};

/// The agent judges a task that stands still; the controller waits so much longer before it calls the outcome unknown.
pub const GRACE: Duration = Duration::from_secs(30);
/// Agents keep tombstones for 30 days: what was accepted longer ago cannot be asked about.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);
/// Waits that are journaled of one operation; further ones are waited for without a word.
const MOST_WAITS: usize = 20;

/// What a decision has to know beside the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// Whether the operation's agent has a session in which its Hello was heard.
    pub connected: bool,
    /// When anything of this operation moved last, as this process saw it.
    pub moved: Timestamp,
    /// What was sent in this session and phase.
    pub told: Told,
}

/// What was sent to the agent in this session and phase: a broken session forgets it, since it may not have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The command.
    pub command: bool,
    /// What became of it?
    pub ask: bool,
    /// To stop it.
    pub cancel: bool,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Journal this, then decide again.
    Record(Event),
    /// Send the command, which is journaled.
    Send,
    /// Ask the agent what became of the command.
    Ask,
    /// Tell the agent to stop the command.
    Cancel,
    /// Nothing more before this moment, or before there is news.
    Wait {
        /// What for, in words. Empty: for the work itself.
        reason: String,
        /// When to decide again at the latest.
        until: Option<Timestamp>,
    },
}

/// News of the operation's command.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The agent never saw it, and has no tombstone.
    Unheard,
    /// It is in the agent's inbox: taken on, or even ended with the outcome to follow.
    TakenOn,
    /// How it ended, and the hooks that ran.
    Outcome(Box<Outcome>, Vec<Ran>),
}

/// What is to be done now.
#[must_use]
pub fn decide(state: &State, world: &World, now: Timestamp) -> Vec<Action> {
    let stalled_at = world.moved.plus(state.stall_limit());
    let told = world.told;
    let away = || format!("agent {} to connect", state.agent);
    let wait = |reason: String, until| Action::Wait { reason, until };
    let still = |reason: String| wait(reason, Some(stalled_at.plus(GRACE)));
    let stood = now >= stalled_at.plus(GRACE);
    match state.phase {
        Phase::Pending => decide_pending(state, world, now),
        Phase::Running | Phase::Cancelling if stood => vec![Action::Record(Event::Stood)],
        Phase::Running | Phase::Cancelling if !world.connected => vec![still(away())],
        Phase::Running => match (state.taken_on(), told.command, told.ask) {
            (false, false, _) => vec![Action::Send, still(format!("agent {} to take it on", state.agent))],
            (false, true, _) => vec![still(format!("agent {} to take it on", state.agent))],
            (true, false, false) => vec![Action::Ask, still(String::new())],
            (true, true, _) | (true, _, true) => vec![still(String::new())],
        },
        Phase::Cancelling => {
            let cancel = (!told.cancel).then_some(Action::Cancel);
            let ask = (!told.ask).then_some(Action::Ask);
            cancel.into_iter().chain(ask).chain([still(format!("agent {} to stop it", state.agent))]).collect()
        }
        Phase::Unknown | Phase::Suspended if !world.connected => vec![wait(away(), None)],
        Phase::Unknown | Phase::Suspended if told.ask => {
            vec![wait(format!("agent {} to tell what became of it, or for `muster resolve {}`", state.agent, state.id), None)]
        }
        Phase::Unknown | Phase::Suspended => vec![Action::Ask, wait(format!("agent {} to tell what became of it", state.agent), None)],
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => Vec::new(),
    }
}

fn decide_pending(state: &State, world: &World, now: Timestamp) -> Vec<Action> {
    let open_wait = state.steps.iter().any(|step| matches!(step.work, Work::Wait(_)) && step.stands == Stands::Started);
    let until = world.moved.plus(state.stall_limit());
    match (world.connected, open_wait) {
        (true, true) => vec![Action::Record(Event::WaitEnded)],
        (true, false) => vec![Action::Record(Event::Issued { epoch: state.epoch })],
        (false, _) if now >= until => vec![Action::Record(Event::GaveUp(
            Fault::refused(ErrorKind::Stalled, format!("{}: agent {} did not connect in time", state.title(), state.agent))
                .evidence(format!("waited for {}", muster_common::duration::show(state.stall_limit())))
                .hint(format!("see `muster agents`; start the agent {} and ask again", state.agent)),
        ))],
        (false, false) if state.steps.len() < MOST_WAITS => {
            vec![Action::Record(Event::WaitStarted(Awaited::Agent(state.agent.clone())))]
        }
        (false, _) => vec![Action::Wait { reason: format!("agent {} to connect", state.agent), until: Some(until) }],
    }
}

/// What news means in this state: the events to journal, in one transaction. None where it is old or told twice.
#[must_use]
pub fn receive(state: &State, news: News, now: Timestamp) -> Vec<Event> {
    let issue = || state.command().is_none().then_some(Event::Issued { epoch: state.epoch });
    let take_on = || (!state.taken_on()).then_some(Event::TakenOn);
    match news {
        News::Outcome(..) if state.phase.ended() => Vec::new(),
        News::Outcome(outcome, ran) => {
            let ran = ran.into_iter().map(|ran| Event::Hook(Box::new(ran)));
            issue().into_iter().chain(ran).chain([Event::Reported(*outcome)]).collect()
        }
        News::TakenOn => match state.phase {
            Phase::Pending => issue().into_iter().chain(take_on()).collect(),
            Phase::Running | Phase::Cancelling => take_on().into_iter().collect(),
            Phase::Unknown => [Event::Found].into_iter().chain(take_on()).collect(),
            Phase::Suspended => issue().into_iter().chain([Event::Released]).chain(take_on()).collect(),
            Phase::Succeeded | Phase::Failed | Phase::Cancelled => Vec::new(),
        },
        News::Unheard => receive_unheard(state, now),
    }
}

fn receive_unheard(state: &State, now: Timestamp) -> Vec<Event> {
    let cancelled = state.cancel.is_some();
    let issued = state.command().is_some();
    match state.phase {
        Phase::Running | Phase::Cancelling | Phase::Suspended if state.taken_on() => vec![Event::Lost],
        Phase::Suspended if cancelled && issued => vec![Event::Unheard],
        Phase::Suspended if cancelled => vec![Event::Dropped],
        Phase::Suspended if now.since(state.created) > REMEMBERED => vec![Event::GaveUp(
            Fault::failed(
                ErrorKind::FailedPrecondition,
                format!("{}: it was accepted longer ago than agents remember commands", state.title()),
            )
            .hint("look at the instance, then ask again where it is still wanted"),
        )],
        Phase::Suspended => vec![Event::Released],
        // Never sent again as late as this: who asked for it did not mean hours later.
        Phase::Unknown if !state.taken_on() => vec![Event::Unheard],
        Phase::Cancelling => vec![Event::Unheard],
        Phase::Unknown | Phase::Running | Phase::Pending | Phase::Succeeded | Phase::Failed | Phase::Cancelled => Vec::new(),
    }
}

/// Somebody asks the operation to stop.
///
/// # Errors
/// Where it has ended.
pub fn cancel(state: &State, by: &str, reason: &str) -> Result<Vec<Event>, Fault> {
    if state.cancel.is_some() && !state.phase.ended() {
        return Ok(Vec::new());
    }
    let asked = Event::CancelAsked { by: by.to_owned(), reason: reason.to_owned() };
    if state.has_moved() && !state.phase.ended() {
        return Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("cancel operation {}: the reign has moved: it only goes on", state.id),
        )
        .hint(format!(
            "`muster watch {}` tells what it waits for; another candidate: muster failover {} --to INSTANCE",
            state.id, state.target.component
        )));
    }
    match state.phase {
        Phase::Pending if matches!(state.task, Task::Move(_) | Task::Site(_)) => Ok(vec![asked]),
        Phase::Pending => Ok(vec![asked, Event::Dropped]),
        Phase::Running | Phase::Cancelling | Phase::Unknown | Phase::Suspended => Ok(vec![asked]),
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("cancel operation {}: it has ended: {}", state.id, state.phase.name()),
        )
        .hint(format!("see what it did: `muster watch {}`", state.id))),
    }
}

/// An operator's word on an outcome that is not known.
///
/// # Errors
/// Where the outcome is known or will be, or the word is empty or longer than 1,000 bytes.
pub fn resolve(state: &State, by: &str, succeeded: bool, word: &str) -> Result<Vec<Event>, Fault> {
    let refused = |kind, why: String, hint: &str| Err(Fault::refused(kind, format!("resolve operation {}: {why}", state.id)).hint(hint));
    if word.trim().is_empty() || word.len() > 1_000 {
        return refused(
            ErrorKind::InvalidArgument,
            "the word must have 1 to 1,000 bytes".into(),
            "say how you know: --word 'the host is scrapped'",
        );
    }
    match state.phase {
        Phase::Unknown | Phase::Suspended => Ok(vec![Event::Resolved { by: by.to_owned(), succeeded, word: word.trim().to_owned() }]),
        Phase::Pending | Phase::Running | Phase::Cancelling => refused(
            ErrorKind::FailedPrecondition,
            format!("its outcome is not unknown: it is {}", state.phase.name()),
            "wait for it, or stop it with `muster cancel`",
        ),
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => {
            refused(ErrorKind::FailedPrecondition, format!("it has ended: {}", state.phase.name()), "nothing is left to resolve")
        }
    }
}

/// The operation after an event.
#[must_use]
pub fn apply(mut state: State, event: &Event, at: Timestamp) -> State {
    match event {
        Event::WaitStarted(what) => state.steps.push(step("wait", Work::Wait(what.clone()), at)),
        Event::WaitEnded => end_waits(&mut state, Stands::Succeeded, at),
        Event::Issued { epoch } => {
            state.epoch = *epoch;
            let work = Work::Command { id: state.command_id(), taken_on: false };
            state.steps.push(step(state.task.kind().name(), work, at));
            if state.phase == Phase::Pending {
                state.phase = Phase::Running;
            }
        }
        Event::TakenOn => take_on(&mut state),
        Event::ReignMoved { from, to, superseded } => {
            let act = Act::MoveReign { from: *from, to: *to, superseded: superseded.clone() };
            state.steps.push(Step { stands: Stands::Succeeded, finished: Some(at), ..step("reign", Work::Action(act), at) });
        }
        Event::Hook(ran) => state.ran.push((**ran).clone()),
        Event::Reported(outcome) => report(&mut state, outcome, at),
        Event::Unheard => unheard(&mut state, at),
        Event::Lost => {
            let fault = Fault::failed(
                ErrorKind::DataLoss,
                format!("{}: agent {} had taken it on and knows nothing of it any more", state.title(), state.agent),
            )
            .hint(format!("look at {}, then: muster resolve {} --succeeded|--failed --word '…'", state.target, state.id));
            unknown(&mut state, fault);
        }
        Event::Stood => {
            let limit = muster_common::duration::show(state.stall_limit());
            let fault = Fault::failed(ErrorKind::Stalled, format!("{}: nothing moved for {limit}", state.title()))
                .hint(format!("agent {} is asked as soon as it is there; without it: muster resolve {}", state.agent, state.id));
            unknown(&mut state, fault);
        }
        Event::Found | Event::Released => {
            set_command(&mut state, Stands::Started, None, None);
            state.fault = None;
            state.phase = resting(&state);
        }
        Event::CancelAsked { by, reason } => {
            state.cancel = Some(Cancel { by: by.clone(), reason: reason.clone(), at });
            if state.phase == Phase::Running {
                state.phase = Phase::Cancelling;
            }
        }
        Event::Dropped => {
            let by = state.cancel.as_ref().map_or("nobody", |cancel| cancel.by.as_str());
            let fault = Fault::refused(ErrorKind::Cancelled, format!("{}: {by} stopped it before anything was done", state.title()));
            end(&mut state, Phase::Cancelled, Some(fault), at);
        }
        Event::GaveUp(fault) => end(&mut state, Phase::Failed, Some(fault.clone()), at),
        Event::Resolved { by, succeeded, word } => {
            let fault = Fault::failed(ErrorKind::FailedPrecondition, format!("{}: {by} said that it is not done: {word}", state.title()))
                .hint("ask again where it is still wanted");
            match succeeded {
                true => end(&mut state, Phase::Succeeded, None, at),
                false => end(&mut state, Phase::Failed, Some(fault), at),
            }
        }
        Event::Suspended { .. } => state.phase = Phase::Suspended,
        Event::Late(outcome) => {
            if let (None, Outcome::Done(done)) = (&state.done, outcome) {
                state.done = Some(done.clone());
            }
        }
        Event::Part(_)
        | Event::PartEnded { .. }
        | Event::Changed { .. }
        | Event::Chosen(_)
        | Event::Approved { .. }
        | Event::RouteBegun { .. }
        | Event::RouteEnded { .. }
        | Event::TurnedBack(_)
        | Event::WentBack
        | Event::Finished(_) => apply::apply(&mut state, event, at),
        Event::Begun { .. } | Event::Aside { .. } | Event::SiteEnded(_) => sites::apply::apply(&mut state, event, at),
    }
    state
}

fn unheard(state: &mut State, at: Timestamp) {
    let fault = Fault::refused(ErrorKind::Unavailable, format!("{}: agent {} never got it", state.title(), state.agent))
        .hint("ask again where it is still wanted");
    let phase = if state.cancel.is_some() { Phase::Cancelled } else { Phase::Failed };
    end(state, phase, Some(fault), at);
}

/// An operator adds a word or a ceiling to a move.
///
/// # Errors
/// Where it is no move that could wait for one, or has ended.
pub fn approve(state: &State, by: &str, approval: &Approval) -> Result<Vec<Event>, Fault> {
    let refused = |why: &str, hint: &str| {
        Err(Fault::refused(ErrorKind::FailedPrecondition, format!("approve operation {}: {why}", state.id)).hint(hint))
    };
    let waits = matches!(state.task, Task::Move(task::Task::Failover { .. } | task::Task::Unfence { .. } | task::Task::Switchover { .. }));
    if !waits {
        return refused("it waits for no word and no approval", "`muster watch` tells what an operation waits for");
    }
    if state.phase.ended() {
        return refused(&format!("it has ended: {}", state.phase.name()), "nothing is left to approve");
    }
    if approval.is_empty() {
        return refused("nothing is said", "give --word INSTANCE=off, or --accept-loss BYTES");
    }
    if !approval.words.is_empty() && by.rsplit('/').next().is_none_or(|name| name.parse::<Name>().is_err()) {
        return refused(
            &format!("a word needs a name that can be recorded, and {by} has none"),
            "use an operator's certificate: muster operator add",
        );
    }
    Ok(vec![Event::Approved { by: by.to_owned(), approval: approval.clone() }])
}

/// Where an operation stands that is neither unknown, nor suspended, nor ended.
fn resting(state: &State) -> Phase {
    let begun = state.command().is_some() || matches!(state.task, Task::Move(_) | Task::Site(_)) && !state.steps.is_empty();
    match (begun, state.cancel.is_some()) {
        (false, _) => Phase::Pending,
        (true, false) => Phase::Running,
        (true, true) => Phase::Cancelling,
    }
}

fn report(state: &mut State, outcome: &Outcome, at: Timestamp) {
    match outcome {
        Outcome::Done(done) if kind_of(done) == state.task.kind() => {
            state.done = Some(done.clone());
            match state.ran.iter().find(|ran| ran.spoils()).map(|ran| spoilt(state, ran)) {
                Some(fault) => end(state, Phase::Failed, Some(fault), at),
                None => end(state, Phase::Succeeded, None, at),
            }
        }
        Outcome::Done(_) => end(state, Phase::Failed, Some(crate::operation::done::foreign(state.task.kind().name())), at),
        Outcome::Fault(fault) if fault.kind == ErrorKind::Cancelled && fault.effect != Effect::Done => {
            end(state, Phase::Cancelled, Some(fault.clone()), at);
        }
        Outcome::Fault(fault) => end(state, Phase::Failed, Some(fault.clone()), at),
    }
}

/// It was done, and a hook after it was not: what it was to undo may still stand.
fn spoilt(state: &State, ran: &Ran) -> Fault {
    let message = format!("{}: it was done, and hook {} after it has not succeeded: {}", state.title(), ran.hook, ran.detail);
    let last = ran.output.iter().skip(ran.output.len().saturating_sub(5));
    let fault = Fault::failed(ErrorKind::FailedPrecondition, message).effect(Effect::Done);
    last.fold(fault, |fault, line| fault.evidence(line.clone())).hint(format!(
        "do on the machine of agent {} what hook {} does; `muster logs {}` has all that it said",
        state.agent, ran.hook, state.id
    ))
}

fn kind_of(done: &Done) -> Kind {
    match done {
        Done::Backup(_) => Kind::Backup,
        Done::Restore(_) => Kind::Restore,
        Done::Check(_) => Kind::Check,
        Done::Discard { .. } => Kind::Discard,
        Done::Verify(_) => Kind::Verify,
        Done::Prune(_) => Kind::Prune,
        Done::Hold(_) => Kind::Hold,
        Done::Hook { .. } => Kind::Hook,
        Done::Order(_) => Kind::Order,
        // No agent tells such an outcome: it is foreign to every command.
        Done::Move(_) => Kind::Manage,
        Done::Site(_) => Kind::SwitchoverSite,
    }
}

pub(in crate::operation) fn step(name: &str, work: Work, at: Timestamp) -> Step {
    Step { name: name.to_owned(), work, stands: Stands::Started, started: at, finished: None, fault: None }
}

fn take_on(state: &mut State) {
    for step in &mut state.steps {
        if let Work::Command { taken_on, .. } = &mut step.work {
            *taken_on = true;
        }
    }
}

fn set_command(state: &mut State, stands: Stands, fault: Option<Fault>, finished: Option<Timestamp>) {
    for step in &mut state.steps {
        if matches!(step.work, Work::Command { .. }) {
            step.stands = stands;
            step.fault.clone_from(&fault);
            step.finished = finished;
        }
    }
}

fn end_waits(state: &mut State, stands: Stands, at: Timestamp) {
    for step in &mut state.steps {
        if matches!(step.work, Work::Wait(_)) && step.stands == Stands::Started {
            step.stands = stands;
            step.finished = Some(at);
        }
    }
}

fn unknown(state: &mut State, fault: Fault) {
    set_command(state, Stands::Unknown, Some(fault.clone()), None);
    state.fault = Some(fault);
    state.phase = Phase::Unknown;
}

pub(in crate::operation) fn end(state: &mut State, phase: Phase, fault: Option<Fault>, at: Timestamp) {
    let stands = match phase {
        Phase::Succeeded => Stands::Succeeded,
        Phase::Cancelled => Stands::Cancelled,
        Phase::Failed | Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Unknown | Phase::Suspended => Stands::Failed,
    };
    end_waits(state, stands, at);
    set_command(state, stands, fault.clone(), Some(at));
    state.phase = phase;
    state.fault = fault;
    state.finished = Some(at);
}
