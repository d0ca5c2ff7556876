//! What is shipped in `deploy/` is what the programs take; and an agent may be restarted, killed or refused while the database works
//! that it started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::port::Port;
use muster_testbed::postgres::load::{self, Load};
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(30);

fn deploy(folder: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(root.join("deploy").join(folder))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn begins(path: &Path, with: &str) -> bool {
    path.extension().is_some_and(|end| end == "yaml") && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(with))
}

#[test]
fn the_examples_are_what_the_programs_take() {
    scenario(async |world| {
        let mut judged = 0;
        for path in deploy("examples")? {
            for (program, with) in [("muster-controller", "controller"), ("muster-agent", "agent")] {
                if begins(&path, with) {
                    let program = world.program(program)?.display().to_string();
                    let arguments = ["run", "--check-config", "--config", &path.display().to_string()];
                    world.run(RunAs::Caller, &program, &arguments, SOON).await?.success()?;
                    judged += 1;
                }
            }
        }
        ensure!(judged >= 3, "{judged} configurations were judged");
        let sites = TwoSites::start(&world).await?;
        sites.folder_repository().await?;
        let resources = deploy("examples")?.into_iter().find(|path| begins(path, "two-sites")).context("two-sites.yaml")?;
        let said = sites.operator.says(&["apply", "--dry-run", "-f", &resources.display().to_string()]).await?;
        ensure!(said.contains("orders-db"), "{said}");
        Ok(())
    });
}

/// systemd's own judgement of the units, where systemd is on this machine; elsewhere only that they name what is shipped.
#[test]
fn systemd_takes_the_units() {
    scenario(async |world| {
        let folder = world.folder("units", RunAs::Caller)?;
        for path in deploy("systemd")? {
            let text = std::fs::read_to_string(&path)?;
            // A database is hindered by nothing; our own programs are.
            let needed: &[&str] = if path.ends_with("muster-postgres@.service") {
                &["KillMode=mixed", "KillSignal=SIGINT", "Restart=no", "User="]
            } else {
                &["KillMode=process", "NoNewPrivileges=true", "ProtectSystem=strict", "User="]
            };
            for needed in needed {
                ensure!(text.contains(needed), "{} lacks {needed}", path.display());
            }
            // The programs are judged where they are now, not where the package puts them.
            let mut here = text.replace("Documentation=", "# ");
            for program in ["muster-controller", "muster-agent"] {
                here = here.replace(&format!("/usr/bin/{program}"), &world.program(program)?.display().to_string());
            }
            let unit = folder.join(path.file_name().context("a unit has a name")?);
            std::fs::write(&unit, here)?;
            if Path::new("/usr/bin/systemd-analyze").exists() {
                let verified = world
                    .run(RunAs::Caller, "/usr/bin/systemd-analyze", &["verify", "--man=no", &unit.display().to_string()], SOON)
                    .await?;
                verified.success().with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    });
}

/// The server processes of pgbench's sessions: the same ones later means that no connection was dropped.
async fn sessions(server: &Postgres) -> Result<Vec<Vec<String>>> {
    server.rows("postgres", "select pid from pg_stat_activity where application_name = 'pgbench' order by pid").await
}

async fn transactions(server: &Postgres) -> Result<u64> {
    Ok(server.value("shop", "select count(*) from pgbench_history").await?.parse()?)
}

/// pgbench writes on after what was done, through the sessions that it had before.
async fn goes_on(server: &Postgres, load: &Load, before: &[Vec<String>], after: &str) -> Result<()> {
    let count = transactions(server).await?;
    until(&format!("pgbench to write after {after}"), SOON, async || Ok(transactions(server).await? > count)).await?;
    ensure!(load.runs()?, "pgbench ended after {after}");
    let now = sessions(server).await?;
    ensure!(now == before, "after {after} the sessions are {now:?}, before they were {before:?}");
    Ok(())
}

/// A restored copy that the agent itself started, with pgbench on it.
async fn restored_under_load(world: &World, sites: &TwoSites) -> Result<(Postgres, Load)> {
    let source = Postgres::start(world, "pg", &Options::default()).await?;
    load::fill(world, &source, "shop", 1).await?;
    sites.folder_repository().await?;
    sites.postgres_component("orders-db", &source).await?;
    sites.operator.says(&["backup", "orders-db"]).await?;
    let port = Port::take()?;
    let folder = world.folder("copy", RunAs::Postgres)?.join("data");
    let (number, target) = (port.number().to_string(), folder.display().to_string());
    sites.operator.says(&["restore", "orders-db", "--instance", "istanbul", "--beside", &target, "--port", &number, "--yes"]).await?;
    let copy = Postgres::elsewhere(world, "copy", folder, port);
    let load = Load::start(world, &copy, "shop", 2)?;
    until("pgbench to have its sessions", SOON, async || Ok(sessions(&copy).await?.len() == 2)).await?;
    Ok((copy, load))
}

#[test]
fn no_connection_drops_when_the_agent_that_started_the_server_restarts() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        let (copy, load) = restored_under_load(&world, &sites).await?;
        let before = sessions(&copy).await?;

        sites.istanbul.terminate().await?;
        goes_on(&copy, &load, &before, "SIGTERM to the agent").await?;
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        goes_on(&copy, &load, &before, "the agent's start").await?;

        sites.istanbul.kill()?;
        goes_on(&copy, &load, &before, "kill -9 of the agent").await?;
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        goes_on(&copy, &load, &before, "the agent's second start").await?;
        load.stop(&copy).await
    });
}

#[test]
fn an_older_agent_refuses_a_newer_ones_state_and_says_why() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.istanbul.terminate().await?;
        let key = sites.istanbul.state().join("encryption.key");
        let written = std::fs::read(&key)?;
        let newer = String::from_utf8_lossy(&written[..40]).replace("MUSTER-ENCRYPTION-KEY 1 ", "MUSTER-ENCRYPTION-KEY 2 ");
        std::fs::write(&key, [newer.as_bytes(), &written[40..]].concat())?;
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.died(SOON).await?;
        let said = sites.istanbul.written()?;
        ensure!(said.contains("reads up to 1: start the newer agent again"), "{said}");
        Ok(())
    });
}

#[test]
fn sighup_takes_the_agents_log_level_again() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        let pid = sites.istanbul.pid()?.context("the agent runs")?.to_string();
        let config = std::fs::read_to_string(sites.istanbul.config())?;
        let others: String = config.lines().filter(|line| !line.starts_with("log:")).map(|line| format!("{line}\n")).collect();
        for (level, said) in [("loud=5x", "the log level stays as it was"), ("debug", "log level read anew")] {
            std::fs::write(sites.istanbul.config(), format!("{others}log: {{level: {level}}}\n"))?;
            world.run(RunAs::Caller, "/bin/kill", &["-HUP", &pid], SOON).await?.success()?;
            until(&format!("the agent to say: {said}"), SOON, async || Ok(sites.istanbul.written()?.contains(said))).await?;
        }
        ensure!(sites.istanbul.runs()?, "it ended by SIGHUP");
        Ok(())
    });
}
