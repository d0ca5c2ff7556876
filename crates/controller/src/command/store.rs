//! `store`: what is done to the store while no controller runs on it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::store::copy::copy;
use crate::store::place::Place;

/// What `store` takes.
#[derive(Debug, clap::Args)]
pub struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copies a store into an empty place, for example from a file into PostgreSQL. No controller may run on either.
    ///
    /// Example: muster-controller store copy --from /var/lib/muster/controller.db --to postgres://muster@db1/muster
    Copy(Copy),
}

#[derive(Debug, clap::Args)]
struct Copy {
    /// The store: an absolute path, or postgres://USER@HOST:PORT/DATABASE.
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Where the copy goes; nothing may be there yet.
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// The file of the password of `--from`, where it is a server.
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// The file of the password of `--to`, where it is a server.
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
}

impl Store {
    /// Does it.
    ///
    /// # Errors
    /// Where a place is none, is in use, or the target is not empty.
    pub fn run(self) -> Result<()> {
        let Verb::Copy(asked) = self.verb;
        let from = Place::parse(&asked.from, asked.from_password_file.as_deref()).context("--from")?;
        let to = Place::parse(&asked.to, asked.to_password_file.as_deref()).context("--to")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start the runtime")?;
        let copied = runtime.block_on(copy(&from, &to)).map_err(|error| anyhow::anyhow!(error.fault()))?;
        for table in &copied {
            println!("{:>10}  {}", table.rows, table.table);
        }
        println!("copied {from} to {to}; every table was read back and is the same");
        println!("next: set `store: {to}` in the controller's configuration and start it; do not start a controller on {from} again");
        Ok(())
    }
}
