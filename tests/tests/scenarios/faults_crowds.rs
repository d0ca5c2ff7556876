//! Those who take and do not give: 200 watchers that never read, an agent that floods. Work goes on beside them, and the controller's
//! memory stays within a bound.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::scenario::scenario;
use muster_testbed::simulated::{Session, administrator, authority, credentials, hello};
use muster_testbed::two_sites::TwoSites;
use muster_testbed::usage;
use muster_testbed::world::World;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::{ObservationReport, TaskAccepted, TaskOutcome, TaskProgress, task_outcome};
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{Fault, Observation, OperationServiceWatchRequest, Progress, StatusServiceWatchRequest};
use tonic::Code;

const WATCHERS: usize = 200;
/// The most that the controller may grow by them.
const MOST_GROWN: u64 = 128 << 20;
/// An agent floods for so long.
const FLOOD: Duration = Duration::from_secs(4);

async fn notes(world: &World) -> Result<TwoSites> {
    let sites = TwoSites::start(world).await?;
    sites.notes().await?;
    Ok(sites)
}

fn resident(sites: &TwoSites) -> Result<u64> {
    usage::resident(sites.controller.pid()?.context("the controller runs")?)
}

#[test]
fn two_hundred_watchers_that_never_read_cost_bounded_memory_and_slow_nobody() {
    scenario(async |world| {
        let sites = notes(&world).await?;
        let before = resident(&sites)?;
        let mut kept = Vec::new();
        for group in 0..8 {
            let channel = administrator(&world)?;
            for _ in 0..WATCHERS / 8 {
                let request = OperationServiceWatchRequest { id: String::new(), after_event: 0 };
                let watch = OperationServiceClient::new(channel.clone()).watch(request).await;
                kept.push(watch.with_context(|| format!("watcher {} of group {group}", kept.len()))?.into_inner());
            }
        }
        let (mut pages, mut refused) = (Vec::new(), 0);
        for _ in 0..WATCHERS / 2 {
            let mut client = StatusServiceClient::new(administrator(&world)?);
            match client.watch(StatusServiceWatchRequest::default()).await {
                Ok(watch) => pages.push(watch.into_inner()),
                Err(status) => {
                    ensure!(status.code() == Code::ResourceExhausted, "{status:?}");
                    ensure!(!muster_wire::status::fault(&status).hint.is_empty(), "no hint: {status:?}");
                    refused += 1;
                }
            }
        }
        ensure!(refused > 0 && !pages.is_empty(), "{} watch the page and {refused} were refused", pages.len());
        for _ in 0..5 {
            sites.operator.says(&["backup", "notes"]).await?;
        }
        let grown = resident(&sites)?.saturating_sub(before);
        println!("{} watchers, {} of the page: grown by {} KiB", kept.len(), pages.len(), grown >> 10);
        ensure!(grown < MOST_GROWN, "it grew by {} MiB", grown >> 20);
        // One of them begins to read after all: nothing of what it slept through is missing.
        let mut late = kept.pop().context("a watcher")?;
        let mut last = 0;
        let wanted = sites.operations().await?.first().and_then(|newest| newest.get("lastEvent")?.as_str()?.parse().ok()).unwrap_or(1_u64);
        while last < wanted {
            let update = tokio::time::timeout(Duration::from_secs(10), late.message()).await.context("a watcher that reads is told")??;
            if let Some(muster_wire::proto::v1::operation_service_watch_response::Update::Event(event)) =
                update.context("it goes on")?.update
            {
                ensure!(event.number > last, "event {} after {last}", event.number);
                last = event.number;
            }
        }
        Ok(())
    });
}

/// What the flooding agent says: all of it is either not its own or of no command that there is.
fn nonsense(number: u64) -> FromAgent {
    let command_id = format!("{number:032x}");
    let large = "x".repeat(if number.is_multiple_of(50) { 1 << 20 } else { 100 });
    match number % 5 {
        0 => FromAgent::Observation(ObservationReport {
            component: "notes".to_owned(),
            instance: "istanbul".to_owned(),
            observation: Some(Observation { version: large, full: true, ..Observation::default() }),
            kept: Vec::new(),
        }),
        1 => FromAgent::Progress(TaskProgress { command_id, progress: Some(Progress { phase: large, ..Progress::default() }) }),
        2 => FromAgent::Accepted(TaskAccepted { command_id }),
        3 => FromAgent::Observation(ObservationReport { component: large, ..ObservationReport::default() }),
        _ => {
            let fault = Fault { message: large, ..Fault::default() };
            FromAgent::Outcome(TaskOutcome { command_id, at: None, outcome: Some(task_outcome::Outcome::Fault(fault)), hooks: Vec::new() })
        }
    }
}

#[test]
fn an_agent_that_floods_costs_bounded_memory_and_keeps_nobody_from_work() {
    scenario(async |world| {
        let sites = notes(&world).await?;
        let before = resident(&sites)?;
        let authority = authority(sites.controller.state())?;
        let rogue = credentials(&authority, "istanbul", "rogue")?;
        let endpoint = sites.controller.address().parse()?;
        let flood = tokio::spawn(async move {
            let (mut told, mut sessions, began) = (0_u64, 0_u32, std::time::Instant::now());
            while began.elapsed() < FLOOD {
                let session = Session::begin(rogue.clone(), &endpoint, hello()).await?;
                sessions += 1;
                while began.elapsed() < FLOOD && session.say(nonsense(told)).await.is_ok() {
                    told += 1;
                }
            }
            Ok::<_, anyhow::Error>((told, sessions))
        });
        let mut peak = 0;
        for _ in 0..3 {
            sites.operator.says(&["backup", "notes"]).await?;
            peak = peak.max(resident(&sites)?.saturating_sub(before));
        }
        let (told, sessions) = flood.await??;
        peak = peak.max(resident(&sites)?.saturating_sub(before));
        println!("{told} messages in {sessions} sessions: grown by {} KiB", peak >> 10);
        ensure!(told > 200, "only {told} messages were taken");
        ensure!(peak < MOST_GROWN, "it grew by {} MiB", peak >> 20);
        ensure!(sites.points("notes").await?.len() == 3, "not three points");
        ensure!(!sites.controller.written()?.contains("panicked"), "the controller panicked");
        let lines = sites.controller.written()?.lines().filter(|line| line.contains("rogue")).count();
        ensure!(lines < 2_000, "{lines} lines in the log");
        Ok(())
    });
}
