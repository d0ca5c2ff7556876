//! A store in a database of a PostgreSQL server: its connections, how a transaction begins, what became of a commit whose answer was lost.
//!
//! What always holds: whoever writes holds the row of `meta` until it commits, so that writers queue and nothing can be refused as not
//! serialisable after that; a commit is on the server's disk when it returns (`synchronous_commit = on`); a commit of which nothing is known
//! ends this process's writing. That one controller has the store open is `guard`'s.

use std::time::Duration;

use muster_common::counter::Term;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};

use crate::store::error::StoreError;
use crate::store::guard::Guard;
use crate::store::meta::from_sql;
use crate::store::place::Server;
use crate::store::sql::query;
use crate::store::{Connection, PATIENCE, READERS};

/// The oldest server: `pg_current_xact_id` came with 13.
const OLDEST: i64 = 130_000;
/// How often the beginning of a transaction is tried again where the server ended the connection or asks to try again.
const TRIES: u32 = 3;
/// A statement that takes longer has lost its server.
pub(super) const STATEMENT: Duration = Duration::from_secs(30);

/// How a transaction that reads begins.
pub(super) const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Connections that read a database on which a controller may be running.
pub(super) async fn reading(server: &Server, shown: &str) -> Result<PgPool, StoreError> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE).connect_with(settle(server.options()));
    pool.await.map_err(|source| StoreError::Open { place: shown.to_owned(), source })
}

/// An open database.
#[derive(Debug)]
pub(super) struct Postgres {
    writer: PgPool,
    readers: PgPool,
    guard: Guard,
    shown: String,
    identity: String,
    database: String,
}

impl Postgres {
    /// Takes the store's lock and opens the database.
    pub(super) async fn open(server: &Server, shown: String) -> Result<Self, StoreError> {
        let options = settle(server.options());
        let failed = |source| StoreError::Open { place: shown.clone(), source };
        let mut first = tokio::time::timeout(PATIENCE, options.connect()).await.map_err(|_| failed(timed_out()))?.map_err(failed)?;
        let identity = judge(&mut first, &shown).await?;
        let guard = Guard::take(first, options.clone(), shown.clone()).await?;
        let pool = |most| {
            let options = PgPoolOptions::new().max_connections(most).acquire_timeout(PATIENCE);
            options.after_release(|connection, _| Box::pin(roll_back(connection)))
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        let readers = pool(READERS).connect_lazy_with(options);
        Ok(Self { writer, readers, guard, shown, identity, database: server.database().to_owned() })
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Which server, and which database of it: what a copy has differently.
    pub(super) fn identity(&self) -> (String, String) {
        (format!("PostgreSQL {}", self.identity), format!("database {}", self.database))
    }

    pub(super) async fn read(&self) -> Result<Connection, StoreError> {
        self.guard.reachable()?;
        begin(&self.readers, READ).await
    }

    /// Begins a transaction that holds the row of `meta`; gives its number, and the term where there is a row.
    pub(super) async fn write(&self) -> Result<(Connection, String, Option<Term>), StoreError> {
        self.guard.may_write()?;
        let mut tried = 1;
        loop {
            match self.begin_write().await {
                Err(StoreError::Database(error)) if tried < TRIES && is_worth_another(&error) => {
                    tracing::debug!(%error, tried, "begin to write to the store again");
                    tried += 1;
                }
                begun => return begun,
            }
        }
    }

    async fn begin_write(&self) -> Result<(Connection, String, Option<Term>), StoreError> {
        let mut connection = begin(&self.writer, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        // What is read before the lock may be of before another's commit: the row is read as it is when the lock is there.
        let locked = query("SELECT term FROM meta WHERE one = 1 FOR UPDATE").fetch_optional(&mut connection).await?;
        let term = locked.map(|row| row.try_get::<i64, _>(0)).transpose()?.map(|term| Term(from_sql(term)));
        let row = query("SELECT CAST(pg_current_xact_id() AS TEXT)").fetch_one(&mut connection).await?;
        Ok((connection, row.try_get(0)?, term))
    }

    /// Begins a transaction on a database that may have no tables yet.
    pub(super) async fn begin_making(&self) -> Result<Connection, StoreError> {
        let mut connection = begin(&self.writer, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        // One who lost the lock may still be writing: its transaction is waited for, so that the term is read after it.
        let made = query("SELECT to_regclass('meta') IS NOT NULL").fetch_one(&mut connection).await?;
        if made.try_get(0)? {
            query("SELECT term FROM meta FOR UPDATE").fetch_optional(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Commits. Where the answer is lost, the server is asked what became of it.
    pub(super) async fn commit(&self, mut connection: Connection, transaction: &str) -> Result<(), StoreError> {
        // A transaction in which something failed would be rolled back by COMMIT without a word: the first statement fails then.
        let error = match crate::store::sql::run_all("SELECT 1; COMMIT", &mut connection).await {
            Ok(()) => return Ok(()),
            Err(error) if !is_loss(&error) => return Err(error.into()),
            Err(error) => error,
        };
        drop(connection);
        match tokio::time::timeout(PATIENCE, self.became_of(transaction)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(error.into()),
            Err(_) => {
                let why =
                    format!("the server of {} went away while a transaction was committed, and what became of it is not known", self.shown);
                self.guard.end(why.clone());
                Err(StoreError::Ended { why })
            }
        }
    }

    /// Whether a transaction was committed; asks until it is known.
    async fn became_of(&self, transaction: &str) -> bool {
        loop {
            let asked = async {
                let mut connection = begin(&self.readers, "BEGIN READ ONLY").await?;
                let row = query("SELECT pg_xact_status(CAST($1 AS xid8))").bind(transaction).fetch_one(&mut connection).await?;
                Ok::<Option<String>, StoreError>(row.try_get(0)?)
            };
            match asked.await {
                Ok(Some(status)) if status == "committed" => return true,
                Ok(Some(status)) if status == "aborted" => return false,
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        self.guard.release().await;
    }
}

/// What every connection runs with, whatever the role's or the server's defaults are.
fn settle(options: PgConnectOptions) -> PgConnectOptions {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = format!("muster-controller {} pid {}", host.trim(), std::process::id()).chars().take(63).collect();
    options.application_name(&name).statement_cache_capacity(200).options([
        ("synchronous_commit", "on"),
        ("statement_timeout", "25s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "60s"),
        // A controller that is gone with its machine loses its lock after so long.
        ("tcp_keepalives_idle", "5"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("standard_conforming_strings", "on"),
    ])
}

/// Refuses a server that cannot hold a store; gives its identity.
async fn judge(connection: &mut PgConnection, shown: &str) -> Result<String, StoreError> {
    let failed = |source| StoreError::Open { place: shown.to_owned(), source };
    let refused = |why: String| StoreError::UnfitServer { place: shown.to_owned(), why };
    let about = "SELECT CAST(current_setting('server_version_num') AS BIGINT), pg_is_in_recovery(), current_setting('server_encoding'), \
                 current_setting('server_version')";
    let (number, in_recovery, encoding, version): (i64, bool, String, String) =
        sqlx::query_as(about).fetch_one(&mut *connection).await.map_err(failed)?;
    if number < OLDEST {
        return Err(refused(format!("it is PostgreSQL {version}; 13 or newer is needed")));
    }
    if in_recovery {
        return Err(refused("it is a standby; name the server that takes writes".into()));
    }
    if encoding != "UTF8" {
        return Err(refused(format!("the database's encoding is {encoding}; make one with ENCODING 'UTF8'")));
    }
    let identity = "SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()";
    match sqlx::query_scalar(identity).fetch_one(connection).await {
        Ok(identity) => Ok(identity),
        Err(sqlx::Error::Database(_)) => Ok(shown.to_owned()),
        Err(error) => Err(failed(error)),
    }
}

pub(super) async fn begin(pool: &PgPool, statement: &'static str) -> Result<Connection, StoreError> {
    let mut connection = Connection::Postgres(pool.acquire().await.map_err(StoreError::Database)?);
    query(statement).execute(&mut connection).await?;
    Ok(connection)
}

/// Whatever was begun and not committed is over when its connection comes back. Tells whether the connection is good for more.
async fn roll_back(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(Duration::from_secs(5), sqlx::raw_sql("SET LOCAL client_min_messages = error; ROLLBACK").execute(connection))
        .await
    {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(sqlx::Error::Database(error))) => Ok(error.code().is_some_and(|code| !code.starts_with("57P"))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(timed_out()),
    }
}

pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer"))
}

/// Whether the connection is gone, so that nothing is known of what was under way.
fn is_loss(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
        _ => true,
    }
}

/// Whether to begin once more: nothing was done yet. 40001 and 40P01 ask for it, 57P and 08 say that the connection had ended.
fn is_worth_another(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| ["40001", "40P01"].contains(&code.as_ref()) || code.starts_with("57P") || code.starts_with("08")),
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
        _ => false,
    }
}
