//! The CA of a living world: one that a company gave, replaced by another while backups run, agents are away and the controller is killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::controller::Controller;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A company's root and the CA that it made for Muster.
const COMPANY: &str = "set -e
openssl ecparam -name prime256v1 -genkey -noout -out root.ec
openssl req -x509 -new -key root.ec -subj '/CN=Company Root' -days 3650 -out root.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key && chmod 600 ca.key
openssl req -new -key ca.key -subj '/CN=Company Muster CA' -out ca.csr
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\\nkeyUsage=critical,keyCertSign,cRLSign\\nsubjectAltName=URI:spiffe://muster\\n' > ext
openssl x509 -req -in ca.csr -CA root.pem -CAkey root.ec -CAcreateserial -days 1000 -extfile ext -out ca.pem
cat ca.pem root.pem > chain.pem";

/// A controller under the company's CA, whose key is sealed.
async fn under_a_company(world: &World) -> Result<Controller> {
    let controller = Controller::prepare(world)?;
    let folder = world.folder("company", RunAs::Caller)?;
    let made = format!("cd {} && {COMPANY}", folder.display());
    world.run(RunAs::Caller, "/bin/bash", &["-c", &made], SOON).await?.success()?;
    let passphrase = world.file("ca.passphrase", "a passphrase of the CA", RunAs::Caller, 0o600)?;
    controller.configure(&format!("caPassphraseFile: {}\n", passphrase.display()))?;
    let (chain, key) = (folder.join("chain.pem").display().to_string(), folder.join("ca.key").display().to_string());
    let config = controller.config().display().to_string();
    let init = ["init", "--config", &config, "--ca-certificate", &chain, "--ca-key", &key];
    let program = world.program("muster-controller")?.display().to_string();
    world.run(RunAs::Caller, &program, &init, SOON).await?.success()?;
    controller.start_again(&Failpoints::none()).await?;
    Ok(controller)
}

async fn authorities(sites: &TwoSites) -> Result<Vec<String>> {
    let answer = sites.operator.reads(&["ca", "status"]).await?;
    let all = answer.get("authorities").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(all.iter().filter_map(|one| Some(one.get("fingerprint")?.as_str()?.to_owned())).collect())
}

async fn waiting(sites: &TwoSites) -> Result<Vec<String>> {
    let answer = sites.operator.reads(&["ca", "status"]).await?;
    let all = answer.get("waitingFor").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(all.iter().filter_map(|one| Some(one.get("name")?.as_str()?.to_owned())).collect())
}

/// Waits until just these still need the old CA.
async fn waits_for(sites: &TwoSites, names: &[&str]) -> Result<()> {
    until(&format!("{names:?} to be waited for"), SOON, async || Ok(waiting(sites).await? == names)).await
}

async fn agents_are_of(sites: &TwoSites, authority: &str) -> Result<()> {
    let answer = sites.operator.reads(&["agents"]).await?;
    let agents = answer.get("agents").and_then(Value::as_array).cloned().unwrap_or_default();
    ensure!(agents.len() == 2 && agents.iter().all(|agent| agent.get("authority").and_then(Value::as_str) == Some(authority)), "{answer}");
    Ok(())
}

#[test]
fn the_ca_is_replaced_while_a_backup_runs_and_an_agent_is_away() {
    scenario(async |world| {
        let sites = TwoSites::start_under(&world, under_a_company(&world).await?).await?;
        sites.notes().await?;
        let [old] = <[String; 1]>::try_from(authorities(&sites).await?).ok().context("one CA")?;
        agents_are_of(&sites, &old).await?;

        // A backup runs, the other agent is away, and what it has is kept for later.
        let hold = Hold::at(&world, "agent.stop7.done")?;
        sites.istanbul.kill()?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("notes").await?;
        let backup = sites.operator.starts("backup", &["backup", "notes"])?;
        hold.reached(SOON).await?;
        sites.ankara.terminate().await?;
        let kept = world.path("ankara-kept").display().to_string();
        let identity = sites.ankara.state().join("identity").display().to_string();
        world.run(RunAs::Caller, "/bin/cp", &["-a", &identity, &kept], SOON).await?.success()?;
        let before_the_rotation = {
            sites.controller.terminate().await?;
            let copy = sites.controller.copy_state("before").await?;
            sites.controller.start_again(&Failpoints::none()).await?;
            copy
        };
        sites.istanbul.connected(&sites.operator).await?;

        sites.operator.says(&["ca", "rotate", "--yes"]).await?;
        let all = authorities(&sites).await?;
        let new = all.get(1).cloned().context("two CAs")?;
        ensure!(all.first() == Some(&old), "{all:?}");
        waits_for(&sites, &["agent/ankara-db1", "operator/admin"]).await?;
        let twice = sites.operator.runs(&["ca", "rotate", "--yes"]).await?;
        ensure!(!twice.status.success() && twice.stderr.contains("muster ca retire"), "{}", twice.stderr);
        let early = sites.operator.runs(&["ca", "retire", "--yes"]).await?;
        ensure!(!early.status.success() && early.stderr.contains("agent/ankara-db1"), "{}", early.stderr);
        ensure!(early.stderr.contains("--force agent/ankara-db1"), "the hint does not say what to type: {}", early.stderr);

        // Set back to before the rotation, the controller knows the old CA alone: the agent shows its older certificate, and nothing is lost.
        sites.controller.kill()?;
        let rotated = sites.controller.copy_state("rotated").await?;
        sites.controller.restore_state(&before_the_rotation).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        ensure!(authorities(&sites).await? == [old.clone()], "the older copy knows one CA");
        sites.controller.kill()?;
        sites.controller.restore_state(&rotated).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        waits_for(&sites, &["agent/ankara-db1", "operator/admin"]).await?;

        hold.release()?;
        let ended = backup.ended(Duration::from_secs(60)).await?;
        ensure!(ended.success(), "the backup ended with {ended}: {}", backup.written()?);

        // Who was away comes back before the end and is fine.
        sites.ankara.start_again(&Failpoints::none()).await?;
        sites.ankara.connected(&sites.operator).await?;
        waits_for(&sites, &["operator/admin"]).await?;
        sites.operator.says(&["context", "renew"]).await?;
        waits_for(&sites, &[]).await?;
        agents_are_of(&sites, &new).await?;
        sites.operator.says(&["token", "create", "--site", "ankara", "--agent", "late"]).await?;
        let retired = sites.operator.says(&["ca", "retire", "--yes"]).await?;
        ensure!(retired.contains("1 join tokens"), "{retired}");
        ensure!(authorities(&sites).await? == [new.clone()], "one CA is left");
        sites.operator.says(&["backup", "notes"]).await?;
        ensure!(!sites.controller.state().join("ca/next.pem").exists(), "the rotation is over on disk");

        // A machine that slept through all of it is refused, and told what to type.
        sites.ankara.terminate().await?;
        std::fs::remove_dir_all(&identity)?;
        world.run(RunAs::Caller, "/bin/cp", &["-a", &kept, &identity], SOON).await?.success()?;
        sites.ankara.start_again(&Failpoints::none()).await?;
        until("the agent to be refused with a hint", SOON, async || {
            Ok(sites.ankara.written()?.contains("`muster token create --site SITE --agent NAME > FILE`"))
        })
        .await?;
        ensure!(sites.ankara.runs()?, "it goes on without a controller");
        ensure!(!world.tails().contains("a passphrase of the CA"), "the passphrase is in a log");
        Ok(())
    });
}

#[test]
fn a_controller_that_is_killed_in_each_step_of_a_rotation_goes_on() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.operator.says(&["ca", "status"]).await?;
        let asked = |what: &'static str| async { sites.operator.runs(&["--retry-for", "1s", "ca", what, "--yes"]).await };
        let kill_at = async |place: &str, what: &'static str| -> Result<()> {
            sites.controller.kill()?;
            sites.controller.start_again(&Failpoints::kill_at(place)).await?;
            let refused = asked(what).await?;
            ensure!(!refused.status.success(), "{}", refused.stdout);
            sites.controller.died(SOON).await?;
            sites.controller.start_again(&Failpoints::none()).await?;
            for agent in [&sites.istanbul, &sites.ankara] {
                agent.connected(&sites.operator).await?;
            }
            Ok(())
        };
        let old = authorities(&sites).await?;
        kill_at("controller.ca.next_key_written", "rotate").await?;
        ensure!(authorities(&sites).await? == old, "a key alone is no rotation");
        kill_at("controller.ca.next_written", "rotate").await?;
        let both = authorities(&sites).await?;
        ensure!(both.len() == 2 && both.first() == old.first(), "{both:?}");
        until("the agents to be through", SOON, async || Ok(waiting(&sites).await?.iter().all(|name| name.starts_with("operator/"))))
            .await?;
        sites.operator.says(&["context", "renew"]).await?;
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::kill_at("controller.ca.half_retired")).await?;
        for agent in [&sites.istanbul, &sites.ankara] {
            agent.connected(&sites.operator).await?;
        }
        let killed = sites.operator.runs(&["--retry-for", "1s", "ca", "retire", "--yes"]).await?;
        ensure!(!killed.status.success(), "{}", killed.stdout);
        sites.controller.died(SOON).await?;
        sites.controller.start_again(&Failpoints::none()).await?;
        for agent in [&sites.istanbul, &sites.ankara] {
            agent.connected(&sites.operator).await?;
        }
        let now = authorities(&sites).await?;
        ensure!(now.len() == 1 && now.first() == both.get(1), "{now:?} of {both:?}");
        agents_are_of(&sites, now.first().context("one")?).await
    });
}
