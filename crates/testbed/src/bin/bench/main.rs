//! The benchmarks: `bench` runs all, `bench NAME` one. Each prints a table and writes `target/bench/<name>.json`.
//! Muster and its peers take turns on the same data, and medians of at least three runs are told.

use std::process::ExitCode;

mod figures;
mod peers;
mod postgres_backup;

/// All benchmarks by name.
const NAMES: [&str; 1] = ["postgres-backup"];

#[tokio::main]
async fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for name in &asked {
        if !NAMES.contains(&name.as_str()) {
            eprintln!("there is no benchmark {name}; there are: {}", NAMES.join(", "));
            return ExitCode::from(2);
        }
    }
    let outcome =
        if asked.is_empty() || asked.iter().any(|name| name == "postgres-backup") { postgres_backup::run().await } else { Ok(()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
