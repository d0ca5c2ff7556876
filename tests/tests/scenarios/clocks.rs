//! Clocks that are set by an hour under a controller and an agent that work, and a certificate that ends in the middle of a restore.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::agent::Agent;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::faketime::SteppedClock;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const HOUR: i64 = 3_600;
const SOON: Duration = Duration::from_secs(40);

/// Two sites whose controller and first agent have clocks that can be set, with a folder of files that was granted its key.
async fn with_clocks(world: &World) -> Result<(TwoSites, SteppedClock, SteppedClock)> {
    let mut sites = TwoSites::start(world).await?;
    let (controllers, agents) = (SteppedClock::new(world, "controller")?, SteppedClock::new(world, "istanbul")?);
    sites.notes().await?;
    sites.controller.terminate().await?;
    sites.controller.with_environment(&controllers.environment())?;
    sites.istanbul.terminate().await?;
    for (name, value) in agents.environment() {
        sites.istanbul = sites.istanbul.with_environment(&name, &value);
    }
    Ok((sites, controllers, agents))
}

async fn start(sites: &TwoSites, failpoints: &Failpoints) -> Result<()> {
    sites.controller.start_again(&Failpoints::none()).await?;
    sites.istanbul.start_again(failpoints).await?;
    sites.istanbul.connected(&sites.operator).await?;
    sites.fit("notes").await
}

async fn clock_is_told(sites: &TwoSites) -> Result<()> {
    until("a finding about clocks", SOON, async || Ok(sites.operator.says(&["findings"]).await?.contains("ClockOff"))).await
}

/// Operations that the schedule began: their ids.
async fn scheduled(sites: &TwoSites) -> Result<usize> {
    let by_schedule = |operation: &Value| operation.to_string().contains("schedule/hourly");
    Ok(sites.operations().await?.iter().filter(|operation| by_schedule(operation)).count())
}

/// Whether the controller has begun the schedule: its store keeps how far it is.
fn taken(sites: &TwoSites) -> Result<bool> {
    let store = sites.controller.state().join("controller.db");
    let program =
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1], timeout=10).execute('SELECT count(*) FROM lanes').fetchone()[0])";
    let said = std::process::Command::new("/usr/bin/python3").args(["-c", program]).arg(&store).output().context("run python3")?;
    ensure!(said.status.success(), "python3: {}", String::from_utf8_lossy(&said.stderr));
    Ok(said.stdout.trim_ascii() == b"1")
}

/// The machine's hour.
fn hour() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() / HOUR.unsigned_abs())
}

#[test]
fn clocks_are_set_by_an_hour_and_nothing_breaks_or_runs_twice() {
    scenario(async |world| {
        let (sites, controllers, agents) = with_clocks(&world).await?;
        let hold = Hold::at(&world, "agent.stop7.done")?;
        start(&sites, &hold.failpoints()).await?;
        let began = hour()?;
        sites
            .declare("kind: Schedule\nname: hourly\nspec:\n  components: [notes]\n  cron: \"0 * * * *\"\n  missed: ONCE\n  backup: {label: hourly}\n")
            .await?;
        // A schedule begins where it is first seen: that must be before a clock is set. What is shown of it does not tell.
        until("the schedule to be taken by the right clock", SOON, async || taken(&sites)).await?;
        let backup = sites.operator.starts("backup", &["backup", "notes"])?;
        hold.reached(SOON).await?;
        let session = |sites: &TwoSites| Ok::<_, anyhow::Error>(sites.istanbul.written()?.matches("connected term=").count());
        let sessions = session(&sites)?;

        // The controller's clock goes ahead, in the middle of a backup: one run is due, and waits for the backup.
        controllers.step(HOUR)?;
        clock_is_told(&sites).await?;
        // Who joins now has a certificate of a clock that is ahead.
        let late = Agent::join(&world, &sites.operator, "ankara", "late").await?;
        controllers.step(0)?;
        hold.release()?;
        let ended = backup.ended(SOON).await?;
        ensure!(ended.success(), "the backup ended with {ended}: {}", backup.written()?);
        ensure!(session(&sites)? == sessions, "the session broke");
        late.terminate().await?;
        late.start_again(&Failpoints::none()).await?;
        late.connected(&sites.operator).await?;

        // The agent's clock goes ahead and behind: it works on, and it is told.
        for seconds in [HOUR, -HOUR] {
            agents.step(seconds)?;
            sites.operator.says(&["backup", "notes"]).await?;
        }
        agents.step(0)?;

        // And the controller's once more, behind and ahead: the hour that comes again runs nothing again.
        controllers.step(-HOUR)?;
        sites.operator.says(&["backup", "notes"]).await?;
        controllers.step(HOUR)?;
        sites.operator.says(&["backup", "notes"]).await?;
        ensure!(session(&sites)? == sessions, "the session broke");
        until("the run that was due to be accepted", SOON, async || Ok(scheduled(&sites).await? > 0)).await?;
        let runs = scheduled(&sites).await?;
        let most = 1 + usize::try_from(hour()? - began)?;
        ensure!(runs <= most, "the schedule ran {runs} times in what was {most} hours");
        Ok(())
    });
}

#[test]
fn a_certificate_that_ends_in_the_middle_of_a_restore_loses_nothing() {
    scenario(async |world| {
        let (sites, controllers, agents) = with_clocks(&world).await?;
        sites.controller.configure("agentCertificateLife: 1h\n")?;
        let hold = Hold::at(&world, "agent.stop7.done")?;
        start(&sites, &Failpoints::none()).await?;
        sites.operator.says(&["backup", "notes"]).await?;
        // A certificate of the short life, by a new token for the same agent.
        let rejoin = async || -> Result<()> {
            sites.istanbul.terminate().await?;
            let token = sites.operator.says(&["token", "create", "--site", "istanbul", "--agent", "istanbul-db1"]).await?;
            world.file("istanbul-db1/token", token.trim(), RunAs::Postgres, 0o600)?;
            Ok(())
        };
        rejoin().await?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("notes").await?;
        let target = world.folder("elsewhere", RunAs::Postgres)?.join("restored").display().to_string();
        let asked = ["restore", "notes", "--instance", "istanbul", "--beside", &target, "--no-wait", "-o", "json"];
        let asked: Value = serde_json::from_str(&sites.operator.says(&asked).await?)?;
        let operation = asked.get("id").and_then(Value::as_str).context("an operation")?.to_owned();
        hold.reached(SOON).await?;

        // Both clocks go on by two hours, as when a machine slept, and the connection breaks: the certificate has ended.
        controllers.step(2 * HOUR)?;
        agents.step(2 * HOUR)?;
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::none()).await?;
        hold.release()?;
        until("the agent to be refused for its certificate", SOON, async || {
            Ok(sites.istanbul.written()?.contains("this agent's certificate has ended"))
        })
        .await?;
        ensure!(Path::new(&target).join("one").exists(), "the restore was done all the same");
        rejoin().await?;
        sites.istanbul.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        let ended = sites.ended(&operation, SOON).await?;
        ensure!(ended.get("state").and_then(Value::as_str).is_some_and(|state| state.contains("SUCCEEDED")), "{ended}");
        Ok(())
    });
}
