//! What a keeper shows: to the controller as a report, to people as a condition with what to type. Pure.

use muster_common::name::InstanceName;
use muster_engine::observation::Condition;
use muster_failover::control::{Role, Why};
use muster_failover::directive::{Kept, Known};
use muster_failover::here::Here;
use muster_failover::look::{Look, Server};

use crate::keeper::kept::{Found, State};

/// The report. `None` of what is only observed.
#[must_use]
pub fn kept(name: &InstanceName, state: &State, here: &Here, look: Option<&Look>) -> Option<Kept> {
    let known = match &state.found {
        Found::Unread | Found::Unmanaged => return None,
        Found::Lost(_) => None,
        Found::Kept(record) if record.control.role == Role::Unmanaged => return None,
        Found::Kept(record) => Some(Known {
            role: record.control.role.clone(),
            line: record.control.line.clone(),
            writer: record.control.writer.clone(),
            rule: record.control.rule,
            sequence: record.control.sequence,
            pledges: record.control.pledges.clone(),
            others: record.control.others.clone(),
        }),
    };
    let last = match &state.found {
        Found::Kept(record) => record.control.last.clone(),
        Found::Unread | Found::Unmanaged | Found::Lost(_) => None,
    };
    Some(Kept {
        instance: name.clone(),
        known,
        position: look.and_then(|look| look.position.clone()).or(last),
        permit: look.is_some_and(|look| look.permit),
        server: look.map_or(Server::Unclear, |look| look.server),
        locked: look.is_some_and(|look| look.locked),
        asks: state.question,
        boot: here.boot,
        now: here.now,
        trouble: state.trouble.clone(),
    })
}

/// What a person should know, and type.
#[must_use]
pub fn condition(kept: &Kept) -> Condition {
    let (ok, message, hint) = told(kept);
    Condition { name: "Keeper".to_owned(), ok, blocking: false, message, hint }
}

fn told(kept: &Kept) -> (bool, String, String) {
    if !kept.trouble.is_empty() {
        let (message, hint) = kept.trouble.split_once("; HINT: ").unwrap_or((&kept.trouble, "look at the agent's log"));
        return (false, message.to_owned(), hint.to_owned());
    }
    let Some(known) = &kept.known else {
        return (false, "its control file is lost".to_owned(), "muster manage, which confirms it".to_owned());
    };
    let component = &kept.instance.component;
    let rejoin = format!("muster rejoin {component} --instance {}", kept.instance.instance);
    let fine = |message: String| (true, message, String::new());
    match &known.role {
        Role::Unmanaged => fine("it is only observed".to_owned()),
        Role::Writer { reign } if kept.server == Server::ReadWrite => fine(format!("it is the writer of {reign}")),
        Role::Writer { reign } if kept.permit => (
            false,
            format!("it is the writer of {reign}, and takes no writes"),
            "start the server as usual: it has its permit; or fail over".to_owned(),
        ),
        Role::Writer { reign } => (
            false,
            format!("it is the writer of {reign}, is stopped, and waits for a confirmation that it may start"),
            format!("muster status {component} names who was not heard"),
        ),
        Role::Stopped { reign, why, ceded_to, .. } => stopped(kept, *reign, *why, *ceded_to, &rejoin),
        Role::Promoting { reign, .. } => fine(format!("it becomes the writer of {reign}")),
        Role::Follower { kept: true } => fine("it is kept as it is while the writer is restored in place".to_owned()),
        Role::Follower { kept: false } if kept.server == Server::ReadOnly => fine(format!("it follows {}", known.writer)),
        Role::Follower { kept: false } => {
            (false, format!("it is to follow {}, and does not run", known.writer), "look at the end of the server's log".to_owned())
        }
        Role::Held { why } => (false, format!("it is held: {}", reason(*why)), rejoin),
        Role::Absent => (false, "it has no data".to_owned(), rejoin),
    }
}

fn stopped(
    kept: &Kept,
    reign: muster_failover::reign::Mark,
    why: Why,
    ceded_to: Option<muster_failover::reign::Mark>,
    rejoin: &str,
) -> (bool, String, String) {
    let component = &kept.instance.component;
    if let Some(next) = ceded_to {
        return (false, format!("it wrote in {reign}, ceded to {next}, and never writes again in them"), rejoin.to_owned());
    }
    let proved = if kept.locked && !kept.permit && kept.server == Server::Stopped { "proved gone" } else { "being stopped" };
    let hint = match why {
        Why::Operation => format!("nothing: an operation stopped it; muster ops {component}"),
        Why::Fence => format!("muster unfence {component}"),
        Why::Asking => format!("nothing: it starts when it is confirmed; muster status {component} names who was not heard"),
        Why::HigherReign | Why::RolledBack | Why::Strayed => rejoin.to_owned(),
    };
    (false, format!("it wrote in {reign} and is stopped ({proved}): {}", reason(why)), hint)
}

const fn reason(why: Why) -> &'static str {
    match why {
        Why::Operation => "by a step of an operation",
        Why::Fence => "fenced by an operator",
        Why::Asking => "it asks whether it may start again",
        Why::HigherReign => "another instance writes in a higher reign",
        Why::RolledBack => "its data are older than what was seen of it",
        Why::Strayed => "it took writes as a follower, or holds more than the writer",
    }
}
