//! Logical points: taken by pg_dump, restored by Muster into a database beside, and by a plain pg_restore.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::failpoints::{Failpoints, Hold};
use muster_testbed::postgres::load;
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::postgres::template::AGENT_ROLE;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);
const SUM: &str = "select count(*) || ' ' || md5(string_agg(a::text, ',' order by aid)) from pgbench_accounts a";

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_dump_is_restored_beside_and_its_files_by_a_plain_pg_restore() {
    scenario(async |world| {
        let options = Options::default();
        let (sites, server) = tokio::try_join!(TwoSites::start(&world), Postgres::start(&world, "pg", &options))?;
        load::fill(&world, &server, "shop", 1).await?;
        server.execute("postgres", "create database \"odd/name\"").await?;
        server.execute("odd/name", "create table t as select 1 as i").await?;
        sites.folder_repository().await?;
        sites.postgres_component("orders-db", &server).await?;

        // Who may not read everything is told what to grant, and nothing is published.
        let answer = sites.operator.runs(&["dump", "orders-db"]).await?;
        let told = format!("{}{}", answer.stdout, answer.stderr);
        ensure!(!answer.status.success() && told.contains("pg_read_all_data"), "{told}");
        ensure!(sites.points("orders-db").await?.is_empty(), "half a dump is a point");
        server.execute("postgres", &format!("grant pg_read_all_data to \"{AGENT_ROLE}\"; alter role \"{AGENT_ROLE}\" createdb")).await?;

        let dumped = sites.operator.reads(&["dump", "orders-db"]).await?;
        let point = text(&dumped, "/backup/pointId").to_owned();
        ensure!(dumped.pointer("/backup/files").and_then(Value::as_str) == Some("4"), "{dumped}");
        let answer =
            sites.operator.runs(&["restore", "orders-db", "--instance", "istanbul", "--in-place", "--yes", "--point", &point]).await?;
        ensure!(!answer.status.success() && format!("{}{}", answer.stdout, answer.stderr).contains("is a dump"), "{}", answer.stderr);

        let before = server.value("shop", SUM).await?;
        server.execute("shop", "delete from pgbench_accounts where aid > 10").await?;
        into_database(&sites, &server, &point, &before).await?;
        by_hand(&sites, &server, &point, &before).await?;

        // One table of one database.
        let dumped = sites.operator.reads(&["dump", "orders-db", "--database", "shop", "--table", "pgbench_tellers"]).await?;
        ensure!(dumped.pointer("/backup/files").and_then(Value::as_str) == Some("2"), "{dumped}");
        let answer = sites.operator.runs(&["dump", "orders-db", "--database", "nowhere"]).await?;
        ensure!(!answer.status.success() && format!("{}{}", answer.stdout, answer.stderr).contains("odd/name"), "{}", answer.stderr);
        // A dump is no whole point: none is there to restore or verify by default.
        let answer = sites.operator.runs(&["verify", "orders-db"]).await?;
        ensure!(
            !answer.status.success() && format!("{}{}", answer.stdout, answer.stderr).contains("no recovery point"),
            "{}",
            answer.stderr
        );
        Ok(())
    });
}

/// A world with a database to dump, whose agent is held at this place.
async fn held_at(world: &World, place: &str) -> Result<(TwoSites, Postgres, Hold)> {
    let options = Options::default();
    let (sites, server) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "pg", &options))?;
    load::fill(world, &server, "shop", 1).await?;
    server.execute("postgres", &format!("grant pg_read_all_data to \"{AGENT_ROLE}\"; alter role \"{AGENT_ROLE}\" createdb")).await?;
    sites.folder_repository().await?;
    sites.postgres_component("orders-db", &server).await?;
    let hold = hold(&sites, place).await?;
    Ok((sites, server, hold))
}

/// Starts the agent again, to be held at this place.
async fn hold(sites: &TwoSites, place: &str) -> Result<Hold> {
    let hold = Hold::at(&sites.world, place)?;
    sites.istanbul.kill()?;
    sites.istanbul.start_again(&hold.failpoints()).await?;
    sites.istanbul.connected(&sites.operator).await?;
    sites.fit("orders-db").await?;
    Ok(hold)
}

/// Lets go of what is held by killing it.
async fn kill(sites: &TwoSites, hold: &Hold) -> Result<()> {
    hold.reached(LONG).await?;
    sites.istanbul.kill()?;
    sites.istanbul.start_again(&Failpoints::none()).await?;
    sites.istanbul.connected(&sites.operator).await
}

#[test]
fn an_agent_killed_in_a_dump_or_in_the_middle_of_bringing_one_back_ends_both_once() {
    scenario(async |world| {
        let (sites, server, held) = held_at(&world, "postgres.dump.database").await?;
        let dumping = sites.operator.starts("dump", &["dump", "orders-db"])?;
        kill(&sites, &held).await?;
        let ended = dumping.ended(LONG).await?;
        ensure!(ended.success(), "the dump ended with {ended}: {}", dumping.written()?);
        let points = sites.points("orders-db").await?;
        let [point] = points.as_slice() else { bail!("one dump, {} points", points.len()) };

        let before = server.value("shop", SUM).await?;
        let files = world.folder("dumps", RunAs::Postgres)?.join("again").display().to_string();
        let ways = [
            ("postgres.dump.filled", vec!["--into-database", "again", "--from-database", "shop"]),
            ("postgres.dump.fetched", vec!["--beside", &files]),
        ];
        for (place, way) in ways {
            let held = hold(&sites, place).await?;
            let restore: Vec<_> = ["restore", "orders-db", "--instance", "istanbul", "--point", point].into_iter().chain(way).collect();
            let restoring = sites.operator.starts(place, &restore)?;
            kill(&sites, &held).await?;
            let ended = restoring.ended(LONG).await?;
            ensure!(ended.success(), "killed at {place} it ended with {ended}: {}", restoring.written()?);
        }
        ensure!(server.value("again", SUM).await? == before, "what came back differs");
        ensure!(Path::new(&files).join("shop.dump").is_file(), "the files are not there");
        let databases =
            server.value("postgres", "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate");
        let databases = databases.await?;
        ensure!(databases == "again postgres shop", "something was left: {databases}");
        Ok(())
    });
}

#[test]
fn a_dump_that_is_cancelled_leaves_no_point_and_no_pg_dump() {
    scenario(async |world| {
        let (sites, server, held) = held_at(&world, "postgres.dump.database").await?;
        let asked = sites.operator.says(&["dump", "orders-db", "--no-wait", "-o", "json"]).await?;
        let asked: Value = serde_json::from_str(&asked)?;
        held.reached(LONG).await?;
        sites.operator.says(&["cancel", text(&asked, "/id"), "--no-wait"]).await?;
        held.release()?;
        let ended = sites.ended(text(&asked, "/id"), LONG).await?;
        ensure!(text(&ended, "/state") == "OPERATION_STATE_CANCELLED", "{ended}");
        ensure!(sites.points("orders-db").await?.is_empty(), "half a dump is a point");
        let dumpers = server.value("postgres", "select count(*) from pg_stat_activity where application_name = 'pg_dump'").await?;
        ensure!(dumpers == "0", "{dumpers} pg_dump go on");
        Ok(())
    });
}

async fn into_database(sites: &TwoSites, server: &Postgres, point: &str, before: &str) -> Result<()> {
    let restore = ["restore", "orders-db", "--instance", "istanbul", "--point", point, "--into-database"];
    let with = |more: &[&'static str]| restore.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect::<Vec<_>>();
    let run = async |more: &[&'static str]| {
        let arguments = with(more);
        sites.operator.runs(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let answer = run(&["shop_before", "--from-database", "shop"]).await?;
    ensure!(answer.status.success(), "{}{}", answer.stdout, answer.stderr);
    ensure!(server.value("shop_before", SUM).await? == before, "what came back differs");
    let answer = run(&["shop", "--from-database", "shop"]).await?;
    let told = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(!answer.status.success() && told.contains("there is a database shop already"), "{told}");
    ensure!(server.value("shop", "select count(*) from pgbench_accounts").await? == "10", "what runs was touched");
    let answer = run(&["which"]).await?;
    ensure!(!answer.status.success() && answer.stdout.contains("odd/name, postgres, shop"), "{}{}", answer.stdout, answer.stderr);
    Ok(())
}

async fn by_hand(sites: &TwoSites, server: &Postgres, point: &str, before: &str) -> Result<()> {
    let world = &sites.world;
    let folder = world.folder("dumps", RunAs::Postgres)?.join("today");
    let shown = folder.display().to_string();
    sites.operator.says(&["restore", "orders-db", "--instance", "istanbul", "--point", point, "--beside", &shown]).await?;
    let globals = std::fs::read_to_string(folder.join("globals.sql"))?;
    ensure!(globals.contains(&format!("CREATE ROLE {AGENT_ROLE}")) || globals.contains(AGENT_ROLE), "{globals}");
    server.execute("postgres", "create database by_hand").await?;
    let program = server.programs().folder().join("pg_restore");
    let host = server.sockets().display().to_string();
    let port = server.port().to_string();
    let dump = folder.join("shop.dump").display().to_string();
    let arguments = ["--host", &host, "--port", &port, "--username", "postgres", "--dbname", "by_hand", "--exit-on-error", &dump];
    world.run(RunAs::Postgres, &program.display().to_string(), &arguments, LONG).await?.success()?;
    ensure!(server.value("by_hand", SUM).await? == before, "what pg_restore brought back differs");
    Ok(())
}
