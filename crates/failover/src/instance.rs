//! How the keeper of an instance behaves: what a command, a confirmation or a look makes it do, in order.
//!
//! Whoever carries the acts out does them one by one and may die between any two of them; the control file that is kept before an act
//! tells what it was about to do. [`Act::Again`] ends a list whose goal needs another look: the same command is decided anew.
//!
//! What never changes: the control file says *stopped* before the permit goes, and *promoting* before a writer's permit comes.

use muster_common::id::Nonce;

use crate::command::{Command, Order, admit};
use crate::control::{Control, Pledge, Role, Why};
use crate::custody::cede;
use crate::grant::{Grant, Verify};
use crate::here::{Here, Limit, Span};
use crate::look::{Look, Server};
use crate::permit::{Confirmation, Permit, Wanted, may_give_permit};
use crate::position::Position;
use crate::proof::Receipt;
use crate::refusal::{Check, Refusal};
use crate::reign::Mark;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Make this control file durable.
    Keep(Box<Control>),
    /// Remove the permit.
    RemovePermit,
    /// Stop the server, prove every process of it gone, take the lock, look once more.
    Stop,
    /// Record the reign in the repository. Where it cannot be reached this is told and tried again; it holds nothing up.
    Record(Mark),
    /// Write the permit and let the lock go.
    GivePermit(Permit),
    /// Start the server under its permit.
    Start,
    /// Make a standby that runs a writer.
    Promote,
    /// Put `standby.signal` in place and follow the writer of the highest reign.
    Follow,
    /// Answer.
    Tell(Told),
    /// Look again and decide the same command anew.
    Again,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// It is stopped, there.
    Stopped(Option<Position>),
    /// It will ask to start again.
    Asking,
    /// It stands ready.
    Pledged(Nonce),
    /// To be signed.
    Ceded(Receipt),
    /// It takes writes in this reign.
    Promoted(Mark),
    /// It follows.
    Follows,
}

/// What a command makes it do. `fresh` was drawn at random for this call.
///
/// # Errors
/// Why not. Nothing was done then.
pub fn obey(control: &Control, here: &Here, look: &Look, command: &Command, fresh: Nonce, verify: Verify<'_>) -> Result<Vec<Act>, Refusal> {
    if control.boot != here.boot {
        return Err(Refusal::new(Check::Limit, "the control file was not yet brought into this boot", "the agent's next look"));
    }
    admit(control, here, command)?;
    let taken = Control { rule: Some(command.rule), sequence: command.sequence, ..control.knowing(&command.line, &command.writer) };
    // Whoever is shown a higher reign of another writer stops before anything else is looked at.
    if let Some(reign) = writes_in(control)
        && reign != command.line.last()
    {
        return Ok(stop(&taken, reign, Why::HigherReign, None));
    }
    match &command.order {
        Order::Stop { for_operation } => {
            let limit = for_operation.map(|lasts| Limit::after(here, lasts));
            stop_on_order(&taken, look, limit)
        }
        Order::Ask => ask(&taken),
        Order::Pledge { lasts } => pledge(&taken, here, look, fresh, *lasts),
        Order::Cede(what) => {
            if let Some(reign) = writes_in(control) {
                return Ok(stop(&taken, reign, Why::HigherReign, None));
            }
            if let Role::Stopped { reign, .. } = control.role
                && reign == what.reign
                && !look.is_stopped()
            {
                return Ok(vec![Act::Keep(Box::new(taken)), Act::RemovePermit, Act::Stop, Act::Again]);
            }
            let (ceded, receipt) = cede(&taken, here, look, what)?;
            Ok(vec![Act::Keep(Box::new(ceded)), Act::Tell(Told::Ceded(receipt))])
        }
        Order::Promote(claim) => {
            if let (Role::Promoting { reign, .. } | Role::Writer { reign }, Server::ReadWrite) = (&control.role, look.server)
                && *reign == claim.reign.mark()
                && look.permit
            {
                let role = Role::Writer { reign: *reign };
                return Ok(vec![Act::Keep(Box::new(Control { role, ..taken })), Act::Tell(Told::Promoted(*reign))]);
            }
            let until = command.limit.ok_or_else(|| Refusal::new(Check::Limit, "a promotion has no limit", "a command with one"))?;
            let grant = Grant::check(control, here, look, claim, until, verify)?;
            promote(&taken, here, look, &grant)
        }
        Order::Follow => follow(&taken, look),
    }
}

/// A confirmation came that answers the question `asked`; `repository` is the reign that was read there since, where it could be read.
///
/// # Errors
/// Why it does not start.
pub fn confirmed(
    control: &Control,
    here: &Here,
    look: &Look,
    confirmation: &Confirmation,
    asked: Nonce,
    repository: Option<Mark>,
) -> Result<Vec<Act>, Refusal> {
    if !control.asks(here) {
        return Err(Refusal::new(Check::Role, format!("{} does not ask to start", control.instance), "muster unfence"));
    }
    let permit = may_give_permit(control, here, look, &Wanted::Again { confirmation, asked, repository })?;
    let role = Role::Writer { reign: confirmation.reign };
    Ok(vec![Act::Keep(Box::new(Control { role, ..control.clone() })), Act::GivePermit(permit), Act::Start])
}

/// What one look makes it do, without being told.
#[must_use]
pub fn tend(control: &Control, here: &Here, look: &Look) -> Vec<Act> {
    let now = control.in_boot(here);
    if now != *control {
        return vec![Act::Keep(Box::new(now)), Act::Again];
    }
    match &control.role {
        Role::Unmanaged | Role::Absent => Vec::new(),
        Role::Held { .. } if look.is_stopped() => Vec::new(),
        Role::Held { .. } => vec![Act::RemovePermit, Act::Stop],
        Role::Writer { reign } => {
            if is_rolled_back(control, look) {
                return stop(control, *reign, Why::RolledBack, None);
            }
            if *reign != control.line.last() {
                return stop(control, *reign, Why::HigherReign, None);
            }
            match (look.permit, look.server) {
                (false, Server::ReadWrite) => {
                    may_give_permit(control, here, look, &Wanted::Lost).map_or_else(|_| Vec::new(), |permit| vec![Act::GivePermit(permit)])
                }
                // A boot came between its permit and its promotion, and its start was confirmed since: the rest of the promotion.
                (true, Server::ReadOnly) if look.standby => vec![Act::Promote],
                (true, _) | (false, Server::Stopped | Server::ReadOnly | Server::Unclear) => Vec::new(),
            }
        }
        Role::Stopped { .. } if look.is_stopped() => Vec::new(),
        Role::Stopped { .. } => vec![Act::RemovePermit, Act::Stop],
        // Its command, resumed, goes on with it; when nobody does, it ends by its limit.
        Role::Promoting { reign, until } if until.passed(here) => stop(control, *reign, Why::Operation, None),
        Role::Promoting { .. } => Vec::new(),
        Role::Follower { .. } => tend_follower(control, here, look),
    }
}

fn tend_follower(control: &Control, here: &Here, look: &Look) -> Vec<Act> {
    let surprise = match (is_rolled_back(control, look), look.server == Server::ReadWrite || look.ahead_of_upstream) {
        (true, _) => Some(Why::RolledBack),
        (false, true) => Some(Why::Strayed),
        (false, false) => None,
    };
    if let Some(why) = surprise {
        let held = Control { role: Role::Held { why }, ..control.clone() };
        return vec![Act::Keep(Box::new(held)), Act::RemovePermit, Act::Stop];
    }
    match may_give_permit(control, here, look, &Wanted::Follower) {
        Ok(permit) if !look.permit => vec![Act::GivePermit(permit), Act::Start],
        Ok(_) => Vec::new(),
        Err(_) if look.permit || look.server != Server::Stopped => vec![Act::RemovePermit, Act::Stop],
        Err(_) => Vec::new(),
    }
}

/// The reign that it writes in now, or is about to.
fn writes_in(control: &Control) -> Option<Mark> {
    match &control.role {
        Role::Writer { reign } | Role::Promoting { reign, .. } => Some(*reign),
        Role::Unmanaged | Role::Stopped { .. } | Role::Follower { .. } | Role::Held { .. } | Role::Absent => None,
    }
}

/// Whether the data are below what was seen of them.
fn is_rolled_back(control: &Control, look: &Look) -> bool {
    match (&control.last, &look.position) {
        (Some(seen), Some(own)) => !own.covers(seen),
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}

fn stop(control: &Control, reign: Mark, why: Why, until: Option<Limit>) -> Vec<Act> {
    let role = Role::Stopped { reign, why, until, ceded_to: None };
    vec![Act::Keep(Box::new(Control { role, ..control.clone() })), Act::RemovePermit, Act::Stop, Act::Again]
}

fn stop_on_order(taken: &Control, look: &Look, limit: Option<Limit>) -> Result<Vec<Act>, Refusal> {
    let why = if limit.is_some() { Why::Operation } else { Why::Fence };
    match &taken.role {
        Role::Writer { reign } | Role::Promoting { reign, .. } => Ok(stop(taken, *reign, why, limit)),
        Role::Stopped { reign, why: before, until, ceded_to } => {
            // A fence stays a fence, and a stop of an operation becomes one.
            let (why, until) = if *before == Why::Operation || *before == Why::Asking { (why, limit) } else { (*before, *until) };
            let role = Role::Stopped { reign: *reign, why, until, ceded_to: *ceded_to };
            let kept = Act::Keep(Box::new(Control { role, ..taken.clone() }));
            if look.is_stopped() {
                Ok(vec![kept, Act::Tell(Told::Stopped(look.position.clone()))])
            } else {
                Ok(vec![kept, Act::RemovePermit, Act::Stop, Act::Again])
            }
        }
        Role::Unmanaged | Role::Follower { .. } | Role::Held { .. } | Role::Absent => {
            Err(Refusal::new(Check::Role, format!("{} is not the writer", taken.instance), "naming the writer"))
        }
    }
}

fn ask(taken: &Control) -> Result<Vec<Act>, Refusal> {
    match &taken.role {
        Role::Stopped { ceded_to: Some(next), .. } => {
            Err(Refusal::new(Check::Role, format!("{} ceded to {next}", taken.instance), "rejoining it as a follower"))
        }
        Role::Stopped { why: why @ (Why::RolledBack | Why::HigherReign | Why::Strayed), .. } => {
            Err(Refusal::new(Check::Role, format!("{} was stopped: {why:?}", taken.instance), "rejoining it as a follower"))
        }
        Role::Stopped { reign, why: Why::Operation | Why::Fence | Why::Asking, .. } => {
            let role = Role::Stopped { reign: *reign, why: Why::Asking, until: None, ceded_to: None };
            Ok(vec![Act::Keep(Box::new(Control { role, ..taken.clone() })), Act::Tell(Told::Asking)])
        }
        Role::Writer { .. } => Ok(vec![Act::Keep(Box::new(taken.clone())), Act::Tell(Told::Asking)]),
        Role::Promoting { .. } | Role::Unmanaged | Role::Follower { .. } | Role::Held { .. } | Role::Absent => {
            Err(Refusal::new(Check::Role, format!("{} is not stopped", taken.instance), "nothing: there is nothing to start"))
        }
    }
}

fn pledge(taken: &Control, here: &Here, look: &Look, fresh: Nonce, lasts: std::time::Duration) -> Result<Vec<Act>, Refusal> {
    match &taken.role {
        Role::Follower { kept: false } | Role::Stopped { why: Why::Operation | Why::Fence | Why::Asking | Why::HigherReign, .. } => {}
        Role::Follower { kept: true }
        | Role::Held { .. }
        | Role::Stopped { why: Why::RolledBack | Why::Strayed, .. }
        | Role::Writer { .. }
        | Role::Promoting { .. } => {
            return Err(Refusal::new(Check::Role, format!("{} cannot be a candidate as it is", taken.instance), "another candidate"));
        }
        Role::Unmanaged | Role::Absent => {
            return Err(Refusal::new(Check::Role, format!("{} is not kept by Muster, or is empty", taken.instance), "a first copy"));
        }
    }
    if look.position.is_none() {
        return Err(Refusal::new(Check::Position, "its own position cannot be read", "a server that answers"));
    }
    let reign = taken.line.last();
    if let Some((_, nonce)) = taken.candidacy(reign, here.now) {
        return Ok(vec![Act::Keep(Box::new(taken.clone())), Act::Tell(Told::Pledged(nonce))]);
    }
    let span = Span { lasts, from: here.now };
    let candidacy = Pledge::Candidacy { reign, against: taken.writer.clone(), nonce: Some(fresh), span };
    let pledged = taken
        .with_pledge(candidacy, here.now)
        .ok_or_else(|| Refusal::new(Check::Pledge, "it holds too many pledges", "the end of the oldest"))?;
    Ok(vec![Act::Keep(Box::new(pledged)), Act::Tell(Told::Pledged(fresh))])
}

fn promote(taken: &Control, here: &Here, look: &Look, grant: &Grant) -> Result<Vec<Act>, Refusal> {
    let role = Role::Promoting { reign: grant.reign().mark(), until: grant.until() };
    let promoting = Control { role, sole: false, ..taken.knowing(grant.line(), &taken.instance) };
    let permit = may_give_permit(&promoting, here, look, &Wanted::New(grant))?;
    let begin = match look.server {
        Server::ReadOnly => Act::Promote,
        Server::Stopped => Act::Start,
        Server::Unclear | Server::ReadWrite => {
            return Err(Refusal::new(Check::Server, "the server is neither a standby that runs nor stopped", "the agent's next look"));
        }
    };
    Ok(vec![Act::Keep(Box::new(promoting)), Act::Record(grant.reign().mark()), Act::GivePermit(permit), begin, Act::Again])
}

fn follow(taken: &Control, look: &Look) -> Result<Vec<Act>, Refusal> {
    if taken.writer == taken.instance {
        return Err(Refusal::new(Check::Role, format!("{} is the writer of this reign", taken.instance), "another instance"));
    }
    match &taken.role {
        Role::Writer { .. } | Role::Promoting { .. } => Err(Refusal::new(Check::Role, "it writes", "a stop first")),
        Role::Stopped { .. } if !look.is_stopped() => {
            Ok(vec![Act::Keep(Box::new(taken.clone())), Act::RemovePermit, Act::Stop, Act::Again])
        }
        Role::Stopped { .. } | Role::Unmanaged | Role::Absent | Role::Held { .. } | Role::Follower { .. } => {
            let follower = Control { role: Role::Follower { kept: false }, last: None, sole: false, ..taken.clone() };
            Ok(vec![Act::Keep(Box::new(follower)), Act::Follow, Act::Tell(Told::Follows)])
        }
    }
}

/// A peer asks this agent to confirm the start of `instance` in `reign`: the control file that binds it, or why not.
///
/// # Errors
/// Where a higher reign is known here, this agent stands as a candidate itself, or its instance holds more log.
pub fn vouch(control: &Control, here: &Here, look: &Look, reign: Mark, lasts: std::time::Duration) -> Result<Control, Refusal> {
    if control.machine != here.machine || control.boot != here.boot {
        return Err(Refusal::new(Check::Custody, "the control file is of another machine or boot", "the agent's next look"));
    }
    if control.line.last() != reign {
        let evidence = format!("{} is known here, not {reign}", control.line.last());
        return Err(Refusal::new(Check::Reign, evidence, "the controller, or rejoining as a follower"));
    }
    if control.stands_against(reign, here.now) {
        return Err(Refusal::new(Check::Pledge, "this agent stands as a candidate itself", "the end of its candidacy"));
    }
    if look.position.is_none() && !matches!(control.role, Role::Absent) {
        return Err(Refusal::new(Check::Position, "how much log it holds cannot be read", "a server that answers"));
    }
    control
        .with_pledge(Pledge::Patience { reign, span: Span { lasts, from: here.now } }, here.now)
        .ok_or_else(|| Refusal::new(Check::Pledge, "it holds too many pledges", "the end of the oldest"))
}
