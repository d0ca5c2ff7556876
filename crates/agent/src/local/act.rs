//! What is asked on the spot, and its answer. The same code serves the socket and the agent that does not run.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::RuleId;
use muster_common::name::InstanceName;
use muster_failover::command::{Command, Order};
use muster_failover::directive::{Answer, Kept};
use muster_failover::here::Rule;
use muster_failover::look::Server;
use serde::{Deserialize, Serialize};

use crate::assignment::force::{InForce, Instance};
use crate::keeper::kept::Keepers;
use crate::keeper::show;
use crate::keeper::word::Spoken;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Request {
    /// What is kept here.
    Status,
    /// Stop the writer, prove it gone, until somebody lets it start again.
    Fence {
        /// Which.
        instance: InstanceName,
    },
    /// Open a new reign by word: a follower becomes the writer, or a stopped writer starts again.
    Word {
        /// Which.
        instance: InstanceName,
        /// What is stated.
        spoken: Spoken,
        /// A stopped writer starts again; else a follower is promoted.
        starts: bool,
    },
}

/// The answer, for people.
pub type Reply = Result<String, Fault>;

/// Does it.
///
/// # Errors
/// Why not.
pub async fn act(keepers: &Keepers, in_force: &InForce, request: &Request) -> Reply {
    match request {
        Request::Status => {
            let mut lines = Vec::new();
            for instance in in_force.instances.values() {
                lines.push(status(keepers, instance).await);
            }
            if lines.is_empty() {
                lines.push("nothing is assigned to this agent".to_owned());
            }
            Ok(lines.join("\n"))
        }
        Request::Fence { instance } => fence(keepers, in_force, instance).await,
        Request::Word { instance, spoken, starts } => by_word(keepers, in_force, instance, spoken, *starts).await,
    }
}

async fn status(keepers: &Keepers, instance: &Instance) -> String {
    if instance.engine.keep().is_none() {
        return format!("{}: has no writer that could move", instance.name);
    }
    let keeper = keepers.of(&instance.name);
    if keeper.last().is_none() {
        keepers.tend(instance).await;
    }
    match keeper.last() {
        Some(kept) => one(&kept),
        None => format!("{}: only observed; `muster manage {} --writer INSTANCE` has it kept", instance.name, instance.name.component),
    }
}

/// One instance, in two or three lines.
fn one(kept: &Kept) -> String {
    let condition = show::condition(kept);
    let mut text = format!("{}: {}", kept.instance, condition.message);
    if let Some(known) = &kept.known {
        let position = kept.position.as_ref().map_or_else(|| "not known".to_owned(), ToString::to_string);
        text += &format!("\n    writer {} in {}, position {position}", known.writer, known.line.last());
    }
    let server = match kept.server {
        Server::Stopped => "stopped",
        Server::ReadOnly => "read-only",
        Server::ReadWrite => "read-write",
        Server::Unclear => "unclear",
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    text += &format!("\n    server {server}, permit {}, lock held {}", yes(kept.permit), yes(kept.locked));
    if !condition.hint.is_empty() {
        text += &format!("\n    HINT: {}", condition.hint);
    }
    text
}

fn assigned<'a>(in_force: &'a InForce, name: &InstanceName) -> Result<&'a Instance, Fault> {
    in_force.instances.get(name).map(AsRef::as_ref).ok_or_else(|| {
        Fault::refused(ErrorKind::NotFound, format!("{name} is not assigned to this agent")).hint("`muster-agent status` lists what is")
    })
}

async fn by_word(keepers: &Keepers, in_force: &InForce, name: &InstanceName, spoken: &Spoken, starts: bool) -> Reply {
    match keepers.word_here(assigned(in_force, name)?, spoken, starts).await? {
        Answer::Promoted { reign, .. } => Ok(format!(
            "{name} takes writes in {reign}, by the word of {}. What the others acknowledged and it never got is lost; their data are kept.\n\
             Names were not moved: point your clients here, for example by `nsupdate`. The others must not be started as writers: \
             `muster rejoin {} --instance NAME` brings each back.",
            spoken.operator, name.component
        )),
        other => {
            Err(Fault::failed(ErrorKind::Internal, format!("{name}: it answered {other:?}"))
                .hint("please report this with the agent's log"))
        }
    }
}

async fn fence(keepers: &Keepers, in_force: &InForce, name: &InstanceName) -> Reply {
    let instance = assigned(in_force, name)?;
    let position = match keepers.stop_here(instance).await? {
        Answer::Stopped(position) => position.map_or_else(|| "not known".to_owned(), |position| position.to_string()),
        other @ (Answer::Asking(_)
        | Answer::Pledged { .. }
        | Answer::Ceded(_)
        | Answer::Promoted { .. }
        | Answer::Follows
        | Answer::Vouched(_)
        | Answer::Started(_)
        | Answer::Managed(_)
        | Answer::Unmanaged
        | Answer::Rejoined { .. }) => {
            return Err(Fault::failed(ErrorKind::Internal, format!("fence {name}: it answered {other:?}"))
                .hint("please report this with the agent's log"));
        }
    };
    Ok(format!(
        "{name} is fenced: no permit, no process, the lock is held. Final position: {position}.\n\
         It stays so over restarts and reboots. `muster unfence {}` ends it; a failover may rest on it as \
         the word `{}=fenced-there`.",
        name.component, name.instance
    ))
}

/// An operator's order on the spot: of no controller, in the reign that is known here.
#[must_use]
pub fn order_here(control: &muster_failover::control::Control, order: Order) -> Command {
    let unknown = Rule { term: muster_common::counter::Term(0), id: RuleId::from_bytes([0; 16]) };
    Command {
        rule: control.rule.unwrap_or(unknown),
        line: control.line.clone(),
        writer: control.writer.clone(),
        sequence: control.sequence,
        limit: None,
        order,
    }
}
