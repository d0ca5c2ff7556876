//! Between the link's messages and what the agent works with. What cannot be read is a fault that names the field.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use muster_common::counter::{Epoch, Term};
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{CommandId, ComponentId, PointId};
use muster_common::name::InstanceName;
use muster_common::time::Timestamp;
use muster_engine::observation::{Condition, Observation, Position, Role};
use muster_engine::request::{
    Assertion, BackupOutcome, BackupRequest, Checked, DiscardRequest, DumpScope, KeptDirectory, RestoreOutcome, RestorePlan,
    RestoreRequest, RestoreTarget, VerifyOutcome, VerifyRequest,
};
use muster_engine::work::Progress;
use muster_wire::convert::{
    duration_from_proto, duration_to_proto, fault_to_proto, id_from_proto, name_from_proto, postgres_position_to_proto, required,
    timestamp_from_proto, timestamp_to_proto,
};
use muster_wire::failover::directive::{answer_to_proto, directive_from_proto};
use muster_wire::proto::agent::v1::{self as link, RestorePlace, TaskOutcome, command, hooked_work, task_outcome};
use muster_wire::proto::v1;

use crate::assignment::parse::around_from_proto;
use crate::hook::own::Around;
use crate::hook::ran::Ran;
use crate::task::command::{CheckOutcome, Command, Done, Ended, FateOutcome, Job, PruneOutcome};

/// How long an old directory is kept where a command does not say.
const KEEP_OLD: Duration = Duration::from_secs(86_400);

/// How long a statement of an assertion may run where a command does not say.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The most assertions of one verification.
const MAX_ASSERTIONS: usize = 100;

/// The longest label that is kept, in characters.
const MAX_LABEL: usize = 1_000;

/// A command's instance.
///
/// # Errors
/// Where its names are none.
pub fn instance_of(command: &link::Command) -> Result<InstanceName, Fault> {
    Ok(InstanceName {
        component: name_from_proto(&command.component, "command.component")?,
        instance: name_from_proto(&command.instance, "command.instance")?,
    })
}

/// A command, for the component that its instance is a copy of.
///
/// # Errors
/// Where a field cannot be meant.
pub fn command_from_proto(command: &link::Command, component: ComponentId) -> Result<Command, Fault> {
    let stall_limit = command.stall_limit.as_ref().map(|limit| duration_from_proto(limit, "command.stall_limit")).transpose()?;
    Ok(Command {
        id: id_from_proto(&command.id, "command.id")?,
        term: Term(command.term),
        sequence: command.sequence,
        operation: id_from_proto(&command.operation_id, "command.operation_id")?,
        instance: instance_of(command)?,
        epoch: Epoch(command.epoch),
        issued_at: timestamp_from_proto(&required(command.issued_at, "command.issued_at")?, "command.issued_at")?,
        stall_limit_ms: stall_limit.filter(|limit| !limit.is_zero()).map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        traceparent: command.traceparent.chars().take(100).collect(),
        hooks: hooks_from_proto(command)?,
        job: job_from_proto(required(command.work.as_ref(), "command.work")?, component)?,
    })
}

fn hooks_from_proto(command: &link::Command) -> Result<Around, Fault> {
    match &command.work {
        Some(command::Work::Hooked(hooked)) => around_from_proto(&hooked.before, &hooked.after),
        Some(
            command::Work::Backup(_)
            | command::Work::Restore(_)
            | command::Work::Check(_)
            | command::Work::Discard(_)
            | command::Work::Verify(_)
            | command::Work::Prune(_)
            | command::Work::Hold(_)
            | command::Work::RunHook(_)
            | command::Work::Order(_),
        )
        | None => Ok(Around::default()),
    }
}

fn job_from_proto(work: &command::Work, component: ComponentId) -> Result<Job, Fault> {
    Ok(match work {
        command::Work::Backup(work) => Job::Backup { request: backup_from_proto(work, component)? },
        command::Work::Restore(work) => Job::Restore { request: restore_from_proto(work, component)?, next_epoch: Epoch(work.next_epoch) },
        command::Work::Check(work) => {
            if work.read_data_of > 0 && work.read_data_part >= work.read_data_of {
                return Err(Fault::refused(
                    ErrorKind::InvalidArgument,
                    format!("command.check: part {} of {} is none", work.read_data_part, work.read_data_of),
                ));
            }
            Job::Check { part: work.read_data_part, of: work.read_data_of }
        }
        command::Work::Discard(work) => Job::Discard { request: DiscardRequest { path: absolute(&work.path, "command.discard.path")? } },
        command::Work::Verify(work) => Job::Verify { request: verify_from_proto(work, component)? },
        command::Work::Prune(work) => {
            let within = work.keep_within.as_ref();
            let within = within.map(|within| duration_from_proto(within, "command.prune.keep_within")).transpose()?;
            Job::Prune {
                within_seconds: within.map(|within| within.as_secs()),
                last: (work.keep_last > 0).then_some(work.keep_last),
                dry_run: work.dry_run,
            }
        }
        command::Work::Order(work) => Job::Order { directive: Box::new(directive_from_proto(work)?), limit: None },
        command::Work::Hold(work) => {
            let lasts = work.lasts.as_ref().map(|lasts| duration_from_proto(lasts, "command.hold.lasts")).transpose()?;
            Job::Hold {
                point: id_from_proto::<PointId>(&work.point_id, "command.hold.point_id")?,
                lasts_seconds: lasts.map(|lasts| lasts.as_secs()),
                holder: work.holder.clone(),
                reason: work.reason.clone(),
            }
        }
        command::Work::RunHook(work) => Job::Hook { hook: name_from_proto(&work.hook, "command.run_hook.hook")? },
        command::Work::Hooked(hooked) => match required(hooked.work.as_ref(), "command.hooked.work")? {
            hooked_work::Work::Backup(work) => Job::Backup { request: backup_from_proto(work, component)? },
            hooked_work::Work::Restore(work) => {
                Job::Restore { request: restore_from_proto(work, component)?, next_epoch: Epoch(work.next_epoch) }
            }
            hooked_work::Work::Verify(work) => Job::Verify { request: verify_from_proto(work, component)? },
        },
    })
}

fn backup_from_proto(work: &link::BackupWork, component: ComponentId) -> Result<BackupRequest, Fault> {
    let level = if (1..=19).contains(&work.compression_level) { work.compression_level } else { 1 };
    Ok(BackupRequest {
        component,
        point: id_from_proto(&work.point_id, "command.backup.point_id")?,
        label: work.label.chars().take(MAX_LABEL).collect(),
        level: i32::try_from(level).unwrap_or(1),
        fast_checkpoint: work.fast_checkpoint,
        dump: work.dump.as_ref().map(|scope| DumpScope {
            databases: scope.databases.clone(),
            schemas: scope.schemas.clone(),
            tables: scope.tables.clone(),
        }),
    })
}

fn restore_from_proto(work: &link::RestoreWork, component: ComponentId) -> Result<RestoreRequest, Fault> {
    let target = match work.place() {
        RestorePlace::Empty => RestoreTarget::Empty,
        RestorePlace::InPlace => RestoreTarget::InPlace,
        RestorePlace::Beside => RestoreTarget::Beside {
            directory: absolute(&work.directory, "command.restore.directory")?,
            port: u16::try_from(work.port).map_err(|_| invalid("command.restore.port: is more than 65535"))?,
        },
        RestorePlace::Database => RestoreTarget::Database { name: work.database.clone(), from: work.from_database.clone() },
        RestorePlace::Unspecified => return Err(invalid("command.restore.place: is missing")),
    };
    let mut tablespaces = BTreeMap::new();
    for (oid, path) in &work.tablespaces {
        tablespaces.insert(*oid, absolute(path, "command.restore.tablespaces")?);
    }
    let keep_old = work.keep_old.as_ref().map_or(Ok(KEEP_OLD), |keep| duration_from_proto(keep, "command.restore.keep_old"))?;
    Ok(RestoreRequest {
        component,
        point: id_from_proto::<PointId>(&work.point_id, "command.restore.point_id")?,
        target,
        dry_run: work.dry_run,
        tablespaces,
        keep_old_seconds: keep_old.as_secs(),
        start: work.start,
        consent: work.consent,
    })
}

fn verify_from_proto(work: &link::VerifyWork, component: ComponentId) -> Result<VerifyRequest, Fault> {
    if work.assertions.len() > MAX_ASSERTIONS {
        return Err(invalid(format!("command.verify.assertions: {} of them; {MAX_ASSERTIONS} is the bound", work.assertions.len())));
    }
    let timeout = work.statement_timeout.as_ref();
    let timeout = timeout.map_or(Ok(STATEMENT_TIMEOUT), |timeout| duration_from_proto(timeout, "command.verify.statement_timeout"))?;
    let assertion = |(number, assertion): (usize, &v1::VerifyAssertion)| Assertion {
        name: if assertion.name.is_empty() { (number + 1).to_string() } else { assertion.name.clone() },
        database: if assertion.database.is_empty() { "postgres".to_owned() } else { assertion.database.clone() },
        sql: assertion.sql.clone(),
        expect: assertion.expect.clone(),
    };
    Ok(VerifyRequest {
        component,
        point: id_from_proto::<PointId>(&work.point_id, "command.verify.point_id")?,
        assertions: work.assertions.iter().enumerate().map(assertion).collect(),
        statement_timeout_seconds: timeout.as_secs().max(1),
    })
}

fn absolute(text: &str, field: &str) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    if !path.is_absolute() || climbs || text.contains('\0') {
        return Err(invalid(format!("{field}: {text:?} is no absolute path without `..`")));
    }
    Ok(path)
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, message).hint("upgrade the older of agent and controller, or correct what was asked")
}

/// How a task ended.
#[must_use]
pub fn ended_to_proto(command: CommandId, ended: &Ended) -> TaskOutcome {
    let outcome = match &ended.result {
        Ok(Done::Backup { outcome }) => task_outcome::Outcome::Backup(backup_to_proto(outcome)),
        Ok(Done::Restore { point, outcome }) => task_outcome::Outcome::Restore(restore_to_proto(*point, outcome)),
        Ok(Done::Check { outcome }) => task_outcome::Outcome::Check(check_to_proto(outcome)),
        Ok(Done::Discard { path }) => task_outcome::Outcome::Discard(v1::DiscardResult { path: path.display().to_string() }),
        Ok(Done::Verify { outcome }) => task_outcome::Outcome::Verify(verify_to_proto(outcome)),
        Ok(Done::Prune { outcome }) => task_outcome::Outcome::Prune(prune_to_proto(outcome)),
        Ok(Done::Hold { point, until, ended }) => {
            task_outcome::Outcome::Hold(v1::HoldResult { point_id: point.to_string(), until: until.map(timestamp_to_proto), ended: *ended })
        }
        Ok(Done::Hook { hook }) => task_outcome::Outcome::Hook(v1::HookResult { hook: hook.to_string() }),
        Ok(Done::Order { answer }) => task_outcome::Outcome::Order(answer_to_proto(answer)),
        Err(fault) => task_outcome::Outcome::Fault(fault_to_proto(fault)),
    };
    TaskOutcome {
        command_id: command.to_string(),
        at: Some(timestamp_to_proto(ended.at)),
        outcome: Some(outcome),
        hooks: ended.hooks.iter().map(Ran::to_proto).collect(),
    }
}

fn backup_to_proto(outcome: &BackupOutcome) -> v1::BackupResult {
    v1::BackupResult {
        point_id: outcome.point.to_string(),
        started_at: Some(timestamp_to_proto(outcome.started)),
        finished_at: Some(timestamp_to_proto(outcome.finished)),
        position: outcome.position.as_ref().map(position_to_proto),
        bytes_total: outcome.bytes_total,
        bytes_stored: outcome.bytes_stored,
        files: outcome.files,
        damage: outcome.damage.iter().take(1_000).cloned().collect(),
        damaged_pages: outcome.damaged_pages,
        notes: outcome.notes.clone(),
    }
}

fn restore_to_proto(point: PointId, outcome: &RestoreOutcome) -> v1::RestoreResult {
    v1::RestoreResult {
        plan: Some(plan_to_proto(&outcome.plan)),
        directory: outcome.directory.display().to_string(),
        kept: outcome.kept.as_ref().map(kept_to_proto),
        position: outcome.position.as_ref().map(position_to_proto),
        phase_seconds: outcome.phases.iter().map(|(phase, seconds)| (phase.clone(), *seconds)).collect(),
        point_id: point.to_string(),
    }
}

fn plan_to_proto(plan: &RestorePlan) -> v1::RestorePlan {
    v1::RestorePlan {
        bytes: plan.bytes,
        files: plan.files,
        predicted: Some(duration_to_proto(Duration::from_secs(plan.predicted_seconds))),
        free_bytes: plan.free_bytes,
        replaces: plan.replaces.clone(),
        notes: plan.notes.clone(),
    }
}

fn prune_to_proto(outcome: &PruneOutcome) -> v1::PruneResult {
    let fate = |fate: &FateOutcome| v1::PointFate {
        point_id: fate.point.to_string(),
        stored_at: Some(timestamp_to_proto(fate.stored_at)),
        stays: fate.stays,
        why: fate.why.clone(),
        bytes_alone: fate.bytes_alone,
        marked_at: fate.marked_at.map(timestamp_to_proto),
        held_until: fate.held_until.map(timestamp_to_proto),
        removed: fate.removed,
    };
    v1::PruneResult {
        dry_run: outcome.dry_run,
        points: outcome.points.iter().map(fate).collect(),
        more_points: outcome.more_points,
        removed_points: outcome.removed_points,
        removed_packs: outcome.removed.0,
        removed_bytes: outcome.removed.1,
        marked_packs: outcome.marked.0,
        marked_bytes: outcome.marked.1,
        waiting_packs: outcome.waiting.0,
        waiting_bytes: outcome.waiting.1,
        next_at: outcome.next_at.map(timestamp_to_proto),
        notes: outcome.notes.clone(),
    }
}

fn check_to_proto(outcome: &CheckOutcome) -> v1::CheckResult {
    v1::CheckResult {
        points: outcome.points,
        packs: outcome.packs,
        bytes: outcome.bytes,
        problems: outcome.problems.clone(),
        problem_count: outcome.problem_count,
        store_notes: outcome.store_notes.clone(),
    }
}

fn verify_to_proto(outcome: &VerifyOutcome) -> v1::VerifyResult {
    let check = |check: &muster_engine::request::VerifyCheck| v1::VerifyCheck {
        name: check.name.clone(),
        state: match check.checked {
            Checked::Passed => v1::VerifyCheckState::Passed,
            Checked::NotChecked => v1::VerifyCheckState::NotChecked,
        }
        .into(),
        detail: check.detail.clone(),
        seconds: check.seconds,
    };
    v1::VerifyResult {
        point_id: outcome.point.to_string(),
        phase_seconds: outcome.phases.iter().map(|(phase, seconds)| (phase.clone(), *seconds)).collect(),
        bytes: outcome.bytes,
        files: outcome.files,
        position: outcome.position.as_ref().map(position_to_proto),
        checks: outcome.checks.iter().take(2 * MAX_ASSERTIONS).map(check).collect(),
        notes: outcome.notes.clone(),
    }
}

/// A directory that was moved aside.
#[must_use]
pub fn kept_to_proto(kept: &KeptDirectory) -> v1::KeptDirectory {
    v1::KeptDirectory { path: kept.path.display().to_string(), bytes: kept.bytes, until: Some(timestamp_to_proto(kept.until)) }
}

/// How far a task is, at `now`.
#[must_use]
pub fn progress_to_proto(progress: &Progress, now: Timestamp) -> v1::Progress {
    v1::Progress {
        phase: progress.phase.chars().take(500).collect(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        files_done: progress.files_done,
        files_total: progress.files_total,
        bytes_stored: progress.bytes_stored,
        at: Some(timestamp_to_proto(now)),
    }
}

/// What one look found.
#[must_use]
pub fn observation_to_proto(observation: &Observation, full: bool) -> v1::Observation {
    v1::Observation {
        at: Some(timestamp_to_proto(observation.at)),
        role: role_to_proto(observation.role).into(),
        position: observation.position.as_ref().map(position_to_proto),
        version: observation.version.clone().unwrap_or_default(),
        data_bytes: observation.bytes,
        lag_bytes: observation.lag_bytes,
        conditions: observation.conditions.iter().map(condition_to_proto).collect(),
        details: observation.details.iter().take(100).map(|(name, value)| (name.clone(), value.clone())).collect(),
        full,
    }
}

fn role_to_proto(role: Role) -> v1::InstanceRole {
    match role {
        Role::Unknown => v1::InstanceRole::Unknown,
        Role::ReadWrite => v1::InstanceRole::ReadWrite,
        Role::Standby => v1::InstanceRole::Standby,
        Role::Down => v1::InstanceRole::Down,
    }
}

fn condition_to_proto(condition: &Condition) -> v1::Condition {
    v1::Condition {
        name: condition.name.clone(),
        ok: condition.ok,
        blocking: condition.blocking,
        message: condition.message.clone(),
        hint: condition.hint.clone(),
    }
}

fn position_to_proto(position: &Position) -> v1::Position {
    let position = match position {
        Position::Postgres(position) => v1::position::Position::Postgres(postgres_position_to_proto(position)),
        Position::Files { count, newest } => {
            v1::position::Position::Files(v1::FilesPosition { count: *count, newest: Some(timestamp_to_proto(*newest)) })
        }
    };
    v1::Position { position: Some(position) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(place: RestorePlace, directory: &str) -> link::Command {
        let work = link::RestoreWork {
            point_id: "ab".repeat(16),
            place: place.into(),
            directory: directory.into(),
            port: 5_433,
            tablespaces: [(16_384, "/srv/ts".to_owned())].into(),
            next_epoch: 4,
            ..Default::default()
        };
        link::Command {
            id: "cd".repeat(16),
            term: 2,
            sequence: 3,
            operation_id: "ef".repeat(16),
            component: "orders-db".into(),
            instance: "istanbul".into(),
            epoch: 3,
            issued_at: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
            stall_limit: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            traceparent: String::new(),
            work: Some(command::Work::Restore(work)),
        }
    }

    #[test]
    fn a_restore_comes_over_with_its_place_and_its_epoch() {
        let command = command_from_proto(&restore(RestorePlace::Beside, "/srv/beside"), ComponentId::from_bytes([1; 16])).unwrap();
        assert_eq!(command.stall_limit_ms, Some(60_000));
        let Job::Restore { request, next_epoch } = command.job else { panic!("no restore") };
        assert_eq!(next_epoch, Epoch(4));
        assert_eq!(request.keep_old_seconds, 86_400);
        assert_eq!(request.target, RestoreTarget::Beside { directory: "/srv/beside".into(), port: 5_433 });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_field() {
        let component = ComponentId::from_bytes([1; 16]);
        let good = restore(RestorePlace::InPlace, "");
        for (bad, field) in [
            (restore(RestorePlace::Beside, "relative"), "directory"),
            (restore(RestorePlace::Beside, "/srv/../etc"), "directory"),
            (restore(RestorePlace::Unspecified, ""), "place"),
            (link::Command { id: "x".into(), ..good.clone() }, "command.id"),
            (link::Command { issued_at: None, ..good.clone() }, "issued_at"),
            (link::Command { work: None, ..good.clone() }, "work"),
            (link::Command { component: "A".into(), ..good }, "component"),
        ] {
            let fault = command_from_proto(&bad, component).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::InvalidArgument);
            assert!(fault.message.contains(field), "{field}: {fault}");
        }
    }
}
