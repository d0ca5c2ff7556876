//! A data centre is moved, planned and unplanned, under clients that write to both sites all the time: who acknowledged what, how long
//! nobody did, what is missing. The dead site comes back, is refused, and follows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::orders::Orders;
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(60);
const SHOP: &str = "shop-db";

/// A pair under Muster's keeping: Istanbul writes, Ankara follows.
async fn managed(world: &World) -> Result<(TwoSites, Postgres, Postgres)> {
    let options = Options { durable: true, own_identity: true, ..Options::default() };
    let (sites, istanbul) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "ist", &options))?;
    let ankara = Postgres::standby_of(world, "ank", &istanbul).await?;
    sites.folder_repository().await?;
    sites.postgres_pair(SHOP, &istanbul, &ankara).await?;
    sites.operator.says(&["manage", SHOP, "--writer", "istanbul"]).await?;
    Ok((sites, istanbul, ankara))
}

#[test]
fn a_planned_move_and_its_way_back_lose_no_acknowledged_row_and_never_have_two_writers() {
    scenario(async |world| {
        let (sites, istanbul, ankara) = managed(&world).await?;
        let orders = Orders::start("postgres", &istanbul, &[&istanbul, &ankara]).await?;
        orders.more(200, SOON).await?;
        println!("{}", sites.operator.says(&["switchover", SHOP, "--to", "ankara", "--yes"]).await?);
        orders.more(200, SOON).await?;
        println!("{}", sites.operator.says(&["switchover", SHOP, "--to", "istanbul", "--yes"]).await?);
        orders.more(200, SOON).await?;
        let ledger = orders.stop().await?;
        println!("{} orders, nobody wrote for {:?}", ledger.orders.len(), ledger.outage());
        ensure!(ledger.writers() == ["ist", "ank", "ist"], "{:?}", ledger.writers());
        let missing = ledger.missing("postgres", &istanbul).await?;
        ensure!(missing.is_empty(), "{} acknowledged orders are missing: {missing:?}", missing.len());
        Ok(())
    });
}

#[test]
fn a_site_that_dies_is_replaced_by_a_word_and_is_refused_and_follows_when_it_comes_back() {
    scenario(async |world| {
        let (sites, istanbul, ankara) = managed(&world).await?;
        let orders = Orders::start("postgres", &istanbul, &[&istanbul, &ankara]).await?;
        orders.more(200, SOON).await?;
        // The machine of Istanbul goes: agent, server, memory.
        istanbul.stop(Stop::Kill).await?;
        sites.istanbul.boot()?;
        let said = sites
            .operator
            .says(&["failover", SHOP, "--to", "ankara", "--word", "istanbul=off", "--accept-loss", "unknown", "--yes"])
            .await?;
        println!("{said}");
        orders.more(200, SOON).await?;

        // It is switched on again: nobody lets its server start, by hand neither.
        let by_hand = ["-D", &istanbul.data().display().to_string()];
        let program = istanbul.programs().program("postgres")?;
        let started = world.run(RunAs::Postgres, &program, &by_hand, SOON).await?;
        ensure!(!started.status.success() && started.stderr.contains("shop-db.istanbul.conf"), "{}", started.stderr);
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        println!("{}", sites.operator.says(&["status", SHOP]).await?);
        ensure!(istanbul.running().is_none(), "the old writer runs");
        println!("{}", sites.operator.says(&["rejoin", "shop-db/istanbul", "--yes"]).await?);
        orders.more(100, SOON).await?;
        let ledger = orders.stop().await?;
        println!("{} orders, nobody wrote for {:?}", ledger.orders.len(), ledger.outage());
        ensure!(ledger.writers() == ["ist", "ank"], "{:?}", ledger.writers());
        let last = ledger.orders.last().context("an order")?.number;
        let there = format!("select count(*) from orders where number = {last}");
        until("the old writer to follow", SOON, async || Ok(istanbul.value("postgres", &there).await.is_ok_and(|count| count == "1")))
            .await?;
        let missing = ledger.missing("postgres", &ankara).await?;
        println!("{} of {} acknowledged orders are missing", missing.len(), ledger.orders.len());
        Ok(())
    });
}

#[test]
fn a_writer_that_crashed_with_log_that_nobody_streamed_is_replaced_within_the_approved_loss_and_rewound() {
    scenario(async |world| {
        let (sites, istanbul, ankara) = managed(&world).await?;
        istanbul.execute("postgres", "create table kept as select 1 as n").await?;
        let there = "select count(*) from pg_class where relname = 'kept'";
        until("the follower to have it", SOON, async || Ok(ankara.value("postgres", there).await? == "1")).await?;
        // The sender of its log hangs, and what is written from then on stays alone.
        let sender = istanbul.value("postgres", "select pid from pg_stat_replication").await?;
        world.run(RunAs::Caller, "/bin/kill", &["-STOP", &sender], SOON).await?.success()?;
        istanbul.execute("postgres", "insert into kept select generate_series(2, 1000)").await?;
        istanbul.stop(Stop::Kill).await?;

        // Nothing was approved: it waits for that, and the word is what it says. Then it goes on.
        let failover = ["failover", SHOP, "--to", "ankara", "--yes"];
        let asking = sites.operator.starts("failover", &failover)?;
        let mut waits = String::new();
        until("the failover to wait for an approval", SOON, async || {
            waits = sites.operator.says(&["ops", "-o", "json"]).await?;
            Ok(waits.contains("muster approve"))
        })
        .await?;
        let id = waits.split("muster approve ").nth(1).and_then(|rest| rest.split(' ').next()).context("the operation's id")?.to_owned();
        sites.operator.says(&["approve", &id, "--accept-loss", "unknown", "--yes"]).await?;
        let status = asking.ended(SOON).await?;
        ensure!(status.success(), "the failover ended with {status}: {}", asking.written()?);
        ensure!(ankara.value("postgres", "select count(*) from kept").await? == "1", "what the follower held");
        ankara.execute("postgres", "insert into kept values (2)").await?;
        until("the old writer to be rewound and to follow", SOON, async || {
            Ok(istanbul.value("postgres", "select count(*) from kept").await.is_ok_and(|count| count == "2"))
        })
        .await
    });
}

#[test]
fn a_writer_whose_machine_restarted_takes_writes_again_by_itself_once_every_other_agent_answers() {
    scenario(async |world| {
        let (sites, istanbul, _ankara) = managed(&world).await?;
        istanbul.execute("postgres", "create table before_the_boot as select 1 as n").await?;
        istanbul.stop(Stop::Kill).await?;
        sites.istanbul.boot()?;
        // While the other agent is away nobody starts it: that one could know a later reign.
        sites.ankara.kill()?;
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        let ops = async || sites.operator.says(&["ops", "-o", "json"]).await;
        ensure!(!ops().await?.contains("agent/istanbul"), "it was begun while an agent was away");
        ensure!(istanbul.running().is_none(), "the writer started while an agent was away");
        sites.ankara.start_again(&Failpoints::none()).await?;
        until("the writer to take writes again", SOON, async || {
            Ok(istanbul.execute("postgres", "insert into before_the_boot values (2)").await.is_ok())
        })
        .await?;
        let said = ops().await?;
        ensure!(said.contains("agent/istanbul"), "nothing tells who began it: {said}");
        Ok(())
    });
}
