//! The demo: two sites, a real PostgreSQL of 1 GB, a backup, the proof that it is good, a dropped table brought back, a controller that is
//! killed in the middle of a second backup, and a site that dies under its clients. It uses the programs as an operator does and proves each step by the data itself.
//! With `KEEP=1` everything stays up and it says what to type.

mod disaster;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::load;
use muster_testbed::postgres::proof::{amcheck, checksums, same};
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::process::Process;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const COMPONENT: &str = "orders-db";
const DATABASE: &str = "shop";

/// Two tables are filled at once, so that both processors have work.
const ROWS_A_TABLE: u32 = load::ROWS_OF_A_GIGABYTE / 2;

/// What was done and how long it took.
#[derive(Default)]
struct Report {
    lines: Vec<(String, Duration, String)>,
}

impl Report {
    fn add(&mut self, what: &str, began: Instant, figures: String) {
        let took = began.elapsed();
        println!("-- {what}: {:.1} s{}{figures}", took.as_secs_f64(), if figures.is_empty() { "" } else { ", " });
        self.lines.push((what.to_owned(), took, figures));
    }

    fn print(&self) {
        let width = self.lines.iter().map(|(what, ..)| what.len()).max().unwrap_or(0);
        println!("\n{:<width$}  seconds", "what was done");
        for (what, took, figures) in &self.lines {
            println!("{what:<width$}  {:>7.1}  {figures}", took.as_secs_f64());
        }
    }
}

#[tokio::main]
async fn main() {
    let keep = std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0");
    let world = if keep { World::that_may_stay() } else { World::new() };
    let outcome = match world {
        Ok(world) => run(&world, keep).await.inspect_err(|_| eprintln!("{}", world.tails())),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        eprintln!("the demo failed: {error:#}");
        std::process::exit(1);
    }
}

async fn run(world: &World, keep: bool) -> Result<()> {
    let whole = Instant::now();
    let mut report = Report::default();

    let began = Instant::now();
    let (sites, server) = tokio::try_join!(TwoSites::start(world), fill(world))?;
    let bytes = megabytes(&server).await?;
    report.add("two sites, agents joined by token, a PostgreSQL filled", began, format!("{bytes} MB"));

    let began = Instant::now();
    sites.folder_repository().await?;
    sites.postgres_component(COMPONENT, &server).await?;
    report.add("an encrypted repository, the component declared and its key granted", began, String::new());

    let began = Instant::now();
    sites.operator.shows(&["backup", COMPONENT]).await?;
    report.add("a full backup", began, rate(bytes, began));

    let began = Instant::now();
    sites.operator.shows(&["verify", COMPONENT]).await?;
    report.add("the point proved good: restored aside, started, pg_amcheck", began, rate(bytes, began));

    drop_and_restore(world, &sites, &server, bytes, &mut report).await?;
    backup_without_controller(&sites, &mut report).await?;
    disaster::run(world, &sites, &mut report).await?;

    sites.operator.shows(&["points", COMPONENT]).await?;
    sites.operator.shows(&["status"]).await?;
    report.add("the whole demo", whole, String::new());
    report.print();
    if keep { leave(world, sites, server) } else { Ok(()) }
}

/// A server with two tables of about half a gigabyte each.
async fn fill(world: &World) -> Result<Postgres> {
    let settings = [("max_wal_size", "4GB"), ("checkpoint_timeout", "30min"), ("autovacuum", "off")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let server = Postgres::start(world, "istanbul-pg", &Options { settings, ..Options::default() }).await?;
    server.execute("postgres", &format!("create database {DATABASE}")).await?;
    let (orders, payments) =
        (load::rows(&server, DATABASE, "orders", ROWS_A_TABLE), load::rows(&server, DATABASE, "payments", ROWS_A_TABLE));
    tokio::try_join!(orders, payments)?;
    Ok(server)
}

async fn drop_and_restore(world: &World, sites: &TwoSites, server: &Postgres, bytes: u64, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let before = checksums(server).await?;
    report.add("checksums over every table", began, format!("{} relations", before.len()));

    println!("\n$ psql {DATABASE} -c 'drop table orders'");
    server.execute(DATABASE, "drop table orders").await?;
    ensure!(server.value(DATABASE, "select count(*) from orders").await.is_err(), "the table is still there");

    let began = Instant::now();
    sites.operator.shows(&["restore", COMPONENT, "--instance", "istanbul", "--in-place", "--yes"]).await?;
    report.add("restored in place, accepting connections", began, rate(bytes, began));

    let began = Instant::now();
    same(&before, &checksums(server).await?).context("after the restore")?;
    report.add("rows proved by checksum", began, format!("{ROWS_A_TABLE} orders are back, all tables equal"));
    let began = Instant::now();
    amcheck(world, server).await?;
    report.add("pg_amcheck over every table and index", began, String::new());
    Ok(())
}

async fn backup_without_controller(sites: &TwoSites, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let points = sites.points(COMPONENT).await?.len();
    let before = sites.operations().await?.len();
    println!("\n$ muster backup {COMPONENT} &   # and in the middle of it: kill -9 of the controller");
    let asking = sites.operator.starts("second-backup", &["backup", COMPONENT])?;
    // It stores little, since little changed, and is soon over: no waiting for its progress.
    until("the second backup to be accepted", Duration::from_secs(30), async || Ok(sites.operations().await?.len() > before)).await?;
    sites.controller.kill()?;
    ensure!(asking.status()?.is_none(), "the second backup was over before the controller was killed");
    println!("   the controller is dead; the agent goes on; the command waits");
    sites.controller.start_again(&Failpoints::none()).await?;
    let status = asking.ended(Duration::from_secs(60)).await?;
    ensure!(status.success(), "the backup ended with {status}: {}", asking.written()?);
    last_lines(&asking)?;
    let newest = sites.operations().await?.into_iter().next().context("there is an operation")?;
    if newest.get("state").and_then(Value::as_str) != Some("OPERATION_STATE_SUCCEEDED") {
        bail!("the second backup: {newest}");
    }
    ensure!(sites.points(COMPONENT).await?.len() == points + 1, "not exactly one more recovery point");
    report.add("a second backup, the controller killed with -9 in its middle", began, "finished, one point".to_owned());
    Ok(())
}

fn last_lines(process: &Process) -> Result<()> {
    let text = process.written()?;
    let lines: Vec<_> = text.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(6)) {
        println!("   {line}");
    }
    Ok(())
}

async fn megabytes(server: &Postgres) -> Result<u64> {
    let bytes: u64 = server.value("postgres", "select sum(pg_database_size(oid)) from pg_database").await?.parse()?;
    Ok(bytes / 1_000_000)
}

fn rate(megabytes: u64, began: Instant) -> String {
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = megabytes as f64 / seconds;
    format!("{megabytes} MB, {rate:.0} MB/s")
}

/// Leaves all of it running: nothing is dropped, and this process ends.
fn leave(world: &World, sites: TwoSites, server: Postgres) -> Result<()> {
    let stop = world.leave()?;
    println!("\nEverything is still up. Type for example:");
    println!("  export HOME={}", sites.operator.home().display());
    println!("  export PATH={}:$PATH", world.path("bin").display());
    println!("  muster status");
    println!("  muster backup {COMPONENT}");
    println!("  psql -h {} -p {} -U postgres {DATABASE}", server.sockets().display(), server.port());
    println!("and when you have seen enough:");
    println!("  {}", stop.display());
    std::io::stdout().flush()?;
    std::process::exit(0)
}
