//! The store: everything that the controller must not forget, in one SQLite file.
//!
//! It knows nothing of operations' meaning: one module a table group, plain functions on a connection. What always holds: one process
//! at a time has it open (a lock beside the file); every write is one `BEGIN IMMEDIATE` transaction that first compares the term, so that
//! a process whose rule is over cannot write; a commit is on disk (synchronous FULL) when it returns; a newer schema is never touched.
//! Statements are written once for both databases: `sql` says what they have to keep to.

pub mod agents;
pub mod answers;
pub mod assignments;
pub mod certificates;
pub mod commands;
pub mod error;
pub mod events;
pub mod meta;
pub mod operations;
pub mod operators;
pub mod pauses;
pub mod points;
pub mod requests;
pub mod resources;
pub mod schema;
pub mod shards;
pub mod sql;
pub mod tokens;

mod machine;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_common::counter::Term;
use muster_common::id::StoreId;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Postgres, Sqlite, SqlitePool};

use crate::store::error::StoreError;
use crate::store::sql::query;

/// A connection of the store's database, in a transaction that was begun by `Store::read` or `Store::write`.
#[derive(Debug)]
pub enum Connection {
    /// To a file.
    Sqlite(PoolConnection<Sqlite>),
    /// To a server.
    Postgres(PoolConnection<Postgres>),
}

/// Reads at once; more wait.
const READERS: u32 = 4;
/// How long a connection or the file's lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The open store. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // One connection: writes queue here and not at SQLite's lock.
    writer: SqlitePool,
    readers: SqlitePool,
    term: AtomicU64,
    store_id: StoreId,
    path: PathBuf,
    moved_from: Option<String>,
    // Held for as long as the store is open; the kernel lets go of it when the process dies.
    _lock: File,
}

impl Store {
    /// Opens or makes the store in the file `path`, brings its schema up to date and begins a new term.
    ///
    /// # Errors
    /// Where another process has it open, its schema is newer than this build, or the file cannot be used.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let (path, lock) = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        let pool = |most| {
            let options = SqlitePoolOptions::new().max_connections(most).acquire_timeout(PATIENCE);
            options.after_release(|connection, _| Box::pin(roll_back(connection)))
        };
        let failed = |source| StoreError::Open { path: path.clone(), source };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        let mut connection = begin(&writer, "BEGIN IMMEDIATE").await.map_err(failed)?;
        schema::migrate(&mut connection).await?;
        let begun = meta::begin_term(&mut connection, &machine::id()?, &path.display().to_string()).await?;
        query("COMMIT").execute(&mut connection).await.map_err(failed)?;
        drop(connection);
        let readers = pool(READERS).connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok(Self {
            shared: Arc::new(Shared {
                writer,
                readers,
                term: AtomicU64::new(begun.term.0),
                store_id: begun.store_id,
                path,
                moved_from: begun.moved_from,
                _lock: lock,
            }),
        })
    }

    /// The present term: it grew when the store was opened, and grows when the store is found to be behind its agents.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.shared.term.load(Ordering::SeqCst))
    }

    /// Tells this store from all others; a copy has the same.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.shared.store_id
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Where the store ran before, in words, if that was another machine or path: it may be a copy.
    #[must_use]
    pub fn moved_from(&self) -> Option<&str> {
        self.shared.moved_from.as_deref()
    }

    /// Begins a transaction that sees one moment of the store and writes nothing.
    ///
    /// # Errors
    /// Where the file cannot be read, or no connection came free in 10 s.
    pub async fn read(&self) -> Result<Connection, StoreError> {
        Ok(begin(&self.shared.readers, "BEGIN").await?)
    }

    /// Begins a transaction that writes. Dropped without [`Write::commit`] it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] where the store's term is no longer ours, and where the file cannot be written.
    pub async fn write(&self) -> Result<Write, StoreError> {
        let mut connection = begin(&self.shared.writer, "BEGIN IMMEDIATE").await?;
        let stored = meta::term(&mut connection).await?;
        let ours = self.term();
        if stored != ours {
            return Err(StoreError::Superseded { ours, stored });
        }
        Ok(Write { connection, store: self.clone(), raised: None })
    }

    /// Waits for what runs and closes the file.
    pub async fn close(&self) {
        self.shared.readers.close().await;
        self.shared.writer.close().await;
    }
}

/// A transaction that writes.
#[derive(Debug)]
pub struct Write {
    connection: Connection,
    store: Store,
    raised: Option<Term>,
}

impl Write {
    /// What query functions take.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Takes a term above `seen`, which an agent remembers of another controller's rule. In force when the transaction commits.
    ///
    /// # Errors
    /// Where terms are used up or the file cannot be written.
    pub async fn raise_term(&mut self, seen: Term) -> Result<Term, StoreError> {
        let term = self.raised.unwrap_or(self.store.term()).max(seen).next().ok_or(StoreError::TermsUsedUp)?;
        meta::set_term(&mut self.connection, term).await?;
        self.raised = Some(term);
        Ok(term)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// Where the disk refuses; then nothing was changed.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        query("COMMIT").execute(&mut self.connection).await?;
        if let Some(term) = self.raised {
            self.store.shared.term.store(term.0, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Begins a transaction by hand: SQLite ends one by itself when the disk is full (sqlite.org/lang_transaction.html, "Response To Errors
/// Within A Transaction"), and sqlx's own count of transactions would never agree with it again.
async fn begin(pool: &SqlitePool, statement: &'static str) -> Result<Connection, sqlx::Error> {
    let mut connection = Connection::Sqlite(pool.acquire().await?);
    query(statement).execute(&mut connection).await?;
    Ok(connection)
}

/// Whatever was begun and not committed is over when its connection comes back. Tells whether the connection is good for more.
async fn roll_back(connection: &mut sqlx::SqliteConnection) -> Result<bool, sqlx::Error> {
    match sqlx::query("ROLLBACK").execute(connection).await {
        // There was none: it was committed, or SQLite had ended it.
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes the folder, resolves the path, takes the lock.
fn lock(path: &Path) -> Result<(PathBuf, File), StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| failed(std::io::Error::other("it names no file")))?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    let path = folder.canonicalize().map_err(failed)?.join(name);
    let mut beside = path.clone().into_os_string();
    beside.push(".lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&beside).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok((path, lock)),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::File { path, source }),
    }
}
