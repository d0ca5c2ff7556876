//! Several small writes of one file in one transaction, so that they share the one wait for the disk: a commit costs milliseconds there, a
//! statement microseconds.
//!
//! ```text
//!  first member: BEGIN, SAVEPOINT --> each: its statements, RELEASE, SAVEPOINT --> whoever waited is a member too --> COMMIT, all are told
//! ```
//!
//! What always holds: a member's write is told as done after the commit that holds it, and as failed where that commit fails, and then
//! nothing of any member was changed; a member that is given up takes back its own statements alone; a member sees what members before it
//! wrote, so that whoever answers by what it saw has to wait for the commit as well. Members come one after the other: who waits when the
//! first one is done is in the same transaction, who comes later is in the next, so that nobody waits for more than two commits.

use std::sync::Arc;

use sqlx::SqlitePool;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, watch};

use crate::store::error::StoreError;
use crate::store::sql::query;
use crate::store::{Connection, PATIENCE, sqlite};

const BEGIN_MEMBER: &str = "SAVEPOINT member";
const END_MEMBER: &str = "RELEASE member";
const UNDO_MEMBER: &str = "ROLLBACK TO member";

/// How a transaction ended for all of its members. `None`: not yet.
type Ended = watch::Receiver<Option<Result<(), Arc<StoreError>>>>;

/// Where members of one file's transaction meet. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    batch: Arc<Mutex<Option<Batch>>>,
}

/// A transaction that is open.
#[derive(Debug)]
struct Batch {
    connection: Connection,
    /// Members that are done.
    members: u32,
    /// Whether the present member has not said how it ended: what it did is taken back.
    unclean: bool,
    ended: watch::Sender<Option<Result<(), Arc<StoreError>>>>,
}

/// The turn of one member. Dropped, what it wrote is taken back.
#[derive(Debug)]
pub(super) struct Turn {
    batch: OwnedMappedMutexGuard<Option<Batch>, Batch>,
    place: Together,
}

impl Together {
    /// Waits for the turn. Tells whether the transaction was begun by this.
    pub(super) async fn enter(&self, pool: &SqlitePool) -> Result<(Turn, bool), StoreError> {
        let entered = tokio::time::timeout(PATIENCE, self.batch.clone().lock_owned()).await;
        let mut guard = entered.map_err(|_| StoreError::Busy)?;
        tidy(&mut guard).await;
        let is_first = guard.is_none();
        if is_first {
            let mut connection = sqlite::begin(pool, sqlite::WRITE).await?;
            query(BEGIN_MEMBER).execute(&mut connection).await?;
            *guard = Some(Batch { connection, members: 0, unclean: false, ended: watch::Sender::new(None) });
        }
        let batch = OwnedMutexGuard::try_map(guard, Option::as_mut).map_err(|_| StoreError::Database(sqlx::Error::PoolClosed))?;
        let mut turn = Turn { batch, place: self.clone() };
        turn.batch.unclean = true;
        Ok((turn, is_first))
    }

    /// Commits what is open, behind all who wait for their turn now.
    async fn settle(self) {
        let mut guard = self.batch.lock_owned().await;
        tidy(&mut guard).await;
        // An open transaction without a member that is done holds nothing: it is rolled back with its connection.
        let Some(mut batch) = guard.take().filter(|batch| batch.members > 0) else { return };
        let committed = query("COMMIT").execute(&mut batch.connection).await;
        batch.ended.send_replace(Some(committed.map(|_| ()).map_err(|error| Arc::new(error.into()))));
        // Where the commit failed, the connection rolls back when it returns to its pool; nobody begins before.
        drop(batch);
    }

    /// Commits what is open; used before the file is closed.
    pub(super) async fn close(&self) {
        self.clone().settle().await;
    }
}

/// Takes back what a member left behind. Where SQLite had ended the whole transaction by itself (a full disk), all members are told.
async fn tidy(place: &mut Option<Batch>) {
    let Some(batch) = place.as_mut().filter(|batch| batch.unclean) else { return };
    match query(UNDO_MEMBER).execute(&mut batch.connection).await {
        Ok(_) => batch.unclean = false,
        Err(error) => fail(place, Arc::new(error.into())),
    }
}

/// Gives the transaction up: the connection rolls back when it returns to its pool.
fn fail(place: &mut Option<Batch>, error: Arc<StoreError>) {
    if let Some(batch) = place.take() {
        batch.ended.send_replace(Some(Err(error)));
    }
}

impl Turn {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.batch.connection
    }

    /// Done: waits until it is on disk.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let connection = &mut self.batch.connection;
        query(END_MEMBER).execute(connection).await?;
        query(BEGIN_MEMBER).execute(connection).await?;
        self.batch.unclean = false;
        self.batch.members = self.batch.members.saturating_add(1);
        let ended = self.batch.ended.subscribe();
        if self.batch.members == 1 {
            // In a task of its own: whoever waits here may be given up, and others are in the same transaction.
            tokio::spawn(self.place.clone().settle());
        }
        drop(self);
        wait(ended).await
    }

    /// Given up: takes back what it wrote, and waits until what it saw is on disk or taken back too.
    pub(super) async fn abandon(mut self) -> Result<(), StoreError> {
        query(UNDO_MEMBER).execute(&mut self.batch.connection).await?;
        self.batch.unclean = false;
        let ended = (self.batch.members > 0).then(|| self.batch.ended.subscribe());
        drop(self);
        match ended {
            Some(ended) => wait(ended).await,
            None => Ok(()),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let is_left_open = self.batch.unclean || self.batch.members == 0;
        if is_left_open && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Nobody else may come for long.
            runtime.spawn(self.place.clone().settle());
        }
    }
}

async fn wait(mut ended: Ended) -> Result<(), StoreError> {
    let told = ended.wait_for(Option::is_some).await;
    match told.as_deref() {
        Ok(Some(Err(error))) => Err(StoreError::Together(error.clone())),
        Ok(Some(Ok(()))) => Ok(()),
        // The process stops: whoever was to commit is gone, and its connection has rolled back.
        Ok(None) | Err(_) => Err(StoreError::Database(sqlx::Error::PoolClosed)),
    }
}
