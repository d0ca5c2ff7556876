//! How long an application cannot write while the writer is moved: clients that know both sites and go where writes are taken, 200
//! transactions a second. Planned; after an operator's go with a receipt (the server died, its agent lives); with a word (the machine is gone).
//!
//! Each run moves the writer to the other site, so that both directions count. `RUNS` says how many of each. What the operation's own steps
//! took is printed for the worst run of each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster_testbed::agent::Agent;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::roaming::Roaming;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

use crate::figures::{Figure, median, publish};
use crate::setting::setting;

/// Runs of each where `RUNS` says nothing else.
const RUNS: usize = 10;
/// Transactions a second.
const RATE: u32 = 200;
const COMPONENT: &str = "shop-db";
const DATABASE: &str = "postgres";
const SOON: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Planned,
    Receipt,
    Word,
}

impl Way {
    const ALL: [Self; 3] = [Self::Planned, Self::Receipt, Self::Word];

    fn what(self) -> &'static str {
        match self {
            Self::Planned => "planned switchover: no writes for",
            Self::Receipt => "failover with a receipt: writes after the go",
            Self::Word => "failover with a word: writes after the last answer",
        }
    }

    fn goal(self) -> f64 {
        match self {
            Self::Planned => 2.0,
            Self::Receipt | Self::Word => 3.0,
        }
    }
}

/// A site: its agent and its server.
#[derive(Clone, Copy)]
struct Side<'a> {
    agent: &'a Agent,
    server: &'a Postgres,
}

/// What one run took, and its operation.
struct Run {
    seconds: f64,
    operation: Value,
}

pub async fn run() -> Result<()> {
    let runs = setting("RUNS", RUNS)?;
    ensure!(runs >= 1, "RUNS is at least 1");
    let world = World::new()?;
    let measured = measure(&world, runs).await.inspect_err(|_| eprintln!("{}", world.tails()))?;
    let mut figures = Vec::new();
    for (way, runs) in measured {
        let seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        let worst = runs.iter().max_by(|one, other| one.seconds.total_cmp(&other.seconds)).context("a run")?;
        println!("{} {:.2} s, its steps:", way.what(), worst.seconds);
        steps(&worst.operation);
        let each = [("median", median(seconds).context("a run")?), ("worst", worst.seconds)];
        figures.extend(each.map(|(which, muster)| Figure {
            what: format!("{} ({which} of {})", way.what(), runs.len()),
            unit: "s",
            muster,
            peer: None,
            goal: Some(way.goal()),
            lower_is_better: true,
        }));
    }
    publish("failover", &figures)
}

async fn measure(world: &World, runs: usize) -> Result<Vec<(Way, Vec<Run>)>> {
    let options = Options { durable: true, own_identity: true, ..Options::default() };
    let (sites, istanbul) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "ist", &options))?;
    let ankara = Postgres::standby_of(world, "ank", &istanbul).await?;
    sites.folder_repository().await?;
    sites.postgres_pair(COMPONENT, &istanbul, &ankara).await?;
    sites.operator.says(&["manage", COMPONENT, "--writer", "istanbul"]).await?;
    let mut writer = Side { agent: &sites.istanbul, server: &istanbul };
    let mut other = Side { agent: &sites.ankara, server: &ankara };
    let mut measured = Vec::new();
    for way in Way::ALL {
        let mut all = Vec::new();
        for number in 1..=runs {
            let run = once(&sites, way, writer, other).await.with_context(|| format!("{}, run {number}", way.what()))?;
            println!("run {number}: {} {:.2} s", way.what(), run.seconds);
            all.push(run);
            std::mem::swap(&mut writer, &mut other);
        }
        measured.push((way, all));
    }
    Ok(measured)
}

/// One move from `writer` to `other`, which streams again when this returns.
async fn once(sites: &TwoSites, way: Way, writer: Side<'_>, other: Side<'_>) -> Result<Run> {
    let clients = Roaming::start(DATABASE, writer.server, &[writer.server, other.server], RATE).await?;
    clients.more(u64::from(RATE), SOON).await?;
    let (to, word) = (other.agent.site(), format!("{}=off", writer.agent.site()));
    match way {
        Way::Planned => {}
        Way::Receipt => writer.server.stop(Stop::Kill).await?,
        Way::Word => {
            writer.server.stop(Stop::Kill).await?;
            writer.agent.boot()?;
            // A boot clears the folder of sockets.
            for end in ["", ".lock"] {
                let path = writer.server.sockets().join(format!(".s.PGSQL.{}{end}", writer.server.port()));
                if path.exists() {
                    std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
                }
            }
            gone(sites, writer.agent).await?;
        }
    }
    let go = Instant::now();
    let operation = match way {
        Way::Planned => sites.operator.reads(&["switchover", COMPONENT, "--to", to, "--yes"]).await?,
        Way::Receipt => sites.operator.reads(&["failover", COMPONENT, "--to", to, "--accept-loss", "unknown", "--yes"]).await?,
        Way::Word => {
            let asked = ["failover", COMPONENT, "--to", to, "--word", &word, "--accept-loss", "unknown", "--yes"];
            sites.operator.reads(&asked).await?
        }
    };
    clients.more(u64::from(RATE), SOON).await?;
    let seen = clients.stop().await?;
    let outage = match way {
        Way::Planned => seen.longest_wait(),
        Way::Receipt | Way::Word => seen.all_served_after(go).context("a client was not served again")?,
    };
    home(sites, way, writer, other).await?;
    Ok(Run { seconds: outage.as_secs_f64(), operation })
}

/// Waits until the controller knows that the agent is gone: an operator answers what they see.
async fn gone(sites: &TwoSites, agent: &Agent) -> Result<()> {
    until("the controller to miss an agent", SOON, async || Ok(!sites.operator.agent_is_connected(agent.name()).await?)).await
}

/// The old writer follows the new one.
async fn home(sites: &TwoSites, way: Way, old: Side<'_>, new: Side<'_>) -> Result<()> {
    match way {
        Way::Planned | Way::Receipt => {}
        Way::Word => {
            old.agent.start_again(&Failpoints::none()).await?;
            old.agent.connected(&sites.operator).await?;
        }
    }
    let streams = async || -> Result<bool> {
        let streaming = "select count(*) from pg_stat_replication where state = 'streaming'";
        Ok(new.server.value(DATABASE, streaming).await? == "1" && old.server.value(DATABASE, "select 1").await.is_ok())
    };
    if way != Way::Planned && !streams().await? {
        sites.operator.says(&["rejoin", &format!("{COMPONENT}/{}", old.agent.site()), "--yes"]).await?;
    }
    until("the old writer to follow", SOON, streams).await
}

/// When each step began and ended, after the operation was asked for.
fn steps(operation: &Value) {
    let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or("-").to_owned();
    println!("  asked {}", text(operation, "createdAt"));
    for step in operation.get("steps").and_then(Value::as_array).into_iter().flatten() {
        println!("  {:<28} {} {}", text(step, "name"), text(step, "startedAt"), text(step, "finishedAt"));
    }
}
