//! A network that swallows everything and answers nothing: no reset, no error. Work that is under way goes on, what was decided meanwhile
//! arrives once, and each side tells what it sees. Twenty seconds here, five minutes in `make soak`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Hold;
use muster_testbed::network::{Cut, Network};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_tests::soak;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn black_hole(direction: Cut) {
    let hole = Duration::from_secs(soak::size(20, 300).into());
    scenario(async |world| {
        let network = Network::new(&world).await?;
        let (sites, places) = TwoSites::start_apart(&world, &network).await?;
        sites.notes().await?;
        let hold = Hold::at(&world, "agent.stop7.done")?;
        sites.istanbul.terminate().await?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("notes").await?;
        let running = sites.operator.starts("running", &["backup", "notes"])?;
        hold.reached(SOON).await?;

        network.cut(&places.istanbul, &places.controller, direction).await?;
        let began = std::time::Instant::now();
        // The agent ends its work meanwhile, and cannot tell it.
        hold.release()?;
        until("the controller to miss its agent", SOON, async || Ok(!sites.operator.agent_is_connected("istanbul-db1").await?)).await?;
        println!("missed after {:.1} s", began.elapsed().as_secs_f64());
        ensure!(running.status()?.is_none(), "the backup ended: {}", running.written()?);
        // The other site is served as before.
        sites.ankara.connected(&sites.operator).await?;
        let second = sites.operator.runs(&["backup", "notes", "--no-wait", "-o", "json"]).await?;
        ensure!(!second.status.success(), "a second backup of one instance was accepted beside the first");
        until("the time of the hole to pass", hole + SOON, async || Ok(began.elapsed() >= hole)).await?;

        network.mend(&places.istanbul, &places.controller).await?;
        let mended = std::time::Instant::now();
        sites.istanbul.connected(&sites.operator).await?;
        let ended = running.ended(SOON).await?;
        println!("back and told {:.1} s after the mend", mended.elapsed().as_secs_f64());
        ensure!(ended.success(), "the backup ended with {ended}: {}", running.written()?);
        ensure!(sites.points("notes").await?.len() == 1, "one backup, one point");
        let operations = sites.operations().await?;
        ensure!(operations.len() == 1, "{} operations", operations.len());
        let state = operations.first().and_then(|one| one.get("state")).and_then(Value::as_str).context("a state")?;
        ensure!(state == "OPERATION_STATE_SUCCEEDED", "{state}");
        world.file("notes/two", "two\n", RunAs::Postgres, 0o644)?;
        sites.operator.says(&["backup", "notes"]).await?;
        Ok(())
    });
}

#[test]
fn a_network_that_swallows_everything_loses_no_outcome() {
    black_hole(Cut::Both);
}

#[test]
fn a_network_that_swallows_what_the_agent_says_loses_no_outcome() {
    black_hole(Cut::There);
}
