//! The benchmarks: `bench` runs all, `bench NAME` one. Each prints a table and writes `target/bench/<name>.json`.
//! Muster and its peers take turns on the same data, and medians of at least three runs are told.

use std::process::ExitCode;

mod control_plane;
mod failover;
mod figures;
mod peers;
mod postgres_backup;
mod setting;

/// All benchmarks by name.
const NAMES: [&str; 3] = ["control-plane", "failover", "postgres-backup"];

#[tokio::main]
async fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for name in &asked {
        if !NAMES.contains(&name.as_str()) {
            eprintln!("there is no benchmark {name}; there are: {}", NAMES.join(", "));
            return ExitCode::from(2);
        }
    }
    match run(&asked).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Those that were asked for; all where none was.
async fn run(asked: &[String]) -> anyhow::Result<()> {
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    if wanted("control-plane") {
        control_plane::run().await?;
    }
    if wanted("failover") {
        failover::run().await?;
    }
    if wanted("postgres-backup") {
        postgres_backup::run().await?;
    }
    Ok(())
}
