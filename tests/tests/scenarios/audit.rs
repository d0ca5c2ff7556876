//! The audit log as an operator uses it: who did what is listed, a refusal too, a killed controller leaves no call without a trace, and a row
//! that somebody changed in the store is named.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::operator::Operator;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

async fn entries(sites: &TwoSites, arguments: &[&str]) -> Result<Vec<Value>> {
    let answer = sites.operator.reads(&[&["audit", "list"], arguments].concat()).await?;
    Ok(answer.get("entries").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn who_did_what_is_listed_a_kill_hides_nothing_and_an_edited_row_is_named() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.notes().await?;
        let viewer = Operator::stranger(&world, "eve")?;
        let file = world.path("eve.yaml").display().to_string();
        sites.operator.says(&["operator", "add", "eve", "--role", "viewer", "--file", &file]).await?;
        viewer.says(&["context", "import", &file]).await?;

        // The controller dies with the intention recorded and nothing done; the command that is repeated is done once.
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::kill_at("controller.audit.asked")).await?;
        sites.istanbul.connected(&sites.operator).await?;
        let asking = sites.operator.starts("backup", &["backup", "notes"])?;
        sites.controller.died(SOON).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let status = asking.ended(Duration::from_secs(60)).await?;
        ensure!(status.success(), "the backup ended with {status}: {}", asking.written()?);
        let asked = entries(&sites, &["--resource", "notes", "--who", "operator/", "--every"]).await?;
        let backups: Vec<_> = asked.iter().filter(|entry| text(entry, "rpc").ends_with("/Backup")).collect();
        let phases: Vec<_> = backups.iter().map(|entry| text(entry, "phase")).collect();
        ensure!(phases == ["AUDIT_PHASE_ANSWERED", "AUDIT_PHASE_ASKED", "AUDIT_PHASE_ASKED"], "{phases:?}");
        ensure!(sites.points("notes").await?.len() == 1, "it was done twice");
        let first = backups.first().context("the outcome")?;
        ensure!(text(first, "operationId").len() == 32 && text(first, "outcome") == "OK", "{first}");

        let refused = viewer.runs(&["backup", "notes"]).await?;
        ensure!(refused.status.code() == Some(5), "{refused:?}");
        sites.operator.says(&["operator", "revoke", "eve", "--reason", "a test", "--yes"]).await?;
        let page = sites.operator.says(&["audit", "list", "--since", "1h"]).await?;
        for told in ["PERMISSION_DENIED: operator eve is viewer", "Inventory.Apply", "Fleet.RevokeOperator", "operator/eve", "no outcome"] {
            ensure!(page.contains(told), "the list lacks {told:?}:\n{page}");
        }
        let whole = sites.operator.says(&["audit", "verify"]).await?;
        let known = whole.split("--known ").nth(1).context("the head")?.trim().to_owned();

        // Somebody who can write to the store changes a row.
        let number =
            entries(&sites, &["--who", "eve"]).await?.iter().map(|entry| text(entry, "number").to_owned()).next().context("eve's")?;
        let store = sites.controller.state().join("controller.db");
        let change = async |sql: String| {
            let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10); c.execute(sys.argv[2]); c.commit()";
            world.run(RunAs::Caller, "/usr/bin/python3", &["-c", program, &store.display().to_string(), &sql], SOON).await?.success()
        };
        change(format!("UPDATE audit SET caller = 'operator/ada' WHERE number = {number}")).await?;
        let broken = sites.operator.runs(&["audit", "verify"]).await?;
        ensure!(broken.status.code() == Some(11), "{broken:?}");
        ensure!(broken.stderr.contains(&format!("at entry {number}")), "{}", broken.stderr);
        change(format!("UPDATE audit SET caller = 'operator/eve' WHERE number = {number}")).await?;
        sites.operator.says(&["audit", "verify", "--known", &known]).await?;
        let other = format!("{}:{}", known.split(':').next().unwrap_or_default(), "0".repeat(64));
        ensure!(sites.operator.runs(&["audit", "verify", "--known", &other]).await?.status.code() == Some(11), "an entry that was another");
        Ok(())
    });
}
