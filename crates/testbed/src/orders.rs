//! Clients that write numbered orders to every server at once, as fast as each takes them, and keep what was acknowledged by whom and when.
//! By it one sees whether two took writes in one time, how long nobody did, and which acknowledged rows are missing in the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::eventually::until;
use crate::postgres::server::Postgres;

/// The pause between two orders of one client.
const PAUSE: Duration = Duration::from_millis(4);
/// The pause after a refusal.
const REFUSED: Duration = Duration::from_millis(20);
/// A server that does not answer for so long is asked anew.
const PATIENCE: Duration = Duration::from_secs(2);

/// Clients that go on until they are stopped.
#[derive(Debug)]
pub struct Orders {
    over: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<Order>>>,
}

/// One acknowledged order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its number.
    pub number: u64,
    /// Which server took it.
    pub server: String,
    /// When it was acknowledged.
    pub acknowledged: Instant,
}

/// What was acknowledged, in the order of acknowledgement.
#[derive(Debug)]
pub struct Ledger {
    pub orders: Vec<Order>,
}

impl Orders {
    /// Makes the table on the first server and starts a client of each.
    ///
    /// # Errors
    /// Where the table cannot be made.
    pub async fn start(database: &str, writer: &Postgres, all: &[&Postgres]) -> Result<Self> {
        writer.execute(database, "create table if not exists orders (number bigint primary key, at timestamptz default now())").await?;
        let (over, next, taken) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let start = |server: &&Postgres| {
            let mut config = tokio_postgres::Config::new();
            config.host_path(server.sockets()).port(server.port()).user("postgres").dbname(database).connect_timeout(PATIENCE);
            let client = Client {
                server: server.name().to_owned(),
                config,
                over: Arc::clone(&over),
                next: Arc::clone(&next),
                taken: Arc::clone(&taken),
            };
            tokio::spawn(client.run())
        };
        let clients = all.iter().map(start).collect();
        Ok(Self { over, taken, clients })
    }

    /// Waits until so many more were acknowledged.
    ///
    /// # Errors
    /// Where they are not within `bound`.
    pub async fn more(&self, count: u64, bound: Duration) -> Result<()> {
        let wanted = self.taken.load(Ordering::SeqCst) + count;
        until(&format!("{count} more orders"), bound, async || Ok(self.taken.load(Ordering::SeqCst) >= wanted)).await
    }

    /// Stops them.
    ///
    /// # Errors
    /// Where a client panicked.
    pub async fn stop(self) -> Result<Ledger> {
        self.over.store(true, Ordering::SeqCst);
        let mut orders = Vec::new();
        for client in self.clients {
            orders.extend(client.await.context("a client ended badly")?);
        }
        orders.sort_by_key(|order| order.acknowledged);
        Ok(Ledger { orders })
    }
}

struct Client {
    server: String,
    config: tokio_postgres::Config,
    over: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
}

impl Client {
    async fn run(self) -> Vec<Order> {
        let mut kept = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            let Ok(Ok((client, connection))) = tokio::time::timeout(PATIENCE, self.config.connect(NoTls)).await else {
                tokio::time::sleep(REFUSED).await;
                continue;
            };
            let connection = tokio::spawn(connection);
            while !self.over.load(Ordering::SeqCst) {
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                let statement = format!("insert into orders (number) values ({number})");
                match tokio::time::timeout(PATIENCE, client.batch_execute(&statement)).await {
                    Ok(Ok(())) => {
                        kept.push(Order { number, server: self.server.clone(), acknowledged: Instant::now() });
                        self.taken.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(PAUSE).await;
                    }
                    // A server that is read-only answers; one that is gone or hangs is asked anew.
                    Ok(Err(error)) if error.as_db_error().is_some() && !client.is_closed() => tokio::time::sleep(REFUSED).await,
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            connection.abort();
        }
        kept
    }
}

impl Ledger {
    /// Who acknowledged, one after the other. Each change is one of writers: two that write in one time change more often than was asked.
    #[must_use]
    pub fn writers(&self) -> Vec<&str> {
        let mut writers: Vec<&str> = self.orders.iter().map(|order| order.server.as_str()).collect();
        writers.dedup();
        writers
    }

    /// The longest time in which nobody acknowledged anything.
    #[must_use]
    pub fn outage(&self) -> Duration {
        let gaps = self.orders.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(next.acknowledged.duration_since(one.acknowledged)),
            _ => None,
        });
        gaps.max().unwrap_or_default()
    }

    /// Acknowledged orders that a server does not hold.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn missing(&self, database: &str, server: &Postgres) -> Result<Vec<u64>> {
        let rows = server.rows(database, "select number from orders").await?;
        let held: BTreeSet<u64> = rows.iter().flatten().filter_map(|number| number.parse().ok()).collect();
        Ok(self.orders.iter().map(|order| order.number).filter(|number| !held.contains(number)).collect())
    }
}
