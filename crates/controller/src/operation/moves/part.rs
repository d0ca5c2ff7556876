//! The parts of a move: an order to one instance each, under a name; what became of the newest try of one; giving the next.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_failover::directive::{Answer, Errand, Upstream};
use muster_failover::reign::Line;
use muster_failover::shard::ShardRecord;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::operation::event::Event;
use crate::operation::kind::Phase;
use crate::operation::moves::view::{Part, View};

/// As often is one thing tried at most.
pub const MOST_TRIES: u32 = 200;

/// An order: what a directive holds beside rule and number, which it gets when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// In which reign, with its ancestors.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// How long it may be obeyed, from its arrival, in milliseconds. `None`: it does not lapse.
    pub lasts_ms: Option<u64>,
    /// The other instances.
    pub others: BTreeSet<Name>,
    /// Where the writer is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What to do.
    pub errand: Errand,
}

/// A part that is to be given.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The step's name.
    pub step: String,
    /// To whom.
    pub instance: Name,
    /// Its agent.
    pub agent: Name,
    /// What.
    pub order: Order,
}

/// How the newest try of a part stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stand<'a> {
    /// It was not given.
    None,
    /// It is under way.
    Open(&'a Part),
    /// Its agent answered.
    Answered(&'a Answer, &'a Part),
    /// It failed, or what became of it is not known.
    Failed(&'a Part),
}

/// The id of a part's operation: it follows from the move and the step, so that a restored controller gives the same one again.
#[must_use]
pub fn id(parent: OperationId, step: &str) -> OperationId {
    let digest = Sha256::new().chain_update(b"muster part 1").chain_update(parent.as_bytes()).chain_update(step.as_bytes()).finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    OperationId::from_bytes(id)
}

fn nth(name: &str, number: u32) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}#{number}") }
}

/// How often a part was given.
#[must_use]
pub fn tries(view: &View, name: &str) -> u32 {
    (1..=MOST_TRIES).take_while(|number| view.parts.contains_key(&nth(name, *number))).count().try_into().unwrap_or(MOST_TRIES)
}

/// How its newest try stands.
#[must_use]
pub fn stand<'a>(view: &'a View, name: &str) -> Stand<'a> {
    let tries = tries(view, name);
    let Some(part) = tries.checked_sub(1).and_then(|_| view.parts.get(&nth(name, tries))) else { return Stand::None };
    match (part.phase, &part.answer) {
        (Phase::Succeeded, Some(answer)) => Stand::Answered(answer, part),
        (Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Suspended, _) => Stand::Open(part),
        (Phase::Succeeded | Phase::Failed | Phase::Cancelled | Phase::Unknown, _) => Stand::Failed(part),
    }
}

/// Gives a part once more, as the next try.
///
/// # Errors
/// Where no writer is known or the instance is not declared any more.
pub fn give(view: &View, name: &str, instance: &Name, errand: Errand, lasts: Option<Duration>) -> Result<Event, Fault> {
    let gone = || {
        Fault::refused(ErrorKind::FailedPrecondition, format!("{}: {instance} is not declared any more", view.state.title()))
            .hint("declare it again: muster apply")
    };
    let record = view.record.as_ref().ok_or_else(gone)?;
    let member = view.member(instance).ok_or_else(gone)?;
    let others = view.members.iter().map(|member| member.name.clone()).filter(|name| name != instance).collect();
    let order = Order {
        line: record.line(),
        writer: record.reign.writer.clone(),
        lasts_ms: lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
        others,
        upstream: upstream(view, record, instance),
        errand,
    };
    let step = nth(name, tries(view, name).saturating_add(1));
    Ok(Event::Part(Box::new(Given { step, instance: instance.clone(), agent: member.agent.clone(), order })))
}

fn upstream(view: &View, record: &ShardRecord, instance: &Name) -> Option<Upstream> {
    if record.reign.writer == *instance {
        return None;
    }
    view.member(&record.reign.writer).and_then(|writer| writer.upstream.clone())
}

/// How long ago something was, by the journal's clock.
#[must_use]
pub fn ago(view: &View, at: muster_common::time::Timestamp) -> Duration {
    view.now.since(at)
}
