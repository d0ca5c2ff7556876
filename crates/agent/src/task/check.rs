//! The check of a component's part of its repository. The repository does it; this tells how far it is and what it found.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_common::fault::{Effect, Fault};
use muster_common::size::Size;
use muster_engine::work::Work;
use muster_repository::check::{CheckOptions, CheckReport, Problem};
use muster_repository::counters::Counters;
use muster_repository::error::Error;
use muster_repository::store::probe::ProbeReport;

use crate::task::command::CheckOutcome;

/// How many problems are told.
const MAX_PROBLEMS: usize = 1_000;

/// How many points a problem names.
const MAX_POINTS: usize = 5;

/// Checks the structure, and of the data part `part` of `of`, counted from 0 (0 of 0: none of it; 0 of 1: all).
///
/// # Errors
/// Where the repository cannot be read at all. What is damaged is in the outcome.
pub async fn check(work: &Work, part: u32, of: u32) -> Result<CheckOutcome, Fault> {
    let open = work.repository()?;
    work.tell(|progress| progress.phase = "asking what the store can do".to_owned());
    let probed = tokio::select! {
        probed = open.repository.probe() => probed.map_err(|error| nothing_changed(&error))?,
        () = work.cancel.cancelled() => return Err(nothing_changed(&Error::Cancelled)),
    };
    work.tell(|progress| progress.phase = "checking".to_owned());
    let component = open.keys.component();
    // The wire counts parts from 0, the repository from 1.
    let read_data = (of > 0).then_some((part.saturating_add(1), of));
    let options = CheckOptions { read_data, component: Some(component), cancel: work.cancel.clone() };
    let counters = Arc::new(Counters::default());
    let keys = [open.keys.clone()];
    let check = open.repository.check(&keys, options, &counters);
    tokio::pin!(check);
    let mut tell = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            report = &mut check => return report.map(|report| outcome(report, probed)).map_err(|error| nothing_changed(&error)),
            _ = tell.tick() => work.tell(|progress| {
                progress.bytes_done = counters.bytes_done.load(Ordering::Relaxed);
                progress.bytes_total = counters.bytes_total.load(Ordering::Relaxed);
            }),
        }
    }
}

fn nothing_changed(error: &Error) -> Fault {
    error.fault().effect(Effect::None)
}

fn outcome(report: CheckReport, probed: ProbeReport) -> CheckOutcome {
    let mut store_notes: Vec<String> = probed.able.into_iter().map(|what| format!("it can: {what}")).collect();
    store_notes.extend(probed.missing.into_iter().map(|what| format!("it cannot: {what}")));
    store_notes.extend(probed.weak.into_iter().map(|what| format!("weak: {what}")));
    if report.unneeded_packs > 0 {
        let size = Size(report.unneeded_bytes);
        store_notes.push(format!("{} packs ({size}) are needed by no point: left by backups that did not end", report.unneeded_packs));
    }
    if report.frames_read > 0 {
        store_notes.push(format!("{} frames were read and verified", report.frames_read));
    }
    let problem_count = report.problems.len() as u64;
    if report.more_problems {
        store_notes.push(format!("there are more than {problem_count} problems"));
    }
    CheckOutcome {
        points: report.points,
        packs: report.packs,
        bytes: report.bytes,
        problems: report.problems.iter().take(MAX_PROBLEMS).map(in_words).collect(),
        problem_count,
        store_notes,
    }
}

fn in_words(problem: &Problem) -> String {
    let mut text = problem.damage.to_string();
    if !problem.points.is_empty() {
        let named: Vec<String> = problem.points.iter().take(MAX_POINTS).map(|(_, point)| point.to_string()).collect();
        let more = problem.points.len().saturating_sub(MAX_POINTS);
        text.push_str(&format!("; hurts {} {}", if problem.points.len() == 1 { "point" } else { "points" }, named.join(", ")));
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
    }
    text
}
