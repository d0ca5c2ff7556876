//! Who gets a permit: one table, one function. A server that Muster keeps does not start without one.
//!
//! | wanted | needed |
//! |---|---|
//! | follower | role follower, and the data directory starts as a standby |
//! | writer, again (after a boot, a limit, an unfence, a lost permit) | never ceded; the recorded reign; every other listed agent wrote a pledge since it was asked (no higher reign, no candidate, nobody holds more log), or an operator stated that its machine is off; the controller, where it asks them, is not adopting |
//! | writer, alone in the list | it never let another one be seeded or promoted, and the repository has no other reign |
//! | writer, permit lost under a running server | writer of this boot, nothing forbids |
//! | new writer | a grant, in this boot, within its limit |

use std::collections::BTreeSet;

use muster_common::id::Nonce;
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::control::{Control, Role, Why};
use crate::grant::Grant;
use crate::here::{Here, Rule};
use crate::look::{Look, Server};
use crate::position::Position;
use crate::refusal::{Check, Refusal};
use crate::reign::Mark;

/// The right to let a server run. Only [`may_give_permit`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permit {
    writes: Option<Mark>,
}

impl Permit {
    /// The reign that it may write in; `None`: it may not write.
    #[must_use]
    pub const fn writes(&self) -> Option<Mark> {
        self.writes
    }
}

/// Who confirms that a writer may start again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Confirmed {
    /// The controller, which wrote it into its journal first.
    Controller {
        /// Its rule.
        rule: Rule,
        /// It has not heard from every instance since it was restored or moved.
        adopting: bool,
    },
    /// The agents of the others, with no controller between.
    Peers,
}

/// A confirmation that the recorded writer may start again: no higher reign, nobody with more log, and for its duration those who gave it
/// are promoted on receipts and external proofs only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Confirmation {
    /// Whose start.
    pub instance: Name,
    /// In which reign.
    pub reign: Mark,
    /// Of the question: an answer to an earlier one is none.
    pub asked: Nonce,
    /// By whom.
    pub by: Confirmed,
    /// Whose agents wrote a pledge since the question: they know no higher reign, stand as no candidate, and take no word meanwhile.
    pub heard: BTreeSet<Name>,
    /// Whose machines an operator stated, since the question, to be off.
    pub off: BTreeSet<Name>,
    /// The most log that anybody, the repository included, is known to hold on this line. `None`: nobody holds any.
    pub most: Option<Position>,
}

/// What is wanted, with what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// To follow.
    Follower,
    /// To write again, confirmed by others; `asked` is the question that is open here.
    Again {
        /// The answer.
        confirmation: &'a Confirmation,
        /// The question.
        asked: Nonce,
        /// The reign that the repository records, read since it was asked. `None`: it cannot be reached, or has none.
        repository: Option<Mark>,
    },
    /// To write again, alone in the list; the reign that the repository has now (`None`: none).
    Alone {
        /// As it was read just now.
        repository: Option<Mark>,
    },
    /// To go on: the permit is gone and the server runs.
    Lost,
    /// To write in a new reign.
    New(&'a Grant),
}

/// The table.
///
/// # Errors
/// Which line of it is not met.
pub fn may_give_permit(control: &Control, here: &Here, look: &Look, wanted: &Wanted<'_>) -> Result<Permit, Refusal> {
    if control.machine != here.machine || control.boot != here.boot {
        return Err(Refusal::new(Check::Custody, "the control file is of another machine or boot", "the agent's next look"));
    }
    match wanted {
        Wanted::Follower => follower(control, look),
        Wanted::Again { confirmation, asked, repository } => again(control, look, confirmation, *asked, *repository),
        Wanted::Alone { repository } => alone(control, *repository),
        Wanted::Lost => lost(control, look),
        Wanted::New(grant) => new(control, here, grant),
    }
}

fn follower(control: &Control, look: &Look) -> Result<Permit, Refusal> {
    match control.role {
        Role::Follower { .. } if look.standby => Ok(Permit { writes: None }),
        Role::Follower { .. } => {
            Err(Refusal::new(Check::Server, "the data directory does not start as a standby", "putting standby.signal in place first"))
        }
        Role::Unmanaged | Role::Writer { .. } | Role::Stopped { .. } | Role::Promoting { .. } | Role::Held { .. } | Role::Absent => {
            Err(not(control, "follower"))
        }
    }
}

/// The reign in which it may ask to write again.
fn recorded(control: &Control) -> Result<Mark, Refusal> {
    let reign = match &control.role {
        Role::Stopped { ceded_to: Some(next), .. } => {
            return Err(Refusal::new(Check::Role, format!("it ceded to {next}"), "rejoining it as a follower"));
        }
        Role::Stopped { why: Why::RolledBack, .. } => {
            return Err(Refusal::new(
                Check::Role,
                "its data are older than what was seen of it",
                "rejoining it as a follower, or a failover to it",
            ));
        }
        Role::Writer { reign } | Role::Stopped { reign, .. } => *reign,
        Role::Unmanaged | Role::Promoting { .. } | Role::Follower { .. } | Role::Held { .. } | Role::Absent => {
            return Err(not(control, "recorded writer"));
        }
    };
    if reign != control.line.last() || control.writer != control.instance {
        let evidence = format!("{} of {} is known here, it wrote in {reign}", control.line.last(), control.writer);
        return Err(Refusal::new(Check::Reign, evidence, "rejoining it as a follower"));
    }
    Ok(reign)
}

fn again(control: &Control, look: &Look, confirmation: &Confirmation, asked: Nonce, repository: Option<Mark>) -> Result<Permit, Refusal> {
    let reign = recorded(control)?;
    if confirmation.instance != control.instance || confirmation.reign != reign || confirmation.asked != asked {
        return Err(Refusal::new(Check::Pledge, "the confirmation answers another question", "asking again"));
    }
    if let Some(mark) = repository.filter(|mark| !control.line.holds(*mark)) {
        return Err(Refusal::new(Check::Reign, format!("the repository records {mark}, this is {reign}"), "rejoining it as a follower"));
    }
    match &confirmation.by {
        Confirmed::Controller { rule, adopting } => by_controller(control, rule, *adopting)?,
        // Nobody is not everybody: alone in the list has a row of its own.
        Confirmed::Peers if control.others.is_empty() => {
            return Err(Refusal::new(Check::Pledge, "there is nobody else in the list", "the controller, or muster-agent start --word"));
        }
        Confirmed::Peers => {}
    }
    // Not even the controller answers for who is silent: one that was doubled does not know that its twin moved the shard there.
    if let Some(silent) = control.others.iter().find(|other| !confirmation.heard.contains(*other) && !confirmation.off.contains(*other)) {
        return Err(Refusal::new(
            Check::Pledge,
            format!("{silent} was not heard since, and may write in a later reign"),
            format!("{silent}, a word that its machine is off, or muster-agent start --word"),
        ));
    }
    covers(look, confirmation.most.as_ref())?;
    Ok(Permit { writes: Some(reign) })
}

fn by_controller(control: &Control, rule: &Rule, adopting: bool) -> Result<(), Refusal> {
    if adopting {
        return Err(Refusal::new(
            Check::Adopting,
            "the controller has not heard from every instance since it was restored or moved",
            "the silent ones, or an operator who names them",
        ));
    }
    if control.rule.is_some_and(|own| own.refuses(rule)) {
        return Err(Refusal::new(Check::Rule, "the confirmation is of a controller that no longer leads", "the one that leads"));
    }
    Ok(())
}

fn alone(control: &Control, repository: Option<Mark>) -> Result<Permit, Refusal> {
    let reign = recorded(control)?;
    if !control.others.is_empty() || !control.sole {
        return Err(Refusal::new(
            Check::Pledge,
            "it is not alone, or was not always",
            "the controller, every other agent, or muster-agent start --word",
        ));
    }
    match repository {
        Some(mark) if mark == reign => Ok(Permit { writes: Some(reign) }),
        Some(mark) => Err(Refusal::new(Check::Reign, format!("the repository records {mark}, this is {reign}"), "the controller")),
        None => Err(Refusal::new(Check::Reign, "the repository records no reign", "the controller, or muster-agent start --word")),
    }
}

fn lost(control: &Control, look: &Look) -> Result<Permit, Refusal> {
    match (&control.role, look.server) {
        (Role::Writer { reign }, Server::ReadWrite) if *reign == control.line.last() => Ok(Permit { writes: Some(*reign) }),
        (Role::Writer { .. }, _) => Err(Refusal::new(Check::Server, "no server runs under it", "a confirmation")),
        (Role::Unmanaged | Role::Stopped { .. } | Role::Promoting { .. } | Role::Follower { .. } | Role::Held { .. } | Role::Absent, _) => {
            Err(not(control, "writer"))
        }
    }
}

fn new(control: &Control, here: &Here, grant: &Grant) -> Result<Permit, Refusal> {
    if grant.until().passed(here) {
        return Err(Refusal::new(Check::Limit, "the grant's limit has passed", "asking for the promotion again"));
    }
    match &control.role {
        Role::Promoting { reign, .. } if *reign == grant.reign().mark() && control.line.last() == *reign => {
            Ok(Permit { writes: Some(*reign) })
        }
        Role::Promoting { .. }
        | Role::Unmanaged
        | Role::Writer { .. }
        | Role::Stopped { .. }
        | Role::Follower { .. }
        | Role::Held { .. }
        | Role::Absent => Err(not(control, "instance that is being promoted in this reign")),
    }
}

fn covers(look: &Look, most: Option<&Position>) -> Result<(), Refusal> {
    let Some(most) = most else { return Ok(()) };
    match &look.position {
        Some(own) if own.covers(most) => Ok(()),
        Some(own) => Err(Refusal::new(
            Check::Position,
            format!("it holds log to {own}, somebody holds it to {most}"),
            "a failover to who holds more: its disk was rolled back",
        )),
        None => Err(Refusal::new(Check::Position, "its own position cannot be read", "a data directory that can be read")),
    }
}

fn not(control: &Control, what: &str) -> Refusal {
    Refusal::new(Check::Role, format!("{} is no {what}", control.instance), "an operation of the controller")
}
