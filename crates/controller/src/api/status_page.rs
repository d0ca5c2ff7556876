//! The one page: what is declared, what was seen of it, what runs, and what a disaster would cost now.
//!
//! Reading is in `gather`; what is made of it is pure. What always holds: a figure is measured or absent, never assumed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_common::fault::Fault;
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::convert::{duration_to_proto, timestamp_from_proto, timestamp_to_proto};
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{
    AgentStatus, ComponentSpec, ComponentStatus, Condition, ControllerStatus, InstanceStatus, Operation, Priority, RecoveryPoint, Resource,
    StatusPage, VerificationStatus,
};

use super::Api;
use crate::agents::link::Agents;
use crate::inventory::{Declared, DeclaredInstance, Kind};
use crate::operation::done::Done;
use crate::operation::handle::ListFilter;
use crate::operation::journal;
use crate::operation::kind::{Kind as OperationOf, Phase};
use crate::operation::state::{State, Task};
use crate::schedule::pause::{Pause, Scope};
use crate::store::shards::Kept;
use crate::store::{Connection, agents, meta, operations, points, shards};

/// The most running operations that one page shows.
const MOST_RUNNING: u32 = 500;
/// How many restores of a component are looked through for the last that was done: the others were dry runs.
const RESTORES_LOOKED_AT: u32 = 20;
/// The phases of a verification that a restore has too.
const RESTORING: [&str; 3] = ["fetch", "start", "replay"];

impl Api {
    /// The page; of one component where `component` is not empty.
    pub(super) async fn page(&self, component: &str) -> Result<StatusPage, Fault> {
        let declared = self.agents.assigner.declared();
        if !component.is_empty() {
            declared.component(component)?;
        }
        let running = ListFilter { running: true, ..ListFilter::default() };
        let (running, _) = self.agents.operations.list(running, MOST_RUNNING).await?;
        let mut read = self.agents.store.read().await?;
        let shards: BTreeMap<Name, Kept> = shards::all(&mut read).await?.into_iter().collect();
        let behind = meta::behind(&mut read).await?;
        let known = agents::all(&mut read).await?;
        let mut components = Vec::new();
        for (_, name, resource) in
            declared.iter().filter(|(kind, name, _)| *kind == Kind::Component && (component.is_empty() || name.as_str() == component))
        {
            let Some(Spec::Component(spec)) = &resource.spec else { continue };
            let newest = points::newest_whole(&mut read, name).await?;
            let facts = Facts {
                name,
                spec,
                shard: shards.get(name),
                newest,
                measured_rto: measured_rto(&mut read, name).await?,
                verification: verification(&mut read, name).await?,
                running: running.iter().filter(|operation| operation.component == name.as_str()).cloned().collect(),
                pause: self.agents.pauses.of(name, self.agents.clock.now()),
                now: clock::now(),
            };
            let instances = declared.instances_of(name);
            components.push(facts.status(instances.map(|instance| instance_status(&self.agents, &instance, facts.shard)).collect()));
        }
        drop(read);
        components.sort_by(|a, b| rank(b.priority()).cmp(&rank(a.priority())).then(a.name.cmp(&b.name)));
        let agents = known.into_iter().map(|record| agent_status(&self.agents, record)).collect();
        let pause = self.agents.pauses.of_all(self.agents.clock.now()).map(|pause| pause.to_proto());
        let (findings, _) = self.findings.list(component);
        Ok(StatusPage { controller: Some(self.controller_status(behind)), components, agents, pause, findings })
    }

    fn controller_status(&self, behind: String) -> ControllerStatus {
        let store = &self.agents.store;
        let kept = self.keeper.kept();
        ControllerStatus {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            term: store.term().0,
            store: store.shown().to_owned(),
            store_id: store.store_id().to_string(),
            started_at: Some(timestamp_to_proto(self.started)),
            now: Some(timestamp_to_proto(clock::now())),
            behind,
            backed_up_at: kept.at.map(timestamp_to_proto),
            backup: if kept.name.is_empty() { String::new() } else { format!("{} in {}", kept.name, kept.place) },
            backup_problem: match self.keeper.plan() {
                None => "none is configured: `backup` in the controller's configuration".to_owned(),
                Some(_) => kept.problem.clone(),
            },
        }
    }
}

/// How long a restore took: the last complete one from its acceptance to its end, or what the last verification that passed spent
/// until its copy took connections, whichever is newer.
pub(crate) async fn measured_rto(connection: &mut Connection, component: &Name) -> Result<Option<Duration>, Fault> {
    let succeeded = Phase::Succeeded.name();
    let mut newest: Option<(Timestamp, Duration)> = None;
    for (kind, looked_at) in [(OperationOf::Restore, RESTORES_LOOKED_AT), (OperationOf::Verify, 1)] {
        for record in operations::of_kind(connection, component, kind.name(), succeeded, looked_at).await? {
            let state = journal::read(&record)?.state;
            let measured = record.finished.and_then(|finished| Some((finished, took(&state, finished)?)));
            if let Some(measured) = measured {
                newest = newest.filter(|newest| newest.0 >= measured.0).or(Some(measured));
                break;
            }
        }
    }
    Ok(newest.map(|(_, took)| took))
}

/// How long it takes until a component works again, by what an operation that succeeded shows of it.
fn took(state: &State, finished: Timestamp) -> Option<Duration> {
    match &state.task {
        Task::Restore(restore) => (!restore.dry_run).then(|| finished.since(state.created)),
        Task::Verify(_) => match &state.done {
            Some(Done::Verify(done)) => {
                let seconds: f64 = RESTORING.iter().filter_map(|phase| done.phase_seconds.get(*phase)).sum();
                Duration::try_from_secs_f64(seconds).ok()
            }
            Some(
                Done::Backup(_)
                | Done::Restore(_)
                | Done::Check(_)
                | Done::Discard { .. }
                | Done::Prune(_)
                | Done::Hold(_)
                | Done::Hook { .. }
                | Done::Order(_)
                | Done::Move(_)
                | Done::Site(_),
            )
            | None => None,
        },
        Task::Backup(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Prune(_)
        | Task::Hold(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => None,
    }
}

/// The last verification that passed or found something, and when one last passed.
pub(crate) async fn verification(connection: &mut Connection, component: &Name) -> Result<Option<VerificationStatus>, Fault> {
    let kind = OperationOf::Verify.name();
    let passed = operations::of_kind(connection, component, kind, Phase::Succeeded.name(), 1).await?.into_iter().next();
    let failed = operations::of_kind(connection, component, kind, Phase::Failed.name(), 1).await?.into_iter().next();
    let passed_at = passed.as_ref().and_then(|record| record.finished);
    let Some(last) = [passed, failed].into_iter().flatten().max_by_key(|record| record.finished) else { return Ok(None) };
    let state = journal::read(&last)?.state;
    let point = match &state.task {
        Task::Verify(task) => task.point.to_string(),
        Task::Backup(_)
        | Task::Restore(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Prune(_)
        | Task::Hold(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => String::new(),
    };
    Ok(Some(VerificationStatus {
        operation_id: state.id.to_string(),
        point_id: point,
        at: last.finished.map(timestamp_to_proto),
        ok: state.phase == Phase::Succeeded,
        problem: state.fault.map(|fault| fault.message).unwrap_or_default(),
        passed_at: passed_at.map(timestamp_to_proto),
    }))
}

/// What a component's part of the page is made of.
struct Facts<'a> {
    name: &'a Name,
    spec: &'a ComponentSpec,
    shard: Option<&'a Kept>,
    newest: Option<RecoveryPoint>,
    measured_rto: Option<Duration>,
    verification: Option<VerificationStatus>,
    running: Vec<Operation>,
    pause: Option<Pause>,
    now: Timestamp,
}

impl Facts<'_> {
    fn status(&self, instances: Vec<InstanceStatus>) -> ComponentStatus {
        let reign = self.shard.and_then(|kept| kept.record.as_ref()).map(|record| &record.reign);
        let reached = self.newest.as_ref().and_then(|point| point.finished_at.as_ref()).and_then(|at| timestamp_from_proto(at, "at").ok());
        ComponentStatus {
            name: self.name.to_string(),
            priority: self.spec.priority,
            objectives: self.spec.objectives,
            measured_rpo: reached.map(|reached| duration_to_proto(self.now.since(reached))),
            measured_rto: self.measured_rto.map(duration_to_proto),
            epoch: reign.map_or(0, |reign| reign.epoch.0),
            writer: reign.map(|reign| reign.writer.to_string()).unwrap_or_default(),
            instances,
            newest_point: self.newest.clone(),
            running: self.running.clone(),
            pause: self.pause.as_ref().map(Pause::to_proto),
            verification: self.verification.clone(),
        }
    }
}

fn instance_status(agents: &Agents, instance: &DeclaredInstance<'_>, shard: Option<&Kept>) -> InstanceStatus {
    let seen = agents.observations.of(&instance.name).filter(|seen| seen.agent == instance.agent);
    let superseded = shard.and_then(|kept| kept.record.as_ref()).is_some_and(|record| record.superseded.contains(&instance.name.instance));
    let status = InstanceStatus {
        name: instance.name.instance.to_string(),
        site: instance.site.to_string(),
        agent: instance.agent.to_string(),
        connected: agents.courier.is_connected(&instance.agent),
        superseded,
        ..InstanceStatus::default()
    };
    match seen {
        None => status,
        Some(seen) => {
            let age = Some(duration_to_proto(seen.age(Instant::now())));
            InstanceStatus { observation: Some(seen.observation), age, kept: seen.kept, ..status }
        }
    }
}

/// An agent as the page and the fleet's list show it.
pub(super) fn agent_status(agents: &Agents, record: agents::Record) -> AgentStatus {
    let live = agents.roster.of(&record.name).unwrap_or_default();
    let connected = agents.courier.is_connected(&record.name);
    let heard = record.last_heard.max((live.last_heard.0 != 0).then_some(live.last_heard));
    AgentStatus {
        name: record.name.to_string(),
        site: record.site.to_string(),
        connected,
        last_heard_at: heard.map(timestamp_to_proto),
        build: record.build,
        clock_offset_ms: live.clock_offset_ms,
        // What it said while it was connected may be mended since.
        problems: if connected { live.problems() } else { Vec::new() },
        certificate_until: record.certificate_until.map(timestamp_to_proto),
        encryption_key: record.encryption_key,
        refused_calls: record.refused_calls.saturating_add(live.refused),
        revoked: record.revoked,
        authority: record.authority,
    }
}

/// What agents and this controller found about a resource. A component has its instances' conditions, each with the instance's name in front.
pub(super) fn conditions_of(agents: &Agents, declared: &Declared, resource: &Resource) -> Vec<Condition> {
    if !matches!(resource.spec, Some(Spec::Component(_))) {
        return Vec::new();
    }
    let paused = resource.name.parse().ok().and_then(|name: Name| agents.pauses.of(&name, agents.clock.now()));
    let component: Option<Name> = resource.name.parse().ok();
    let of_instances = component
        .iter()
        .flat_map(|component| declared.instances_of(component))
        .flat_map(|instance| conditions_of_instance(agents, &instance.name, &instance.agent));
    paused.iter().map(paused_condition).chain(of_instances).collect()
}

fn paused_condition(pause: &Pause) -> Condition {
    let whose = if pause.scope == Scope::All { "of all components" } else { "of this component" };
    Condition {
        name: "NotPaused".into(),
        ok: false,
        blocking: false,
        message: format!("automation and schedules {whose} are off by {}: {}", pause.by, pause.reason),
        hint: format!("it ends by itself; sooner: {}", pause.hint()),
    }
}

fn conditions_of_instance(agents: &Agents, name: &InstanceName, agent: &Name) -> Vec<Condition> {
    let connected = agents.courier.is_connected(agent);
    let mut conditions = vec![Condition {
        name: "AgentConnected".into(),
        ok: connected,
        blocking: true,
        message: format!("{}: agent {agent} {}", name.instance, if connected { "is connected" } else { "is not connected" }),
        hint: if connected { String::new() } else { format!("look at `systemctl status muster-agent` on the machine of {agent}") },
    }];
    if let Some(seen) = agents.observations.of(name).filter(|seen| seen.agent == *agent) {
        let told = seen.observation.conditions.into_iter();
        conditions.extend(told.map(|condition| Condition { message: format!("{}: {}", name.instance, condition.message), ..condition }));
    }
    conditions
}

/// Unspecified counts as medium.
fn rank(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 0,
        Priority::Unspecified | Priority::Medium => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}

/// The page without what changes by itself each second: two that are equal so need not both be sent.
#[must_use]
pub fn without_ages(page: &StatusPage) -> StatusPage {
    let mut page = page.clone();
    if let Some(controller) = &mut page.controller {
        controller.now = None;
    }
    for component in &mut page.components {
        component.measured_rpo = None;
        for instance in &mut component.instances {
            instance.age = None;
            if let Some(observation) = &mut instance.observation {
                observation.at = None;
            }
        }
    }
    for agent in &mut page.agents {
        agent.last_heard_at = None;
        agent.clock_offset_ms = 0;
    }
    for finding in &mut page.findings {
        finding.evidence.clear();
    }
    page
}

#[cfg(test)]
mod tests {
    use muster_common::id::ReignId;
    use muster_failover::shard::ShardRecord;

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn rpo_is_the_age_of_the_newest_point_and_absent_without_one() {
        let name: Name = "docs".parse().unwrap();
        let spec = ComponentSpec::default();
        let record = ShardRecord::first("istanbul".parse().unwrap(), ReignId::from_bytes([1; 16]));
        let kept = Kept { record: Some(record), ..Kept::default() };
        let facts = |newest| Facts {
            name: &name,
            spec: &spec,
            shard: Some(&kept),
            newest,
            measured_rto: None,
            verification: None,
            running: Vec::new(),
            pause: None,
            now: Timestamp(1_000_000_000),
        };
        let status = facts(Some(RecoveryPoint { finished_at: at(400), ..RecoveryPoint::default() })).status(Vec::new());
        assert_eq!(status.measured_rpo.map(|d| d.seconds), Some(600));
        assert_eq!((status.epoch, status.writer.as_str()), (1, "istanbul"));
        assert_eq!(facts(None).status(Vec::new()).measured_rpo, None);
    }

    #[test]
    fn pages_that_differ_in_ages_only_are_the_same() {
        let page = |seconds| StatusPage {
            controller: Some(ControllerStatus { now: at(seconds), ..ControllerStatus::default() }),
            agents: vec![AgentStatus { last_heard_at: at(seconds), ..AgentStatus::default() }],
            ..StatusPage::default()
        };
        assert_eq!(without_ages(&page(1)), without_ages(&page(2)));
    }
}
