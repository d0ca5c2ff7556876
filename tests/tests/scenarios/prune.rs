//! Prune, hold and release through controller and agent, over a bucket whose grace time is short.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::s3::server::S3;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;

#[test]
fn what_the_retention_does_not_keep_goes_after_the_grace_time_and_what_is_held_stays() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        let server = S3::start(&world, "backups").await?;
        sites.bucket_repository_with_grace(&server, "4s").await?;
        let folder = world.folder("notes", RunAs::Postgres)?;
        world.file("notes/text", "one\n", RunAs::Postgres, 0o644)?;
        sites.files_component("notes", &folder).await?;
        sites.declare_files("notes", &folder, "  retention: {keepLast: 1}\n").await?;
        for text in ["two\n", "three\n", "four\n"] {
            world.file("notes/text", text, RunAs::Postgres, 0o644)?;
            sites.operator.says(&["backup", "notes"]).await?;
        }
        let points = sites.points("notes").await?;
        ensure!(points.len() == 3, "{points:?}");
        let told = sites.operator.says(&["prune", "notes", "--dry-run"]).await?;
        ensure!(told.contains("the newest good one") && told.matches("no rule keeps it").count() == 2, "{told}");
        sites.operator.says(&["hold", "notes", &points[2], "--for", "1h", "--reason", "a test"]).await?;
        let listed = sites.operator.says(&["points", "notes"]).await?;
        ensure!(listed.contains("held until"), "{listed}");
        pruned_to(&sites, 2).await?;
        ensure!(sites.points("notes").await? == [points[0].clone(), points[2].clone()], "another point went");
        sites.operator.says(&["verify", "notes", "--point", &points[2]]).await?;
        sites.operator.says(&["release", "notes", &points[2]]).await?;
        pruned_to(&sites, 1).await?;
        sites.operator.says(&["check", "notes", "--read-data", "1/1"]).await?;
        sites.operator.says(&["verify", "notes"]).await.map(|_| ())
    });
}

async fn pruned_to(sites: &TwoSites, points: usize) -> Result<()> {
    let started = Instant::now();
    loop {
        let told = sites.operator.says(&["prune", "notes"]).await?;
        if sites.points("notes").await?.len() == points {
            return Ok(());
        }
        ensure!(started.elapsed() < Duration::from_secs(40), "{told}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
