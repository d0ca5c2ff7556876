//! Clients that are told all servers of a component and go to the one that takes writes, as libpq does with
//! `target_session_attrs=read-write`: what an application sees of a move. They write at a steady rate and keep when each row was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Config, NoTls};

use crate::eventually::eventually;
use crate::postgres::server::Postgres;

/// Clients at once.
const CLIENTS: u32 = 4;
/// The pause before a client that was refused or cut off looks for a writer again.
const AGAIN: Duration = Duration::from_millis(20);
/// A server that does not answer for so long is left.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clients that go on until they are stopped.
#[derive(Debug)]
pub struct Roaming {
    over: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<Instant>>>,
}

impl Roaming {
    /// Makes the table at `writer` and starts clients that write `rate` rows a second together, wherever that is possible.
    ///
    /// # Errors
    /// Where the table cannot be made.
    pub async fn start(database: &str, writer: &Postgres, all: &[&Postgres], rate: u32) -> Result<Self> {
        writer.execute(database, "create table if not exists roaming (number bigint primary key, at timestamptz default now())").await?;
        let held: u64 = writer.value(database, "select coalesce(max(number), 0) from roaming").await?.parse().context("a number")?;
        let mut config = Config::new();
        for server in all {
            config.host_path(server.sockets()).port(server.port());
        }
        config.user("postgres").dbname(database).connect_timeout(PATIENCE).target_session_attrs(TargetSessionAttrs::ReadWrite);
        let (over, taken, next) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(held + 1)));
        let pause = Duration::from_secs(1) * CLIENTS / rate.max(1);
        let start = |_| {
            let client =
                Client { config: config.clone(), pause, over: Arc::clone(&over), taken: Arc::clone(&taken), next: Arc::clone(&next) };
            tokio::spawn(client.run())
        };
        let clients = (0..CLIENTS).map(start).collect();
        Ok(Self { over, taken, clients })
    }

    /// Waits until so many more rows were acknowledged; answers when that was seen.
    ///
    /// # Errors
    /// Where they are not within `bound`.
    pub async fn more(&self, count: u64, bound: Duration) -> Result<()> {
        let wanted = self.taken.load(Ordering::SeqCst) + count;
        let enough = async || Ok((self.taken.load(Ordering::SeqCst) >= wanted).then_some(()));
        eventually(&format!("{count} more rows"), bound, enough).await
    }

    /// Stops them. What each client saw: when its rows were acknowledged.
    ///
    /// # Errors
    /// Where a client panicked.
    pub async fn stop(self) -> Result<Seen> {
        self.over.store(true, Ordering::SeqCst);
        let mut clients = Vec::new();
        for client in self.clients {
            clients.push(client.await.context("a client ended badly")?);
        }
        Ok(Seen { clients })
    }
}

/// When rows were acknowledged, by client.
#[derive(Debug)]
pub struct Seen {
    clients: Vec<Vec<Instant>>,
}

impl Seen {
    /// The longest time that any client waited between two acknowledgements.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        let waits = self.clients.iter().flat_map(|client| client.windows(2)).filter_map(|pair| match pair {
            [one, next] => Some(next.duration_since(*one)),
            _ => None,
        });
        waits.max().unwrap_or_default()
    }

    /// How long after `moment` the last of the clients had its first acknowledgement.
    #[must_use]
    pub fn all_served_after(&self, moment: Instant) -> Option<Duration> {
        let first = |client: &Vec<Instant>| client.iter().find(|at| **at > moment).map(|at| at.duration_since(moment));
        self.clients.iter().map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// How many rows were acknowledged.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.clients.iter().map(Vec::len).sum()
    }
}

struct Client {
    config: Config,
    pause: Duration,
    over: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
}

impl Client {
    async fn run(self) -> Vec<Instant> {
        let mut acknowledged = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            let Ok(Ok((client, connection))) = tokio::time::timeout(PATIENCE, self.config.connect(NoTls)).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let connection = tokio::spawn(connection);
            let mut turn = tokio::time::interval(self.pause);
            turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !self.over.load(Ordering::SeqCst) {
                turn.tick().await;
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                let statement = format!("insert into roaming (number) values ({number})");
                match tokio::time::timeout(PATIENCE, client.batch_execute(&statement)).await {
                    Ok(Ok(())) => {
                        acknowledged.push(Instant::now());
                        self.taken.fetch_add(1, Ordering::SeqCst);
                    }
                    // Read-only, ended or silent: another one may take it.
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            connection.abort();
        }
        acknowledged
    }
}
