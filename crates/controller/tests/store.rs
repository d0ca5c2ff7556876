//! The store on a real file. The suite is a function of an opener, so that a second database can join it.

// Outside of the test functions too, a test fails by panicking.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::path::Path;

use muster_common::counter::Term;
use muster_controller::store::Store;
use muster_controller::store::error::StoreError;
use muster_controller::store::meta;
use muster_controller::store::sql::query;

async fn sqlite(folder: &Path) -> Result<Store, StoreError> {
    Store::open(&folder.join("muster.db")).await
}

/// What every database under the store has to keep.
async fn holds_what_a_store_promises<O: Future<Output = Result<Store, StoreError>>>(open: impl Fn() -> O) {
    let first = open().await.unwrap();
    assert_eq!(first.term(), Term(1));
    assert!(matches!(open().await, Err(StoreError::Locked { .. })), "a second opener is refused");

    // What is not committed is not there; what is, stays.
    let mut write = first.write().await.unwrap();
    assert_eq!(meta::next_sequence(write.connection()).await.unwrap(), 1);
    drop(write);
    let mut write = first.write().await.unwrap();
    assert_eq!(meta::next_sequence(write.connection()).await.unwrap(), 1);
    write.commit().await.unwrap();
    let id = first.store_id();
    first.close().await;
    drop(first);

    let second = open().await.unwrap();
    assert_eq!((second.term(), second.store_id(), second.moved_from()), (Term(2), id, None));
    let mut read = second.read().await.unwrap();
    assert_eq!(meta::sequence(&mut read).await.unwrap(), 1);
    drop(read);

    // A term that an agent remembers is outrun, in the transaction and after it.
    let mut write = second.write().await.unwrap();
    assert_eq!(write.raise_term(Term(40)).await.unwrap(), Term(41));
    assert_eq!(second.term(), Term(2), "not before the commit");
    write.commit().await.unwrap();
    assert_eq!(second.term(), Term(41));
    second.write().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn sqlite_holds_what_a_store_promises() {
    let folder = tempfile::tempdir().unwrap();
    holds_what_a_store_promises(|| sqlite(folder.path())).await;
}

#[tokio::test]
async fn a_process_whose_term_is_over_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let stale = sqlite(folder.path()).await.unwrap();
    // Somebody else's rule begins, as if the lock had failed (a network file system).
    let other = sqlx_connection(folder.path()).await;
    sqlx::query("UPDATE meta SET term = term + 1").execute(&other).await.unwrap();
    let refused = stale.write().await.unwrap_err();
    assert!(matches!(refused, StoreError::Superseded { ours: Term(1), stored: Term(2) }), "{refused}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(sqlite(folder.path()).await.unwrap());
    let other = sqlx_connection(folder.path()).await;
    sqlx::query("INSERT INTO migrations (version, digest) VALUES (99, 'x')").execute(&other).await.unwrap();
    let refused = sqlite(folder.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::NewerSchema { found: 99, .. }), "{refused}");
    let term: i64 = sqlx::query_scalar("SELECT term FROM meta").fetch_one(&other).await.unwrap();
    assert_eq!(term, 1, "no term was begun");
    sqlx::query("UPDATE migrations SET digest = 'other' WHERE version = 1").execute(&other).await.unwrap();
    sqlx::query("DELETE FROM migrations WHERE version = 99").execute(&other).await.unwrap();
    assert!(matches!(sqlite(folder.path()).await.unwrap_err(), StoreError::ChangedMigration { version: 1 }));
}

#[tokio::test]
async fn a_store_that_runs_elsewhere_than_it_did_says_so() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = sqlite(here.path()).await.unwrap();
    store.close().await;
    drop(store);
    std::fs::copy(here.path().join("muster.db"), there.path().join("muster.db")).unwrap();
    let copy = sqlite(there.path()).await.unwrap();
    assert!(copy.moved_from().is_some_and(|from| from.contains(here.path().to_str().unwrap())), "{:?}", copy.moved_from());
    assert_eq!(sqlite(here.path()).await.unwrap().moved_from(), None);
}

#[tokio::test]
async fn every_commit_is_synced_and_the_journal_is_a_write_ahead_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path()).await.unwrap();
    let mut write = store.write().await.unwrap();
    let mode: String = query("PRAGMA journal_mode").fetch_one(write.connection()).await.unwrap().try_get(0).unwrap();
    let synchronous: i64 = query("PRAGMA synchronous").fetch_one(write.connection()).await.unwrap().try_get(0).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2), "2 is FULL (sqlite.org/pragma.html#pragma_synchronous)");
}

#[tokio::test]
async fn writers_queue_and_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path()).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut write = store.write().await?;
                let number = meta::next_event(write.connection()).await?;
                write.commit().await?;
                Ok::<_, StoreError>(number.0)
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.unwrap().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>(), "dense, none twice");
}

async fn sqlx_connection(folder: &Path) -> sqlx::SqlitePool {
    sqlx::SqlitePool::connect(&format!("sqlite://{}", folder.join("muster.db").display())).await.unwrap()
}
