//! A PostgreSQL that is not as it should be: it hangs, has no connection left, is a standby of nobody, is another cluster. Each has a name
//! of its own among the findings, the next command to type, and a backup that is refused or fails with that reason; each is over when the
//! fault is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::{eventually, until};
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;
use tokio_postgres::Client;

const SOON: Duration = Duration::from_secs(60);
/// Few, so that they are soon taken.
const CONNECTIONS: usize = 12;

/// A component of one server, which will be ill.
struct Patient<'a> {
    world: &'a World,
    sites: &'a TwoSites,
    name: &'static str,
    server: Postgres,
}

impl<'a> Patient<'a> {
    async fn admit(world: &'a World, sites: &'a TwoSites, name: &'static str, options: &Options) -> Result<Self> {
        let server = Postgres::start(world, name, options).await?;
        sites.postgres_component(name, &server).await?;
        sites.operator.says(&["backup", name]).await?;
        Ok(Self { world, sites, name, server })
    }

    /// The finding of this rule about it.
    async fn finding(&self, rule: &str) -> Result<Option<Value>> {
        let answer = self.sites.operator.reads(&["findings"]).await?;
        let all = answer.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |finding: &Value, field: &str| finding.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(all.into_iter().find(|finding| text(finding, "name") == rule && text(finding, "subject").contains(self.name)))
    }

    async fn raised(&self, rule: &str) -> Result<()> {
        let finding = eventually(&format!("the finding {rule} of {}", self.name), SOON, async || self.finding(rule).await).await?;
        ensure!(finding.get("hint").and_then(Value::as_str).is_some_and(|hint| !hint.is_empty()), "no hint: {finding}");
        Ok(())
    }

    async fn cleared(&self, rule: &str) -> Result<()> {
        let what = format!("the finding {rule} of {} to be over", self.name);
        until(&what, SOON, async || Ok(self.finding(rule).await?.is_none())).await?;
        self.sites.fit(self.name).await?;
        self.sites.operator.says(&["backup", self.name]).await.map(drop)
    }

    /// A backup that is asked for now does not pretend: it ends badly and names the reason.
    async fn no_backup(&self, reason: &str) -> Result<()> {
        let asked = self.sites.operator.runs(&["backup", self.name]).await?;
        ensure!(!asked.status.success(), "a backup of it succeeded: {}", asked.stdout);
        ensure!(asked.stderr.contains(reason), "the reason {reason:?} is not told: {}", asked.stderr);
        ensure!(self.sites.points(self.name).await?.len() == 1, "there is a point of it");
        Ok(())
    }

    /// The postmaster is stopped: connections are taken by the kernel and nobody answers, though who is inside is served.
    async fn hangs(&self) -> Result<()> {
        let pid = self.server.running().context("it runs")?.as_raw_nonzero().to_string();
        let signal = async |name: &str| self.world.run(RunAs::Caller, "/bin/kill", &[name, &pid], SOON).await?.success();
        signal("-STOP").await?;
        let seen = self.raised("ServerHangs").await;
        signal("-CONT").await?;
        seen?;
        self.cleared("ServerHangs").await
    }

    /// Clients have taken every connection.
    async fn has_no_connections(&self) -> Result<()> {
        let mut taken: Vec<Client> = Vec::new();
        while let Ok(client) = self.server.client("postgres").await {
            taken.push(client);
            ensure!(taken.len() <= CONNECTIONS, "it has more connections than it was given");
        }
        self.raised("NoConnectionsLeft").await?;
        self.no_backup("connection").await?;
        drop(taken);
        self.cleared("NoConnectionsLeft").await
    }

    /// Started as a standby that nobody feeds: all are seen, and none takes writes.
    async fn recovers_for_ever(&self) -> Result<()> {
        self.server.stop(Stop::Fast).await?;
        let signal = self.world.file(&format!("{}/data/standby.signal", self.name), "", RunAs::Postgres, 0o600)?;
        self.server.start_again().await?;
        self.raised("NoWriter").await?;
        self.server.stop(Stop::Fast).await?;
        std::fs::remove_file(signal).context("remove standby.signal")?;
        self.server.start_again().await?;
        self.cleared("NoWriter").await
    }

    /// Another cluster is put in its place: its points are of the one before.
    async fn is_replaced(&self, options: &Options) -> Result<()> {
        let other = Postgres::make(self.world, "other", options).await?;
        self.server.stop(Stop::Fast).await?;
        let (data, aside) = (self.server.data().to_owned(), self.world.path(self.name).join("aside"));
        std::fs::copy(data.join("postgresql.conf"), other.data().join("postgresql.conf")).context("take the configuration along")?;
        std::fs::rename(&data, &aside).context("move the cluster aside")?;
        std::fs::rename(other.data(), &data).context("put another one there")?;
        self.server.start_again().await?;
        self.raised("ClusterReplaced").await?;
        self.server.stop(Stop::Fast).await?;
        std::fs::rename(&data, other.data()).context("take the other one away")?;
        std::fs::rename(&aside, &data).context("put the right one back")?;
        self.server.start_again().await?;
        self.cleared("ClusterReplaced").await
    }
}

#[test]
fn a_server_that_is_not_as_it_should_be_is_named_and_backed_up_again_when_it_is() {
    scenario(async |world| {
        let few = vec![("max_connections".to_owned(), CONNECTIONS.to_string())];
        let options = Options { own_identity: true, settings: few, ..Options::default() };
        let sites = TwoSites::start(&world).await?;
        sites.folder_repository().await?;
        let hanging = Patient::admit(&world, &sites, "hanging", &options).await?;
        let crowded = Patient::admit(&world, &sites, "crowded", &options).await?;
        let recovering = Patient::admit(&world, &sites, "recovering", &options).await?;
        let replaced = Patient::admit(&world, &sites, "replaced", &options).await?;
        tokio::try_join!(hanging.hangs(), crowded.has_no_connections(), recovering.recovers_for_ever(), replaced.is_replaced(&options))?;
        Ok(())
    });
}
