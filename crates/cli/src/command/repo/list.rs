//! `muster repo list`: the recovery points that are there; with the passphrase, what each says of itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use muster_common::fault::Fault;
use muster_common::id::ComponentId;
use muster_common::time::Timestamp;
use muster_repository::keys::DataKeys;
use muster_repository::reading::PointSummary;
use muster_repository::repository::{PointListing, Repository};
use muster_repository::secret::Secret;
use muster_service::clock;
use serde_json::{Value, json};

use super::short;
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;
use crate::place::{self, Place};
use crate::render::amount::{NOTHING, bytes, counted, instant, rounded};
use crate::render::table;

/// The arguments of `muster repo list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster repo list --folder /srv/muster\n  muster repo list --file primary.yaml --passphrase-file passphrase"
)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Only of this component.
    #[arg(long, value_name = "ID")]
    component_id: Option<ComponentId>,
    /// A file that holds the recovery passphrase: then each point tells what it reaches.
    #[arg(long, env = "MUSTER_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A point and, where it could be opened, what it says; else why not.
struct Row {
    listing: PointListing,
    summary: Option<PointSummary>,
    problem: Option<String>,
    /// Until when it is held, and why.
    held: Option<(Timestamp, String)>,
}

/// Lists them, newest first. Ends with 11 where one is damaged.
///
/// # Errors
/// Where the repository cannot be reached, or the passphrase is wrong.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let found = arguments.place.required()?;
    let passphrase = arguments.passphrase_file.as_deref().map(place::passphrase).transpose()?;
    let repository = found.open().await?;
    let mut listings = repository.list_points(arguments.component_id).await.map_err(|error| place::unread(&error))?;
    listings.reverse();
    if let (Some(passphrase), true) = (&passphrase, listings.is_empty()) {
        // No point will prove it.
        repository.check_passphrase(passphrase).await.map_err(|error| place::unread(&error))?;
    }
    let mut rows = match passphrase {
        Some(passphrase) => opened(&repository, listings, &passphrase).await?,
        None => listings.into_iter().map(unopened).collect(),
    };
    add_holds(&repository, &mut rows).await?;
    match app.console.output {
        Output::Text => app.console.data(&text(&rows, &found.location.to_string(), clock::now()))?,
        Output::Json | Output::Yaml => app.console.value(&json!({ "points": rows.iter().map(value).collect::<Vec<_>>() }))?,
    }
    Ok(if rows.iter().any(|row| row.problem.is_some()) { Exit::Damage } else { Exit::Ok })
}

fn unopened(listing: PointListing) -> Row {
    let problem = listing.problem.as_ref().map(ToString::to_string);
    Row { listing, summary: None, problem, held: None }
}

async fn add_holds(repository: &Repository, rows: &mut [Row]) -> Result<(), Fault> {
    let components: BTreeSet<ComponentId> = rows.iter().map(|row| row.listing.component).collect();
    for component in components {
        let holds = repository.holds(component).await.map_err(|error| place::unread(&error))?;
        for hold in holds.into_iter().filter(|hold| hold.stands(clock::now())) {
            for row in rows.iter_mut().filter(|row| (row.listing.component, row.listing.point) == (component, hold.point)) {
                let earlier = row.held.take().filter(|(until, _)| *until > hold.until);
                row.held = earlier.or_else(|| Some((hold.until, format!("{} ({})", hold.reason, hold.holder))));
            }
        }
    }
    Ok(())
}

async fn opened(repository: &Repository, listings: Vec<PointListing>, passphrase: &Secret) -> Result<Vec<Row>, Fault> {
    let mut keys: Option<DataKeys> = None;
    let mut rows = Vec::new();
    for listing in listings {
        let component = listing.component;
        if keys.as_ref().is_none_or(|keys| keys.component() != component) {
            keys = Some(repository.unlock_with_passphrase(component, passphrase).await.map_err(|error| place::unread(&error))?);
        }
        let mut row = unopened(listing);
        if let (Some(keys), None) = (&keys, &row.problem) {
            match repository.point_summary(keys, component, row.listing.point).await {
                Ok(summary) => row.summary = Some(summary),
                Err(error) => row.problem = Some(error.to_string()),
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

fn text(rows: &[Row], place: &str, now: Timestamp) -> String {
    if rows.is_empty() {
        return format!("{place} holds no recovery points\n");
    }
    let row = |row: &Row| {
        let of = |get: &dyn Fn(&PointSummary) -> String| row.summary.as_ref().map_or_else(|| NOTHING.to_owned(), get);
        let at = row.summary.as_ref().map_or(row.listing.stored_at, |summary| summary.details.finished);
        vec![
            short(row.listing.point),
            row.listing.component.to_string(),
            of(&|summary| summary.instance.clone()),
            instant(at),
            format!("{} ago", rounded(now.since(at))),
            of(&|summary| summary.details.position_text.clone()),
            of(&|summary| bytes(summary.bytes)),
            counted(row.listing.packs.len() as u64, "pack"),
            of(&|summary| summary.details.kind.clone()),
            note(row),
        ]
    };
    let cells: Vec<_> = rows.iter().map(row).collect();
    let headings = ["POINT", "COMPONENT", "FROM", "REACHES", "AGE", "POSITION", "RESTORES", "IN", "KIND", "LABEL"];
    table::table(&headings, &cells, "")
}

fn note(row: &Row) -> String {
    let mut notes = Vec::new();
    if let Some(problem) = &row.problem {
        notes.push(format!("DAMAGED: {problem}"));
    }
    if let Some((until, why)) = &row.held {
        notes.push(format!("held until {}: {why}", instant(*until)));
    }
    if let Some(summary) = &row.summary {
        if !summary.details.label.is_empty() {
            notes.push(summary.details.label.clone());
        }
        if !summary.details.damaged.is_empty() {
            notes.push(format!("{} of the source were damaged", counted(summary.details.damaged.len() as u64, "page")));
        }
    }
    notes.join("; ")
}

fn value(row: &Row) -> Value {
    let summary = row.summary.as_ref().map(|summary| {
        json!({
            "instance": summary.instance,
            "kind": summary.details.kind,
            "label": summary.details.label,
            "startedAt": instant(summary.details.started),
            "finishedAt": instant(summary.details.finished),
            "position": summary.details.position_text,
            "files": summary.files,
            "bytes": summary.bytes,
            "bytesStored": summary.bytes_stored,
            "damagedPages": summary.details.damaged.len(),
        })
    });
    json!({
        "id": row.listing.point.to_string(),
        "componentId": row.listing.component.to_string(),
        "storedAt": instant(row.listing.stored_at),
        "packs": row.listing.packs.len(),
        "problem": row.problem,
        "heldUntil": row.held.as_ref().map(|(until, _)| instant(*until)),
        "says": summary,
    })
}
