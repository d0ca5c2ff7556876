//! An operation as it is shown.

use muster_wire::convert::{duration_to_proto, fault_to_proto, timestamp_to_proto};
use muster_wire::proto::v1::{self, StepKind, StepState};

use muster_common::counter::EventNumber;

use crate::operation::done::done_to_proto;
use crate::operation::done::hooks::Ran;
use crate::operation::state::{Stands, State, Step, Task, Work};

/// The operation as it is journaled; what waits and moves now is added by whoever knows it.
#[must_use]
pub fn operation(state: &State, last_event: EventNumber) -> v1::Operation {
    let (dry_run, point) = match &state.task {
        Task::Restore(restore) => (restore.dry_run, Some(restore.point)),
        Task::Backup(backup) => (false, Some(backup.point)),
        Task::Verify(verify) => (false, Some(verify.point)),
        Task::Prune(prune) => (prune.dry_run, None),
        Task::Hold(hold) => (false, Some(hold.point)),
        Task::Check(_) | Task::Discard(_) | Task::Hook(_) | Task::Order(_) | Task::Move(_) | Task::Site(_) => (false, None),
    };
    v1::Operation {
        id: state.id.to_string(),
        kind: state.task.kind().proto().into(),
        state: state.phase.proto().into(),
        component: state.component().map(ToString::to_string).unwrap_or_default(),
        instance: state.instance().to_owned(),
        site: if state.component().is_none() { state.target.component.to_string() } else { String::new() },
        repository: state.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
        cause: state.cause.clone(),
        parent: state.parent.map(|id| id.to_string()).unwrap_or_default(),
        created_at: Some(timestamp_to_proto(state.created)),
        finished_at: state.finished.map(timestamp_to_proto),
        steps: state.steps.iter().map(|step| shown_step(step, state)).collect(),
        fault: state.fault.as_ref().map(fault_to_proto),
        dry_run,
        epoch: state.epoch.0,
        last_event: last_event.0,
        waiting_for: String::new(),
        progress: None,
        stall_limit: Some(duration_to_proto(state.stall_limit())),
        hooks: state.ran.iter().map(Ran::to_proto).collect(),
        result: state.done.as_ref().and_then(|done| done_to_proto(done, point)),
    }
}

fn shown_step(step: &Step, state: &State) -> v1::Step {
    let none = String::new;
    let (kind, command_id, agent, operation_id) = match &step.work {
        Work::Command { id, .. } => (StepKind::Command, id.to_string(), state.agent.to_string(), none()),
        Work::Child { operation } => (StepKind::Child, none(), none(), operation.to_string()),
        Work::Wait(_) => (StepKind::Wait, none(), none(), none()),
        Work::Action(_) => (StepKind::Action, none(), none(), none()),
    };
    let stands = match step.stands {
        Stands::Started => StepState::Started,
        Stands::Succeeded => StepState::Succeeded,
        Stands::Failed => StepState::Failed,
        Stands::Unknown => StepState::Unknown,
        Stands::Cancelled => StepState::Cancelled,
    };
    v1::Step {
        name: step.name.clone(),
        kind: kind.into(),
        state: stands.into(),
        started_at: Some(timestamp_to_proto(step.started)),
        finished_at: step.finished.map(timestamp_to_proto),
        command_id,
        agent,
        fault: step.fault.as_ref().map(fault_to_proto),
        operation_id,
    }
}
