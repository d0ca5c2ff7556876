//! PostgreSQL, backed up and restored for real: every restore is proved by checksums over every table and by pg_amcheck.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::port::Port;
use muster_testbed::postgres::load::{self, Load};
use muster_testbed::postgres::programs::Programs;
use muster_testbed::postgres::proof::{amcheck, checksums, same};
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(30);

/// pgbench keeps these four equal in each transaction: a restore that tears one apart is seen.
const BALANCES: &str = "select array[(select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
    (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)]::text";

async fn shop(world: &World) -> Result<(TwoSites, Postgres)> {
    let options = Options::default();
    let (sites, server) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "pg", &options))?;
    load::fill(world, &server, "shop", 2).await?;
    server
        .execute(
            "shop",
            "create table fixed as select i, md5(i::text) as m from generate_series(1, 20000) i; create sequence s; select nextval('s')",
        )
        .await?;
    server.execute("shop", "create unlogged table fleeting (i int); insert into fleeting values (1)").await?;
    sites.folder_repository().await?;
    sites.postgres_component("orders-db", &server).await?;
    Ok((sites, server))
}

/// A restored copy beside the running one, started.
async fn beside(sites: &TwoSites, name: &str) -> Result<Postgres> {
    let port = Port::take()?;
    let folder = sites.world.folder(name, muster_testbed::account::RunAs::Postgres)?.join("data");
    let (number, target) = (port.number().to_string(), folder.display().to_string());
    sites.operator.says(&["restore", "orders-db", "--instance", "istanbul", "--beside", &target, "--port", &number, "--yes"]).await?;
    Ok(Postgres::elsewhere(&sites.world, name, folder, port))
}

#[test]
fn a_dropped_table_comes_back_in_place() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        let before = checksums(&server).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        server.execute("shop", "drop table fixed; update pgbench_accounts set abalance = 1").await?;
        sites.operator.says(&["restore", "orders-db", "--instance", "istanbul", "--in-place", "--yes"]).await?;
        same(&before, &checksums(&server).await?)?;
        amcheck(&world, &server).await?;
        ensure!(server.value("shop", "select count(*) from fleeting").await? == "0", "an unlogged table came back with rows");
        ensure!(server.value("postgres", "select pg_is_in_recovery()").await? == "f", "it does not take writes");
        server.execute("shop", "insert into pgbench_history values (1, 1, 1, 1, now())").await
    });
}

#[test]
fn a_backup_under_load_restores_to_one_moment() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        let load = Load::start(&world, &server, "shop", 2)?;
        muster_testbed::eventually::until("pgbench to write", SOON, async || {
            Ok(server.value("shop", "select count(*) > 100 from pgbench_history").await? == "t")
        })
        .await?;
        let before: u64 = server.value("shop", "select count(*) from pgbench_history").await?.parse()?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        ensure!(load.runs()?, "pgbench did not survive the backup");
        load.stop(&server).await?;
        let after: u64 = server.value("shop", "select count(*) from pgbench_history").await?.parse()?;

        let copy = beside(&sites, "copy").await?;
        let restored: u64 = copy.value("shop", "select count(*) from pgbench_history").await?.parse()?;
        ensure!((before..=after).contains(&restored), "{restored} transactions are restored, of {before} before and {after} after");
        let balances = copy.value("shop", BALANCES).await?;
        let numbers: Vec<_> = balances.trim_matches(['{', '}']).split(',').collect();
        ensure!(numbers.iter().all(|number| Some(number) == numbers.first()), "the balances differ: {balances}");
        amcheck(&world, &copy).await?;
        let fixed = "select md5(string_agg(f::text, ',' order by i)) from fixed f";
        ensure!(copy.value("shop", fixed).await? == server.value("shop", fixed).await?, "a table that nobody touched differs");
        copy.stop(Stop::Fast).await
    });
}

#[test]
fn a_copy_beside_leaves_the_running_one_alone() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        let began = server.value("postgres", "select pg_postmaster_start_time()").await?;
        let copy = beside(&sites, "copy").await?;
        same(&checksums(&server).await?, &checksums(&copy).await?)?;
        ensure!(server.value("postgres", "select pg_postmaster_start_time()").await? == began, "the running one was restarted");
        copy.stop(Stop::Fast).await
    });
}

#[test]
fn a_restore_over_a_running_server_needs_consent() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        let began = server.value("postgres", "select pg_postmaster_start_time()").await?;
        let answer = sites.operator.runs(&["restore", "orders-db", "--instance", "istanbul", "--in-place"]).await?;
        ensure!(!answer.status.success(), "it was done without consent: {}", answer.stdout);
        ensure!(server.value("postgres", "select pg_postmaster_start_time()").await? == began, "the running one was restarted");
        Ok(())
    });
}

#[test]
fn a_dry_run_tells_the_plan_and_changes_nothing() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        sites.operator.says(&["backup", "orders-db"]).await?;
        let before = checksums(&server).await?;
        let plan = sites.operator.says(&["restore", "orders-db", "--instance", "istanbul", "--in-place", "--dry-run"]).await?;
        ensure!(plan.contains(&server.data().display().to_string()), "the plan does not name what it would replace: {plan}");
        same(&before, &checksums(&server).await?).context("after a dry run")
    });
}

#[test]
fn a_backup_with_the_server_down_is_refused_with_the_reason() {
    scenario(async |world| {
        let (sites, server) = shop(&world).await?;
        server.stop(Stop::Fast).await?;
        muster_testbed::eventually::until("the agent to notice", SOON, async || Ok(sites.fit_now("orders-db").await.is_err())).await?;
        let answer = sites.operator.runs(&["backup", "orders-db"]).await?;
        ensure!(!answer.status.success(), "{}", answer.stdout);
        let told = format!("{}{}", answer.stdout, answer.stderr).to_lowercase();
        ensure!(told.contains("hint"), "no hint: {told}");
        ensure!(sites.points("orders-db").await?.is_empty(), "a point of a server that is down");
        Ok(())
    });
}

/// PostgreSQL 16, 17 and 18 come from npm; where there is no npm, that is said and nothing is claimed.
#[test]
fn newer_versions_are_backed_up_and_restored_in_place() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.folder_repository().await?;
        for major in [16, 17, 18] {
            let Some(programs) = Programs::from_npm(&world, major).await? else {
                println!("NOT RUN: PostgreSQL {major} comes from npm, and there is no npm on this machine");
                continue;
            };
            let name = format!("pg{major}");
            let server = Postgres::start(&world, &name, &Options { programs, ..Options::default() }).await?;
            load::fill(&world, &server, "shop", 1).await?;
            sites.postgres_component(&name, &server).await.with_context(|| format!("declare {name}"))?;
            let before = checksums(&server).await?;
            sites.operator.says(&["backup", &name]).await?;
            server.execute("shop", "drop table pgbench_accounts").await?;
            sites.operator.says(&["restore", &name, "--instance", "istanbul", "--in-place", "--yes"]).await?;
            same(&before, &checksums(&server).await?).with_context(|| format!("{name} after the restore"))?;
            amcheck(&world, &server).await?;
        }
        Ok(())
    });
}
