//! A site as a whole is left, planned and unplanned: every component whose writer stands there, in order, also when the controller dies.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// A component with its writer at Istanbul and a standby at Ankara, under Muster's keeping.
async fn pair(world: &World, sites: &TwoSites, name: &str, short: &str, more: &str) -> Result<(Postgres, Postgres)> {
    let options = Options { durable: true, own_identity: true, ..Options::default() };
    let istanbul = Postgres::start(world, &format!("i{short}"), &options).await?;
    let ankara = Postgres::standby_of(world, &format!("a{short}"), &istanbul).await?;
    sites.postgres_pair_with(name, &istanbul, &ankara, more).await?;
    sites.operator.says(&["manage", name, "--writer", "istanbul"]).await?;
    Ok((istanbul, ankara))
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_site_is_left_in_order_also_when_the_controller_dies_and_left_again_by_a_word_when_it_is_gone() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.folder_repository().await?;
        let users = pair(&world, &sites, "users-db", "u", "").await?;
        let shop = pair(&world, &sites, "shop-db", "s", "  dependsOn: [users-db]\n").await?;

        // The controller dies when it has begun the first component and has not written down that it has.
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::kill_at("controller.site.begun")).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.ankara.connected(&sites.operator).await?;
        let begun = sites.operator.reads(&["switchover", "--site", "istanbul", "--yes", "--no-wait"]).await?;
        let id = text(&begun, "id").to_owned();
        sites.controller.died(SOON).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let ended = sites.ended(&id, SOON).await?;
        println!("{}", sites.operator.says(&["watch", &id]).await?);
        ensure!(text(&ended, "state") == "OPERATION_STATE_SUCCEEDED" && text(&ended, "site") == "istanbul", "{ended}");
        for (name, (istanbul, ankara)) in [("users-db", &users), ("shop-db", &shop)] {
            ensure!(ankara.execute("postgres", "create table moved as select 1 as n").await.is_ok(), "{name} takes no writes at Ankara");
            ensure!(
                istanbul.execute("postgres", "create table wrong as select 1 as n").await.is_err(),
                "{name} takes writes at both sites"
            );
        }
        let all = sites.operations().await?;
        let child = |name: &str| all.iter().find(|one| text(one, "component") == name && text(one, "kind") == "OPERATION_KIND_SWITCHOVER");
        let (first, second) = (child("users-db").context("users-db was moved")?, child("shop-db").context("shop-db was moved")?);
        ensure!(text(first, "parent") == id && text(second, "parent") == id, "{first} {second}");
        ensure!(text(first, "finishedAt") <= text(second, "createdAt"), "what depends on another was moved before it");
        ensure!(all.iter().filter(|one| text(one, "kind") == "OPERATION_KIND_SWITCHOVER").count() == 2, "one was moved twice");

        let nothing = sites.operator.runs(&["switchover", "--site", "istanbul", "--yes"]).await?;
        ensure!(!nothing.status.success() && nothing.stderr.contains("no component's writer stands there"), "{}", nothing.stderr);

        // Ankara's machine goes, with both servers.
        for (_, ankara) in [&users, &shop] {
            ankara.stop(Stop::Kill).await?;
        }
        sites.ankara.boot()?;
        let wrong = sites.operator.runs(&["failover", "--site", "ankara", "--word", "istanbul=off", "--yes"]).await?;
        ensure!(!wrong.status.success() && wrong.stderr.contains("--word ankara=off"), "{}", wrong.stderr);
        let said = sites
            .operator
            .says(&["failover", "--site", "ankara", "--word", "ankara=off", "--accept-loss", "unknown", "--at-once", "2", "--yes"])
            .await?;
        println!("{said}");
        ensure!(said.contains("users-db") && said.contains("shop-db") && !said.contains("NOT MOVED"), "{said}");
        for (name, (istanbul, _)) in [("users-db", &users), ("shop-db", &shop)] {
            ensure!(istanbul.execute("postgres", "insert into moved values (2)").await.is_ok(), "{name} takes no writes at Istanbul");
        }
        Ok(())
    });
}
