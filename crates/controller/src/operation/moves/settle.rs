//! What a request to decide who may write comes to, with everything chosen, or why it is refused. Pure.

use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::{InstanceName, Name};
use muster_wire::proto::v1::InstanceRole;

use crate::operation::asked::{AskedMove, Move};
use crate::operation::done::hooks::Around;
use crate::operation::fleet::Fleet;
use crate::operation::kinds::Settled;
use crate::operation::moves::preflight::{Check, checks};
use crate::operation::moves::task::Task;
use crate::operation::moves::view::Member;
use crate::operation::state;

/// How long a stopped writer waits before it asks to come back, where nobody said otherwise.
const STOP_LIMIT: Duration = Duration::from_secs(300);

/// Settles a request.
///
/// # Errors
/// Why it is refused.
pub fn settle(asked: &AskedMove, fleet: &Fleet, members: &[Member]) -> Result<Settled, Fault> {
    for name in asked.approval.words.keys() {
        fleet.instance(name)?;
    }
    let (task, about) = match &asked.what {
        Move::Manage { writer } => (manage(fleet, members, writer)?, Some(writer.clone())),
        Move::Switchover { to, stop_limit } => (switchover(fleet, members, to, stop_limit.unwrap_or(STOP_LIMIT))?, Some(to.clone())),
        Move::Failover { to } => {
            if let Some(to) = to {
                fleet.instance(to)?;
            }
            writer(fleet)?;
            (Task::Failover { to: to.clone() }, to.clone())
        }
        Move::Fence { instance } => {
            let instance = instance.clone().map_or_else(|| writer(fleet), Ok)?;
            (Task::Fence { instance: instance.clone() }, Some(instance))
        }
        Move::Unfence { instance, by_itself } => {
            let instance = instance.clone().map_or_else(|| writer(fleet), Ok)?;
            (Task::Unfence { instance: instance.clone(), by_itself: *by_itself }, Some(instance))
        }
        Move::Rejoin { instance } => (Task::Rejoin { instance: instance.clone() }, Some(instance.clone())),
    };
    let about = about.map_or_else(|| writer(fleet), Ok)?;
    let instance = fleet.instance(&about)?;
    Ok(Settled {
        task: state::Task::Move(task),
        target: InstanceName { component: fleet.component.clone(), instance: about },
        agent: instance.agent.clone(),
        repository: None,
        epoch: fleet.shard.record.as_ref().map_or(Epoch(0), |record| record.reign.epoch),
        hooks: Around::default(),
    })
}

fn writer(fleet: &Fleet) -> Result<Name, Fault> {
    fleet.shard.record.as_ref().map(|record| record.reign.writer.clone()).ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("component {}: no writer is known", fleet.component))
            .hint(format!("muster manage {} --writer INSTANCE", fleet.component))
    })
}

fn manage(fleet: &Fleet, members: &[Member], writer: &Name) -> Result<Task, Fault> {
    let title = format!("keep {}", fleet.component);
    let refused = |why: String, hint: String| Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{title}: {why}")).hint(hint));
    fleet.instance(writer)?;
    if let Some(away) = members.iter().find(|member| !member.connected) {
        return refused(
            format!("agent {} is not connected", away.agent),
            format!("start it, or take {} out of the declaration", away.name),
        );
    }
    let writers: Vec<&str> =
        members.iter().filter(|member| member.role == InstanceRole::ReadWrite).map(|member| member.name.as_str()).collect();
    if writers != [writer.as_str()] {
        let seen = if writers.is_empty() {
            "none was seen to take writes".to_owned()
        } else {
            format!("seen to take writes: {}", writers.join(", "))
        };
        return refused(
            format!("{writer} is not the one instance that takes writes"),
            format!("name the one that does ({seen}); the others must follow it"),
        );
    }
    if let Some(record) = &fleet.shard.record
        && (record.reign.writer != *writer || !record.is_steady())
    {
        return refused(
            format!("{} is recorded as the writer in {}", record.reign.writer, record.reign.mark()),
            format!("`muster status {}` shows who writes", fleet.component),
        );
    }
    let at = |member: &Member| member.position.as_ref().map(|(position, _)| position.clone());
    let own = members.iter().find(|member| member.name == *writer).and_then(at);
    let mut followers = Vec::new();
    for member in members.iter().filter(|member| member.name != *writer && member.role == InstanceRole::Standby) {
        if let (Some(own), Some(theirs)) = (&own, at(member))
            && matches!(own.compare(&theirs), muster_common::position::Ancestry::Foreign)
        {
            return refused(format!("{} is another database cluster than {writer}", member.name), "seed it from the writer first".into());
        }
        followers.push(member.name.clone());
    }
    if let Some(unclear) = members.iter().find(|member| member.role == InstanceRole::Unspecified || member.role == InstanceRole::Unknown) {
        return refused(
            format!("what {} does is not known", unclear.name),
            format!("look at agent {}: muster status {}", unclear.agent, fleet.component),
        );
    }
    Ok(Task::Manage { writer: writer.clone(), followers })
}

fn switchover(fleet: &Fleet, members: &[Member], to: &Name, stop_limit: Duration) -> Result<Task, Fault> {
    fleet.instance(to)?;
    if !(Duration::from_secs(10)..=Duration::from_secs(3_600)).contains(&stop_limit) {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("stop limit {}", muster_common::duration::show(stop_limit)))
            .hint("from 10s to 1h"));
    }
    let checks = checks(&fleet.component, fleet.shard.record.as_ref(), members, to);
    refuse_on(&fleet.component, to, &checks)?;
    Ok(Task::Switchover { from: writer(fleet)?, to: to.clone(), stop_seconds: stop_limit.as_secs() })
}

fn refuse_on(component: &Name, to: &Name, checks: &[Check]) -> Result<(), Fault> {
    let bad: Vec<&Check> = checks.iter().filter(|check| !check.ok && check.blocks).collect();
    let Some(first) = bad.first() else { return Ok(()) };
    let refused = Fault::refused(ErrorKind::FailedPrecondition, format!("switch over {component} to {to}: {}", first.evidence));
    let refused = bad.iter().skip(1).fold(refused, |fault, check| fault.evidence(check.evidence.clone()));
    Err(refused.hint(format!("lifted by: {}; all checks: muster preflight {component} --to {to}", first.lifted_by)))
}
