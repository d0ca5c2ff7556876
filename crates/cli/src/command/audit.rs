//! `muster audit`: who asked for what that changes something, and whether the log of it is as it was written.

use std::time::Duration;

use clap::{Args, Subcommand};
use muster_common::fault::{ErrorKind, Fault};
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::v1::{AuditServiceListRequest, AuditServiceListResponse, AuditServiceVerifyRequest, AuditServiceVerifyResponse};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most entries that `--all` lists.
const MOST: usize = 100_000;
/// Walking a long log takes longer than another call.
const WALK: Duration = Duration::from_secs(300);

/// The arguments of `muster audit`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists calls that change something, and refusals of them, newest first.
    #[command(
        after_help = "Examples:\n  muster audit list\n  muster audit list --since 24h --who ada\n  muster audit list --resource orders-db --limit 500\n  muster audit list --every --all -o json > audit.json"
    )]
    List(List),
    /// Walks the whole log: every entry is as it was written, or which one is not (exit code 11).
    #[command(
        after_help = "What it prints can be kept elsewhere: given back later with --known, a log that was written anew since is found.\n\nExamples:\n  muster audit verify\n  muster audit verify --known 1234:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    Verify {
        /// An entry that you saw before, as this command printed it.
        #[arg(long, value_name = "NUMBER:HASH", value_parser = known)]
        known: Option<Known>,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Only what is not older: an age (24h), or an instant (2026-11-23T17:00:00Z).
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// Only of callers whose identity holds this: ada, agent/, nobody.
    #[arg(long, value_name = "TEXT", default_value = "")]
    who: String,
    /// Only about what holds this: orders-db, component/, an operation's id.
    #[arg(long, value_name = "TEXT", default_value = "")]
    resource: String,
    /// Every entry: also that a call was asked, where its outcome is recorded.
    #[arg(long)]
    every: bool,
    /// How many, the newest first.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// All, up to 100,000.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Age(Duration),
    Instant(Timestamp),
}

#[derive(Clone, Debug)]
struct Known {
    number: u64,
    hash: String,
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(age) = muster_common::duration::parse(text) {
        return Ok(Since::Age(age));
    }
    let instant: Result<jiff::Timestamp, _> = text.parse();
    instant
        .map(|at| Since::Instant(Timestamp(at.as_microsecond())))
        .map_err(|_| "expected an age, for example 24h, or an instant, for example 2026-11-23T17:00:00Z".to_owned())
}

fn known(text: &str) -> Result<Known, String> {
    let parts = text.split_once(':').and_then(|(number, hash)| Some((number.parse::<u64>().ok()?, hash)));
    match parts {
        Some((number, hash)) if number > 0 && hash.len() == 64 => Ok(Known { number, hash: hash.to_owned() }),
        Some(_) | None => Err("expected NUMBER:HASH with 64 hexadecimal digits, as `muster audit verify` prints it".to_owned()),
    }
}

/// Lists entries or walks the log.
///
/// # Errors
/// Where the controller cannot be reached, or the caller may not.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    match arguments.action {
        Action::List(list) => {
            let most = if list.all { MOST } else { list.limit.clamp(1, MOST) };
            let answer = up_to(&controller, &list, most).await?;
            app.console.show(&answer, "muster.v1.AuditServiceListResponse", || render::audit::list(&answer.entries))?;
            if !answer.next_page_token.is_empty() {
                app.console.note("there is more: --limit and --all list it");
            }
            Ok(Exit::Ok)
        }
        Action::Verify { known } => verify(app, &controller, known).await,
    }
}

async fn up_to(controller: &Controller, list: &List, most: usize) -> Result<AuditServiceListResponse, Fault> {
    let since = match list.since {
        None => None,
        Some(Since::Instant(at)) => Some(at),
        Some(Since::Age(age)) => Some(Timestamp(clock::now().0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)))),
    };
    let mut all = AuditServiceListResponse::default();
    loop {
        let left = most.saturating_sub(all.entries.len()).min(1_000);
        let request = AuditServiceListRequest {
            since: since.map(timestamp_to_proto),
            caller: list.who.clone(),
            resource: list.resource.clone(),
            every: list.every,
            page_size: u32::try_from(left).unwrap_or(1_000),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = controller
            .call(Repeat::Read, &request, |request| {
                let mut client = controller.audit();
                async move { client.list(request).await }
            })
            .await?;
        all.entries.extend(page.entries);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.entries.len() >= most {
            return Ok(all);
        }
    }
}

async fn verify(app: &App, controller: &Controller, known: Option<Known>) -> Result<Exit, Fault> {
    let (known_number, known_hash) = known.map_or((0, String::new()), |known| (known.number, known.hash));
    let request = AuditServiceVerifyRequest { known_number, known_hash };
    let answer: AuditServiceVerifyResponse = controller
        .call_within(WALK, Repeat::Read, &request, |request| {
            let mut client = controller.audit();
            async move { client.verify(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.AuditServiceVerifyResponse", || render::audit::verdict(&answer))?;
    if answer.whole {
        return Ok(Exit::Ok);
    }
    let fault = Fault::failed(ErrorKind::DataLoss, format!("the audit log is not as it was written, at entry {}", answer.number));
    Err(fault
        .evidence(answer.problem)
        .hint("keep a copy of the store as it is, and see who can write to it: docs/trust.md tells what this finds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_age_or_an_instant_and_what_is_known_a_number_and_a_hash() {
        assert!(matches!(since("24h"), Ok(Since::Age(age)) if age == Duration::from_secs(86_400)));
        assert!(matches!(since("1970-01-01T00:00:01Z"), Ok(Since::Instant(Timestamp(1_000_000)))));
        assert!(since("yesterday").is_err());
        assert_eq!(known(&format!("7:{}", "a".repeat(64))).unwrap().number, 7);
        for text in ["7", "0:aa", "x:y", "7:abc"] {
            assert!(known(text).is_err(), "{text}");
        }
    }
}
