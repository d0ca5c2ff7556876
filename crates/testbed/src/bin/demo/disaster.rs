//! The demo's end: a site dies under clients that write all the time, one command moves the writer, and the dead site comes back, is
//! refused, and follows. The clients' own record tells how long nobody wrote and what is missing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::dns::{KEY, NameServer, SECRET, ZONE, bind, key_file};
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::orders::Orders;
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

use crate::Report;

const SHOP: &str = "shop-db";
const DATABASE: &str = "postgres";
const SOON: Duration = Duration::from_secs(60);

/// A planned move, then the disaster.
pub async fn run(world: &World, sites: &TwoSites, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let options = Options { durable: true, own_identity: true, ..Options::default() };
    let istanbul = Postgres::start(world, "istanbul-shop", &options).await?;
    let ankara = Postgres::standby_of(world, "ankara-shop", &istanbul).await?;
    sites.postgres_pair(SHOP, &istanbul, &ankara).await?;
    sites.operator.shows(&["manage", SHOP, "--writer", "istanbul"]).await?;
    let _names = named(world, sites).await?;
    report.add(
        "a second database with a standby at the other site and a name in a real BIND, under Muster's keeping",
        began,
        String::new(),
    );

    let began = Instant::now();
    let orders = Orders::start(DATABASE, &istanbul, &[&istanbul, &ankara]).await?;
    orders.more(200, SOON).await?;
    sites.operator.shows(&["switchover", SHOP, "--to", "ankara", "--yes"]).await?;
    sites.operator.shows(&["route", "show", "orders"]).await?;
    orders.more(200, SOON).await?;
    let ledger = orders.stop().await?;
    ensure!(ledger.writers() == [istanbul.name(), ankara.name()], "two wrote at once: {:?}", ledger.writers());
    let missing = ledger.missing(DATABASE, &ankara).await?.len();
    ensure!(missing == 0, "{missing} acknowledged orders are missing");
    let figures = format!("{} orders, none lost, clients waited {:.2} s", ledger.orders.len(), ledger.outage().as_secs_f64());
    report.add("the writer moved as planned, under clients at both sites", began, figures);
    disaster(world, sites, &ankara, &istanbul, report).await
}

/// The name that clients go by, in a real name server: it follows the writer.
async fn named(world: &World, sites: &TwoSites) -> Result<NameServer> {
    let names = bind::Primary::new("bind").start(world).await?;
    let key = key_file(world, "mover.key", KEY, SECRET, "hmac-sha256")?.display().to_string();
    let server = names.address();
    let text = format!(
        "kind: Route\nname: orders\nspec:\n  component: {SHOP}\n  name: orders.{ZONE}\n  zone: {ZONE}\n  targets:\n  \
         - {{site: istanbul, addresses: [10.0.0.1]}}\n  - {{site: ankara, addresses: [10.0.0.2]}}\n  ttl: 2s\n  movingTtl: 1s\n  \
         servers: [\"{server}\"]\n  dns: {{server: \"{server}\", tsigKeyFile: {key}}}\n"
    );
    let file = world.file("route.yaml", &text, RunAs::Caller, 0o600)?.display().to_string();
    sites.operator.shows(&["apply", "-f", &file]).await?;
    sites.operator.shows(&["route", "adopt", "orders"]).await?;
    Ok(names)
}

/// Ankara writes and dies; Istanbul takes over.
async fn disaster(world: &World, sites: &TwoSites, dying: &Postgres, other: &Postgres, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let orders = Orders::start(DATABASE, dying, &[dying, other]).await?;
    orders.more(200, SOON).await?;
    println!("\n   ANKARA BURNS: kill -9 of its server and its agent, its memory gone");
    dying.stop(Stop::Kill).await?;
    sites.ankara.boot()?;
    println!("\n$ muster failover {SHOP} --to istanbul --word ankara=off --accept-loss unknown");
    sites.operator.shows(&["failover", SHOP, "--to", "istanbul", "--word", "ankara=off", "--accept-loss", "unknown", "--yes"]).await?;
    sites.operator.shows(&["route", "show", "orders"]).await?;
    orders.more(200, SOON).await?;
    report.add("a site died, and one command moved the writer", began, String::new());

    let began = Instant::now();
    println!("\n   Ankara is switched on again. Somebody starts its server by hand:");
    let program = dying.programs().program("postgres")?;
    let by_hand = world.run(RunAs::Postgres, &program, &["-D", &dying.data().display().to_string()], SOON).await?;
    ensure!(!by_hand.status.success(), "the old writer was started by hand");
    println!("   {}", by_hand.stderr.lines().last().unwrap_or_default());
    sites.ankara.start_again(&Failpoints::none()).await?;
    sites.ankara.connected(&sites.operator).await?;
    sites.operator.shows(&["rejoin", "shop-db/ankara", "--yes"]).await?;
    orders.more(50, SOON).await?;
    let ledger = orders.stop().await?;
    let last = ledger.orders.last().context("an order")?.number;
    let arrived = format!("select count(*) from orders where number = {last}");
    until("the dead site to follow", SOON, async || Ok(dying.value(DATABASE, &arrived).await.is_ok_and(|count| count == "1"))).await?;
    ensure!(ledger.writers() == [dying.name(), other.name()], "two wrote at once: {:?}", ledger.writers());
    let missing = ledger.missing(DATABASE, other).await?.len();
    let figures = format!("{} orders, {missing} lost, clients waited {:.2} s", ledger.orders.len(), ledger.outage().as_secs_f64());
    report.add("the dead site came back, was refused, was rewound and follows", began, figures);
    Ok(())
}
