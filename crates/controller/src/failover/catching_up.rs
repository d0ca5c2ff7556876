//! A journal that does not know the present reign of a component catches up: it was restored from an older copy or made anew, or a reign was
//! opened at an instance by a word (`muster-agent promote`). When a report is believed is `muster_failover::catch_up`'s; here reports are
//! gathered, the record is kept, and what is waited for is shown.
//!
//! What always holds: only reports that came in a session of this process count, whose agents refuse lower terms since its welcome; the record is
//! replaced only where it is still the one that the reports were held against.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::catch_up::{Caught, Heard, catch_up};
use muster_failover::look::Server;
use muster_failover::refusal::Refusal;
use muster_failover::shard::ShardRecord;

use crate::agents::link::Agents;
use crate::store::shards::{self, Kept};

/// How often the reports are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Reports that did not change are held against the record again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// What the keepers of a component report, by instance.
type Reports = BTreeMap<Name, Heard>;

/// Runs until the controller stops.
pub async fn run(agents: Agents) {
    let token = agents.gate.token().clone();
    let mut looked: BTreeMap<Name, (Reports, Instant)> = BTreeMap::new();
    loop {
        let reported = reported(&agents);
        looked.retain(|component, _| reported.contains_key(component));
        for (component, reports) in reported {
            if looked.get(&component).is_some_and(|(before, at)| *before == reports && at.elapsed() < AGAIN) {
                continue;
            }
            match hold(&agents, &component, &reports, &BTreeSet::new()).await {
                Ok(_) => {
                    looked.insert(component, (reports, Instant::now()));
                }
                Err(_) if token.is_cancelled() => return,
                Err(fault) => {
                    tracing::error!(%component, %fault, "what its keepers report cannot be held against the journal; it is tried again")
                }
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// An operator states that the machines of `off` are off, so that a later reign is believed without them.
///
/// # Errors
/// Where no later reign is reported, or something else stands against it.
pub async fn adopt(agents: &Agents, component: &Name, off: &BTreeSet<Name>) -> Result<ShardRecord, Fault> {
    let declared = agents.assigner.declared();
    for name in off {
        let Some(instance) = declared.instances_of(component).find(|instance| instance.name.instance == *name) else {
            return Err(Fault::refused(ErrorKind::NotFound, format!("{component} has no instance {name}"))
                .hint(format!("muster get component {component}")));
        };
        if agents.courier.is_connected(&instance.agent) {
            return Err(Fault::refused(
                ErrorKind::FailedPrecondition,
                format!("the machine of {name} is not off: its agent {} is connected", instance.agent),
            )
            .hint("leave it out: what it reports counts"));
        }
    }
    let reports = reported(agents).remove(component).unwrap_or_default();
    match hold(agents, component, &reports, off).await? {
        Caught::To(record) => Ok(*record),
        Caught::Up => {
            Err(Fault::refused(ErrorKind::FailedPrecondition, format!("nobody reports a later reign of {component} than is known here"))
                .hint(format!("nothing is to be done; muster status {component} tells who writes")))
        }
        Caught::Waits(refusal) => Err(waits(component, &refusal)),
    }
}

/// Why nothing is decided about a component whose present reign is not known here.
#[must_use]
pub fn waits(component: &Name, refusal: &Refusal) -> Fault {
    Fault::refused(ErrorKind::FailedPrecondition, format!("{component}: this controller does not know who writes: {}", refusal.evidence))
        .hint(format!("lifted by: {}", lifted_by(component, refusal)))
}

/// What would lift it, with the component's name in what is to be typed.
#[must_use]
pub fn lifted_by(component: &Name, refusal: &Refusal) -> String {
    refusal.lifted_by.replace("muster adopt", &format!("muster adopt {component}"))
}

/// What is reported now, by component: of agents that are connected.
fn reported(agents: &Agents) -> BTreeMap<Name, Reports> {
    let declared = agents.assigner.declared();
    let mut all: BTreeMap<Name, Reports> = BTreeMap::new();
    for reported in agents.observations.all_kept() {
        let (kept, name) = (reported.kept.clone(), reported.kept.instance.clone());
        let agent = declared.instances_of(&name.component).find(|instance| instance.name == name).map(|instance| instance.agent);
        let (Some(known), Some(true)) = (kept.known, agent.map(|agent| agents.courier.is_connected(&agent))) else { continue };
        let writes = kept.permit || matches!(kept.server, Server::ReadWrite | Server::Unclear);
        let heard = Heard { line: known.line, writer: known.writer, role: known.role, writes };
        all.entry(name.component).or_default().insert(name.instance, heard);
    }
    all
}

/// Holds the reports against the record, keeps what they come to, and shows what is waited for.
async fn hold(agents: &Agents, component: &Name, reports: &Reports, off: &BTreeSet<Name>) -> Result<Caught, Fault> {
    let declared = agents.assigner.declared();
    let names: BTreeSet<Name> = declared.instances_of(component).map(|instance| instance.name.instance).collect();
    let mut read = agents.store.read().await?;
    let kept = shards::get(&mut read, component).await?;
    drop(read);
    let caught = catch_up(kept.record.as_ref(), is_guessed(&kept, reports), &names, reports, off);
    match &caught {
        Caught::Up => agents.observations.set_later_reign(component, None),
        Caught::Waits(refusal) => {
            if agents.observations.later_reign(component).as_ref() != Some(refusal) {
                let lifted_by = lifted_by(component, refusal);
                tracing::warn!(%component, lifted_by, "a later reign than this journal knows is reported, and not believed yet: {}", refusal.evidence);
            }
            agents.observations.set_later_reign(component, Some(refusal.clone()));
        }
        Caught::To(record) => {
            let mut write = agents.store.write().await?;
            if shards::get(write.connection(), component).await? != kept {
                // Somebody moved it meanwhile: the next look tells.
                write.abandon().await?;
                return Ok(Caught::Up);
            }
            let next = Kept { record: Some((**record).clone()), floor: kept.floor.max(record.reign.epoch), floor_reign: None };
            shards::put(write.connection(), component, &next).await?;
            write.commit().await?;
            agents.observations.set_later_reign(component, None);
            agents.operations.shard_changed();
            let (reign, writer) = (record.reign.mark().to_string(), &record.reign.writer);
            tracing::warn!(%component, reign, %writer, "a later reign than this journal knew was reported by its writer, and nobody stands against it: it is taken over");
        }
    }
    Ok(caught)
}

/// Whether the record's present reign was made up here, from a number that an agent remembers or at the first sight of a writer: no keeper knows
/// it, or it is another's there.
fn is_guessed(kept: &Kept, reports: &Reports) -> bool {
    let Some(record) = &kept.record else { return false };
    let of_a_number = kept.floor_reign == Some(record.reign.id) && kept.floor == record.reign.epoch;
    let of_a_sight = record.reign.parent.is_none() && record.ancestors.is_empty();
    let mark = record.reign.mark();
    let is_known = |heard: &Heard| heard.line.holds(mark) && (heard.line.last() != mark || heard.writer == record.reign.writer);
    (of_a_number || of_a_sight) && !reports.values().any(is_known)
}
