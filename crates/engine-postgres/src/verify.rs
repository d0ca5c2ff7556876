//! Proving a recovery point good: it is restored into the work's scratch folder, started there, asked, and removed again.
//!
//! ```text
//! fetch ──► start ──► replay ──► checks (amcheck, assertions) ──► stop and remove, whatever came of it
//! ```
//! What always holds: what runs is not touched; the copy has no network, archives nothing and runs nothing of its own
//! (`verify/server.rs`); what is found wrong is a fault of kind data loss, which names it; a check that could not be made is
//! told as not made. A run that was killed leaves what `verify/leftover.rs` ends and removes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::position::PostgresPosition;
use muster_engine::observation::Position;
use muster_engine::request::{Checked, RestoreRequest, RestoreTarget, VerifyCheck, VerifyOutcome, VerifyRequest};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::reading::Point;

use crate::backup::{PATIENCE, cancelled, failpoint, patiently};
use crate::control::pg_ctl;
use crate::engine::Postgres;
use crate::point::PostgresPoint;
use crate::restore::plan::{self, Layout};
use crate::restore::{Restoring, fetch, off_runtime, settle};
use crate::verify::server::{Copy, Place};

mod amcheck;
mod assertions;
pub mod leftover;
mod server;

/// What is told of a failure is bounded: so many findings, so many characters each.
const MAX_FINDINGS: usize = 100;
const MAX_TEXT: usize = 500;

/// What one check came to.
#[derive(Clone, Debug, PartialEq)]
enum Finding {
    /// It was made and found nothing, or could not be made.
    Fine(VerifyCheck),
    /// What is wrong, a line each.
    Wrong(Vec<String>),
}

/// Proves a point good.
///
/// # Errors
/// Refusals before anything was fetched; what is wrong with the point, as data loss; what hindered the verification.
pub async fn verify(instance: &Postgres, work: &Work, request: &VerifyRequest) -> Result<VerifyOutcome, Fault> {
    assertions::check(request)?;
    let place = Place::of(work);
    place.clear().await?;
    let proved = prove(instance, work, request, &place).await;
    work.tell(|progress| progress.phase = "removing the copy".into());
    let cleared = place.clear().await;
    match (proved, cleared) {
        (Ok(outcome), Ok(())) => Ok(outcome),
        (Err(fault), Ok(())) => Err(fault.effect(Effect::None)),
        (Ok(_), Err(left)) => Err(left),
        (Err(fault), Err(left)) => Err(fault.evidence(format!("the copy could not be removed: {left}"))),
    }
}

async fn prove(instance: &Postgres, work: &Work, request: &VerifyRequest, place: &Place) -> Result<VerifyOutcome, Fault> {
    let mut open = work.repository()?.clone();
    open.repository = open.repository.with_patience(PATIENCE);
    work.tell(|progress| progress.phase = "reading the point".into());
    let point = patiently(work, &open, open.repository.read_point(&open.keys, request.component, request.point))
        .await?
        .map_err(|error| error.fault())?;
    let point = Arc::new(point);
    let known = PostgresPoint::read(&point.summary.details.engine, &point.summary.details.kind)?;
    fetch::check_whole(&point)?;
    let mut notes = Vec::new();
    let damaged = point.summary.details.damaged.len();
    if damaged > 0 {
        notes.push(format!("the point has {damaged} pages whose checksum was wrong when it was taken"));
    }
    let mut phases = BTreeMap::new();
    let copy = bring_up(instance, work, request, place, &open, &point, known, &mut phases).await?;
    let position = copy.wait(work).await;
    let (superuser, position) = match position {
        Ok(arrived) => arrived,
        Err(fault) => return Err(fault.hint("a point that does not come up is no backup: take a new one, and verify an older one")),
    };
    phases.insert("replay".into(), copy.since_start().as_secs_f64());
    failpoint("postgres.verify.replayed")?;
    notes.extend(copy.notes());
    let begun = Instant::now();
    let checks = check(instance, work, request, &copy, &superuser).await?;
    phases.insert("checks".into(), begun.elapsed().as_secs_f64());
    failpoint("postgres.verify.checked")?;
    work.tell(|progress| progress.phase = "stopping the copy".into());
    copy.stop().await?;
    Ok(outcome(&point, request, phases, position, checks, notes))
}

fn outcome(
    point: &Point,
    request: &VerifyRequest,
    phases: BTreeMap<String, f64>,
    position: PostgresPosition,
    checks: Vec<VerifyCheck>,
    notes: Vec<String>,
) -> VerifyOutcome {
    VerifyOutcome {
        point: request.point,
        phases,
        bytes: point.files.iter().map(|file| file.size).sum(),
        files: point.files.len() as u64,
        position: Some(Position::Postgres(position)),
        checks,
        notes,
    }
}

/// Restores the point into scratch and starts it there.
#[expect(clippy::too_many_arguments, reason = "one call; the recipe above reads better with its parts named")]
async fn bring_up(
    instance: &Postgres,
    work: &Work,
    request: &VerifyRequest,
    place: &Place,
    open: &OpenRepository,
    point: &Arc<Point>,
    known: PostgresPoint,
    phases: &mut BTreeMap<String, f64>,
) -> Result<Copy, Fault> {
    let config = place.config(&instance.config);
    let bin = pg_ctl::bin_directory(&config, known.major())?;
    let settings = point.summary.details.settings.clone();
    let restore = restore_request(request, place, server::PORT);
    let restoring = Restoring { config: &config, work, request: &restore, known, settings, bin: bin.clone() };
    let layout = refuse(&restoring, instance, point, request, place).await?;
    let begun = Instant::now();
    restoring.build(open, point, &layout, &work.command.to_string()).await?;
    let data = layout.data.clone();
    off_runtime(move || settle::release_control_file(&data)).await?;
    phases.insert("fetch".into(), begun.elapsed().as_secs_f64());
    failpoint("postgres.verify.fetched")?;
    if work.cancel.is_cancelled() {
        return Err(cancelled());
    }
    work.tell(|progress| progress.phase = "starting".into());
    let begun = Instant::now();
    let preloaded = restoring.settings.get("shared_preload_libraries").map_or("", String::as_str);
    let mut copy = Copy::new(place, config.clone(), bin, restoring.known.clone(), preloaded).await?;
    copy.start().await?;
    phases.insert("start".into(), begun.elapsed().as_secs_f64());
    failpoint("postgres.verify.started")?;
    Ok(copy)
}

/// As a restore of it beside the running one would be refused, but for the port: the copy has none.
async fn refuse(
    restoring: &Restoring<'_>,
    instance: &Postgres,
    point: &Point,
    request: &VerifyRequest,
    place: &Place,
) -> Result<Layout, Fault> {
    let planned = restore_request(request, place, 0);
    let layout = plan::lay_out(restoring.config, &restoring.known, &planned, &restoring.work.command.to_string());
    let judged = plan::judge(restoring.config, point, &restoring.known, &planned, layout, None);
    let mut refusals = judged.refusals;
    restoring.judge_programs(&mut refusals).await;
    match refusals.into_iter().next() {
        Some(refusal) => Err(Fault { message: format!("verify {}: {}", instance.config.name, refusal.message), ..refusal }),
        None => Ok(judged.layout),
    }
}

fn restore_request(request: &VerifyRequest, place: &Place, port: u16) -> RestoreRequest {
    RestoreRequest {
        component: request.component,
        point: request.point,
        target: RestoreTarget::Beside { directory: place.data(), port },
        dry_run: false,
        tablespaces: BTreeMap::new(),
        keep_old_seconds: 0,
        start: true,
        consent: false,
    }
}

/// Every check; all of them are made before what is wrong is told.
async fn check(instance: &Postgres, work: &Work, request: &VerifyRequest, copy: &Copy, superuser: &str) -> Result<Vec<VerifyCheck>, Fault> {
    let mut findings = vec![amcheck::run(work, copy, superuser).await?];
    findings.extend(assertions::run(work, copy, superuser, request).await?);
    let all = findings.len();
    let mut made = Vec::new();
    let mut wrong = Vec::new();
    let mut failed = 0;
    for finding in findings {
        match finding {
            Finding::Fine(check) => made.push(check),
            Finding::Wrong(lines) => {
                failed += 1;
                wrong.extend(lines);
            }
        }
    }
    if failed == 0 {
        return Ok(made);
    }
    let message = format!("verify {}: point {} is not good: {failed} of {all} checks found something", instance.config.name, request.point);
    let mut fault = Fault::failed(ErrorKind::DataLoss, message).effect(Effect::None);
    let more = wrong.len().saturating_sub(MAX_FINDINGS);
    for line in wrong.into_iter().take(MAX_FINDINGS) {
        fault = fault.evidence(line.chars().take(MAX_TEXT).collect::<String>());
    }
    if more > 0 {
        fault = fault.evidence(format!("… and {more} more"));
    }
    let unmade = made.iter().filter(|check| check.checked == Checked::NotChecked);
    let fault = unmade.fold(fault, |fault, check| fault.evidence(format!("{} was not checked: {}", check.name, check.detail)));
    Err(fault.hint(
        "look whether the source has it too; take a new backup and verify that one, or an older one: muster verify NAME --point POINT",
    ))
}
