//! The controller died with the site: one that is set back to an older copy, and one that is made anew from its CA and what was declared, learn
//! who writes from the agents, and move the writer again. Where an instance is silent a person's word is asked for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

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
    istanbul.execute("postgres", "create table kept as select 1 as n").await?;
    Ok((sites, istanbul, ankara))
}

/// A copy of the controller's state as it is now, as last night's backup has it.
async fn copied(sites: &TwoSites) -> Result<std::path::PathBuf> {
    sites.controller.kill()?;
    let old = sites.controller.copy_state("old-state").await?;
    sites.controller.start_again(&Failpoints::none()).await?;
    sites.istanbul.connected(&sites.operator).await?;
    sites.ankara.connected(&sites.operator).await?;
    Ok(old)
}

async fn set_back(sites: &TwoSites, old: &std::path::Path) -> Result<()> {
    sites.controller.kill()?;
    sites.controller.restore_state(old).await?;
    sites.controller.start_again(&Failpoints::none()).await
}

/// Who writes, and in which epoch, as the controller knows it.
async fn writer(sites: &TwoSites) -> Result<(String, String)> {
    let page = sites.operator.reads(&["status", SHOP]).await?;
    let page = page.get("page").unwrap_or(&page);
    let text = |field: &str| page.pointer(&format!("/components/0/{field}")).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((text("writer"), text("epoch")))
}

#[test]
fn a_controller_that_was_set_back_to_before_a_move_learns_the_writer_from_its_agents_and_moves_it_again() {
    scenario(async |world| {
        let (sites, istanbul, ankara) = managed(&world).await?;
        let old = copied(&sites).await?;
        sites.fit(SHOP).await?;
        sites.operator.says(&["switchover", SHOP, "--to", "ankara", "--yes"]).await?;
        ankara.execute("postgres", "insert into kept values (2)").await?;
        let before = writer(&sites).await?;
        ensure!(before.0 == "ankara", "{before:?}");

        set_back(&sites, &old).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.ankara.connected(&sites.operator).await?;
        until("the controller to know the writer again", SOON, async || Ok(writer(&sites).await? == before)).await?;
        ankara.execute("postgres", "insert into kept values (3)").await?;

        sites.operator.says(&["switchover", SHOP, "--to", "istanbul", "--yes"]).await?;
        let rows = istanbul.value("postgres", "select string_agg(n::text, ' ' order by n) from kept").await?;
        ensure!(rows == "1 2 3", "{rows}");
        ensure!(writer(&sites).await?.0 == "istanbul", "the way back");
        Ok(())
    });
}

#[test]
fn a_controller_that_was_set_back_to_before_a_failover_asks_for_a_word_about_the_dead_site() {
    scenario(async |world| {
        let (sites, istanbul, ankara) = managed(&world).await?;
        let old = copied(&sites).await?;
        istanbul.stop(Stop::Kill).await?;
        sites.istanbul.boot()?;
        let failover = ["failover", SHOP, "--to", "ankara", "--word", "istanbul=off", "--accept-loss", "unknown", "--yes"];
        sites.operator.says(&failover).await?;
        ankara.execute("postgres", "insert into kept values (2)").await?;

        set_back(&sites, &old).await?;
        sites.ankara.connected(&sites.operator).await?;
        until("the finding", SOON, async || Ok(sites.operator.says(&["findings"]).await?.contains("LaterReign"))).await?;
        // Nothing is decided by what this controller knows: the writer that it has in its journal is not the writer.
        let refused = sites.operator.runs(&failover).await?;
        ensure!(refused.status.code() == Some(3), "{refused:?}");
        ensure!(refused.stderr.contains("muster adopt shop-db --off istanbul"), "{}", refused.stderr);
        ensure!(ankara.value("postgres", "select count(*) from kept").await? == "2", "the writer writes on meanwhile");

        let said = sites.operator.says(&["adopt", SHOP, "--off", "istanbul"]).await?;
        ensure!(said.contains("ankara writes in epoch 2"), "{said}");
        ensure!(writer(&sites).await?.0 == "ankara", "the writer");
        let refused = sites.operator.runs(&["adopt", SHOP]).await?;
        ensure!(refused.status.code() == Some(3) && refused.stderr.contains("nobody reports a later reign"), "{refused:?}");

        // The dead site comes back, writes nothing, and follows.
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.operator.says(&["rejoin", "shop-db/istanbul", "--yes"]).await?;
        until("the old writer to follow", SOON, async || {
            Ok(istanbul.value("postgres", "select count(*) from kept").await.is_ok_and(|count| count == "2"))
        })
        .await?;
        sites.fit(SHOP).await?;
        sites.operator.says(&["switchover", SHOP, "--to", "istanbul", "--yes"]).await?;
        istanbul.execute("postgres", "insert into kept values (3)").await.context("the way back")
    });
}

#[test]
fn a_controller_made_anew_from_its_ca_and_what_was_declared_learns_the_writer_and_moves_it() {
    scenario(async |world| {
        let (sites, istanbul, ankara) = managed(&world).await?;
        sites.fit(SHOP).await?;
        sites.operator.says(&["switchover", SHOP, "--to", "ankara", "--yes"]).await?;
        let before = writer(&sites).await?;
        let declared = sites.operator.says(&["get", "-o", "yaml"]).await?;
        let declared = world.file("declared.yaml", &declared, RunAs::Caller, 0o600)?.display().to_string();

        // All that is left of the controller is its CA.
        sites.controller.kill()?;
        for entry in std::fs::read_dir(sites.controller.state())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("controller.db") || name == "audit-head.json") {
                std::fs::remove_file(path)?;
            }
        }
        sites.controller.start_again(&Failpoints::none()).await?;
        // Who stands on its machine lets himself in.
        let (program, config) =
            (world.program("muster-controller")?.display().to_string(), sites.controller.config().display().to_string());
        let rescue = world.path("rescue.yaml").display().to_string();
        let arguments = ["admin-cert", "--config", &config, "--name", "rescue", "--out", &rescue];
        world.run(RunAs::Caller, &program, &arguments, SOON).await?.success()?;
        sites.operator.says(&["context", "import", &rescue]).await?;
        until("the rescuer to be let in", SOON, async || Ok(sites.operator.runs(&["apply", "-f", &declared]).await?.status.success()))
            .await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.ankara.connected(&sites.operator).await?;
        until("the controller to know the writer again", SOON, async || Ok(writer(&sites).await? == before)).await?;
        sites.fit(SHOP).await?;
        ankara.execute("postgres", "insert into kept values (2)").await?;
        sites.operator.says(&["switchover", SHOP, "--to", "istanbul", "--yes"]).await?;
        let rows = istanbul.value("postgres", "select string_agg(n::text, ' ' order by n) from kept").await?;
        ensure!(rows == "1 2", "{rows}");
        Ok(())
    });
}
