//! A name in a real BIND follows the writer: planned, with the controller killed at it, with the name server away, and never taken over by the way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::dns::{KEY, NameServer, SECRET, bind, key_file};
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::server::{Options, Postgres, Stop};

use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const SHOP: &str = "shop-db";

fn declared(server: SocketAddr, key: &str) -> String {
    format!(
        "kind: Route\nname: orders\nspec:\n  component: {SHOP}\n  name: orders.example.test\n  zone: example.test\n  targets:\n  \
         - {{site: istanbul, addresses: [10.0.0.1]}}\n  - {{site: ankara, addresses: [10.0.0.2]}}\n  ttl: 2s\n  movingTtl: 1s\n  \
         servers: [\"{server}\"]\n  dns: {{server: \"{server}\", tsigKeyFile: {key}}}\n"
    )
}

/// A pair under Muster's keeping and a route that follows it.
async fn routed(world: &World) -> Result<(TwoSites, Postgres, Postgres, NameServer)> {
    let options = Options { durable: true, own_identity: true, ..Options::default() };
    let names = bind::Primary::new("bind").start(world);
    let (sites, istanbul, names) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "ist", &options), names)?;
    let ankara = Postgres::standby_of(world, "ank", &istanbul).await?;
    sites.folder_repository().await?;
    sites.postgres_pair(SHOP, &istanbul, &ankara).await?;
    sites.operator.says(&["manage", SHOP, "--writer", "istanbul"]).await?;
    let key = key_file(world, "mover.key", KEY, SECRET, "hmac-sha256")?.display().to_string();
    let file = world.file("route.yaml", &declared(names.address(), &key), RunAs::Caller, 0o600)?.display().to_string();
    sites.operator.says(&["apply", "-f", &file]).await?;
    Ok((sites, istanbul, ankara, names))
}

/// What the name server answers, as `muster route show` has it; and whether that is the writer's site.
async fn answered(sites: &TwoSites) -> Result<(String, bool)> {
    let output = sites.operator.runs(&["route", "show", "orders", "-o", "json"]).await?;
    let shown: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    let said = shown.pointer("/servers/0/said").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((said, shown.get("points").and_then(Value::as_bool).unwrap_or(false)))
}

#[test]
fn a_name_is_taken_over_by_hand_only_and_then_follows_the_writer_also_when_the_controller_dies_at_it() {
    scenario(async |world| {
        let (sites, istanbul, ankara, _names) = routed(&world).await?;
        // Nobody adopted it: the switchover stops before anything else does, and the writer writes on.
        let refused = sites.operator.runs(&["switchover", SHOP, "--to", "ankara", "--yes"]).await?;
        ensure!(!refused.status.success() && refused.stdout.contains("muster route adopt orders"), "{refused:?}");
        istanbul.execute("postgres", "create table kept as select 1 as n").await?;

        sites.operator.says(&["route", "adopt", "orders"]).await?;
        ensure!(answered(&sites).await?.0.contains("10.0.0.1"), "{:?}", answered(&sites).await?);
        let ready = sites.operator.says(&["preflight", SHOP, "--to", "ankara"]).await?;
        ensure!(ready.contains("orders.example.test can be changed"), "{ready}");
        sites.operator.says(&["switchover", SHOP, "--to", "ankara", "--yes"]).await?;
        ankara.execute("postgres", "insert into kept values (2)").await?;
        let (said, points) = answered(&sites).await?;
        ensure!(points && said.contains("10.0.0.2") && said.contains('2'), "{said}");

        // The controller dies when the name was changed and nothing of it is journaled.
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::kill_at("controller.move.routed")).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.ankara.connected(&sites.operator).await?;
        sites.fit(SHOP).await?;
        let asking = sites.operator.starts("switchover", &["switchover", SHOP, "--to", "istanbul", "--yes"])?;
        sites.controller.died(SOON).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let status = asking.ended(SOON).await?;
        ensure!(status.success(), "the switchover ended with {status}: {}", asking.written()?);
        istanbul.execute("postgres", "insert into kept values (3)").await?;
        let (said, points) = answered(&sites).await?;
        ensure!(points && said.contains("10.0.0.1"), "{said}");
        // What follows a component is deleted before it.
        let refused = sites.operator.runs(&["delete", "component", SHOP, "--yes"]).await?;
        ensure!(refused.stderr.contains("route orders"), "{refused:?}");
        Ok(())
    });
}

#[test]
fn a_name_server_that_is_away_holds_up_no_failover_and_the_name_follows_when_it_is_back() {
    scenario(async |world| {
        let (sites, istanbul, ankara, names) = routed(&world).await?;
        sites.operator.says(&["route", "adopt", "orders"]).await?;
        istanbul.stop(Stop::Kill).await?;
        sites.istanbul.boot()?;
        names.process().freeze()?;
        let failover = ["failover", SHOP, "--to", "ankara", "--word", "istanbul=off", "--accept-loss", "unknown", "--yes"];
        let asking = sites.operator.starts("failover", &failover)?;
        until("ankara to take writes", SOON, async || Ok(ankara.execute("postgres", "create table moved as select 1 as n").await.is_ok()))
            .await?;
        until("the failure at the name server to be told", SOON, async || {
            Ok(sites.operator.says(&["ops", "-o", "json"]).await?.contains("route/orders/cut-over"))
        })
        .await?;
        names.process().thaw()?;
        let status = asking.ended(SOON).await?;
        ensure!(status.success(), "the failover ended with {status}: {}", asking.written()?);
        let (said, points) = answered(&sites).await?;
        ensure!(points && said.contains("10.0.0.2"), "{said}: {}", asking.written()?);
        Ok(())
    });
}
