//! The disk of the controller's store is full: what cannot be kept is refused and says so, what goes on ends when there is room, a
//! controller that cannot keep its new term does not start, and nothing that was accepted is lost.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::controller::Controller;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;

const SOON: Duration = Duration::from_secs(40);
/// The store's disk.
const DISK: u64 = 24 << 20;

/// Takes all the room that is left beside the store.
fn fill(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("ballast");
    let mut file = std::fs::File::create(&path).context("make the ballast")?;
    // From large to small, so that not even one page is left.
    for block in [1 << 20, 4096, 1] {
        let bytes = vec![0x5a; block];
        loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
    }
    Ok(path)
}

#[test]
fn a_full_disk_of_the_store_refuses_what_it_cannot_keep_and_loses_nothing() {
    scenario(async |world| {
        world.small_disk("controller", DISK).await?;
        let sites = TwoSites::start_under(&world, Controller::start(&world).await?).await?;
        sites.notes().await?;
        let hold = Hold::at(&world, "agent.stop7.done")?;
        sites.istanbul.terminate().await?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("notes").await?;
        let running = sites.operator.starts("running", &["backup", "notes"])?;
        hold.reached(SOON).await?;

        let ballast = fill(sites.controller.state())?;
        // What is there is read; what would have to be kept is refused, with the reason.
        ensure!(sites.operations().await?.len() == 1, "one operation");
        let refused = sites.operator.runs(&["--retry-for", "2s", "pause", "notes", "--for", "1h", "--reason", "full"]).await?;
        println!("{}", refused.stderr);
        ensure!(!refused.status.success(), "it was kept on a full disk: {}", refused.stdout);
        ensure!(refused.stderr.contains("full"), "it does not tell that the disk is full: {}", refused.stderr);
        // What the agent tells now cannot be journaled: it waits for room, and nobody believes that it ended.
        hold.release()?;
        until("the agent to be told why", SOON, async || {
            Ok(sites.istanbul.written()?.lines().any(|line| line.contains("not connected") && line.contains("full")))
        })
        .await?;
        ensure!(running.status()?.is_none(), "the backup ended with its outcome nowhere: {}", running.written()?);

        // Killed and started again on the full disk: a term that cannot be kept is none.
        sites.controller.kill()?;
        let failed = sites.controller.start_again(&Failpoints::none()).await.err().context("it began a term that it cannot keep")?;
        println!("{failed:#}");
        ensure!(format!("{failed:#}").contains("full"), "it does not tell that the disk is full: {failed:#}");

        std::fs::remove_file(ballast).context("make room")?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let ended = running.ended(SOON).await?;
        ensure!(ended.success(), "the backup ended with {ended}: {}", running.written()?);
        ensure!(sites.points("notes").await?.len() == 1, "one backup, one point");
        ensure!(sites.operations().await?.len() == 1, "what was refused is not there");
        sites.operator.says(&["backup", "notes"]).await?;
        Ok(())
    });
}
