//! Who may write: preflights, and what came of what decided it.

use muster_wire::proto::v1::{LossBound, MoveResult, PreflightResponse, SiteComponentResult, SiteComponentState, SiteMoveResult};

use super::amount::{NOTHING, duration_or_nothing, read_duration, short};
use super::table;

/// A bound in words.
#[must_use]
pub fn loss(bound: &LossBound) -> String {
    match (bound.bytes, bound.time.as_ref()) {
        (Some(0), Some(time)) if time.seconds == 0 && time.nanos == 0 => "nothing".to_owned(),
        (Some(bytes), None) => format!("at most {bytes} bytes of log; of how long a time is not known"),
        (Some(bytes), Some(time)) => format!("at most {bytes} bytes of log, {} of commits", duration_or_nothing(Some(time))),
        (None, _) => "no bound is known".to_owned(),
    }
}

/// All checks, and what a failover would lose.
#[must_use]
pub fn preflight(component: &str, found: &PreflightResponse) -> String {
    let mut text = String::new();
    for check in &found.checks {
        let mark = match (check.ok, check.blocks) {
            (true, _) => "ok  ",
            (false, true) => "NO  ",
            (false, false) => "note",
        };
        let age = check.age.as_ref().map(|age| format!(" ({} ago)", duration_or_nothing(Some(age)))).unwrap_or_default();
        text.push_str(&format!("{mark}  {:<9} {}{age}\n", check.name, check.evidence));
        if !check.lifted_by.is_empty() {
            text.push_str(&format!("      {:<9} lifted by: {}\n", "", check.lifted_by));
        }
    }
    match &found.loss {
        Some(bound) => {
            text.push_str(&format!(
                "\nA failover to {} now, were the writer gone, would lose: {}.\n  {}\n",
                found.to,
                loss(bound),
                found.loss_evidence
            ));
        }
        None => text.push_str("\nNobody could become the writer in a failover now.\n"),
    }
    if found.ready {
        text.push_str(&format!("\nA switchover would do this: muster switchover {component} --to {}\n", found.to));
        for (number, step) in found.plan.iter().enumerate() {
            text.push_str(&format!("  {}. {step}\n", number.saturating_add(1)));
        }
    } else {
        text.push_str("\nA switchover would be refused now.\n");
    }
    text
}

/// What came of a site's components.
#[must_use]
pub fn site(done: &SiteMoveResult) -> String {
    let row = |of: &SiteComponentResult| {
        let came_to = match of.state() {
            SiteComponentState::Unspecified => NOTHING,
            SiteComponentState::Moved => "moved",
            SiteComponentState::Elsewhere => "elsewhere already",
            SiteComponentState::Failed => "NOT MOVED",
            SiteComponentState::NotBegun => "not begun",
        };
        vec![of.component.clone(), came_to.to_owned(), short(&of.operation_id).to_owned(), of.why.clone()]
    };
    let rows: Vec<_> = done.components.iter().map(row).collect();
    table::table(&["COMPONENT", "CAME TO", "OPERATION", "WHY"], &rows, "  ")
}

/// What came of it.
#[must_use]
pub fn result(done: &MoveResult) -> String {
    let mut rows = Vec::new();
    match done.writer.as_str() {
        "" => rows.push(("writer", "none takes writes".to_owned())),
        writer => rows.push(("writer", writer.to_owned())),
    }
    rows.push((
        "epoch",
        match done.epoch == done.epoch_before {
            true => done.epoch.to_string(),
            false => format!("{}, before {}", done.epoch, done.epoch_before),
        },
    ));
    if let Some(outage) = done.outage.as_ref().and_then(|outage| read_duration(Some(outage))) {
        rows.push(("no writes", format!("for {:.1} s", outage.as_secs_f64())));
    }
    if let Some(bound) = &done.loss {
        rows.push(("lost", loss(bound)));
    }
    let mut text = table::labelled(&rows, "  ");
    for note in &done.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text
}
