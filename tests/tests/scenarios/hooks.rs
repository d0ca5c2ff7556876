//! Programs before and after verbs and by themselves, with a real PostgreSQL and agents that are killed at the worst moments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::{eventually, until};
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

/// Each writes a line a run to `ran`; `freeze` makes the marker and `thaw` removes it.
const SCRIPTS: [(&str, &str); 7] = [
    (
        "freeze",
        "echo freeze >> DIR/ran; touch DIR/marker; echo frozen for $MUSTER_COMPONENT/$MUSTER_INSTANCE by $MUSTER_VERB; echo password=hunter2 >&2",
    ),
    ("thaw", "echo thaw $MUSTER_OUTCOME >> DIR/ran; rm DIR/marker; echo thawed after $MUSTER_OUTCOME"),
    ("gate", "echo gate >> DIR/ran; while [ ! -e DIR/go ]; do sleep 0.05; done"),
    ("again", "echo again >> DIR/ran; while [ ! -e DIR/go ]; do sleep 0.05; done"),
    ("refuse", "echo refuse >> DIR/ran; echo the application is busy; exit 3"),
    ("broken", "echo cannot thaw; exit 1"),
    ("stubborn", "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > DIR/pid; while :; do sleep 1; done' & sleep 600"),
];

struct Hooked {
    sites: TwoSites,
    folder: PathBuf,
}

impl Hooked {
    async fn start(world: &World) -> Result<Self> {
        let sites = TwoSites::start(world).await?;
        let folder = world.folder("hooks", RunAs::Postgres)?;
        let mut declared = "hooks:\n".to_owned();
        for (name, script) in SCRIPTS {
            let script = format!("#!/bin/sh\n{}\n", script.replace("DIR", &folder.display().to_string()));
            let path = world.file(&format!("hooks/{name}.sh"), &script, RunAs::Postgres, 0o755)?;
            let more = if name == "again" { ", idempotent: true" } else { "" };
            let timeout = if name == "stubborn" { "1s" } else { "1m" };
            declared.push_str(&format!("  {name}: {{program: {}, timeout: {timeout}{more}}}\n", path.display()));
        }
        let open = world.file("hooks/open.sh", "#!/bin/sh\n", RunAs::Postgres, 0o777)?;
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        declared.push_str(&format!("  open: {{program: {}}}\n", open.display()));
        let config = std::fs::read_to_string(sites.istanbul.config())? + &declared;
        std::fs::write(sites.istanbul.config(), config)?;
        let hooked = Self { sites, folder };
        hooked.sites.istanbul.kill()?;
        hooked.starts_again(&Failpoints::none()).await?;
        Ok(hooked)
    }

    async fn starts_again(&self, failpoints: &Failpoints) -> Result<()> {
        self.sites.istanbul.start_again(failpoints).await?;
        self.sites.istanbul.connected(&self.sites.operator).await
    }

    fn marker(&self) -> bool {
        self.folder.join("marker").exists()
    }

    /// What ran, and forgets it.
    fn ran(&self) -> Result<Vec<String>> {
        let path = self.folder.join("ran");
        let text = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
        std::fs::write(&path, "")?;
        std::os::unix::fs::chown(&path, Some(owner(&self.folder)?), None)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    async fn fails(&self, arguments: &[&str]) -> Result<String> {
        let answer = self.sites.operator.runs(arguments).await?;
        let told = format!("{}{}", answer.stdout, answer.stderr);
        ensure!(!answer.status.success(), "{arguments:?} has succeeded: {told}");
        Ok(told)
    }

    async fn newest(&self) -> Result<String> {
        let operations = self.sites.operations().await?;
        Ok(operations.first().and_then(|of| of.pointer("/id")).and_then(Value::as_str).context("an operation")?.to_owned())
    }

    async fn logs(&self) -> Result<String> {
        self.sites.operator.says(&["logs", &self.newest().await?]).await
    }

    /// Waits until a hook has written that it runs.
    async fn runs(&self, name: &str) -> Result<()> {
        until(&format!("hook {name} to run"), SOON, async || {
            Ok(std::fs::read_to_string(self.folder.join("ran")).unwrap_or_default().contains(name))
        })
        .await
    }
}

fn owner(path: &Path) -> Result<u32> {
    Ok(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path)?))
}

/// The processes that supervise hooks of this world.
fn supervisors(world: &World) -> Vec<i32> {
    let root = world.path("istanbul-db1").display().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("run-hook") && line.contains(&root)
    };
    pids.filter(is_ours).collect()
}

fn around(before: &str, after: &str) -> String {
    format!("  hooks: {{beforeBackup: [{before}], afterBackup: [{after}]}}\n")
}

#[test]
fn what_is_frozen_before_a_backup_is_thawed_after_it_also_when_the_agent_is_killed_between() {
    scenario(async |world| {
        let options = Options::default();
        let (hooked, server) = tokio::try_join!(Hooked::start(&world), Postgres::start(&world, "pg", &options))?;
        let sites = &hooked.sites;
        sites.folder_repository().await?;
        sites.postgres_component("orders-db", &server).await?;
        sites.declare_postgres("orders-db", &server, "primary", &around("freeze", "thaw")).await?;
        sites.fit("orders-db").await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        ensure!(!hooked.marker() && hooked.ran()? == ["freeze", "thaw succeeded"], "the hooks did not run as they should");
        let logs = hooked.logs().await?;
        for wanted in ["hook freeze before it has succeeded", "| frozen for orders-db/istanbul by backup", "| thawed after succeeded"] {
            ensure!(logs.contains(wanted), "{wanted:?} is not in {logs}");
        }
        ensure!(!logs.contains("hunter2"), "a secret of a hook is in its log: {logs}");

        // Killed while the verb runs: what is frozen stays so until the agent is back, and is thawed then; nothing runs twice.
        let hold = Hold::at(&world, "agent.stop7.working")?;
        sites.istanbul.kill()?;
        hooked.starts_again(&hold.failpoints()).await?;
        let asking = sites.operator.starts("frozen", &["backup", "orders-db"])?;
        hold.reached(LONG).await?;
        sites.istanbul.kill()?;
        ensure!(hooked.marker(), "nothing is frozen");
        hooked.starts_again(&Failpoints::none()).await?;
        let status = asking.ended(LONG).await.with_context(|| asking.written().unwrap_or_default())?;
        ensure!(status.success(), "{}", asking.written()?);
        ensure!(!hooked.marker() && hooked.ran()? == ["freeze", "thaw succeeded"], "a hook ran twice, or not");
        killed_after_the_verb(&hooked).await?;
        refused_and_not_thawed(&hooked, &server).await
    });
}

/// The verb is done and its after-hook has not begun.
async fn killed_after_the_verb(hooked: &Hooked) -> Result<()> {
    let sites = &hooked.sites;
    let points = sites.points("orders-db").await?.len();
    sites.istanbul.kill()?;
    hooked.starts_again(&Failpoints::kill_at("agent.hook.verb_kept")).await?;
    let asking = sites.operator.starts("unthawed", &["backup", "orders-db"])?;
    sites.istanbul.died(LONG).await?;
    ensure!(hooked.marker() && hooked.ran()? == ["freeze"], "it was not killed between");
    hooked.starts_again(&Failpoints::none()).await?;
    let status = asking.ended(LONG).await.with_context(|| asking.written().unwrap_or_default())?;
    ensure!(status.success(), "{}", asking.written()?);
    ensure!(!hooked.marker() && hooked.ran()? == ["thaw succeeded"], "it was not thawed");
    ensure!(sites.points("orders-db").await?.len() == points + 1, "not one point came of it");
    Ok(())
}

async fn refused_and_not_thawed(hooked: &Hooked, server: &Postgres) -> Result<()> {
    let sites = &hooked.sites;
    let points = sites.points("orders-db").await?.len();
    sites.declare_postgres("orders-db", server, "primary", &around("freeze, refuse", "thaw")).await?;
    sites.fit("orders-db").await?;
    let told = hooked.fails(&["backup", "orders-db"]).await?;
    ensure!(told.contains("hook refuse before it: exit code 3") && told.contains("the application is busy"), "{told}");
    ensure!(!hooked.marker() && hooked.ran()? == ["freeze", "refuse", "thaw failed"], "what was frozen was not thawed");
    ensure!(sites.points("orders-db").await?.len() == points, "a refused backup took a point");

    sites.declare_postgres("orders-db", server, "primary", &around("freeze", "broken, thaw")).await?;
    sites.fit("orders-db").await?;
    let told = hooked.fails(&["backup", "orders-db"]).await?;
    ensure!(told.contains("it was done, and hook broken after it has not succeeded") && told.contains("cannot thaw"), "{told}");
    ensure!(!hooked.marker() && sites.points("orders-db").await?.len() == points + 1, "the backup is lost with its hook");

    // A hook that the agent has not, and one that anybody may write, refuse before anything runs.
    hooked.ran()?;
    for (name, wanted) in [("frieze", "agent istanbul-db1 has no hook named frieze"), ("open", "can be written by others")] {
        sites.declare_postgres("orders-db", server, "primary", &around(&format!("freeze, {name}"), "thaw")).await?;
        let told = eventually(&format!("{name} to be refused"), SOON, async || {
            let answer = sites.operator.runs(&["backup", "orders-db"]).await?;
            let told = format!("{}{}", answer.stdout, answer.stderr);
            Ok((!answer.status.success() && told.contains(wanted)).then_some(told))
        })
        .await?;
        ensure!(told.contains(wanted), "{told}");
        until("the condition", SOON, async || {
            let seen = sites.operator.says(&["describe", "component", "orders-db"]).await?;
            Ok(seen.contains("BackupHooks") && seen.contains(wanted))
        })
        .await?;
    }
    ensure!(hooked.ran()?.is_empty() && !hooked.marker(), "a hook of a refused backup ran");
    // Only backups are refused by it.
    sites.operator.says(&["verify", "orders-db"]).await.map(drop)
}

#[test]
fn a_hook_by_itself_is_watched_stopped_and_found_again_by_the_agent_that_follows() {
    scenario(async |world| {
        let hooked = Hooked::start(&world).await?;
        let sites = &hooked.sites;
        sites.folder_repository().await?;
        let folder = world.folder("notes", RunAs::Postgres)?;
        sites.files_component("notes", &folder).await?;

        let told = hooked.fails(&["hook", "run", "nothing", "--on", "istanbul-db1"]).await?;
        ensure!(told.contains("agent istanbul-db1 has no hook named nothing") && told.contains("nothing was changed"), "{told}");
        let told = hooked.fails(&["hook", "run", "freeze", "--on", "nobody"]).await?;
        ensure!(told.contains("no declared instance"), "{told}");
        let told = sites.operator.says(&["hook", "run", "freeze", "--on", "istanbul-db1"]).await?;
        ensure!(told.contains("hook freeze: succeeded") && hooked.marker(), "{told}");
        ensure!(hooked.logs().await?.contains("| frozen for notes/istanbul by hook"), "{}", hooked.logs().await?);

        // Its timeout ends it with all that it started, also what left its process group and ignores being asked.
        let told = hooked.fails(&["hook", "run", "stubborn", "--on", "istanbul-db1"]).await?;
        ensure!(told.contains("killed after 1.0s, its timeout"), "{told}");
        let pid = std::fs::read_to_string(hooked.folder.join("pid"))?;
        ensure!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "what it started still runs");

        // The agent is killed while a hook runs: the hook goes on, and the next agent finds it.
        hooked.ran()?;
        let asking = sites.operator.starts("gate", &["hook", "run", "gate", "--on", "istanbul-db1"])?;
        hooked.runs("gate").await?;
        sites.istanbul.kill()?;
        hooked.starts_again(&Failpoints::none()).await?;
        std::fs::write(hooked.folder.join("go"), "")?;
        let status = asking.ended(LONG).await?;
        ensure!(status.success() && hooked.ran()? == ["gate"], "{}", asking.written()?);
        std::fs::remove_file(hooked.folder.join("go"))?;

        // Stopped, and lost: what watches over it is killed too.
        let asking = sites.operator.starts("cancelled", &["hook", "run", "gate", "--on", "istanbul-db1"])?;
        hooked.runs("gate").await?;
        sites.operator.runs(&["cancel", &hooked.newest().await?]).await?;
        ensure!(!asking.ended(LONG).await?.success() && supervisors(&world).is_empty(), "{}", asking.written()?);
        lost(&hooked, "gate").await?;
        let written = lost(&hooked, "again").await?;
        ensure!(written.contains("hook again: succeeded"), "{written}");
        Ok(())
    });
}

/// Agent and supervisor are killed while a hook runs: it is unknown, or runs again where it may.
async fn lost(hooked: &Hooked, name: &str) -> Result<String> {
    let sites = &hooked.sites;
    hooked.ran()?;
    let asking = sites.operator.starts(&format!("lost-{name}"), &["hook", "run", name, "--on", "istanbul-db1"])?;
    hooked.runs(name).await?;
    sites.istanbul.kill()?;
    for pid in supervisors(&sites.world) {
        sites.world.run(RunAs::Caller, "/bin/kill", &["-9", &pid.to_string()], SOON).await?.success()?;
    }
    hooked.starts_again(&Failpoints::none()).await?;
    if name == "again" {
        let twice = async || Ok(std::fs::read_to_string(hooked.folder.join("ran"))?.lines().count() == 2);
        until("it to run again", SOON, twice).await?;
        std::fs::write(hooked.folder.join("go"), "")?;
        ensure!(asking.ended(LONG).await?.success(), "{}", asking.written()?);
    } else {
        ensure!(!asking.ended(LONG).await?.success(), "{}", asking.written()?);
        let written = asking.written()?;
        ensure!(written.contains("nobody knows how it ended") && hooked.ran()? == ["gate"], "{written}");
    }
    asking.written()
}
