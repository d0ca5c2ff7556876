//! kill -9 of the controller and of the agent at each of the nine stops of a command's way: 18 kills around one small backup.
//! Each ends in exactly one operation, which succeeds, and exactly one recovery point.
//!
//! Whoever owns a stop is held there by a failpoint; then the victim is killed, which may be the same process or the other
//! one, the held one is let go, and the victim is started again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(90);

/// Who passes a stop, and who is killed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Controller,
    Agent,
}

/// The nine stops of the way, with the place in the code that stands for each.
const STOPS: [(&str, Party, &str); 9] = [
    ("1 asked", Party::Controller, "controller.stop1.asked"),
    ("2 accepted", Party::Controller, "controller.stop2.accepted"),
    ("3 decided", Party::Controller, "controller.stop3.decided"),
    ("4 sent", Party::Controller, "controller.stop4.sent"),
    ("5 received", Party::Agent, "agent.stop5.received"),
    ("6 taken on", Party::Agent, "agent.stop6.taken_on"),
    ("7 done", Party::Agent, "agent.stop7.done"),
    ("8 reported", Party::Controller, "controller.stop8.reported"),
    ("9 recorded", Party::Controller, "controller.stop9.recorded"),
];

/// Places of the agent within stops 7 to 9 that the nine do not hold.
const MORE_OF_THE_AGENT: [(&str, Party, &str); 4] = [
    ("7 working", Party::Agent, "agent.stop7.working"),
    ("8 outcome kept", Party::Agent, "agent.stop8.recorded"),
    ("8 outcome sent", Party::Agent, "agent.stop8.sent"),
    ("9 acknowledged", Party::Agent, "agent.stop9.acknowledged"),
];

/// Two sites and a component of one small file.
async fn small_world(world: &World) -> Result<TwoSites> {
    let sites = TwoSites::start(world).await?;
    sites.notes().await?;
    Ok(sites)
}

/// One backup with one kill.
async fn kill_at(sites: &TwoSites, (stop, passes, place): (&str, Party, &str), victim: Party) -> Result<()> {
    let before = (sites.operations().await?.len(), sites.points("notes").await?.len());
    let hold = Hold::at(&sites.world, place)?;
    restart(sites, passes, &hold.failpoints()).await?;

    let log = format!("backup-{}", place.replace('.', "-"));
    let asking = sites.operator.starts(&log, &["backup", "notes"])?;
    hold.reached(SOON).await?;
    match victim {
        Party::Controller => sites.controller.kill()?,
        Party::Agent => sites.istanbul.kill()?,
    }
    hold.release()?;
    restart(sites, victim, &Failpoints::none()).await?;
    let status = asking.ended(LONG).await.with_context(|| format!("the asking command: {}", asking.written().unwrap_or_default()))?;
    ensure!(status.success(), "the asking command ended with {status}: {}", asking.written()?);

    let operations = sites.operations().await?;
    ensure!(operations.len() == before.0 + 1, "{} operations instead of one", operations.len() - before.0);
    let newest = operations.first().context("there is an operation")?;
    ensure!(newest.get("state").and_then(Value::as_str) == Some("OPERATION_STATE_SUCCEEDED"), "stop {stop}: {newest}");
    let points = sites.points("notes").await?;
    ensure!(points.len() == before.1 + 1, "{} points instead of one", points.len() - before.1);
    Ok(())
}

/// Kills a process where it still runs and starts it again.
async fn restart(sites: &TwoSites, party: Party, failpoints: &Failpoints) -> Result<()> {
    match party {
        Party::Controller => {
            sites.controller.kill()?;
            sites.controller.start_again(failpoints).await?;
        }
        Party::Agent => {
            sites.istanbul.kill()?;
            sites.istanbul.start_again(failpoints).await?;
        }
    }
    sites.istanbul.connected(&sites.operator).await?;
    sites.fit("notes").await
}

fn killed_at_each(stops: &[(&str, Party, &str)], victim: Party) {
    scenario(async |world| {
        let sites = small_world(&world).await?;
        for &stop in stops {
            let began = std::time::Instant::now();
            kill_at(&sites, stop, victim).await.with_context(|| format!("{victim:?} killed at stop {}", stop.0))?;
            println!("{victim:?} killed at stop {}: one operation, one point, {:.1} s", stop.0, began.elapsed().as_secs_f64());
        }
        Ok(())
    });
}

#[test]
fn a_controller_killed_at_any_stop_loses_nothing_and_repeats_nothing() {
    killed_at_each(&STOPS, Party::Controller);
}

#[test]
fn an_agent_killed_at_any_stop_loses_nothing_and_repeats_nothing() {
    killed_at_each(&STOPS, Party::Agent);
    killed_at_each(&MORE_OF_THE_AGENT, Party::Agent);
}
