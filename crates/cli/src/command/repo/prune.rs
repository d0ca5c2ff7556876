//! `muster repo prune`: what no rule keeps and what no point needs goes, with no controller.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ComponentId;
use muster_repository::prune::{PruneOptions, PruneReport};
use muster_repository::retention::{Decision, Keep, Rules};
use serde_json::{Value, json};

use super::{component, short};
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;
use crate::place::{self, Place};
use crate::render::amount::{bytes, counted, instant};
use crate::render::table;

/// The arguments of `muster repo prune`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster repo prune --folder /srv/muster                                    # what no point needs\n  muster repo prune --file primary.yaml --passphrase-file passphrase --keep-within 30d --keep-last 7 --dry-run"
)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The component, where the repository holds several.
    #[arg(long, value_name = "ID")]
    component_id: Option<ComponentId>,
    /// A file that holds the recovery passphrase: points go only where it proves what they are.
    #[arg(long, env = "MUSTER_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Points that are younger stay.
    #[arg(long, value_name = "DURATION", requires = "passphrase_file", value_parser = muster_common::duration::parse)]
    keep_within: Option<Duration>,
    /// So many of the newest good points stay.
    #[arg(long, value_name = "N", requires = "passphrase_file", value_parser = clap::value_parser!(u32).range(1..))]
    keep_last: Option<u32>,
    /// Only tell what would go. Writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Prunes one component.
///
/// # Errors
/// Where the repository cannot be reached, the passphrase is wrong, or nobody knows what is needed.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let passphrase = arguments.passphrase_file.as_deref().map(place::passphrase).transpose()?;
    let repository = arguments.place.required()?.open().await?;
    let component = component(&repository, arguments.component_id).await?;
    let keys = match &passphrase {
        Some(passphrase) => Some(repository.unlock_with_passphrase(component, passphrase).await.map_err(|error| place::unread(&error))?),
        None => None,
    };
    let rules = Rules { keep_within: arguments.keep_within, keep_last: arguments.keep_last };
    let mut options = PruneOptions { rules, dry_run: true, ..PruneOptions::default() };
    let removed = AtomicU64::new(0);
    let planned = repository.prune(component, keys.as_ref(), &options, &removed).await.map_err(|error| error.fault())?;
    if arguments.dry_run {
        show(app, &planned, true)?;
        return Ok(Exit::Ok);
    }
    let going = planned.points.iter().filter(|fate| !fate.decision.keeps()).count() as u64;
    if going > 0 {
        let lost = format!("{}\nREMOVED for good, now or in a later run: {}.\n", text(&planned, true), counted(going, "recovery point"));
        app.console.consent(&lost, &component.to_string(), arguments.yes).await?;
    }
    options.dry_run = false;
    let report = tokio::select! {
        report = repository.prune(component, keys.as_ref(), &options, &removed) => report.map_err(|error| error.fault())?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Fault::failed(ErrorKind::Cancelled, "the prune was interrupted").hint("nothing is hurt; run it again to go on"));
        }
    };
    show(app, &report, false)?;
    Ok(Exit::Ok)
}

fn show(app: &App, report: &PruneReport, dry_run: bool) -> Result<(), Fault> {
    match app.console.output {
        Output::Text => app.console.data(&text(report, dry_run)),
        Output::Json | Output::Yaml => app.console.value(&value(report)),
    }
}

fn text(report: &PruneReport, dry_run: bool) -> String {
    let row = |fate: &muster_repository::prune::PointFate| {
        let state = match (&fate.decision, fate.removed, fate.marked_at) {
            (Decision::Keep(Keep::Held(until, _)), _, _) => format!("stays until {}", instant(*until)),
            (Decision::Keep(_), _, _) => "stays".to_owned(),
            (Decision::Remove(_), true, _) if dry_run => "goes now".to_owned(),
            (Decision::Remove(_), true, _) => "removed".to_owned(),
            (Decision::Remove(_), false, _) => "goes".to_owned(),
        };
        vec![short(fate.point), instant(fate.stored_at), bytes(fate.bytes_alone), state, fate.decision.why(), fate.label.clone()]
    };
    let rows: Vec<_> = report.points.iter().map(row).collect();
    let mut text = table::table(&["POINT", "STORED", "ALONE", "", "WHY", "LABEL"], &rows, "");
    let would = if dry_run { "would be " } else { "" };
    let mut line = |number: u64, size: u64, what: &str| {
        if number > 0 {
            text.push_str(&format!("{} of {} {what}\n", counted(number, "pack"), bytes(size)));
        }
    };
    line(report.removed_packs, report.removed_bytes, &format!("{would}removed"));
    line(report.marked_packs, report.marked_bytes, &format!("{would}marked"));
    line(report.waiting_packs, report.waiting_bytes, "marked before and waiting");
    for note in &report.notes {
        text.push_str(&format!("NOTE {note}\n"));
    }
    match report.next_at {
        Some(at) if !dry_run => text.push_str(&format!("what is marked can go from {} on: run it again then\n", instant(at))),
        Some(_) | None => {}
    }
    text
}

fn value(report: &PruneReport) -> Value {
    let point = |fate: &muster_repository::prune::PointFate| {
        json!({
            "id": fate.point.to_string(),
            "storedAt": instant(fate.stored_at),
            "kind": fate.kind,
            "label": fate.label,
            "bytesAlone": fate.bytes_alone,
            "stays": fate.decision.keeps(),
            "why": fate.decision.why(),
            "markedAt": fate.marked_at.map(instant),
            "removed": fate.removed,
        })
    };
    json!({
        "points": report.points.iter().map(point).collect::<Vec<_>>(),
        "packs": report.packs,
        "bytes": report.bytes,
        "removedPacks": report.removed_packs,
        "removedBytes": report.removed_bytes,
        "markedPacks": report.marked_packs,
        "markedBytes": report.marked_bytes,
        "waitingPacks": report.waiting_packs,
        "waitingBytes": report.waiting_bytes,
        "nextAt": report.next_at.map(instant),
        "notes": report.notes,
    })
}
