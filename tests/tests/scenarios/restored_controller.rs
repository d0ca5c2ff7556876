//! A controller that is set back to an older copy of its state, as from a backup of last night. It must not run again what
//! has run, and it must not lower an epoch.

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::s3::server::{ACCESS_KEY, REGION, S3, SECRET_KEY};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use serde_json::Value;

async fn epoch(sites: &TwoSites) -> Result<u64> {
    let page = sites.operator.reads(&["status", "orders-db"]).await?;
    let page = page.get("page").unwrap_or(&page).clone();
    let epoch = page.pointer("/components/0/epoch").cloned().unwrap_or(Value::from("0"));
    Ok(epoch.as_str().unwrap_or("0").parse()?)
}

#[test]
fn an_in_place_restore_does_not_run_again_after_the_controller_was_set_back() {
    scenario(async |world| {
        let options = Options::default();
        let (sites, server) = tokio::try_join!(TwoSites::start(&world), Postgres::start(&world, "pg", &options))?;
        server.execute("postgres", "create table t as select 1 as i").await?;
        sites.folder_repository().await?;
        sites.postgres_component("orders-db", &server).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;

        // The copy is taken while the restore is accepted, sent and not yet ended: it holds the intent without the outcome.
        let hold = muster_testbed::failpoints::Hold::at(&world, "agent.stop7.done")?;
        sites.istanbul.kill()?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("orders-db").await?;
        let asking = sites.operator.starts("restore", &["restore", "orders-db", "--instance", "istanbul", "--in-place", "--yes"])?;
        hold.reached(std::time::Duration::from_secs(60)).await?;
        sites.controller.kill()?;
        let old = sites.controller.copy_state("old-state").await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        hold.release()?;
        let status = asking.ended(std::time::Duration::from_secs(90)).await?;
        ensure!(status.success(), "the restore ended with {status}: {}", asking.written()?);
        let epoch_before = epoch(&sites).await?;
        ensure!(epoch_before >= 2, "the in-place restore of the writer did not move the epoch: {epoch_before}");

        // Life goes on after the restore; a second run would take this away.
        server.execute("postgres", "create table written_since as select 2 as i").await?;
        sites.controller.kill()?;
        sites.controller.restore_state(&old).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        muster_testbed::eventually::until("no operation to be open", std::time::Duration::from_secs(60), async || {
            Ok(sites.operations().await?.iter().all(|operation| operation.get("finishedAt").is_some()))
        })
        .await?;
        ensure!(server.value("postgres", "select i from written_since").await? == "2", "the restore has run twice");
        ensure!(epoch(&sites).await? >= epoch_before, "the epoch was lowered");
        Ok(())
    });
}

#[test]
fn a_controller_that_was_lost_comes_back_from_its_own_backup_and_repeats_nothing() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.notes().await?;
        sites.operator.says(&["backup", "notes"]).await?;
        let (place, program) = (world.folder("safe", RunAs::Caller)?, world.program("muster-controller")?.display().to_string());
        let passphrase = world.file("safe.passphrase", "a passphrase of the night", RunAs::Caller, 0o600)?;
        let (place, passphrase) = (place.display().to_string(), passphrase.display().to_string());
        sites.controller.configure(&format!("backup: {{folder: {place}, passphraseFile: {passphrase}}}\n"))?;

        // The backup is taken by itself when it starts; what comes after is in none.
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let soon = std::time::Duration::from_secs(60);
        muster_testbed::eventually::until("the controller to be backed up", soon, async || {
            Ok(sites.operator.says(&["status"]).await?.contains("backed up"))
        })
        .await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("notes").await?;
        sites.operator.says(&["backup", "notes"]).await?;
        sites.controller.kill()?;

        let state = sites.controller.state().display().to_string();
        std::fs::remove_dir_all(&state)?;
        let name = std::fs::read_dir(&place)?.next().context("a backup")??.file_name().to_string_lossy().into_owned();
        let config = sites.controller.config().display().to_string();
        let restore = ["restore", "--config", &config, "--from", &name];
        let said = world.run(RunAs::Caller, &program, &restore, soon).await?.success()?;
        ensure!(said.contains("brought back"), "{said}");
        let again = world.run(RunAs::Caller, &program, &restore, soon).await?;
        ensure!(!again.status.success() && again.stderr.contains("not empty"), "over a controller that is there: {}", again.stderr);
        sites.controller.start_again(&Failpoints::none()).await?;
        for agent in [&sites.istanbul, &sites.ankara] {
            agent.connected(&sites.operator).await?;
        }
        let page = sites.operator.says(&["status"]).await?;
        ensure!(page.contains("BEHIND"), "it does not say that it is behind: {page}");
        sites.fit("notes").await?;
        ensure!(sites.operations().await?.len() == 1, "it knows of what came after its backup");
        sites.operator.says(&["backup", "notes"]).await?;
        ensure!(!world.tails().contains("a passphrase of the night"), "the passphrase is in a log");
        Ok(())
    });
}

#[test]
fn a_controller_that_was_lost_comes_back_from_a_bucket_and_its_audit_log_with_it() {
    scenario(async |world| {
        let (sites, server) = tokio::try_join!(TwoSites::start(&world), S3::start(&world, "controllers"))?;
        let passphrase = world.file("safe.passphrase", "a passphrase of the night", RunAs::Caller, 0o600)?.display().to_string();
        let keys = world.file("safe.keys", &format!("{ACCESS_KEY}\n{SECRET_KEY}\n"), RunAs::Caller, 0o600)?.display().to_string();
        let bucket = format!("bucket: {}, prefix: muster, region: {REGION}, endpoint: \"{}\"", server.bucket(), server.endpoint());
        let plan = format!("backup: {{bucket: {{{bucket}, pathStyle: true, credentialsFile: {keys}}}, passphraseFile: {passphrase}}}\n");
        sites.controller.configure(&plan)?;
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::none()).await?;
        let soon = std::time::Duration::from_secs(60);
        muster_testbed::eventually::until("the controller to be backed up", soon, async || {
            Ok(sites.operator.says(&["status"]).await?.contains("backed up"))
        })
        .await?;
        let (before, page) = (sites.operator.reads(&["audit", "list"]).await?, sites.operator.reads(&["status"]).await?);
        let name = page.pointer("/controller/backup").and_then(Value::as_str).context("the backup's name")?.to_owned();
        let name = name.split_whitespace().next().unwrap_or_default().to_owned();
        sites.controller.kill()?;
        std::fs::remove_dir_all(sites.controller.state())?;
        let (program, config) =
            (world.program("muster-controller")?.display().to_string(), sites.controller.config().display().to_string());
        let restore = ["restore", "--config", &config, "--from", &name];
        let said = world.run(RunAs::Caller, &program, &restore, soon).await?.success()?;
        ensure!(said.contains("brought back"), "{said}");
        sites.controller.start_again(&Failpoints::none()).await?;
        sites.operator.says(&["audit", "verify"]).await?;
        let numbers = |answer: &Value| -> Vec<Value> {
            answer["entries"].as_array().into_iter().flatten().map(|entry| entry["hash"].clone()).collect()
        };
        let after = sites.operator.reads(&["audit", "list"]).await?;
        ensure!(numbers(&after).ends_with(&numbers(&before)), "the audit log came back as it was: {before} {after}");
        ensure!(!world.tails().contains(SECRET_KEY), "the bucket's key is in a log");
        Ok(())
    });
}
