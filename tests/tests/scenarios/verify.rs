//! Recovery points proved good: restored to an agent's scratch, started there, checked, removed; and what is left when that is cut off.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::postgres::load;
use muster_testbed::postgres::programs::Programs;
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(90);

const GOOD: &str = "  verify:\n    assertions:\n    - {name: accounts, database: shop, sql: select count(*) from pgbench_accounts, expect: '100000'}\n    \
    - {name: nothing written, database: shop, sql: 'show transaction_read_only', expect: 'on'}\n";
const BAD: &str = "  verify:\n    assertions:\n    - {name: orders, database: shop, sql: 'select count(*), null, true from fixed', expect: \"41\\t\\tt\"}\n    \
    - {name: shell, database: shop, sql: \"copy fixed to program 'touch /tmp/muster-was-here'\", expect: ''}\n    \
    - {name: fine, database: shop, sql: select 1, expect: '1'}\n";

async fn shop(world: &World) -> Result<(TwoSites, Postgres)> {
    let options = Options::default();
    let (sites, server) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "pg", &options))?;
    load::fill(world, &server, "shop", 1).await?;
    server.execute("shop", "create table fixed as select i from generate_series(1, 40) i").await?;
    sites.folder_repository().await?;
    sites.postgres_component("orders-db", &server).await?;
    Ok((sites, server))
}

/// Servers that run on data below a folder.
fn servers_below(folder: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))).collect()
}

/// What tasks of the agent have in scratch.
fn scratch(sites: &TwoSites) -> Vec<String> {
    let entries = std::fs::read_dir(sites.world.path("istanbul-db1/state/scratch/tasks"));
    entries.into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The outcome is told before the folder goes.
async fn nothing_is_left(sites: &TwoSites) -> Result<()> {
    until("no server and no scratch to be left", SOON, async || {
        Ok(servers_below(&sites.world.path("istanbul-db1")).is_empty() && scratch(sites).is_empty())
    })
    .await
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_good_point_passes_and_one_that_answers_otherwise_fails_with_what_was_wanted_and_what_came() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        sites.declare_postgres("orders-db", &server, "primary", GOOD).await?;
        let began = server.value("postgres", "select pg_postmaster_start_time()").await?;
        let verified = sites.operator.reads(&["verify", "orders-db"]).await?;
        let checks = verified.pointer("/verify/checks").and_then(Value::as_array).cloned().unwrap_or_default();
        ensure!(checks.len() == 3, "{verified}");
        ensure!(checks.iter().all(|check| text(check, "/state") == "VERIFY_CHECK_STATE_PASSED"), "{verified}");
        for phase in ["fetch", "start", "replay", "checks"] {
            let seconds = verified.pointer(&format!("/verify/phaseSeconds/{phase}")).and_then(Value::as_f64);
            ensure!(seconds.is_some_and(|seconds| seconds > 0.0), "{phase}: {verified}");
        }
        nothing_is_left(&sites).await?;
        let page = sites.operator.says(&["status", "orders-db"]).await?;
        ensure!(page.contains("at the last restore or verification") && page.contains("verified "), "{page}");

        sites.declare_postgres("orders-db", &server, "primary", BAD).await?;
        let answer = sites.operator.runs(&["verify", "orders-db"]).await?;
        let told = format!("{}{}", answer.stdout, answer.stderr);
        ensure!(!answer.status.success(), "{told}");
        for wanted in
            ["2 of 4 checks", "assertion orders in shop: wanted \"41\\t\\tt\", got \"40\\t\\tt\"", "assertion shell in shop", "HINT"]
        {
            ensure!(told.contains(wanted), "{wanted:?} is not in {told}");
        }
        ensure!(!Path::new("/tmp/muster-was-here").exists(), "an assertion ran a program");
        nothing_is_left(&sites).await?;
        let page = sites.operator.says(&["status", "orders-db"]).await?;
        ensure!(page.contains("! FAILED"), "{page}");
        lost_from_its_index(&sites, &server).await?;
        let now = server.value("postgres", "select pg_postmaster_start_time()").await?;
        ensure!(now == began, "what runs was touched");
        Ok(())
    });
}

/// A row that its index does not know: no checksum sees it, and it is found.
async fn lost_from_its_index(sites: &TwoSites, server: &Postgres) -> Result<()> {
    server
        .execute("shop", "create index fixed_i on fixed (i); update pg_index set indisready = false where indexrelid = 'fixed_i'::regclass")
        .await?;
    server.execute("shop", "insert into fixed values (41)").await?;
    server.execute("shop", "update pg_index set indisready = true where indexrelid = 'fixed_i'::regclass").await?;
    sites.operator.says(&["backup", "orders-db"]).await?;
    let answer = sites.operator.runs(&["verify", "orders-db"]).await?;
    let told = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(!answer.status.success() && told.contains("fixed_i") && told.contains("amcheck: "), "{told}");
    ensure!(told.contains("lacks matching index tuple"), "{told}");
    nothing_is_left(sites).await
}

#[test]
fn what_could_not_be_checked_is_told_and_is_no_success_in_disguise() {
    scenario(async |world| {
        let options = Options { programs: Programs::default().without(&world, "pg_amcheck")?, ..Options::default() };
        let (sites, server) = tokio::try_join!(TwoSites::start(&world), Postgres::start(&world, "pg", &options))?;
        sites.folder_repository().await?;
        sites.postgres_component("orders-db", &server).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        let verified = sites.operator.reads(&["verify", "orders-db"]).await?;
        let checks = verified.pointer("/verify/checks").and_then(Value::as_array).cloned().unwrap_or_default();
        let amcheck = checks.iter().find(|check| text(check, "/name") == "amcheck").context("amcheck is told of")?;
        ensure!(text(amcheck, "/state") == "VERIFY_CHECK_STATE_NOT_CHECKED", "{verified}");
        ensure!(text(amcheck, "/detail").contains("pg_amcheck"), "it does not tell what is missing: {amcheck}");
        let said = sites.operator.says(&["verify", "orders-db"]).await?;
        println!("{said}");
        ensure!(said.to_uppercase().contains("NOT CHECKED"), "people are not told: {said}");
        nothing_is_left(&sites).await
    });
}

#[test]
fn a_killed_agent_leaves_no_server_and_no_scratch_once_it_is_back() {
    scenario(async |world| {
        let (sites, _server) = shop(&world).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        let hold = Hold::at(&sites.world, "postgres.verify.started")?;
        sites.istanbul.kill()?;
        sites.istanbul.start_again(&hold.failpoints()).await?;
        sites.istanbul.connected(&sites.operator).await?;
        sites.fit("orders-db").await?;
        let asking = sites.operator.starts("verify", &["verify", "orders-db"])?;
        hold.reached(LONG).await?;
        let running = servers_below(&sites.world.path("istanbul-db1"));
        ensure!(!running.is_empty(), "no copy runs");
        sites.istanbul.kill()?;
        ensure!(!servers_below(&sites.world.path("istanbul-db1")).is_empty(), "the copy went with the agent: nothing is tested here");
        sites.istanbul.start_again(&Failpoints::none()).await?;
        let status = asking.ended(LONG).await.with_context(|| asking.written().unwrap_or_default())?;
        ensure!(status.success(), "it ended with {status}: {}", asking.written()?);
        nothing_is_left(&sites).await?;
        let gone = running.iter().all(|pid| !servers_below(&sites.world.path("istanbul-db1")).contains(pid));
        ensure!(gone, "the first copy still runs");
        cut_off_for_good(&sites).await
    });
}

/// The agent is killed, and what it did is forgotten: only the folder tells of it.
async fn cut_off_for_good(sites: &TwoSites) -> Result<()> {
    let hold = Hold::at(&sites.world, "postgres.verify.started")?;
    sites.istanbul.kill()?;
    sites.istanbul.start_again(&hold.failpoints()).await?;
    sites.istanbul.connected(&sites.operator).await?;
    sites.fit("orders-db").await?;
    let asking = sites.operator.starts("verify-again", &["verify", "orders-db", "--no-wait"])?;
    asking.ended(SOON).await?;
    hold.reached(LONG).await?;
    sites.istanbul.kill()?;
    let newest = sites.operations().await?.first().cloned().context("the verification")?;
    // It is asked to stop while the agent is away.
    sites.operator.runs(&["cancel", text(&newest, "/id"), "--no-wait"]).await?;
    sites.istanbul.start_again(&Failpoints::none()).await?;
    sites.ended(text(&newest, "/id"), LONG).await?;
    nothing_is_left(sites).await
}

#[test]
fn a_folder_of_files_is_verified_too() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        let repository = sites.folder_repository().await?;
        let folder = world.folder("notes", RunAs::Postgres)?;
        let big: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
        world.file("notes/one", &big, RunAs::Postgres, 0o644)?;
        sites.files_component("notes", &folder).await?;
        sites.operator.says(&["backup", "notes"]).await?;
        let told = sites.operator.says(&["verify", "notes"]).await?;
        ensure!(told.contains("passed: hashes"), "{told}");
        nothing_is_left(&sites).await?;
        // A byte in the middle of the one pack turns over.
        let pack = newest_pack(&repository.join("packs"))?;
        let mut bytes = std::fs::read(&pack)?;
        let middle = bytes.len() / 3;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0xff;
        }
        std::fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        std::fs::write(&pack, bytes)?;
        let answer = sites.operator.runs(&["verify", "notes"]).await?;
        let told = format!("{}{}", answer.stdout, answer.stderr);
        ensure!(!answer.status.success() && told.contains("not whole: ") && told.contains("/copy/one"), "{told}");
        nothing_is_left(&sites).await
    });
}

fn newest_pack(folder: &Path) -> Result<std::path::PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.into_iter().max_by_key(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).context("there is a pack")
}
