//! A journal that does not know the present reign: it was restored from an older copy or made anew, or a reign was opened at an instance by an
//! operator's word. What the keepers report of the present one, and when that is believed.
//!
//! What always holds: an agent is believed about its own instance and about no other's. So a reign is taken over only when its own writer
//! reports it, and every other instance either reports that it does not write and knows nothing that excludes that reign, or an operator
//! stated that its machine is off. Nothing is lowered, and of two reigns that exclude each other none is picked.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::name::Name;

use crate::control::Role;
use crate::refusal::{Check, Refusal};
use crate::reign::{Kin, Line, Reign};
use crate::shard::ShardRecord;

/// What the keeper of an instance reports of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The highest reign that it knows.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// What the instance is.
    pub role: Role,
    /// Whether it may write this moment: a permit is there, or the server takes writes or is not clear.
    pub writes: bool,
}

/// What the reports come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caught {
    /// Nobody knows a later reign.
    Up,
    /// The record of the later reign.
    To(Box<ShardRecord>),
    /// A later reign is reported and not believed yet.
    Waits(Refusal),
}

/// Holds the reports of the `declared` instances against the journal's record. `guessed` tells that the record's present reign was made up
/// from a number that an agent remembered: what came before it is the journal's own. `off` are those whose machines an operator stated to
/// be off.
#[must_use]
pub fn catch_up(
    record: Option<&ShardRecord>,
    guessed: bool,
    declared: &BTreeSet<Name>,
    heard: &BTreeMap<Name, Heard>,
    off: &BTreeSet<Name>,
) -> Caught {
    let own = record.and_then(|record| if guessed { before(record) } else { Some(record.line()) });
    let is_later = |heard: &&Heard| own.as_ref().is_none_or(|own| heard.line.kin(own) == Kin::Descends);
    let Some(top) = heard.values().filter(is_later).map(|heard| &heard.line).max_by_key(|line| (line.last().epoch, line.ancestors().len()))
    else {
        return excluded(record, guessed, heard).map_or(Caught::Up, Caught::Waits);
    };
    match judged(top, record.filter(|_| !guessed), declared, heard, off) {
        Ok(writer) => Caught::To(Box::new(taken_over(top, writer, record, heard))),
        Err(refusal) => Caught::Waits(refusal),
    }
}

/// The journal's own line below a reign that was made up.
fn before(record: &ShardRecord) -> Option<Line> {
    let (last, ancestors) = record.ancestors.split_last()?;
    Some(Line::with(ancestors.to_vec(), *last))
}

/// Somebody writes in a reign that excludes the journal's.
fn excluded(record: Option<&ShardRecord>, guessed: bool, heard: &BTreeMap<Name, Heard>) -> Option<Refusal> {
    let record = record.filter(|_| !guessed)?;
    let (name, other) = heard.iter().find(|(_, heard)| heard.writes && heard.line.kin(&record.line()) == Kin::Conflict)?;
    let evidence = format!("{name} writes in {}, the journal has {} of {}", other.line.last(), record.reign.mark(), record.reign.writer);
    Some(Refusal::new(Check::Conflict, evidence, "a person who stops one of them: muster-agent fence on its machine"))
}

/// The writer of the line, where every declared instance agrees or is off.
fn judged<'a>(
    top: &Line,
    record: Option<&ShardRecord>,
    declared: &BTreeSet<Name>,
    heard: &'a BTreeMap<Name, Heard>,
    off: &BTreeSet<Name>,
) -> Result<&'a Name, Refusal> {
    let last = top.last();
    if let Some(record) = record.filter(|record| !record.is_steady()) {
        let evidence = format!("{last} is reported while the move to {} is under way", record.reign.mark());
        return Err(Refusal::new(Check::Phase, evidence, "its end"));
    }
    let Some(writer) = heard.values().find(|heard| heard.line == *top).map(|heard| &heard.writer) else {
        return Err(Refusal::new(Check::Reign, format!("nobody tells who writes in {last}"), "its agent"));
    };
    let own = heard.get(writer).filter(|heard| heard.line.last() == last && is_of(&heard.role, last));
    if own.is_none() || !declared.contains(writer) {
        let evidence = format!("{last} is said to be {writer}'s, which does not report it itself");
        return Err(Refusal::new(Check::Proof, evidence, format!("the agent of {writer}")));
    }
    for name in declared.iter().filter(|name| *name != writer) {
        match heard.get(name) {
            None if off.contains(name) => {}
            None => {
                let evidence = format!("{writer} writes in {last}, and nothing is heard of {name}");
                return Err(Refusal::new(
                    Check::Adopting,
                    evidence,
                    format!("its agent; where its machine is off: muster adopt --off {name}"),
                ));
            }
            Some(other) if other.line.kin(top) == Kin::Conflict => {
                let evidence = format!("{name} knows {}, {writer} {last}: they exclude each other", other.line.last());
                return Err(Refusal::new(Check::Conflict, evidence, "a person who looks at both: their data are kept"));
            }
            Some(other) if other.writes && !matches!(other.role, Role::Follower { .. }) => {
                let evidence = format!("{writer} writes in {last}, and {name} may still write in {}", other.line.last());
                return Err(Refusal::new(Check::Proof, evidence, format!("muster-agent fence on the machine of {name}")));
            }
            Some(_) => {}
        }
    }
    Ok(writer)
}

/// Whether a role is that of the writer of `reign`, running or stopped.
fn is_of(role: &Role, reign: crate::reign::Mark) -> bool {
    match role {
        Role::Writer { reign: own } | Role::Promoting { reign: own, .. } => *own == reign,
        Role::Stopped { reign: own, ceded_to, .. } => *own == reign && ceded_to.is_none(),
        Role::Unmanaged | Role::Follower { .. } | Role::Held { .. } | Role::Absent => false,
    }
}

/// The record of the later reign. Who wrote before holds what the writer may not have, until it is seen to follow.
fn taken_over(top: &Line, writer: &Name, record: Option<&ShardRecord>, heard: &BTreeMap<Name, Heard>) -> ShardRecord {
    let last = top.last();
    let parent = top.ancestors().last().map(|mark| mark.id);
    let reign = Reign { epoch: last.epoch, id: last.id, writer: writer.clone(), parent };
    let mut superseded = record.map(|record| record.superseded.clone()).unwrap_or_default();
    superseded.extend(record.iter().flat_map(|record| record.possible_writers().into_keys()));
    let follows = |heard: &Heard| heard.line.last() == last && matches!(heard.role, Role::Follower { .. });
    superseded.retain(|name| name != writer && !heard.get(name).is_some_and(follows));
    ShardRecord::of(reign, top.ancestors().to_vec(), superseded)
}

#[cfg(test)]
mod tests;
