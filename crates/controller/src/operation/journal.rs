//! The journal: transitions of operations and all that changes with them, in one transaction each.
//!
//! What always holds: an event is recorded only on the state that its writer saw (compare-and-swap on the newest event), so that nobody
//! overwrites what another has journaled; the row, the numbered events, the command, the point and the epoch change together or not at all.

use muster_common::counter::{Epoch, EventNumber};
use muster_common::name::InstanceName;
use muster_common::time::Timestamp;
use muster_failover::here::Rule;
use muster_failover::shard::Refused;
use muster_wire::convert::{duration_to_proto, timestamp_to_proto};
use muster_wire::proto::agent::v1::{Command, TaskOutcome};
use muster_wire::proto::v1;

use crate::failover;
use crate::operation::done::hooks::Around;
use crate::operation::done::prune::Fate;
use crate::operation::done::{BackupDone, position_to_proto};
use crate::operation::event::{Event, sentence};
use crate::operation::kind::Phase;
use crate::operation::kinds::{self, Effect};
use crate::operation::moves::change::Change;
use crate::operation::moves::part::{self, Given};
use crate::operation::moves::task::Moving;
use crate::operation::state::{State, Task, VERSION};
use crate::operation::{life, show};
use crate::store::error::StoreError;
use crate::store::operations::Record;
use crate::store::{Connection, Write, commands, events, meta, operations, points, shards};

/// Reads a journaled state.
///
/// # Errors
/// Where it was written by a newer build, or is damaged.
pub fn decode(record: &Record) -> Result<State, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { what: "operation", id: record.id.to_string(), why };
    match record.state_version {
        VERSION => serde_json::from_str(&record.journal).map_err(|error| corrupt(error.to_string())),
        other => Err(corrupt(format!("its journal is version {other} and this build knows {VERSION}"))),
    }
}

fn encode(state: &State, last_event: EventNumber) -> Result<Record, StoreError> {
    let corrupt = |error: serde_json::Error| StoreError::Corrupt { what: "operation", id: state.id.to_string(), why: error.to_string() };
    Ok(Record {
        id: state.id,
        number: 0,
        kind: state.task.kind().name().to_owned(),
        phase: state.phase.name().to_owned(),
        ended: state.phase.ended(),
        component: state.component().map(ToString::to_string).unwrap_or_default(),
        instance: state.instance().to_owned(),
        repository: state.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
        cause: state.cause.clone(),
        parent: state.parent.map(|id| id.to_string()).unwrap_or_default(),
        created: state.created,
        finished: state.finished,
        state_version: VERSION,
        journal: serde_json::to_string(state).map_err(corrupt)?,
        last_event,
    })
}

/// An operation as it is journaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Journaled {
    /// The operation.
    pub state: State,
    /// The number of its newest event.
    pub last_event: EventNumber,
}

impl Journaled {
    /// As it is shown.
    #[must_use]
    pub fn shown(&self) -> v1::Operation {
        show::operation(&self.state, self.last_event)
    }
}

/// Reads an operation's row.
///
/// # Errors
/// Where it is damaged or of a newer build.
pub fn read(record: &Record) -> Result<Journaled, StoreError> {
    Ok(Journaled { state: decode(record)?, last_event: record.last_event })
}

/// Journals a new operation.
///
/// # Errors
/// The store's.
pub async fn accept(write: &mut Write, state: State) -> Result<Journaled, StoreError> {
    let connection = write.connection();
    let number = meta::next_event(connection).await?;
    operations::insert(connection, &mut encode(&state, number)?).await?;
    let text = format!("accepted: {}, asked for by {}", state.title(), state.cause);
    let journaled = Journaled { state, last_event: number };
    events::insert(connection, number, journaled.state.created, &text, &journaled.shown()).await?;
    Ok(journaled)
}

/// What recording changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The operation after it.
    pub journaled: Journaled,
    /// Whether the record of who writes changed.
    pub shard_changed: bool,
    /// Parts that were given: they are to be driven once this is on disk.
    pub parts: Vec<Journaled>,
}

/// Journals events, and what they change in the store, onto the state that the caller saw. `raw` is the agent's own message where the
/// events come from an outcome. `None`: somebody else has journaled meanwhile; the caller drops the transaction and reads again.
///
/// # Errors
/// The store's.
pub async fn record(
    write: &mut Write,
    seen: &Journaled,
    what: Vec<Event>,
    raw: Option<&TaskOutcome>,
    rule: Rule,
    now: Timestamp,
) -> Result<Option<Recorded>, StoreError> {
    let mut next = seen.clone();
    let (mut shard_changed, mut parts) = (false, Vec::new());
    for event in what {
        if let Event::Part(given) = &event {
            // A controller that was restored gives a part that is there already; the step is journaled all the same.
            parts.extend(give(write, &next.state, given, now).await?);
        }
        if let Event::Changed { change, .. } = &event {
            if !change_shard(write.connection(), &next.state, change).await? {
                return Ok(None);
            }
            shard_changed = true;
        }
        let connection = write.connection();
        let event = match event {
            Event::Issued { .. } => issue(connection, &next.state, rule, now).await?,
            other => other,
        };
        if let Some(effect) = effect_of(&next.state, &event) {
            match effect {
                Effect::KeepPoint(done) => keep_point(connection, &next.state, &done).await?,
                Effect::TellPoints(fates) => tell_points(connection, &next.state, fates).await?,
                Effect::Restored => {
                    shard_changed = true;
                    if let Some(moved) = move_reign(connection, &next.state).await? {
                        append(connection, &mut next, &moved, now).await?;
                    }
                }
            }
        }
        append(connection, &mut next, &event, now).await?;
    }
    let connection = write.connection();
    if let Some(outcome) = raw {
        commands::end(connection, next.state.command_id(), outcome).await?;
    }
    let updated = operations::update(connection, &encode(&next.state, next.last_event)?, seen.last_event).await?;
    Ok(updated.then_some(Recorded { journaled: next, shard_changed, parts }))
}

/// Journals a part as an operation of its own. `None`: it is there already.
async fn give(write: &mut Write, parent: &State, given: &Given, now: Timestamp) -> Result<Option<Journaled>, StoreError> {
    let id = part::id(parent.id, &given.step);
    if operations::get(write.connection(), id).await?.is_some() {
        return Ok(None);
    }
    let target = InstanceName { component: parent.target.component.clone(), instance: given.instance.clone() };
    let state = State {
        id,
        task: Task::Order(Box::new(given.order.clone())),
        target,
        agent: given.agent.clone(),
        repository: None,
        epoch: given.order.line.last().epoch,
        cause: format!("operation/{}", parent.id),
        parent: Some(parent.id),
        created: now,
        stall_limit_ms: parent.stall_limit_ms,
        traceparent: parent.traceparent.clone(),
        asked: None,
        hooks: Around::default(),
        ran: Vec::new(),
        moving: Moving::default(),
        phase: Phase::Pending,
        steps: Vec::new(),
        cancel: None,
        finished: None,
        fault: None,
        done: None,
    };
    accept(write, state).await.map(Some)
}

/// Changes the record of who writes by the rules. `false`: they refuse it, the record is another one than the caller saw.
async fn change_shard(connection: &mut Connection, state: &State, change: &Change) -> Result<bool, StoreError> {
    let mut kept = shards::get(connection, &state.target.component).await?;
    let Ok(next) = change.apply(state.id, kept.record.as_ref()) else { return Ok(false) };
    kept.floor = kept.floor.max(next.reign.epoch);
    kept.floor_reign = Some(next.reign.id);
    kept.record = Some(next);
    shards::put(connection, &state.target.component, &kept).await?;
    Ok(true)
}

/// Writes down what a prune or a hold said of points, and forgets those that are gone.
async fn tell_points(connection: &mut Connection, state: &State, fates: Vec<Fate>) -> Result<(), StoreError> {
    for fate in fates {
        match fate {
            Fate::Gone(point) => points::forget_one(connection, &state.target.component, point).await?,
            Fate::Told(point, told) => points::tell(connection, &state.target.component, point, told.to_proto(point)).await?,
        }
    }
    Ok(())
}

async fn append(connection: &mut Connection, next: &mut Journaled, event: &Event, now: Timestamp) -> Result<(), StoreError> {
    let number = meta::next_event(connection).await?;
    let text = sentence(event, &next.state);
    *next = Journaled { state: life::apply(next.state.clone(), event, now), last_event: number };
    events::insert(connection, number, now, &text, &next.shown()).await
}

fn effect_of(state: &State, event: &Event) -> Option<Effect> {
    match event {
        Event::Reported(outcome) | Event::Late(outcome) => kinds::effects(state, outcome),
        Event::Resolved { succeeded: true, .. } => kinds::effects_of_word(state),
        Event::WaitStarted(_)
        | Event::WaitEnded
        | Event::Issued { .. }
        | Event::TakenOn
        | Event::ReignMoved { .. }
        | Event::Hook(_)
        | Event::Unheard
        | Event::Lost
        | Event::Stood
        | Event::Found
        | Event::CancelAsked { .. }
        | Event::Dropped
        | Event::GaveUp(_)
        | Event::Resolved { succeeded: false, .. }
        | Event::Suspended { .. }
        | Event::Released
        | Event::Part(_)
        | Event::PartEnded { .. }
        | Event::Changed { .. }
        | Event::Chosen(_)
        | Event::Approved { .. }
        | Event::RouteBegun { .. }
        | Event::RouteEnded { .. }
        | Event::TurnedBack(_)
        | Event::WentBack
        | Event::Finished(_)
        | Event::Begun { .. }
        | Event::Aside { .. }
        | Event::SiteEnded(_) => None,
    }
}

/// The command as it is kept: with the shard's epoch of now, and the next sequence.
async fn issue(connection: &mut Connection, state: &State, rule: Rule, now: Timestamp) -> Result<Event, StoreError> {
    let epoch = shards::get(connection, &state.target.component).await?.record.map_or(state.epoch, |record| record.reign.epoch);
    let sequence = meta::next_sequence(connection).await?;
    let command = Command {
        id: state.command_id().to_string(),
        term: rule.term.0,
        sequence,
        operation_id: state.id.to_string(),
        component: state.target.component.to_string(),
        instance: state.target.instance.to_string(),
        epoch: epoch.0,
        issued_at: Some(timestamp_to_proto(now)),
        stall_limit: Some(duration_to_proto(state.stall_limit())),
        traceparent: state.traceparent.clone(),
        work: kinds::work(state, rule, sequence),
    };
    commands::insert(connection, &command, &state.agent, state.task.kind().name(), now).await?;
    Ok(Event::Issued { epoch })
}

async fn keep_point(connection: &mut Connection, state: &State, done: &BackupDone) -> Result<(), StoreError> {
    let label = match &state.task {
        Task::Backup(task) => task.label.clone(),
        Task::Restore(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Verify(_)
        | Task::Prune(_)
        | Task::Hold(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => String::new(),
    };
    let dump = matches!(&state.task, Task::Backup(task) if task.dump.is_some());
    let files = matches!(done.position, Some(crate::operation::done::Position::Files { .. }));
    let point = v1::RecoveryPoint {
        id: done.point.to_string(),
        component: state.target.component.to_string(),
        instance: state.target.instance.to_string(),
        repository: state.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: match (dump, files) {
            (true, _) => points::DUMP,
            (false, true) => "files",
            (false, false) => "postgres.physical",
        }
        .to_owned(),
        label,
        started_at: Some(timestamp_to_proto(done.started)),
        finished_at: Some(timestamp_to_proto(done.finished)),
        position: done.position.as_ref().map(position_to_proto),
        bytes_total: done.bytes_total,
        bytes_stored: done.bytes_stored,
        damaged_pages: done.damaged_pages,
        operation_id: state.id.to_string(),
        epoch: state.epoch.0,
        fate: None,
    };
    points::insert(connection, &point, done.finished).await
}

async fn move_reign(connection: &mut Connection, state: &State) -> Result<Option<Event>, StoreError> {
    let next = match &state.task {
        Task::Restore(task) => task.next_epoch,
        Task::Backup(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Verify(_)
        | Task::Prune(_)
        | Task::Hold(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => Epoch(0),
    };
    match failover::shards::restored_in_place(connection, &state.target, next).await? {
        Ok(moved) => Ok(moved.map(|moved| Event::ReignMoved { from: moved.from, to: moved.to, superseded: moved.superseded })),
        Err(refused @ (Refused::Moved { .. } | Refused::UnderWay | Refused::UsedUp)) => {
            Err(StoreError::Corrupt { what: "shard", id: state.target.component.to_string(), why: refused.to_string() })
        }
    }
}
