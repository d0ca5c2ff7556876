//! A store in a SQLite file: its lock beside it, its connections, how a transaction begins.
//!
//! What always holds: one process at a time has the file open; a commit is on disk (synchronous FULL) when it returns.

use std::fs::File;
use std::path::{Path, PathBuf};

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::store::error::StoreError;
use crate::store::sql::query;
use crate::store::together::{Together, Turn};
use crate::store::{Connection, PATIENCE, READERS};

/// How a transaction that reads begins.
pub(super) const READ: &str = "BEGIN";
/// How a transaction that writes begins.
pub(super) const WRITE: &str = "BEGIN IMMEDIATE";

/// Connections that read a file which another process may be writing.
pub(super) async fn reading(path: &Path) -> Result<SqlitePool, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(PATIENCE);
    let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(PATIENCE).connect_with(options);
    pool.await.map_err(|source| StoreError::Open { place: path.display().to_string(), source })
}

/// An open file.
#[derive(Debug)]
pub(super) struct Sqlite {
    // One connection: writes queue here and not at SQLite's lock.
    writer: SqlitePool,
    readers: SqlitePool,
    together: Together,
    path: PathBuf,
    // Held for as long as the store is open; the kernel lets go of it when the process dies.
    _lock: File,
}

impl Sqlite {
    /// Opens or makes the file.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
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
        let failed = |source| StoreError::Open { place: path.display().to_string(), source };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        let readers = pool(READERS).connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok(Self { writer, readers, together: Together::default(), path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn read(&self) -> Result<Connection, StoreError> {
        begin(&self.readers, READ).await
    }

    pub(super) async fn write(&self) -> Result<Connection, StoreError> {
        begin(&self.writer, WRITE).await
    }

    /// A write that shares its transaction with others. Tells whether it is the first of them.
    pub(super) async fn write_together(&self) -> Result<(Turn, bool), StoreError> {
        self.together.enter(&self.writer).await
    }

    pub(super) async fn close(&self) {
        self.together.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Begins a transaction by hand: SQLite ends one by itself when the disk is full (sqlite.org/lang_transaction.html, "Response To Errors
/// Within A Transaction"), and sqlx's own count of transactions would never agree with it again.
pub(super) async fn begin(pool: &SqlitePool, statement: &'static str) -> Result<Connection, StoreError> {
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
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StoreError::Locked { place: path.display().to_string(), holder: "another process of this machine".into() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::File { path, source }),
    }
}
