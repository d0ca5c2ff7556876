//! `muster repo check`: whether what is in a repository is whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ComponentId;
use muster_repository::check::{CheckOptions, CheckReport};
use muster_repository::counters::Counters;
use muster_repository::error::{Error, KeyError};
use muster_repository::keys::DataKeys;
use muster_repository::repository::Repository;
use muster_repository::secret::Secret;
use muster_wire::proto::v1::Progress;
use serde_json::json;

use super::short;
use crate::arguments::App;
use crate::command::check::part;
use crate::console::{Console, Output};
use crate::exit::Exit;
use crate::place::{self, Place};
use crate::progress::{Meter, told};
use crate::render::amount::{bytes, counted};

/// The arguments of `muster repo check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster repo check --folder /srv/muster                                            # structure\n  muster repo check --file primary.yaml --passphrase-file passphrase --read-data 1/1   # every byte"
)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Only of this component.
    #[arg(long, value_name = "ID")]
    component_id: Option<ComponentId>,
    /// A file that holds the recovery passphrase: then what is sealed is checked too.
    #[arg(long, env = "MUSTER_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Read and decrypt the Nth of M parts of the data too.
    #[arg(long, value_name = "N/M", value_parser = part, requires = "passphrase_file")]
    read_data: Option<(u32, u32)>,
}

/// Checks it. Ends with 11 where something is wrong.
///
/// # Errors
/// Where the repository cannot be reached, or the passphrase is wrong.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let found = arguments.place.required()?;
    let passphrase = arguments.passphrase_file.as_deref().map(place::passphrase).transpose()?;
    let repository = found.open().await?;
    let keys = match &passphrase {
        None => Vec::new(),
        Some(passphrase) => unlocked(app, &repository, passphrase, arguments.component_id).await?,
    };
    let options = CheckOptions { read_data: arguments.read_data, component: arguments.component_id, ..CheckOptions::default() };
    let counters = Arc::new(Counters::default());
    let report = tokio::select! {
        report = repository.check(&keys, options, &counters) => report.map_err(|error| place::unread(&error))?,
        never = tell(app.console, &counters) => match never {},
        _ = tokio::signal::ctrl_c() => return Err(Fault::refused(ErrorKind::Cancelled, "the check was interrupted").hint("a check changes nothing; run it again")),
    };
    show(app, &report)?;
    Ok(if report.problems.is_empty() { Exit::Ok } else { Exit::Damage })
}

/// The keys of all components there, or of the wanted one.
async fn unlocked(app: &App, repository: &Repository, passphrase: &Secret, wanted: Option<ComponentId>) -> Result<Vec<DataKeys>, Fault> {
    let (granted, _) = repository.granted().await.map_err(|error| place::unread(&error))?;
    if granted.is_empty() {
        // No key will prove it.
        repository.check_passphrase(passphrase).await.map_err(|error| place::unread(&error))?;
    }
    let mut keys = Vec::new();
    for component in granted.into_iter().filter(|id| wanted.is_none_or(|wanted| wanted == *id)) {
        match repository.unlock_with_passphrase(component, passphrase).await {
            Ok(unlocked) => keys.push(unlocked),
            Err(wrong @ Error::Key(KeyError::WrongPassphrase)) => return Err(place::unread(&wrong)),
            // A key object that is damaged is a finding of the check, not its end.
            Err(error) => app.console.say(&format!("component {component} is checked without its key: {error}\n")),
        }
    }
    Ok(keys)
}

/// Tells how far it is, every five seconds, for as long as it is not dropped.
async fn tell(console: Console, counters: &Counters) -> std::convert::Infallible {
    let mut meter = Meter::default();
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = muster_service::clock::now();
        let progress = Progress {
            phase: "checking".into(),
            bytes_done: counters.bytes_done.load(Ordering::Relaxed),
            bytes_total: counters.bytes_total.load(Ordering::Relaxed),
            at: Some(muster_wire::convert::timestamp_to_proto(now)),
            ..Progress::default()
        };
        meter.hear(&progress);
        console.note(&told(&progress, meter.read(&progress)));
    }
}

fn show(app: &App, report: &CheckReport) -> Result<(), Fault> {
    if app.console.output == Output::Text {
        return app.console.data(&text(report));
    }
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| {
            let points: Vec<String> = problem.points.iter().map(|(_, point)| point.to_string()).collect();
            json!({"object": problem.damage.object, "offset": problem.damage.offset, "what": problem.damage.what, "points": points})
        })
        .collect();
    app.console.value(&json!({
        "points": report.points,
        "packs": report.packs,
        "bytes": report.bytes,
        "unneededPacks": report.unneeded_packs,
        "unneededBytes": report.unneeded_bytes,
        "framesRead": report.frames_read,
        "pointsWithoutKeys": report.points_without_keys,
        "problems": problems,
        "moreProblems": report.more_problems,
    }))
}

fn text(report: &CheckReport) -> String {
    let mut text = format!("{} in {} of {}\n", counted(report.points, "point"), counted(report.packs, "pack"), bytes(report.bytes));
    if report.frames_read > 0 {
        text.push_str(&format!("{} read and authenticated\n", counted(report.frames_read, "frame")));
    }
    if report.points_without_keys > 0 {
        text.push_str(&format!(
            "{} looked at from outside only: without a passphrase nothing is opened\n",
            counted(report.points_without_keys, "point")
        ));
    }
    if report.unneeded_packs > 0 {
        text.push_str(&format!("{} of {} that no point needs\n", counted(report.unneeded_packs, "pack"), bytes(report.unneeded_bytes)));
    }
    for problem in &report.problems {
        let points: Vec<String> = problem.points.iter().take(20).map(|(_, point)| short(*point)).collect();
        let hurt = if points.is_empty() { String::new() } else { format!(" (hurts {})", points.join(", ")) };
        text.push_str(&format!("PROBLEM {}{hurt}\n", problem.damage));
    }
    if report.more_problems {
        text.push_str("and more problems than are kept\n");
    }
    text.push_str(if report.problems.is_empty() {
        "no problems\n"
    } else {
        "HINT: points that no problem hurts can be restored; take a new backup of the components that are hurt\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use muster_common::id::PointId;
    use muster_repository::check::Problem;
    use muster_repository::error::Damage;

    use super::*;

    #[test]
    fn a_check_tells_each_problem_and_whom_it_hurts() {
        let damage = Damage { object: "packs/ab".into(), offset: Some(9), what: "was altered".into() };
        let problem = Problem { damage: damage.clone(), points: vec![(ComponentId::from_bytes([1; 16]), PointId::from_bytes([0xab; 16]))] };
        let report = CheckReport {
            points: 2,
            packs: 3,
            bytes: 1 << 20,
            unneeded_packs: 1,
            unneeded_bytes: 512,
            problems: vec![problem],
            ..CheckReport::default()
        };
        assert_eq!(
            text(&report),
            format!(
                "2 points in 3 packs of 1.0 MiB\n1 pack of 512 B that no point needs\nPROBLEM {damage} (hurts abababab)\n\
                 HINT: points that no problem hurts can be restored; take a new backup of the components that are hurt\n"
            )
        );
        assert!(text(&CheckReport::default()).ends_with("no problems\n"));
    }
}
