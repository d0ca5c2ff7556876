//! Operations: in a list, whole, and what came of them.

use muster_common::duration::show;
use muster_common::time::Timestamp;
use muster_wire::convert::fault_from_proto;
use muster_wire::proto::v1::{
    BackupResult, CheckResult, KeptDirectory, Operation, OperationEvent, OperationKind, OperationState, RestoreResult, Step, StepState,
    VerifyCheckState, VerifyResult, operation,
};

use super::amount::{
    NOTHING, age, bytes, count, counted, instant, instant_or_nothing, position, read_duration, read_instant, rounded, short,
};
use super::{fault, hooks, moves, retention, table};
use crate::exit::has_ended;

/// `backup`.
#[must_use]
pub const fn kind(operation: &OperationKind) -> &'static str {
    match operation {
        OperationKind::Unspecified => "operation",
        OperationKind::Backup => "backup",
        OperationKind::Restore => "restore",
        OperationKind::Check => "check",
        OperationKind::Discard => "discard",
        OperationKind::Verify => "verify",
        OperationKind::Prune => "prune",
        OperationKind::Hold => "hold",
        OperationKind::Hook => "hook",
        OperationKind::Order => "order",
        OperationKind::Manage => "manage",
        OperationKind::Switchover => "switchover",
        OperationKind::Failover => "failover",
        OperationKind::Fence => "fence",
        OperationKind::Unfence => "unfence",
        OperationKind::Rejoin => "rejoin",
        OperationKind::SwitchoverSite => "switchover of a site",
        OperationKind::FailoverSite => "failover of a site",
    }
}

/// `running`.
#[must_use]
pub const fn state(state: OperationState) -> &'static str {
    match state {
        OperationState::Unspecified => "in a state that this version does not know",
        OperationState::Pending => "pending",
        OperationState::Running => "running",
        OperationState::Cancelling => "cancelling",
        OperationState::Unknown => "outcome unknown",
        OperationState::Suspended => "suspended",
        OperationState::Succeeded => "succeeded",
        OperationState::Failed => "failed",
        OperationState::Cancelled => "cancelled",
    }
}

const fn step_state(state: StepState) -> &'static str {
    match state {
        StepState::Unspecified => NOTHING,
        StepState::Started => "started",
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Unknown => "outcome unknown",
        StepState::Cancelled => "cancelled",
    }
}

/// `orders-db/istanbul`, or the component, the site or the repository alone.
#[must_use]
pub fn subject(operation: &Operation) -> String {
    match (operation.component.as_str(), operation.instance.as_str()) {
        ("", _) if !operation.site.is_empty() => format!("site {}", operation.site),
        ("", _) if operation.repository.is_empty() => NOTHING.to_owned(),
        ("", _) => format!("repository {}", operation.repository),
        (component, "") => component.to_owned(),
        (component, instance) => format!("{component}/{instance}"),
    }
}

/// `dry run of restore 3f2a91c0 of orders-db/istanbul`.
#[must_use]
pub fn title(operation: &Operation) -> String {
    let dry = if operation.dry_run { "dry run of " } else { "" };
    format!("{dry}{} {} of {}", kind(&operation.kind()), short(&operation.id), subject(operation))
}

/// How long it ran, or has been running.
fn took(operation: &Operation, now: Timestamp) -> String {
    match read_instant(operation.created_at.as_ref()) {
        Some(created) => match read_instant(operation.finished_at.as_ref()) {
            Some(finished) => show(finished.since(created)),
            None => rounded(now.since(created)),
        },
        None => NOTHING.to_owned(),
    }
}

/// `succeeded in 3.2s, asked for by operator/ada`, and why where it failed.
#[must_use]
pub fn ended(operation: &Operation) -> String {
    let took = read_instant(operation.created_at.as_ref()).zip(read_instant(operation.finished_at.as_ref()));
    let took = took.map_or_else(String::new, |(created, finished)| format!(" in {}", show(finished.since(created))));
    let why = operation.fault.as_ref().map_or_else(String::new, |fault| format!(": {}", fault.message));
    format!("{}{took}, asked for by {}{why}", state(operation.state()), operation.cause)
}

/// A table, newest first.
#[must_use]
pub fn list(operations: &[Operation], now: Timestamp) -> String {
    if operations.is_empty() {
        return "no operations\n".to_owned();
    }
    let row = |operation: &Operation| {
        vec![
            short(&operation.id).to_owned(),
            if operation.dry_run { format!("{} (dry run)", kind(&operation.kind())) } else { kind(&operation.kind()).to_owned() },
            subject(operation),
            state(operation.state()).to_owned(),
            age(operation.created_at.as_ref(), now),
            took(operation, now),
            operation.cause.clone(),
        ]
    };
    let rows: Vec<_> = operations.iter().map(row).collect();
    table::table(&["ID", "KIND", "OF", "STATE", "STARTED", "TOOK", "BY"], &rows, "")
}

/// A transition as a line: `17:05:12 backup 3f2a91c0: sent to istanbul-db1`.
#[must_use]
pub fn event(event: &OperationEvent) -> String {
    let at = read_instant(event.at.as_ref()).map_or_else(|| NOTHING.to_owned(), clock);
    match &event.operation {
        Some(operation) => format!("{at} {} {}: {}", kind(&operation.kind()), short(&operation.id), event.text),
        None => format!("{at} {}", event.text),
    }
}

/// The time of day alone, UTC.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    instant(at).split(' ').nth(1).unwrap_or_default().trim_end_matches('Z').to_owned()
}

/// What came of it, or where it stands: a line, and below it the result or the fault with what to type next.
#[must_use]
pub fn outcome(operation: &Operation, now: Timestamp) -> String {
    let ran = if has_ended(operation) { "in" } else { "for" };
    let mut text = format!("{}: {} {ran} {}\n", title(operation), state(operation.state()), took(operation, now));
    if !operation.waiting_for.is_empty() {
        text.push_str(&format!("  waits for {}\n", operation.waiting_for));
    }
    if let Some(why) = &operation.fault {
        let why = fault_from_proto(why);
        text.push_str(&format!("  {}\n{}", why.message, fault::body(&why, "  ")));
    }
    text.push_str(&result(operation, now));
    text.push_str(&hooks::runs(&operation.hooks, false));
    text.push_str(&next(operation));
    text
}

fn result(operation: &Operation, now: Timestamp) -> String {
    match &operation.result {
        None => String::new(),
        Some(operation::Result::Backup(backup)) => backup_result(backup, &operation.repository),
        Some(operation::Result::Restore(restore)) if operation.dry_run => plan(restore, now),
        Some(operation::Result::Restore(restore)) => restore_result(restore, &operation.id, now),
        Some(operation::Result::Check(check)) => check_result(check),
        Some(operation::Result::Verify(verify)) => verify_result(verify),
        Some(operation::Result::Prune(prune)) => retention::prune(prune),
        Some(operation::Result::Hold(hold)) => retention::hold(hold),
        Some(operation::Result::Hook(_)) => String::new(),
        Some(operation::Result::Move(done)) => moves::result(done),
        Some(operation::Result::SiteMove(done)) => moves::site(done),
        Some(operation::Result::Discard(discard)) => format!("  {} is removed\n", discard.path),
    }
}

fn backup_result(backup: &BackupResult, repository: &str) -> String {
    let rows = [
        ("point", format!("{}, reaches {}", short(&backup.point_id), instant_or_nothing(backup.finished_at.as_ref()))),
        ("position", position(backup.position.as_ref())),
        ("restores", format!("{} in {}", bytes(backup.bytes_total), counted(backup.files, "file"))),
        ("stored", format!("{} more in repository {repository}", bytes(backup.bytes_stored))),
    ];
    let mut text = table::labelled(&rows, "  ");
    for note in &backup.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    if backup.damaged_pages > 0 {
        text.push_str(&format!(
            "  WARNING: {} in the database had wrong checksums, and are in the point as they are:\n",
            counted(backup.damaged_pages, "page")
        ));
        text.push_str(&some(&backup.damage, backup.damaged_pages));
        text.push_str("  HINT: check the disk; restore an older point beside the database and compare: `muster points` lists them\n");
    }
    text
}

fn restore_result(restore: &RestoreResult, id: &str, now: Timestamp) -> String {
    let mut rows = vec![("point", short(&restore.point_id).to_owned())];
    // Into a database: there is none.
    if !restore.directory.is_empty() {
        rows.push(("directory", restore.directory.clone()));
    }
    if restore.position.is_some() {
        rows.push(("position", position(restore.position.as_ref())));
    }
    let mut text = table::labelled(&rows, "  ");
    if let Some(kept) = &restore.kept {
        text.push_str(&format!("  {}\n  HINT: `muster discard {}` removes it now\n", kept_line(kept, now), short(id)));
    }
    let mut phases: Vec<_> = restore.phase_seconds.iter().collect();
    phases.sort_by(|a, b| b.1.total_cmp(a.1));
    for note in restore.plan.iter().flat_map(|plan| &plan.notes) {
        text.push_str(&format!("  note: {note}\n"));
    }
    for (phase, seconds) in phases.into_iter().take(8) {
        text.push_str(&format!("  {phase} took {seconds:.1} s\n"));
    }
    text
}

/// `the old directory /srv/pg.old (1.0 GiB) is kept until …`.
#[must_use]
pub fn kept_line(kept: &KeptDirectory, now: Timestamp) -> String {
    let until = instant_or_nothing(kept.until.as_ref());
    format!("the old directory {} ({}) is kept until {until} ({})", kept.path, bytes(kept.bytes), age(kept.until.as_ref(), now))
}

fn plan(restore: &RestoreResult, now: Timestamp) -> String {
    let Some(plan) = &restore.plan else {
        return String::new();
    };
    let to = if restore.directory.is_empty() { String::new() } else { format!(" to {}", restore.directory) };
    let writes = format!("{} in {}{to}", bytes(plan.bytes), counted(plan.files, "file"));
    let predicted = read_duration(plan.predicted.as_ref()).map_or_else(|| "not predicted".to_owned(), |d| format!("about {}", rounded(d)));
    let rows =
        [("point", short(&restore.point_id).to_owned()), ("writes", writes), ("takes", predicted), ("free there", bytes(plan.free_bytes))];
    let mut text = table::labelled(&rows, "  ");
    for replaced in &plan.replaces {
        text.push_str(&format!("  REPLACES: {replaced}\n"));
    }
    for note in &plan.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    if let Some(kept) = &restore.kept {
        text.push_str(&format!("  {}\n", kept_line(kept, now)));
    }
    text
}

fn check_result(check: &CheckResult) -> String {
    let mut text = format!("  read {}, {}, {}\n", counted(check.points, "point"), counted(check.packs, "pack"), bytes(check.bytes));
    for note in &check.store_notes {
        text.push_str(&format!("  store: {note}\n"));
    }
    if check.problem_count > 0 {
        text.push_str(&format!("  WARNING: {}:\n", counted(check.problem_count, "problem")));
        text.push_str(&some(&check.problems, check.problem_count));
        text.push_str("  HINT: points that no problem names can be restored; take a new backup now: `muster backup COMPONENT`\n");
    } else {
        text.push_str("  no problems\n");
    }
    text
}

fn verify_result(verify: &VerifyResult) -> String {
    let seconds = |phase: &str| verify.phase_seconds.get(phase).copied();
    let back: f64 = ["fetch", "start", "replay"].into_iter().filter_map(seconds).sum();
    let phases: Vec<_> =
        ["fetch", "start", "replay", "checks"].into_iter().filter_map(|phase| Some(format!("{phase} {:.1} s", seconds(phase)?))).collect();
    let mut rows = vec![
        ("point", short(&verify.point_id).to_owned()),
        ("restored", format!("{} in {}", bytes(verify.bytes), counted(verify.files, "file"))),
        ("took", phases.join(", ")),
        ("RTO", format!("{back:.1} s until it took connections")),
    ];
    if verify.position.is_some() {
        rows.push(("position", position(verify.position.as_ref())));
    }
    let mut text = table::labelled(&rows, "  ");
    for check in &verify.checks {
        let told = match check.state() {
            VerifyCheckState::Passed => "passed",
            VerifyCheckState::NotChecked | VerifyCheckState::Unspecified => "NOT CHECKED",
        };
        text.push_str(&format!("  {told}: {}: {}\n", check.name, check.detail));
    }
    for note in &verify.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text
}

/// The first of many lines, and how many more there are.
fn some(lines: &[String], all: u64) -> String {
    const SHOWN: usize = 20;
    let mut text: String = lines.iter().take(SHOWN).map(|line| format!("    {line}\n")).collect();
    let shown = lines.len().min(SHOWN) as u64;
    if all > shown {
        text.push_str(&format!("    … and {} more (`-o json` gives up to 1,000)\n", count(all - shown)));
    }
    text
}

/// What to type where the state asks for a person.
fn next(operation: &Operation) -> String {
    let id = short(&operation.id);
    match operation.state() {
        OperationState::Unknown => format!(
            "  HINT: the outcome is asked of the agent as soon as it is heard; see `muster agents`. If the agent is gone for good, look at what it did \
             and say so: `muster resolve {id} --succeeded|--failed --word \"what you saw\"`\n"
        ),
        OperationState::Suspended => {
            "  HINT: this controller may be behind its agents; it goes on when they were asked. `muster agents` tells who is missing\n"
                .to_owned()
        }
        OperationState::Pending | OperationState::Running => {
            format!("  `muster watch {id}` follows it, `muster cancel {id}` stops it\n")
        }
        OperationState::Unspecified
        | OperationState::Cancelling
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Cancelled => String::new(),
    }
}

/// All of an operation: who asked, its steps, what came of it.
#[must_use]
pub fn whole(operation: &Operation, now: Timestamp) -> String {
    let mut rows = vec![
        ("id", operation.id.clone()),
        ("by", operation.cause.clone()),
        ("started", format!("{} ({})", instant_or_nothing(operation.created_at.as_ref()), age(operation.created_at.as_ref(), now))),
    ];
    if operation.finished_at.is_some() {
        rows.push(("ended", instant_or_nothing(operation.finished_at.as_ref())));
    }
    if operation.epoch > 0 {
        rows.push(("epoch", operation.epoch.to_string()));
    }
    if !operation.parent.is_empty() {
        rows.push(("part of", operation.parent.clone()));
    }
    let steps: Vec<_> = operation.steps.iter().map(|step| step_row(step, now)).collect();
    let steps = table::table(&["STEP", "STATE", "AGENT", "STARTED", "WHY"], &steps, "  ");
    format!("{}{}{steps}", outcome(operation, now), table::labelled(&rows, "  "))
}

fn step_row(step: &Step, now: Timestamp) -> Vec<String> {
    let agent = if step.agent.is_empty() { NOTHING.to_owned() } else { step.agent.clone() };
    let why = step.fault.as_ref().map(|why| why.message.clone()).unwrap_or_default();
    vec![step.name.clone(), step_state(step.state()).to_owned(), agent, age(step.started_at.as_ref(), now), why]
}

#[cfg(test)]
mod tests;
