//! A client that no one here wrote: Python's, generated from the proto files by Debian's tools.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(120);

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python")
}

/// Two sites with a small component that is fit for a backup, and the administrator's credentials as files.
async fn notes(world: &World) -> Result<(TwoSites, String)> {
    let sites = TwoSites::start(world).await?;
    sites.folder_repository().await?;
    let folder = world.folder("notes", RunAs::Postgres)?;
    world.file("notes/one", "a note\n", RunAs::Postgres, 0o644)?;
    sites.files_component("notes", &folder).await?;
    let tls = world.path("tls").display().to_string();
    sites.operator.says(&["context", "export", &tls]).await?;
    Ok((sites, tls))
}

#[test]
fn a_generated_python_client_starts_a_backup_watches_it_and_reads_the_point() {
    scenario(async |world| {
        let (sites, tls) = notes(&world).await?;
        let generated = world.path("generated").display().to_string();
        let script = python().join("generate.sh").display().to_string();
        world.run(RunAs::Caller, "/bin/sh", &[&script, &generated], SOON).await?.success().context("generate the client")?;
        let mut launch = world.launch("python", "/usr/bin/python3", RunAs::Caller);
        launch.environment.insert("PYTHONPATH".to_owned(), generated);
        let program = python().join("backup.py").display().to_string();
        launch.arguments = [&program, "--endpoint", &sites.controller.address(), "--tls", &tls, "notes"].map(str::to_owned).to_vec();
        let told = launch.run(SOON).await?.success().context("the Python client")?;
        let points = sites.points("notes").await?;
        ensure!(points.len() == 1, "{} points after one backup", points.len());
        ensure!(points.iter().all(|point| told.contains(point.as_str())), "the client did not read point {points:?}: {told}");
        Ok(())
    });
}
