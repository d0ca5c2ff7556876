//! A controller that is killed again and again under load, with a ledger of what it accepted: every accepted operation ends, none is
//! done twice. Five kills here, fifty in `make soak`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::eventually;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_tests::soak;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

const LANES: [&str; 3] = ["letters", "maps", "notes"];
const LONG: Duration = Duration::from_secs(90);

/// What was accepted: the request's id, and the operation that it was answered with.
type Ledger = Mutex<BTreeMap<String, String>>;

/// Asks for one backup after the other; each is asked for with its own request id until it is answered.
async fn lane(sites: &TwoSites, component: &str, ledger: &Ledger, over: &AtomicBool) -> Result<()> {
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            return Ok(());
        }
        let request = format!("{component}-{number}");
        let asked = ["backup", component, "--request-id", &request, "--no-wait", "-o", "json"];
        let operation = eventually(&format!("{request} to be accepted"), LONG, async || {
            let answer = sites.operator.runs(&asked).await?;
            if !answer.status.success() {
                return Ok(None);
            }
            let answer: Value = serde_json::from_str(&answer.stdout).context("read the answer")?;
            Ok(Some(answer.get("id").and_then(Value::as_str).ok_or_else(|| anyhow!("no operation in {answer}"))?.to_owned()))
        })
        .await?;
        ledger.lock().map_err(|_| anyhow!("a thread panicked with the ledger"))?.insert(request, operation.clone());
        sites.ended(&operation, LONG).await?;
    }
    Ok(())
}

/// Kills the controller at moments of this seed and starts it again.
async fn kills(sites: &TwoSites, seed: u64, count: u32) -> Result<()> {
    let mut moments = StdRng::seed_from_u64(seed);
    for _ in 0..count {
        // Random moments are the point: between two steps of whatever is under way.
        tokio::time::sleep(Duration::from_millis(moments.random_range(0..1_500))).await;
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::none()).await?;
    }
    Ok(())
}

#[test]
fn a_controller_killed_in_a_loop_ends_everything_that_it_accepted_and_does_nothing_twice() {
    let count = soak::size(5, 50);
    let seed = soak::seed();
    println!("seed {seed}: {count} kills");
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.folder_repository().await?;
        for component in LANES {
            let folder = world.folder(component, RunAs::Postgres)?;
            world.file(&format!("{component}/one"), "one\n", RunAs::Postgres, 0o644)?;
            sites.files_component(component, &folder).await?;
        }
        let (ledger, over) = (Ledger::default(), AtomicBool::new(false));
        let killing = async {
            let killed = kills(&sites, seed, count).await;
            over.store(true, Ordering::SeqCst);
            killed
        };
        let [letters, maps, notes] = LANES.map(|component| lane(&sites, component, &ledger, &over));
        tokio::try_join!(killing, letters, maps, notes)?;

        let ledger = ledger.into_inner().map_err(|_| anyhow!("a thread panicked with the ledger"))?;
        let operations = sites.operator.reads(&["ops", "--all"]).await?;
        let operations = operations.as_array().or_else(|| operations.get("operations")?.as_array()).cloned().unwrap_or_default();
        ensure!(operations.len() == ledger.len(), "{} operations for {} requests", operations.len(), ledger.len());
        for (request, id) in &ledger {
            let found = operations.iter().find(|found| found.get("id").and_then(Value::as_str) == Some(id));
            let Some(found) = found else { bail!("{request} was accepted as {id}, which nobody knows") };
            ensure!(found.get("state").and_then(Value::as_str) == Some("OPERATION_STATE_SUCCEEDED"), "{request}: {found}");
        }
        let mut points = 0;
        for component in LANES {
            points += sites.points(component).await?.len();
        }
        println!("{} accepted, {} ended, {points} points", ledger.len(), operations.len());
        ensure!(points == ledger.len(), "{points} points of {} backups", ledger.len());
        ensure!(ledger.len() > LANES.len(), "hardly anything was under way");
        Ok(())
    });
}
