//! Load by clients that are not ours: Debian's pgbench.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::programs::DEBIAN;
use super::server::Postgres;
use crate::account::RunAs;
use crate::process::Process;
use crate::world::World;

const LONG_ENOUGH: Duration = Duration::from_secs(600);

/// Fills `database`, which is made where it is not there, with pgbench's tables. A scale of 64 is about 1 GB.
///
/// # Errors
/// What pgbench says.
pub async fn fill(world: &World, server: &Postgres, database: &str, scale: u32) -> Result<()> {
    let there = server.rows("postgres", &format!("select 1 from pg_database where datname = '{database}'")).await?;
    if there.is_empty() {
        server.execute("postgres", &format!("create database \"{database}\"")).await?;
    }
    let arguments = connection(server, database);
    let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let scale = scale.to_string();
    arguments.splice(0..0, ["-i", "-q", "-s", scale.as_str()]);
    world.run(RunAs::Postgres, &format!("{DEBIAN}/pgbench"), &arguments, LONG_ENOUGH).await?.success().context("fill with pgbench")?;
    Ok(())
}

/// How many rows of [`rows`] are a gigabyte on disk, index included.
pub const ROWS_OF_A_GIGABYTE: u32 = 960_000;

/// Makes a table of `count` rows of about a kilobyte, which compress to about a fifth; pgbench's own rows
/// compress to nothing and would flatter whoever compresses.
///
/// # Errors
/// The server's own.
pub async fn rows(server: &Postgres, database: &str, table: &str, count: u32) -> Result<()> {
    let statements = format!(
        "create table {table} (id bigint primary key, customer text not null, amount numeric not null, note text not null); \
         insert into {table} select i, 'customer ' || i % 9973, i * 0.01, \
         encode(sha512((i || '{table}')::bytea), 'hex') || encode(sha512((i || 'b')::bytea), 'base64') || repeat(md5(i::text), 22) \
         from generate_series(1, {count}) i"
    );
    server.execute(database, &statements).await?;
    // Otherwise the first reader marks every row as committed, and every page differs from the one that was backed up.
    server.execute(database, &format!("vacuum (freeze, analyze) {table}")).await
}

/// Clients that write until they are stopped.
#[derive(Debug)]
pub struct Load {
    process: Process,
}

impl Load {
    /// Starts `clients` of pgbench against `database`.
    ///
    /// # Errors
    /// Where pgbench cannot be started.
    pub fn start(world: &World, server: &Postgres, database: &str, clients: u32) -> Result<Self> {
        let connection = connection(server, database);
        let clients = clients.to_string();
        let mut arguments = vec!["-n", "-c", clients.as_str(), "-T", "3600"];
        arguments.extend(connection.iter().map(String::as_str));
        let process = world.start(&format!("pgbench-{}", server.name()), RunAs::Postgres, format!("{DEBIAN}/pgbench"), &arguments)?;
        Ok(Self { process })
    }

    /// Still writing: pgbench ends when its server does.
    ///
    /// # Errors
    /// Where the kernel does not know the process.
    pub fn runs(&self) -> Result<bool> {
        Ok(self.process.status()?.is_none())
    }

    /// Ends it and waits until its sessions are gone.
    ///
    /// # Errors
    /// Where it does not end, or the server cannot be asked.
    pub async fn stop(self, server: &Postgres) -> Result<()> {
        // Not SIGINT: a shell that runs things in the background has it ignored, and pgbench would inherit that.
        self.process.signal(Signal::TERM)?;
        self.process.ended(Duration::from_secs(30)).await?;
        crate::eventually::until("pgbench's sessions to end", Duration::from_secs(30), async || {
            Ok(server.value("postgres", "select count(*) from pg_stat_activity where application_name = 'pgbench'").await? == "0")
        })
        .await
    }
}

fn connection(server: &Postgres, database: &str) -> [String; 7] {
    ["-h", &server.sockets().display().to_string(), "-p", &server.port().to_string(), "-U", "postgres", database].map(str::to_owned)
}
