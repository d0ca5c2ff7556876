//! The controller's store in PostgreSQL: moved there from a file, killed, its server stopped, and a second controller kept out.

use std::time::Duration;

use anyhow::ensure;
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::postgres::template::{AGENT_PASSWORD, AGENT_ROLE};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_backup_goes_through_a_controller_whose_store_was_copied_into_postgresql() {
    scenario(async |world| {
        let options = Options::default();
        let (sites, server) = tokio::try_join!(TwoSites::start(&world), Postgres::start(&world, "store", &options))?;
        sites.notes().await?;
        sites.operator.says(&["backup", "notes"]).await?;

        // Moved, while it is stopped and not before.
        server.execute("postgres", &format!("create database muster owner {AGENT_ROLE}")).await?;
        let password = world.file("store.password", AGENT_PASSWORD, RunAs::Caller, 0o600)?.display().to_string();
        let url = format!("postgres://{AGENT_ROLE}@{}/muster", server.address());
        let file = sites.controller.state().join("controller.db").display().to_string();
        let copy = ["store", "copy", "--from", &file, "--to", &url, "--to-password-file", &password];
        let program = world.program("muster-controller")?.display().to_string();
        let refused = world.run(RunAs::Caller, &program, &copy, SOON).await?;
        ensure!(!refused.status.success() && refused.stderr.contains("it is open"), "copied while it runs: {}", refused.stderr);
        sites.controller.terminate().await?;
        let copied = world.run(RunAs::Caller, &program, &copy, SOON).await?.success()?;
        ensure!(copied.contains("read back"), "{copied}");
        sites.controller.configure(&format!("store: {url}\nstorePasswordFile: {password}\n"))?;
        sites.controller.start_again(&Failpoints::none()).await?;
        for agent in [&sites.istanbul, &sites.ankara] {
            agent.connected(&sites.operator).await?;
        }
        sites.fit("notes").await?;
        ensure!(sites.points("notes").await?.len() == 1, "the point of before is not known");
        sites.operator.says(&["backup", "notes"]).await?;

        // A second controller on it.
        let other = world.folder("other", RunAs::Caller)?.display().to_string();
        let (listen, metrics) = (muster_testbed::port::Port::take()?, muster_testbed::port::Port::take()?);
        let home = format!("HOME={other}");
        let (listen, metrics, config) = (listen.address(), metrics.address(), sites.controller.config().display().to_string());
        let second = ["dev", "--config", &config, "--state-directory", &other, "--listen", &listen, "--metrics-listen", &metrics];
        let refused = world.run(RunAs::Caller, "/usr/bin/env", &[&[home.as_str(), &program], second.as_slice()].concat(), SOON).await?;
        ensure!(!refused.status.success() && refused.stderr.contains("pid "), "a second controller: {}", refused.stderr);

        // kill -9: the next one goes on.
        sites.controller.kill()?;
        sites.controller.start_again(&Failpoints::none()).await?;
        sites.istanbul.connected(&sites.operator).await?;

        // Its server goes away and comes back.
        server.stop(Stop::Kill).await?;
        until("it says that the store is away", SOON, async || {
            let told = sites.operator.runs(&["ops"]).await?;
            Ok(!told.status.success() && told.stderr.contains("goes on by itself"))
        })
        .await?;
        server.start_again().await?;
        until("it answers again", SOON, async || Ok(sites.operator.runs(&["ops"]).await?.status.success())).await?;
        sites.fit("notes").await?;
        sites.operator.says(&["backup", "notes"]).await?;
        ensure!(sites.points("notes").await?.len() == 3, "not three points");
        ensure!(!world.tails().contains(AGENT_PASSWORD), "the store's password is in a log");
        Ok(())
    });
}
