//! Reads the world that rules look at: what is stored, now and then; what was seen, each time. It decides nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_common::counter::EventNumber;
use muster_common::fault::Fault;
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::convert::{duration_from_proto, timestamp_from_proto};
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{self, ComponentSpec, OperationState, Position, RecoveryPoint, instance_spec, position};

use crate::agents::link::Agents;
use crate::api::Api;
use crate::api::status_page::{measured_rto, verification};
use crate::failover::catching_up::lifted_by;
use crate::findings::world::{Agent, Component, Controller, Disk, Instance, OwnBackup, Point, Seen, Standing, Stored, Unfinished, World};
use crate::inventory::{Declared, DeclaredInstance, Kind};
use crate::operation::handle::ListFilter;
use crate::operation::journal;
use crate::operation::kind::{Kind as OperationOf, Phase};
use crate::store::shards::Kept;
use crate::store::sightings::{self, Sighting};
use crate::store::{Connection, agents, events, lanes, meta, operations, operators, points, shards};

/// What was told longer ago is not seen any more: an agent tells each 10 s at least.
const STALE: Duration = Duration::from_secs(30);
/// Components are read whole so often, whatever was journaled.
const WHOLE_EACH: Duration = Duration::from_secs(600);
/// The most unfinished operations that are looked at.
const MOST_OPERATIONS: u32 = 500;

/// What was read from the store at one moment.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// By component.
    pub components: BTreeMap<Name, Stored>,
    /// Who writes.
    pub shards: BTreeMap<Name, Kept>,
    /// What instances did last.
    pub sightings: BTreeMap<InstanceName, Sighting>,
    /// When the components were read whole, and the newest event that is seen in them. `None`: they were not.
    seen: Option<(Instant, EventNumber)>,
    /// The ids of the components that were read: one that was declared anew is another.
    ids: BTreeMap<Name, String>,
    agents: Vec<agents::Record>,
    operators: Vec<(Name, Timestamp)>,
    operations: Vec<Unfinished>,
    behind: String,
}

/// Reads the store. Of a component on which nothing was journaled since `before` that stays.
///
/// # Errors
/// Where it cannot be read.
pub async fn read(api: &Api, before: &Read) -> Result<Read, Fault> {
    let declared = api.agents.assigner.declared();
    let unfinished = ListFilter { running: true, ..ListFilter::default() };
    let (unfinished, _) = api.agents.operations.list(unfinished, MOST_OPERATIONS).await?;
    let mut connection = api.agents.store.read().await?;
    let mut read = Read {
        shards: shards::all(&mut connection).await?.into_iter().collect(),
        sightings: sightings::all(&mut connection).await?.into_iter().collect(),
        agents: agents::all(&mut connection).await?.into_iter().filter(|agent| !agent.revoked).collect(),
        behind: meta::behind(&mut connection).await?,
        operations: unfinished.iter().filter_map(unfinished_operation).collect(),
        ..Read::default()
    };
    let known = operators::all(&mut connection).await?.into_iter().filter(|operator| !operator.revoked);
    read.operators = known.filter_map(|operator| Some((operator.name, operator.certificate_until?))).collect();
    let newest = meta::last_event(&mut connection).await?;
    let seen = before.seen.filter(|(whole, _)| whole.elapsed() < WHOLE_EACH);
    let moved = match seen {
        Some((_, event)) => events::components_since(&mut connection, event).await?,
        None => None,
    };
    read.seen = Some((seen.filter(|_| moved.is_some()).map_or_else(Instant::now, |(whole, _)| whole), newest));
    let mut waiting = waiting(&mut connection).await?;
    for (_, name, resource) in declared.iter().filter(|(kind, _, _)| *kind == Kind::Component) {
        let stands = moved.as_ref().is_some_and(|moved| !moved.contains(name)) && before.ids.get(name) == Some(&resource.id);
        let stored = match before.components.get(name).filter(|_| stands) {
            Some(stored) => stored.clone(),
            None => stored(&mut connection, name).await?,
        };
        let waiting = waiting.remove(name).unwrap_or_default();
        read.components.insert(name.clone(), Stored { waiting, ..stored });
        read.ids.insert(name.clone(), resource.id.clone());
    }
    Ok(read)
}

async fn stored(connection: &mut Connection, component: &Name) -> Result<Stored, Fault> {
    let newest = points::newest_whole(connection, component).await?;
    let last = operations::last_ended(connection, component, OperationOf::Backup.name()).await?;
    let failed = last.filter(|last| last.phase == Phase::Failed.name());
    let failed_backup = match failed {
        Some(record) => {
            let fault = journal::read(&record)?.state.fault;
            let why = fault.map_or_else(|| "it failed".to_owned(), |fault| fault.message);
            Some((record.id, record.finished.unwrap_or(record.created), why))
        }
        None => None,
    };
    let verification = verification(connection, component).await?.unwrap_or_default();
    let instant = |at: Option<&prost_types::Timestamp>| at.and_then(|at| timestamp_from_proto(at, "at").ok());
    let found = (!verification.problem.is_empty()).then_some(&verification);
    Ok(Stored {
        newest: newest.as_ref().map(point),
        measured_rto: measured_rto(connection, component).await?,
        failed_backup,
        failed_verification: found
            .and_then(|found| Some((found.operation_id.parse().ok()?, instant(found.at.as_ref())?, found.problem.clone()))),
        verified: instant(verification.passed_at.as_ref()),
        waiting: Vec::new(),
    })
}

/// Runs of schedules that wait, by component.
async fn waiting(connection: &mut Connection) -> Result<BTreeMap<Name, Vec<(String, Timestamp, String)>>, Fault> {
    let mut waiting: BTreeMap<Name, Vec<_>> = BTreeMap::new();
    for lane in lanes::all(connection).await? {
        if let Some(waits) = lane.waiting {
            waiting.entry(lane.component).or_default().push((lane.schedule, waits.planned, waits.why));
        }
    }
    Ok(waiting)
}

fn point(point: &RecoveryPoint) -> Point {
    Point {
        id: point.id.clone(),
        finished: point.finished_at.as_ref().and_then(|at| timestamp_from_proto(at, "at").ok()).unwrap_or_default(),
        damaged_pages: point.damaged_pages,
        system_id: system_id(point.position.as_ref()),
    }
}

fn system_id(position: Option<&Position>) -> Option<u64> {
    match position?.position.as_ref()? {
        position::Position::Postgres(postgres) => Some(postgres.system_id).filter(|id| *id != 0),
        position::Position::Files(_) => None,
    }
}

fn unfinished_operation(operation: &v1::Operation) -> Option<Unfinished> {
    let fault = operation.fault.as_ref().map(|fault| fault.message.clone());
    let (stands, why) = match operation.state() {
        OperationState::Unknown => (Standing::Unknown, fault.unwrap_or_else(|| "its outcome is not known".into())),
        OperationState::Suspended => (Standing::Suspended, fault.unwrap_or_else(|| "its agent was not asked yet".into())),
        OperationState::Pending | OperationState::Running | OperationState::Cancelling if !operation.waiting_for.is_empty() => {
            (Standing::Waits, format!("waits for {}", operation.waiting_for))
        }
        OperationState::Pending
        | OperationState::Running
        | OperationState::Cancelling
        | OperationState::Unspecified
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Cancelled => (Standing::GoesOn, String::new()),
    };
    let kind = operation.kind().as_str_name().trim_start_matches("OPERATION_KIND_").to_ascii_lowercase();
    Some(Unfinished {
        id: operation.id.parse().ok()?,
        title: format!("{kind} of {}/{}", operation.component, operation.instance),
        component: operation.component.clone(),
        created: operation.created_at.as_ref().and_then(|at| timestamp_from_proto(at, "at").ok()).unwrap_or_default(),
        stands,
        why,
    })
}

/// The world now, of what was read and what is seen. `refused` is when each agent was refused last, and how often in all.
#[must_use]
pub fn world(api: &Api, read: &Read, refused: &BTreeMap<Name, (Timestamp, u64)>) -> World {
    let declared = api.agents.assigner.declared();
    let components = declared.iter().filter_map(|(_, name, resource)| match &resource.spec {
        Some(Spec::Component(spec)) => {
            let since = resource.created_at.as_ref().and_then(|at| timestamp_from_proto(at, "at").ok()).unwrap_or_default();
            Some(component(&api.agents, &declared, (name, spec, since), read))
        }
        Some(_) | None => None,
    });
    World {
        now: clock::now(),
        controller: Controller {
            behind: read.behind.clone(),
            disk: disk(&api.config.state_directory),
            backup: own_backup(api),
            audit: api.audit.problem().as_ref().clone().unwrap_or_default(),
            rotating_since: api.agents.authorities.current().next.as_ref().map(|(_, since)| *since),
        },
        components: components.collect(),
        agents: read.agents.iter().map(|record| agent(api, record, refused)).collect(),
        operators: read.operators.clone(),
        operations: read.operations.clone(),
    }
}

fn own_backup(api: &Api) -> Option<OwnBackup> {
    api.keeper.plan()?;
    let kept = api.keeper.kept();
    Some(OwnBackup { taken: kept.at, problem: kept.problem.clone() })
}

/// Refused messages of each agent, in all.
pub fn refused<'a>(api: &'a Api, read: &'a Read) -> impl Iterator<Item = (&'a Name, u64)> {
    read.agents.iter().map(|record| {
        let live = api.agents.roster.of(&record.name).map_or(0, |live| live.refused);
        (&record.name, record.refused_calls.saturating_add(live))
    })
}

fn component(agents: &Agents, declared: &Declared, (name, spec, since): (&Name, &ComponentSpec, Timestamp), read: &Read) -> Component {
    let objective = |of: Option<&prost_types::Duration>| of.and_then(|of| duration_from_proto(of, "objective").ok());
    let superseded = |instance: &InstanceName| {
        let record = read.shards.get(name).and_then(|kept| kept.record.as_ref());
        record.is_some_and(|record| record.superseded.contains(&instance.instance))
    };
    let instances = declared.instances_of(name);
    Component {
        name: name.clone(),
        rpo: objective(spec.objectives.as_ref().and_then(|objectives| objectives.rpo.as_ref())),
        rto: objective(spec.objectives.as_ref().and_then(|objectives| objectives.rto.as_ref())),
        backup_every: objective(spec.expects.as_ref().and_then(|expects| expects.backup_every.as_ref())),
        verify_every: objective(spec.expects.as_ref().and_then(|expects| expects.verify_every.as_ref())),
        declared: since,
        paused: agents.pauses.of(name, agents.clock.now()).map(|pause| (pause.until, format!("{}: {}", pause.by, pause.reason))),
        later_reign: agents.observations.later_reign(name).map(|refusal| (refusal.evidence.clone(), lifted_by(name, &refusal))),
        missing: agents.observations.missing(name),
        has_repository: !spec.repository.is_empty(),
        has_one_writer: spec.instances.iter().any(|instance| matches!(instance.engine, Some(instance_spec::Engine::Postgres(_)))),
        stored: read.components.get(name).cloned().unwrap_or_default(),
        instances: instances
            .map(|declared| {
                let superseded = superseded(&declared.name);
                instance(agents, declared, superseded, read)
            })
            .collect(),
    }
}

fn instance(agents: &Agents, declared: DeclaredInstance<'_>, superseded: bool, read: &Read) -> Instance {
    let seen = agents.observations.of(&declared.name).filter(|seen| seen.agent == declared.agent);
    let seen = seen.filter(|seen| agents.courier.is_connected(&declared.agent) && seen.age(Instant::now()) < STALE);
    let sighting = read.sightings.get(&declared.name).filter(|sighting| !sighting.version_before.is_empty());
    Instance {
        version_changed: sighting.map(|sighting| (sighting.version_before.clone(), sighting.version_since)),
        name: declared.name,
        site: declared.site,
        agent: declared.agent,
        superseded,
        seen: seen.map(|seen| Seen {
            role: seen.observation.role(),
            system_id: system_id(seen.observation.position.as_ref()),
            version: seen.observation.version,
            lag_bytes: seen.observation.lag_bytes,
            conditions: seen.observation.conditions,
            kept: seen.kept,
        }),
    }
}

fn agent(api: &Api, record: &agents::Record, refused: &BTreeMap<Name, (Timestamp, u64)>) -> Agent {
    let live = api.agents.roster.of(&record.name).unwrap_or_default();
    let heard = record.last_heard.max((live.last_heard.0 != 0).then_some(live.last_heard));
    let connected = api.agents.courier.is_connected(&record.name);
    Agent {
        name: record.name.clone(),
        connected,
        last_heard: heard,
        clock_offset_ms: live.clock_offset_ms,
        problems: if connected { live.assignment_problems } else { Vec::new() },
        certificate: record.certificate_until.map(|until| (until, api.config.agent_certificate_life)),
        refused: refused.get(&record.name).copied(),
    }
}

fn disk(folder: &std::path::Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Disk { path: folder.display().to_string(), free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}
