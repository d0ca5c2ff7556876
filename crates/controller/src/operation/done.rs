//! What came of an operation, as it is journaled; read from an agent's outcome once, and shown.

pub mod hooks;
pub mod prune;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::PointId;
use muster_common::position::PostgresPosition;
use muster_common::time::Timestamp;
use muster_wire::convert::{
    duration_from_proto, duration_to_proto, fault_from_proto, id_from_proto, postgres_position_from_proto, postgres_position_to_proto,
    required, timestamp_from_proto, timestamp_to_proto,
};
use muster_wire::failover::directive::answer_from_proto;
use muster_wire::proto::agent::v1::{TaskOutcome, task_outcome};
use muster_wire::proto::v1;
use serde::{Deserialize, Serialize};

/// Texts of one kind that are kept of an outcome (damage, problems, notes).
const MOST_TEXTS: usize = 1_000;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done(Done),
    /// It failed, was refused or cancelled.
    Fault(Fault),
}

/// What was done, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// A recovery point was taken.
    Backup(BackupDone),
    /// One was brought back, or the plan of it.
    Restore(RestoreDone),
    /// The check's findings.
    Check(CheckDone),
    /// The directory is gone.
    Discard {
        /// Where it lay.
        path: String,
    },
    /// A point was proved good.
    Verify(VerifyDone),
    /// What no rule keeps was marked or removed.
    Prune(prune::PruneDone),
    /// A hold was taken, or holds let go.
    Hold(prune::HoldDone),
    /// A hook ran by itself.
    Hook {
        /// Which.
        hook: String,
    },
    /// An instance did as it was told.
    Order(Box<muster_failover::directive::Answer>),
    /// Who may write was decided.
    Move(Box<crate::operation::moves::task::Done>),
    /// Components were moved away from a site.
    Site(Box<crate::operation::sites::task::Done>),
}

/// See `muster.v1.VerifyResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyDone {
    /// Seconds for each phase.
    pub phase_seconds: BTreeMap<String, f64>,
    /// Bytes that were restored.
    pub bytes: u64,
    /// Files that were restored.
    pub files: u64,
    /// The position reached.
    pub position: Option<Position>,
    /// What was checked, and what was not.
    pub checks: Vec<VerifyCheck>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// See `muster.v1.VerifyCheck`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyCheck {
    /// Its name.
    pub name: String,
    /// Whether it was made; what was made found nothing.
    pub passed: bool,
    /// What it saw, or why it was not made.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

/// See `muster.v1.BackupResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupDone {
    /// The point.
    pub point: PointId,
    /// When reading began, by the agent's clock.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What a restore of it reaches.
    pub position: Option<Position>,
    /// Bytes that it restores to.
    pub bytes_total: u64,
    /// Bytes that it added.
    pub bytes_stored: u64,
    /// Files in it.
    pub files: u64,
    /// Damaged pages by file and block.
    pub damage: Vec<String>,
    /// How many pages were damaged.
    pub damaged_pages: u64,
    /// What else a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// See `muster.v1.RestoreResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreDone {
    /// The plan.
    pub plan: Plan,
    /// Where it was restored to.
    pub directory: String,
    /// What was moved aside.
    pub kept: Option<Kept>,
    /// The position reached.
    pub position: Option<Position>,
    /// Seconds for each phase.
    pub phase_seconds: BTreeMap<String, f64>,
}

/// See `muster.v1.RestorePlan`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Bytes to write.
    pub bytes: u64,
    /// Files to write.
    pub files: u64,
    /// Microseconds it will take, as predicted.
    pub predicted_us: u64,
    /// Free bytes at the target.
    pub free_bytes: u64,
    /// What is moved aside or overwritten.
    pub replaces: Vec<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// See `muster.v1.KeptDirectory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Where it lies on the agent's machine.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it will be removed.
    pub until: Timestamp,
}

/// See `muster.v1.CheckResult`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckDone {
    /// Points read.
    pub points: u64,
    /// Packs read.
    pub packs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub problem_count: u64,
    /// What the store can and cannot do.
    pub store_notes: Vec<String>,
}

/// How far an instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// PostgreSQL.
    Postgres(PostgresPosition),
    /// A folder of files.
    Files {
        /// Regular files below it.
        count: u64,
        /// The newest modification time.
        newest: Option<Timestamp>,
    },
}

/// Reads an agent's outcome.
///
/// # Errors
/// Where a field makes no sense.
pub fn outcome_from_proto(outcome: &TaskOutcome) -> Result<Outcome, Fault> {
    Ok(match required(outcome.outcome.as_ref(), "outcome")? {
        task_outcome::Outcome::Backup(done) => Outcome::Done(Done::Backup(backup_from_proto(done)?)),
        task_outcome::Outcome::Restore(done) => Outcome::Done(Done::Restore(restore_from_proto(done)?)),
        task_outcome::Outcome::Check(done) => Outcome::Done(Done::Check(check_from_proto(done))),
        task_outcome::Outcome::Discard(done) => Outcome::Done(Done::Discard { path: done.path.clone() }),
        task_outcome::Outcome::Verify(done) => Outcome::Done(Done::Verify(verify_from_proto(done)?)),
        task_outcome::Outcome::Prune(done) => Outcome::Done(Done::Prune(prune::PruneDone::from_proto(done)?)),
        task_outcome::Outcome::Hold(done) => Outcome::Done(Done::Hold(prune::HoldDone::from_proto(done)?)),
        task_outcome::Outcome::Hook(done) => Outcome::Done(Done::Hook { hook: done.hook.clone() }),
        task_outcome::Outcome::Order(answer) => Outcome::Done(Done::Order(Box::new(answer_from_proto(answer)?))),
        task_outcome::Outcome::Fault(fault) => Outcome::Fault(fault_from_proto(fault)),
    })
}

fn texts(texts: &[String]) -> Vec<String> {
    texts.iter().take(MOST_TEXTS).cloned().collect()
}

fn backup_from_proto(done: &v1::BackupResult) -> Result<BackupDone, Fault> {
    Ok(BackupDone {
        point: id_from_proto(&done.point_id, "backup.point_id")?,
        started: timestamp_from_proto(required(done.started_at.as_ref(), "backup.started_at")?, "backup.started_at")?,
        finished: timestamp_from_proto(required(done.finished_at.as_ref(), "backup.finished_at")?, "backup.finished_at")?,
        position: position_from_proto(done.position.as_ref())?,
        bytes_total: done.bytes_total,
        bytes_stored: done.bytes_stored,
        files: done.files,
        damage: texts(&done.damage),
        damaged_pages: done.damaged_pages,
        notes: texts(&done.notes),
    })
}

fn restore_from_proto(done: &v1::RestoreResult) -> Result<RestoreDone, Fault> {
    let plan = done.plan.clone().unwrap_or_default();
    let predicted = plan.predicted.as_ref().map(|duration| duration_from_proto(duration, "restore.plan.predicted")).transpose()?;
    let kept = match &done.kept {
        Some(kept) => Some(Kept {
            path: kept.path.clone(),
            bytes: kept.bytes,
            until: timestamp_from_proto(required(kept.until.as_ref(), "restore.kept.until")?, "restore.kept.until")?,
        }),
        None => None,
    };
    Ok(RestoreDone {
        plan: Plan {
            bytes: plan.bytes,
            files: plan.files,
            predicted_us: u64::try_from(predicted.unwrap_or_default().as_micros()).unwrap_or(u64::MAX),
            free_bytes: plan.free_bytes,
            replaces: texts(&plan.replaces),
            notes: texts(&plan.notes),
        },
        directory: done.directory.clone(),
        kept,
        position: position_from_proto(done.position.as_ref())?,
        phase_seconds: finite(&done.phase_seconds),
    })
}

fn check_from_proto(done: &v1::CheckResult) -> CheckDone {
    CheckDone {
        points: done.points,
        packs: done.packs,
        bytes: done.bytes,
        problems: texts(&done.problems),
        problem_count: done.problem_count,
        store_notes: texts(&done.store_notes),
    }
}

fn finite(phases: &std::collections::HashMap<String, f64>) -> BTreeMap<String, f64> {
    // JSON has no infinities and no NaN.
    let phases = phases.iter().filter(|(_, seconds)| seconds.is_finite());
    phases.take(MOST_TEXTS).map(|(phase, seconds)| (phase.clone(), *seconds)).collect()
}

fn verify_from_proto(done: &v1::VerifyResult) -> Result<VerifyDone, Fault> {
    let check = |check: &v1::VerifyCheck| VerifyCheck {
        name: check.name.clone(),
        passed: check.state() == v1::VerifyCheckState::Passed,
        detail: check.detail.clone(),
        seconds: if check.seconds.is_finite() { check.seconds } else { 0.0 },
    };
    Ok(VerifyDone {
        phase_seconds: finite(&done.phase_seconds),
        bytes: done.bytes,
        files: done.files,
        position: position_from_proto(done.position.as_ref())?,
        checks: done.checks.iter().take(MOST_TEXTS).map(check).collect(),
        notes: texts(&done.notes),
    })
}

fn verify_to_proto(done: &VerifyDone, point: Option<PointId>) -> v1::VerifyResult {
    let check = |check: &VerifyCheck| v1::VerifyCheck {
        name: check.name.clone(),
        state: if check.passed { v1::VerifyCheckState::Passed } else { v1::VerifyCheckState::NotChecked }.into(),
        detail: check.detail.clone(),
        seconds: check.seconds,
    };
    v1::VerifyResult {
        point_id: point.map(|point| point.to_string()).unwrap_or_default(),
        phase_seconds: done.phase_seconds.iter().map(|(phase, seconds)| (phase.clone(), *seconds)).collect(),
        bytes: done.bytes,
        files: done.files,
        position: done.position.as_ref().map(position_to_proto),
        checks: done.checks.iter().map(check).collect(),
        notes: done.notes.clone(),
    }
}

fn position_from_proto(position: Option<&v1::Position>) -> Result<Option<Position>, Fault> {
    let Some(position) = position else { return Ok(None) };
    Ok(Some(match required(position.position.as_ref(), "position")? {
        v1::position::Position::Postgres(position) => Position::Postgres(postgres_position_from_proto(position)?),
        v1::position::Position::Files(files) => Position::Files {
            count: files.count,
            newest: files.newest.as_ref().map(|at| timestamp_from_proto(at, "position.files.newest")).transpose()?,
        },
    }))
}

/// As it is shown.
#[must_use]
pub fn position_to_proto(position: &Position) -> v1::Position {
    let position = match position {
        Position::Postgres(position) => v1::position::Position::Postgres(postgres_position_to_proto(position)),
        Position::Files { count, newest } => {
            v1::position::Position::Files(v1::FilesPosition { count: *count, newest: newest.map(timestamp_to_proto) })
        }
    };
    v1::Position { position: Some(position) }
}

/// As it is shown. `point` is the one that was restored.
#[must_use]
pub fn done_to_proto(done: &Done, point: Option<PointId>) -> Option<v1::operation::Result> {
    Some(match done {
        Done::Backup(done) => v1::operation::Result::Backup(v1::BackupResult {
            point_id: done.point.to_string(),
            started_at: Some(timestamp_to_proto(done.started)),
            finished_at: Some(timestamp_to_proto(done.finished)),
            position: done.position.as_ref().map(position_to_proto),
            bytes_total: done.bytes_total,
            bytes_stored: done.bytes_stored,
            files: done.files,
            damage: done.damage.clone(),
            damaged_pages: done.damaged_pages,
            notes: done.notes.clone(),
        }),
        Done::Restore(done) => v1::operation::Result::Restore(restore_to_proto(done, point)),
        Done::Check(done) => v1::operation::Result::Check(v1::CheckResult {
            points: done.points,
            packs: done.packs,
            bytes: done.bytes,
            problems: done.problems.clone(),
            problem_count: done.problem_count,
            store_notes: done.store_notes.clone(),
        }),
        Done::Discard { path } => v1::operation::Result::Discard(v1::DiscardResult { path: path.clone() }),
        Done::Verify(done) => v1::operation::Result::Verify(verify_to_proto(done, point)),
        Done::Prune(done) => v1::operation::Result::Prune(done.to_proto()),
        Done::Hold(done) => v1::operation::Result::Hold(done.to_proto(point)),
        Done::Hook { hook } => v1::operation::Result::Hook(v1::HookResult { hook: hook.clone() }),
        // What it came to stands in the move that it is a part of.
        Done::Order(_) => return None,
        Done::Move(done) => v1::operation::Result::Move(move_to_proto(done)),
        Done::Site(done) => v1::operation::Result::SiteMove(site_to_proto(done)),
    })
}

fn site_to_proto(done: &crate::operation::sites::task::Done) -> v1::SiteMoveResult {
    use crate::operation::sites::task::{End, Ended};
    let shown = |ended: &Ended| v1::SiteComponentResult {
        component: ended.component.to_string(),
        operation_id: ended.operation.map(|id| id.to_string()).unwrap_or_default(),
        state: match ended.end {
            End::Moved => v1::SiteComponentState::Moved,
            End::Elsewhere => v1::SiteComponentState::Elsewhere,
            End::Failed => v1::SiteComponentState::Failed,
            End::NotBegun => v1::SiteComponentState::NotBegun,
        }
        .into(),
        why: ended.why.clone(),
    };
    v1::SiteMoveResult { components: done.components.iter().map(shown).collect() }
}

fn move_to_proto(done: &crate::operation::moves::task::Done) -> v1::MoveResult {
    v1::MoveResult {
        writer: done.writer.as_ref().map(ToString::to_string).unwrap_or_default(),
        epoch: done.reign.epoch.0,
        epoch_before: done.before.0,
        outage: done.outage_us.map(|us| duration_to_proto(Duration::from_micros(us))),
        loss: done.loss.as_ref().map(loss_to_proto),
        notes: done.notes.clone(),
    }
}

/// A bound as it is shown.
#[must_use]
pub fn loss_to_proto(loss: &muster_failover::loss::Loss) -> v1::LossBound {
    v1::LossBound { bytes: loss.bytes, time: loss.time.map(duration_to_proto) }
}

fn restore_to_proto(done: &RestoreDone, point: Option<PointId>) -> v1::RestoreResult {
    v1::RestoreResult {
        plan: Some(v1::RestorePlan {
            bytes: done.plan.bytes,
            files: done.plan.files,
            predicted: Some(duration_to_proto(Duration::from_micros(done.plan.predicted_us))),
            free_bytes: done.plan.free_bytes,
            replaces: done.plan.replaces.clone(),
            notes: done.plan.notes.clone(),
        }),
        directory: done.directory.clone(),
        kept: done.kept.as_ref().map(|kept| v1::KeptDirectory {
            path: kept.path.clone(),
            bytes: kept.bytes,
            until: Some(timestamp_to_proto(kept.until)),
        }),
        position: done.position.as_ref().map(position_to_proto),
        phase_seconds: done.phase_seconds.iter().map(|(phase, seconds)| (phase.clone(), *seconds)).collect(),
        point_id: point.map(|point| point.to_string()).unwrap_or_default(),
    }
}

/// An outcome of another kind than the command's: an agent that is broken, or forged news.
#[must_use]
pub fn foreign(wanted: &str) -> Fault {
    Fault::failed(ErrorKind::Internal, format!("the agent answered a {wanted} with the outcome of something else"))
        .hint("look at the agent's log and its version, and report this as a defect")
}
