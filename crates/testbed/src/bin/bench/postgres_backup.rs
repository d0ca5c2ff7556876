//! Full backup and restore of one PostgreSQL, against pgBackRest, restic and `pg_basebackup` on the same data.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::postgres::load;
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

use crate::figures::{Figure, median, publish};
use crate::peers::{ALL, Bench, Peer};
use crate::setting::setting;

/// Where nothing else is asked for by `GIGABYTES` and `RUNS`.
const GIGABYTES: u32 = 4;
const RUNS: usize = 3;

/// Muster's own zstd level where nothing is asked for.
const LEVEL: u32 = 1;

/// Seconds and bytes of one tool's runs.
#[derive(Default)]
struct Runs {
    backup: Vec<f64>,
    restore: Vec<f64>,
    stored: Vec<f64>,
}

impl Runs {
    fn add(&mut self, (backup, restore, stored): (f64, f64, f64)) {
        self.backup.push(backup);
        self.restore.push(restore);
        self.stored.push(stored);
    }

    fn medians(self) -> Result<[f64; 3]> {
        let all = [self.backup, self.restore, self.stored].map(median);
        let [Some(backup), Some(restore), Some(stored)] = all else { anyhow::bail!("nothing was measured") };
        Ok([backup, restore, stored / 1e6])
    }
}

pub async fn run() -> Result<()> {
    let (gigabytes, runs) = (setting("GIGABYTES", GIGABYTES)?, setting("RUNS", RUNS)?);
    ensure!(runs >= 1 && gigabytes >= 1, "RUNS and GIGABYTES are at least 1");
    let world = World::new()?;
    let measured = measure(&world, gigabytes, runs).await;
    let (muster, peers, peak) = measured.inspect_err(|_| eprintln!("{}", world.tails()))?;
    let ours = muster.medians()?;
    let mut figures = Vec::new();
    for (peer, runs) in peers {
        let theirs = runs.medians()?;
        let goals = if matches!(peer, Peer::BackrestDefault | Peer::BackrestZstd) { [Some(0.5), Some(0.4), None] } else { [None; 3] };
        let names = [format!("full backup of {gigabytes} GB"), format!("restore of {gigabytes} GB"), "bytes stored".to_owned()];
        for (index, what) in names.into_iter().enumerate() {
            let at = |values: &[f64; 3]| values.get(index).copied().unwrap_or(f64::NAN);
            let unit = if index == 2 { "MB" } else { "s" };
            let goal = goals.get(index).copied().flatten();
            figures.push(Figure {
                what,
                unit,
                muster: at(&ours),
                peer: Some((peer.name().to_owned(), at(&theirs))),
                goal,
                lower_is_better: true,
            });
        }
    }
    figures.push(Figure {
        what: "agent's peak memory".to_owned(),
        unit: "MB",
        muster: peak,
        peer: None,
        goal: None,
        lower_is_better: true,
    });
    publish("postgres-backup", &figures)
}

async fn measure(world: &World, gigabytes: u32, runs: usize) -> Result<(Runs, Vec<(Peer, Runs)>, f64)> {
    let settings = [
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
        ("autovacuum", "off"),
        ("archive_mode", "on"),
        ("archive_command", "'/bin/true'"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = Options { settings, ..Options::default() };
    let (sites, server) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "bench", &options))?;
    println!("filling {gigabytes} GB");
    server.execute("postgres", "create database bench").await?;
    for gigabyte in 1..=gigabytes {
        load::rows(&server, "bench", &format!("orders_{gigabyte}"), load::ROWS_OF_A_GIGABYTE).await?;
    }
    server.execute("postgres", "checkpoint").await?;
    let bench = Bench { world, server: &server, level: LEVEL };
    let (here, absent): (Vec<Peer>, Vec<Peer>) = ALL.into_iter().partition(|peer| peer.is_here());
    for peer in absent {
        println!("NOT MEASURED: {} is not installed (Debian: apt-get install pgbackrest restic)", peer.name());
    }
    let mut peers: Vec<_> = here.into_iter().map(|peer| (peer, Runs::default())).collect();
    let mut muster = Runs::default();
    for run in 1..=runs {
        let seconds = ours(&sites, &bench, run).await.context("muster")?;
        println!("run {run}: muster: backup {:.1} s, restore {:.1} s, {:.0} MB", seconds.0, seconds.1, seconds.2 / 1e6);
        muster.add(seconds);
        for (peer, measured) in &mut peers {
            let seconds = bench.measure(*peer).await.with_context(|| peer.name())?;
            println!("run {run}: {}: backup {:.1} s, restore {:.1} s, {:.0} MB", peer.name(), seconds.0, seconds.1, seconds.2 / 1e6);
            measured.add(seconds);
        }
    }
    let peak = peak_megabytes(&sites)?;
    Ok((muster, peers, peak))
}

/// A repository and a component of its own for each run: nothing is there to deduplicate against.
async fn ours(sites: &TwoSites, bench: &Bench<'_>, run: usize) -> Result<(f64, f64, f64)> {
    let store = sites.folder_repository_named(&format!("run-{run}")).await?;
    let component = format!("bench-{run}");
    sites.postgres_component_in(&component, bench.server, &format!("run-{run}")).await?;
    let began = Instant::now();
    sites.operator.says(&["backup", &component]).await?;
    let backup = began.elapsed().as_secs_f64();
    // Its parent belongs to the server's user, who makes the rest.
    bench.empty("muster-target").await?;
    let target = bench.world.path("muster-target").join("data").display().to_string();
    let began = Instant::now();
    let arguments = ["restore", component.as_str(), "--instance", "istanbul", "--beside", &target];
    sites.operator.says(&arguments).await?;
    let restore = began.elapsed().as_secs_f64();
    let bytes = bench
        .world
        .run(
            muster_testbed::account::RunAs::Caller,
            "/usr/bin/du",
            &["-sb", &store.display().to_string()],
            std::time::Duration::from_secs(60),
        )
        .await?;
    let stored: f64 = bytes.success()?.split_whitespace().next().context("du says a number")?.parse()?;
    bench.empty("muster-target").await?;
    sites.operator.says(&["delete", "component", &component, "--yes"]).await?;
    Ok((backup, restore, stored))
}

/// The agent's highest resident memory, by the kernel.
fn peak_megabytes(sites: &TwoSites) -> Result<f64> {
    let pid = sites.istanbul.pid()?.context("the agent runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells the peak")?;
    let kilobytes: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
