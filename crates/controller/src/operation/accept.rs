//! Accepting an operation: one transaction that looks the request id up, settles what was asked, holds it against what runs, journals it.
//!
//! What always holds: what is refused has changed nothing; a request id answers the same operation for seven days, and is refused with
//! other content.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_common::counter::Epoch;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{OperationId, PointId};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::directive::Upstream;
use muster_wire::failover::position_from_proto;
use muster_wire::nearest::did_you_mean;
use muster_wire::proto::v1::instance_spec::Engine;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{ComponentSpec, InstanceSpec, ResourceKind};

use crate::failover::catching_up;
use crate::operation::asked::{Asked, Move, Run, What};
use crate::operation::conflict;
use crate::operation::event::Event;
use crate::operation::fleet::{Fleet, Instance};
use crate::operation::journal::{self, Journaled};
use crate::operation::kind::Phase;
use crate::operation::kinds::{Settled, backup, check, discard, hold, hook, prune, restore, verify};
use crate::operation::life;
use crate::operation::moves::settle;
use crate::operation::moves::task::Moving;
use crate::operation::moves::view::Member;
use crate::operation::shared::{Shared, pass};
use crate::operation::state::State;
use crate::operation::{retry, sites};
use crate::schedule::lane::{Lane, Last};
use crate::store::requests::{self, Remembered};
use crate::store::{Connection, lanes, operations, points, resources, shards};

/// Nothing may stand still for longer where nobody said otherwise.
const STALL_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The longest stall limit.
const MOST_STALL: Duration = Duration::from_secs(30 * 86_400);
/// Operations that can run at once.
const MOST_UNFINISHED: u64 = 1_000;
/// More components and sites than can be declared.
const MOST_COMPONENTS: u32 = 1_000_000;
/// The longest request id, in bytes.
const MOST_REQUEST_ID: usize = 128;

/// Accepts what is asked. The second tells whether it is new and has to be driven.
pub(super) async fn accept(shared: &Arc<Shared>, asked: &Asked) -> Result<(Journaled, bool), Fault> {
    check_form(asked)?;
    let now = muster_service::clock::now();
    let mut write = shared.write_together().await?;
    let connection = write.connection();
    if let Some(known) = remembered(connection, asked, now).await? {
        // It may have been accepted in this very transaction: it is told when it is on disk.
        write.commit().await?;
        return Ok((known, false));
    }
    let settled = settle(shared, connection, &asked.what).await?;
    let state = begin(asked, settled, now);
    admit(connection, &state).await?;
    if let Some(request_id) = &asked.request_id {
        let remembered = Remembered { digest: asked.digest.clone(), operation: state.id };
        requests::insert(connection, &asked.caller, request_id, &remembered, now).await?;
    }
    if let Some(run) = &asked.run {
        move_lane(connection, run, state.id).await?;
    }
    let journaled = journal::accept(&mut write, state).await?;
    write.commit().await?;
    shared.hub.committed(journaled.last_event);
    pass("controller.stop2.accepted")?;
    Ok((journaled, true))
}

/// The lane of the schedule moves on together with the operation, or neither does.
async fn move_lane(connection: &mut Connection, run: &Run, operation: OperationId) -> Result<(), Fault> {
    let after = Lane { last: Some(Last { planned: run.planned, operation }), ..run.after.clone() };
    if lanes::advance(connection, &after, run.before).await? {
        return Ok(());
    }
    Err(Fault::refused(ErrorKind::Conflict, "this run of the schedule was decided meanwhile").hint("`muster schedules` shows what it did"))
}

fn check_form(asked: &Asked) -> Result<(), Fault> {
    let wrong = |what: String, hint: &str| Err(Fault::refused(ErrorKind::InvalidArgument, what).hint(hint));
    if let Some(id) = &asked.request_id
        && (id.is_empty() || id.len() > MOST_REQUEST_ID)
    {
        return wrong(format!("the request id has {} bytes", id.len()), "1 to 128 bytes, for example a UUID");
    }
    match asked.stall_limit {
        Some(limit) if limit < Duration::from_secs(1) || limit > MOST_STALL => {
            wrong(format!("stall limit {}", muster_common::duration::show(limit)), "from 1s to 30d")
        }
        Some(_) | None => Ok(()),
    }
}

async fn remembered(connection: &mut Connection, asked: &Asked, now: Timestamp) -> Result<Option<Journaled>, Fault> {
    let Some(request_id) = &asked.request_id else { return Ok(None) };
    let Some(known) = requests::find(connection, &asked.caller, request_id, now).await? else { return Ok(None) };
    if known.digest != asked.digest {
        return Err(Fault::refused(ErrorKind::AlreadyExists, format!("request id {request_id:?} was used for something else"))
            .evidence(format!("it is operation {}", known.operation))
            .hint("give each request an id of its own"));
    }
    match operations::get(connection, known.operation).await? {
        Some(record) => Ok(Some(journal::read(&record)?)),
        None => Err(Fault::refused(ErrorKind::Internal, format!("operation {} of a request id is gone", known.operation))
            .hint("ask with another request id, and report this as a defect")),
    }
}

fn begin(asked: &Asked, settled: Settled, now: Timestamp) -> State {
    let limit = asked.stall_limit.unwrap_or(STALL_LIMIT);
    let kept = retry::kept(&asked.what, &settled.task);
    let state = State {
        id: OperationId::from_bytes(rand::random()),
        task: settled.task,
        target: settled.target,
        agent: settled.agent,
        repository: settled.repository,
        epoch: settled.epoch,
        cause: asked.cause.clone(),
        parent: asked.parent,
        created: now,
        stall_limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        traceparent: asked.traceparent.clone(),
        asked: Some(kept),
        hooks: settled.hooks,
        ran: Vec::new(),
        moving: Moving::default(),
        phase: Phase::Pending,
        steps: Vec::new(),
        cancel: None,
        finished: None,
        fault: None,
        done: None,
    };
    match &asked.what {
        // What was said with the request counts as said to the operation.
        What::Move(wanted) if !wanted.approval.is_empty() => {
            let approved = Event::Approved { by: asked.caller.clone(), approval: wanted.approval.clone() };
            life::apply(state, &approved, now)
        }
        What::Move(_)
        | What::Backup(_)
        | What::Restore(_)
        | What::Check(_)
        | What::Discard { .. }
        | What::Verify(_)
        | What::Prune(_)
        | What::Hold(_)
        | What::Hook(_)
        | What::Site(_) => state,
    }
}

async fn admit(connection: &mut Connection, state: &State) -> Result<(), Fault> {
    // What can stand against it is of its component.
    let mut unfinished = Vec::new();
    for record in operations::unfinished_of(connection, state.component()).await? {
        unfinished.push(journal::decode(&record)?);
    }
    conflict::admit(state, &unfinished)?;
    if operations::count_unfinished(connection).await? >= MOST_UNFINISHED {
        return Err(Fault::refused(ErrorKind::ResourceExhausted, format!("{MOST_UNFINISHED} operations run or wait, which is the bound"))
            .hint("wait until some have ended: muster ops --running"));
    }
    Ok(())
}

async fn settle(shared: &Shared, connection: &mut Connection, what: &What) -> Result<Settled, Fault> {
    match what {
        What::Backup(asked) => {
            let fleet = fleet(shared, connection, &asked.component).await?;
            backup::settle(asked, &fleet, PointId::from_bytes(rand::random()))
        }
        What::Restore(asked) => {
            let fleet = fleet(shared, connection, &asked.component).await?;
            let point = find_point(connection, &asked.component, &asked.point).await?;
            restore::settle(asked, &fleet, point)
        }
        What::Check(asked) => {
            let fleet = fleet(shared, connection, &asked.component).await?;
            check::settle(asked, &fleet)
        }
        What::Verify(asked) => {
            let spec = component_spec(connection, &asked.component).await?;
            let fleet = fleet(shared, connection, &asked.component).await?;
            let point = find_point(connection, &asked.component, &asked.point).await?;
            verify::settle(asked, &fleet, &spec.verify.unwrap_or_default(), point)
        }
        What::Prune(asked) => {
            let spec = component_spec(connection, &asked.component).await?;
            let fleet = fleet(shared, connection, &asked.component).await?;
            prune::settle(asked, &fleet, &spec.retention.unwrap_or_default())
        }
        What::Hold(asked) => {
            let fleet = fleet(shared, connection, &asked.component).await?;
            let point = find_point(connection, &asked.component, &asked.point).await?;
            hold::settle(asked, &fleet, point)
        }
        What::Hook(asked) => {
            let fleet = fleet(shared, connection, &asked.component).await?;
            hook::settle(asked, &fleet)
        }
        What::Move(asked) => {
            let fleet = fleet(shared, connection, &asked.component).await?;
            let members = members(shared, connection, &asked.component).await?;
            // Whatever is decided by an older reign would be refused by its agents; a fence is an instance's own.
            if let Some(refusal) = shared.observations.later_reign(&asked.component).filter(|_| !matches!(asked.what, Move::Fence { .. })) {
                return Err(catching_up::waits(&asked.component, &refusal));
            }
            settle::settle(asked, &fleet, &members)
        }
        What::Site(asked) => sites::plan::settle(asked, &known(connection).await?),
        What::Discard { restore } => {
            let restore = find(connection, restore).await?.state;
            let kept = shards::get(connection, &restore.target.component).await?;
            discard::settle(&restore, kept.record.map_or(Epoch(0), |record| record.reign.epoch))
        }
    }
}

/// What is declared at all sites, and who writes.
async fn known(connection: &mut Connection) -> Result<sites::plan::Known, Fault> {
    let mut known = sites::plan::Known::default();
    for declared in resources::list(connection, ResourceKind::Component, None, MOST_COMPONENTS).await? {
        match declared.spec {
            Spec::Component(spec) => known.components.insert(declared.name, spec),
            Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_) => None,
        };
    }
    let sites = resources::list(connection, ResourceKind::Site, None, MOST_COMPONENTS).await?;
    known.sites = sites.into_iter().map(|site| site.name).collect();
    for (component, kept) in shards::all(connection).await? {
        known.writers.extend(kept.record.map(|record| (component, record.reign.writer)));
    }
    Ok(known)
}

/// The component as it is declared and was seen.
pub(super) async fn fleet(shared: &Shared, connection: &mut Connection, component: &Name) -> Result<Fleet, Fault> {
    let spec = component_spec(connection, component).await?;
    let shard = shards::get(connection, component).await?;
    let connected = |agent: &Name| shared.is_heard(agent);
    Fleet::assemble(component, &spec, shard, connected, |instance| shared.observations.of(instance), Instant::now())
}

/// The instances of a component as a move sees them.
pub(super) async fn members(shared: &Shared, connection: &mut Connection, component: &Name) -> Result<Vec<Member>, Fault> {
    let spec = component_spec(connection, component).await?;
    let fleet = fleet(shared, connection, component).await?;
    let now = Instant::now();
    Ok(fleet.instances.iter().zip(&spec.instances).map(|(instance, declared)| member(shared, &fleet, instance, declared, now)).collect())
}

fn member(shared: &Shared, fleet: &Fleet, instance: &Instance, declared: &InstanceSpec, now: Instant) -> Member {
    let name = fleet.full_name(instance);
    let seen = shared.observations.of(&name);
    let reported = shared.observations.kept_of(&name);
    let looked = seen
        .as_ref()
        .and_then(|seen| Some((position_from_proto(seen.observation.position.as_ref(), "position").ok().flatten()?, seen.age(now))));
    let told =
        reported.as_ref().and_then(|reported| Some((reported.kept.position.clone()?, now.saturating_duration_since(reported.arrived))));
    let known = reported.as_ref().and_then(|reported| reported.kept.known.as_ref());
    Member {
        name: instance.name.clone(),
        agent: instance.agent.clone(),
        site: declared.site.clone(),
        connected: instance.connected,
        role: instance.role,
        // The newer of what was seen and what its keeper told.
        position: looked.into_iter().chain(told).min_by_key(|(_, age)| *age),
        kept: known.map(|known| known.role.clone()),
        asks: reported.as_ref().and_then(|reported| reported.kept.asks),
        upstream: upstream(&instance.name, declared),
    }
}

/// Where others reach an instance. A socket folder is of its own machine only.
fn upstream(name: &Name, declared: &InstanceSpec) -> Option<Upstream> {
    let address = match declared.engine.as_ref()? {
        Engine::Postgres(postgres) => &postgres.address,
        Engine::Files(_) => return None,
    };
    let (host, port) = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.starts_with('/'))?;
    let port = port.parse().ok()?;
    Some(Upstream { instance: name.clone(), host: host.to_owned(), port, user: String::new(), slot: String::new() })
}

/// What is declared of a component.
async fn component_spec(connection: &mut Connection, component: &Name) -> Result<ComponentSpec, Fault> {
    let declared = resources::get(connection, ResourceKind::Component, component).await?;
    match declared.map(|declared| declared.spec) {
        Some(Spec::Component(spec)) => Ok(spec),
        Some(Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_)) | None => {
            Err(no_component(connection, component).await?)
        }
    }
}

async fn no_component(connection: &mut Connection, component: &Name) -> Result<Fault, Fault> {
    let all = resources::list(connection, ResourceKind::Component, None, 1_000).await?;
    let hint = did_you_mean(component.as_str(), all.iter().map(|declared| declared.name.as_str()));
    let hint = if hint.is_empty() { "`muster get components` lists them".to_owned() } else { hint };
    Ok(Fault::refused(ErrorKind::NotFound, format!("there is no component {component}")).hint(hint))
}

/// A point by its id, by the first 6 or more digits of it, or the newest.
async fn find_point(connection: &mut Connection, component: &Name, text: &str) -> Result<PointId, Fault> {
    let list = format!("`muster points {component}` lists them");
    let missing = |what: String| Fault::refused(ErrorKind::NotFound, what).hint(list.clone());
    let points = match text.len() {
        0 => points::newest_whole(connection, component).await?.into_iter().collect(),
        // One that this controller has not heard of may well be in the repository.
        32 => return text.parse().map_err(|error: muster_common::id::InvalidId| missing(error.to_string())),
        6..=31 => points::by_prefix(connection, component, text).await?,
        _ => {
            return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{text:?} is no point: its id or the first 6 or more digits"))
                .hint(list));
        }
    };
    match points.as_slice() {
        [] if text.is_empty() => Err(Fault::refused(ErrorKind::FailedPrecondition, format!("component {component} has no recovery point"))
            .hint(format!("take one: muster backup {component}"))),
        [] => Err(missing(format!("component {component} has no point that begins with {text}"))),
        [point] => point.id.parse().map_err(|error: muster_common::id::InvalidId| missing(error.to_string())),
        [..] => Err(Fault::refused(ErrorKind::InvalidArgument, format!("more than one point begins with {text}")).hint("give more digits")),
    }
}

/// An operation by its id or the first 6 or more digits of it.
pub(super) async fn find(connection: &mut Connection, text: &str) -> Result<Journaled, Fault> {
    let hint = "`muster ops` lists operations";
    if !(6..=32).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(Fault::refused(
            ErrorKind::InvalidArgument,
            format!("{text:?} is no operation: its id, or the first 6 or more digits, 0-9 and a-f"),
        )
        .hint(hint));
    }
    let found = operations::by_prefix(connection, text).await?;
    match found.as_slice() {
        [] => Err(Fault::refused(ErrorKind::NotFound, format!("there is no operation {text}")).hint(hint)),
        [record] => Ok(journal::read(record)?),
        [..] => {
            Err(Fault::refused(ErrorKind::InvalidArgument, format!("more than one operation begins with {text}")).hint("give more digits"))
        }
    }
}
