//! The store: everything that the controller must not forget, in one SQLite file or one
//! database of a PostgreSQL server.
//!
//! It knows nothing of operations' meaning: one module a table group, plain functions on a connection. What always holds: one process
//! at a time has it open (a lock beside the file, or one of the server); every write is one transaction that keeps other writers out and
//! first compares the term, so that a process whose rule is over cannot write; a commit is on disk when it returns; a newer schema is never
//! touched.
//! Statements are written once for both databases: `sql` says what they have to keep to.

pub mod agents;
pub mod answers;
pub mod assignments;
pub mod audit;
pub mod certificates;
pub mod commands;
pub mod copy;
pub mod error;
pub mod events;
pub mod findings;
pub mod history;
pub mod lanes;
pub mod meta;
pub mod operations;
pub mod operators;
pub mod pauses;
pub mod place;
pub mod points;
pub mod refill;
pub mod requests;
pub mod resources;
pub mod schema;
pub mod shards;
pub mod sightings;
pub mod sql;
pub mod tables;
pub mod tokens;

mod guard;
mod machine;
mod postgres;
mod sqlite;
mod together;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_common::counter::Term;
use muster_common::id::{RuleId, StoreId};
use muster_failover::here::Rule;
use sqlx::pool::PoolConnection;

use crate::store::error::StoreError;
use crate::store::place::Place;
use crate::store::sql::query;
use crate::store::together::Turn;

/// A connection of the store's database, in a transaction that was begun by [`Store::read`] or [`Store::write`].
#[derive(Debug)]
pub enum Connection {
    /// To a file.
    Sqlite(PoolConnection<sqlx::Sqlite>),
    /// To a server.
    Postgres(PoolConnection<sqlx::Postgres>),
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
    base: Base,
    term: AtomicU64,
    store_id: StoreId,
    rule: RuleId,
    shown: String,
    moved_from: Option<String>,
}

/// The database under it.
#[derive(Debug)]
enum Base {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Base {
    async fn open(place: &Place) -> Result<Self, StoreError> {
        Ok(match place {
            Place::File(path) => Self::Sqlite(sqlite::Sqlite::open(path).await?),
            Place::Server(server) => Self::Postgres(postgres::Postgres::open(server, place.to_string()).await?),
        })
    }

    /// Where it runs: what another copy of it has differently.
    fn identity(&self) -> Result<(String, String), StoreError> {
        Ok(match self {
            Self::Sqlite(base) => (machine::id()?, base.path().display().to_string()),
            Self::Postgres(base) => base.identity(),
        })
    }

    async fn read(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(base) => base.read().await,
            Self::Postgres(base) => base.read().await,
        }
    }

    /// Begins the transaction in which the schema is made.
    async fn begin_making(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(base) => base.write().await,
            Self::Postgres(base) => base.begin_making().await,
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(base) => base.close().await,
            Self::Postgres(base) => base.close().await,
        }
    }
}

impl Store {
    /// Opens or makes the store in the file `path`, brings its schema up to date and begins a new term.
    ///
    /// # Errors
    /// As [`Store::open_at`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(&Place::File(path.to_owned())).await
    }

    /// Opens or makes the store, brings its schema up to date and begins a new term.
    ///
    /// # Errors
    /// Where another process has it open, its schema is newer than this build, or the file or server cannot be used.
    pub async fn open_at(place: &Place) -> Result<Self, StoreError> {
        Self::open_after(place, async |_, _| Ok::<(), StoreError>(())).await
    }

    /// The same; where the schema of a store that is there has to change, `first` is done before, with the version that it has and a
    /// transaction that reads it.
    ///
    /// # Errors
    /// As [`Store::open_at`], and what `first` says: then nothing was changed.
    pub async fn open_after<E: From<StoreError>>(
        place: &Place,
        first: impl AsyncFnOnce(i64, Connection) -> Result<(), E>,
    ) -> Result<Self, E> {
        let base = Base::open(place).await?;
        let mut reading = base.begin_making().await?;
        let version = schema::version(&mut reading).await.map_err(E::from)?;
        drop(reading);
        if version > 0 && version < schema::KNOWN {
            first(version, base.read().await?).await?;
        }
        Ok(Self::begin(base, place).await?)
    }

    async fn begin(base: Base, place: &Place) -> Result<Self, StoreError> {
        let (machine, path) = base.identity()?;
        let mut connection = base.begin_making().await?;
        schema::migrate(&mut connection).await?;
        let begun = meta::begin_term(&mut connection, &machine, &path).await?;
        query("COMMIT").execute(&mut connection).await?;
        drop(connection);
        let shown = match &base {
            Base::Sqlite(base) => base.path().display().to_string(),
            Base::Postgres(_) => place.to_string(),
        };
        let term = AtomicU64::new(begun.term.0);
        Ok(Self {
            shared: Arc::new(Shared {
                base,
                term,
                store_id: begun.store_id,
                rule: RuleId::from_bytes(rand::random()),
                shown,
                moved_from: begun.moved_from,
            }),
        })
    }

    /// The present term: it grew when the store was opened, and grows when the store is found to be behind its agents.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.shared.term.load(Ordering::SeqCst))
    }

    /// The rule that this process gives orders under: its term, and an id that was drawn when it began.
    #[must_use]
    pub fn rule(&self) -> Rule {
        Rule { term: self.term(), id: self.shared.rule }
    }

    /// Tells this store from all others; a copy has the same.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.shared.store_id
    }

    /// Where it is, in words: the file, or the server's URL without a password.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shared.shown
    }

    /// Where the store ran before, in words, if that was another machine, path or server: it may be a copy.
    #[must_use]
    pub fn moved_from(&self) -> Option<&str> {
        self.shared.moved_from.as_deref()
    }

    /// Begins a transaction that sees one moment of the store and writes nothing.
    ///
    /// # Errors
    /// Where the database cannot be read, or no connection came free in 10 s.
    pub async fn read(&self) -> Result<Connection, StoreError> {
        self.shared.base.read().await
    }

    /// Begins a transaction that writes. Dropped without [`Write::commit`] it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] where the store's term is no longer ours, and where the database cannot be written.
    pub async fn write(&self) -> Result<Write, StoreError> {
        let (connection, transaction, stored) = match &self.shared.base {
            Base::Sqlite(base) => {
                let mut connection = base.write().await?;
                let stored = meta::term(&mut connection).await?;
                (connection, String::new(), stored)
            }
            Base::Postgres(base) => {
                let (connection, transaction, stored) = base.write().await?;
                (connection, transaction, stored.ok_or(sqlx::Error::RowNotFound)?)
            }
        };
        let ours = self.term();
        if stored != ours {
            return Err(StoreError::Superseded { ours, stored });
        }
        Ok(Write { held: Held::Alone { connection, transaction }, store: self.clone(), raised: None })
    }

    /// The same for a small write among many: in a file it shares its transaction, and with it the wait for the disk, with others that come
    /// at the same time. It sees what these wrote before they are committed: whoever answers by what it saw ends it by [`Write::commit`] or
    /// [`Write::abandon`], which wait until that is on disk. Dropped, it changes nothing, and nothing that it saw may be told.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_together(&self) -> Result<Write, StoreError> {
        let Base::Sqlite(base) = &self.shared.base else { return self.write().await };
        let (mut turn, is_first) = base.write_together().await?;
        let ours = self.term();
        if is_first {
            let stored = meta::term(turn.connection()).await?;
            if stored != ours {
                return Err(StoreError::Superseded { ours, stored });
            }
        }
        Ok(Write { held: Held::Together(turn), store: self.clone(), raised: None })
    }

    /// Waits until this process may write no more, for another reason than another's term; tells why. A file's never ends.
    pub async fn ended(&self) -> String {
        match &self.shared.base {
            Base::Sqlite(_) => std::future::pending().await,
            Base::Postgres(base) => base.guard().ended().await,
        }
    }

    /// Waits for what runs and closes it.
    pub async fn close(&self) {
        self.shared.base.close().await;
    }
}

/// A store that is only read, beside the controller that may be running on it.
#[derive(Debug)]
pub enum Snapshot {
    /// Of a file.
    File(sqlx::SqlitePool),
    /// Of a server.
    Server(sqlx::PgPool),
}

impl Snapshot {
    /// Opens what is there.
    ///
    /// # Errors
    /// Where there is no store, or it cannot be read.
    pub async fn open(place: &Place) -> Result<Self, StoreError> {
        match place {
            Place::File(path) if !path.exists() => Err(StoreError::NoStore { place: place.to_string() }),
            Place::File(path) => Ok(Self::File(sqlite::reading(path).await?)),
            Place::Server(server) => Ok(Self::Server(postgres::reading(server, &place.to_string()).await?)),
        }
    }

    /// Begins a transaction that sees one moment of the store.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read(&self) -> Result<Connection, StoreError> {
        match self {
            Self::File(pool) => sqlite::begin(pool, sqlite::READ).await,
            Self::Server(pool) => postgres::begin(pool, postgres::READ).await,
        }
    }
}

/// A transaction that writes.
#[derive(Debug)]
pub struct Write {
    held: Held,
    store: Store,
    raised: Option<Term>,
}

/// What a write holds.
#[derive(Debug)]
enum Held {
    /// A transaction of its own, and a server's number of it.
    Alone { connection: Connection, transaction: String },
    /// A turn in one that is shared.
    Together(Turn),
}

impl Write {
    /// What query functions take.
    pub fn connection(&mut self) -> &mut Connection {
        match &mut self.held {
            Held::Alone { connection, .. } => connection,
            Held::Together(turn) => turn.connection(),
        }
    }

    /// Takes a term above `seen`, which an agent remembers of another controller's rule. In force when the transaction commits.
    ///
    /// # Errors
    /// Where terms are used up or the database cannot be written.
    pub async fn raise_term(&mut self, seen: Term) -> Result<Term, StoreError> {
        let term = self.raised.unwrap_or(self.store.term()).max(seen).next().ok_or(StoreError::TermsUsedUp)?;
        meta::set_term(self.connection(), term).await?;
        self.raised = Some(term);
        Ok(term)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// Where the database refuses; then nothing was changed. [`StoreError::Ended`] where a server is gone and what it did is not known.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.held {
            Held::Together(turn) => turn.commit().await?,
            Held::Alone { mut connection, transaction } => match &self.store.shared.base {
                Base::Sqlite(_) => {
                    query("COMMIT").execute(&mut connection).await?;
                }
                Base::Postgres(base) => base.commit(connection, &transaction).await?,
            },
        }
        if let Some(term) = self.raised {
            self.store.shared.term.store(term.0, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Changes nothing, and waits until what it saw of others' writes is durable, or was taken back.
    ///
    /// # Errors
    /// Where what it saw was taken back, or the database failed.
    pub async fn abandon(self) -> Result<(), StoreError> {
        match self.held {
            Held::Together(turn) => turn.abandon().await,
            Held::Alone { .. } => Ok(()),
        }
    }
}
