//! Clients that no one here wrote, generated from the proto files: Python's by Debian's tools, Go's by buf.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(120);

/// Modules may have to be fetched and compiled first.
const BUILT: Duration = Duration::from_secs(540);

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python")
}

fn go() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/go")
}

/// Two sites with a small component that is fit for a backup, and the administrator's credentials as files.
async fn notes(world: &World) -> Result<(TwoSites, String)> {
    let sites = TwoSites::start(world).await?;
    sites.notes().await?;
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

/// Ends so where the machine lacks a tool, or a registry of packages cannot be reached: no fault of ours.
const NOT_HERE: i32 = 9;

/// Fetches what the Go client needs, and says with `NOT_HERE` that it cannot; then generates and builds it.
const BUILD_GO: &str = r#"
for tool in go npx; do command -v $tool >/dev/null || { echo "$tool is not on this machine" >&2; exit 9; }; done
cd "$0"
go mod download && npx --yes @bufbuild/buf@1.75.0 --version || exit 9
./generate.sh && go vet . && go build -o "$1" ."#;

/// Builds the Go client. `None`: this machine cannot have it, which is told.
async fn built_go_client(world: &World) -> Result<Option<PathBuf>> {
    let program = world.path("go-client");
    let mut launch = world.launch("go-build", "/bin/bash", RunAs::Caller).inheriting(&["HOME", "PATH"]);
    launch.arguments = ["-c", BUILD_GO, &go().display().to_string(), &program.display().to_string()].map(str::to_owned).to_vec();
    let built = launch.run(BUILT).await?;
    if built.status.code() == Some(NOT_HERE) {
        println!("NOT RUN: the Go client cannot be built here: {}", built.stderr);
        return Ok(None);
    }
    built.success().context("build the Go client")?;
    Ok(Some(program))
}

#[test]
fn a_generated_go_client_outlives_the_controller_and_hears_the_end_of_its_backup() {
    scenario(async |world| {
        let Some(program) = built_go_client(&world).await? else { return Ok(()) };
        let (sites, tls) = notes(&world).await?;
        let address = sites.controller.address();
        let client = |component: &str| {
            let mut launch = world.launch(&format!("go-{component}"), &program, RunAs::Caller);
            launch.arguments = ["-endpoint", &address, "-tls", &tls, component].map(str::to_owned).to_vec();
            launch
        };
        let refused = client("nothing").run(SOON).await?;
        ensure!(refused.status.code() == Some(2) && refused.stderr.contains("HINT: there are: notes"), "not refused so: {refused:?}");

        let hold = Hold::at(&world, "agent.stop7.working")?;
        sites.istanbul.kill()?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("notes").await?;
        let asking = client("notes").start()?;
        hold.reached(SOON).await?;
        sites.controller.kill()?;
        hold.release()?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let status = asking.ended(SOON).await.with_context(|| asking.written().unwrap_or_default())?;
        let told = asking.written()?;
        ensure!(status.success(), "the Go client ended with {status}: {told}");
        let points = sites.points("notes").await?;
        ensure!(points.len() == 1 && points.iter().all(|point| told.contains(point.as_str())), "points {points:?}, told: {told}");
        Ok(())
    });
}
