//! What only a file has to keep.

use std::path::Path;

use muster_controller::store::Store;
use muster_controller::store::sql::query;

async fn sqlite(folder: &Path) -> Store {
    Store::open(&folder.join("muster.db")).await.unwrap()
}

#[tokio::test]
async fn a_store_that_runs_elsewhere_than_it_did_says_so() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = sqlite(here.path()).await;
    store.close().await;
    drop(store);
    std::fs::copy(here.path().join("muster.db"), there.path().join("muster.db")).unwrap();
    let copy = sqlite(there.path()).await;
    assert!(copy.moved_from().is_some_and(|from| from.contains(here.path().to_str().unwrap())), "{:?}", copy.moved_from());
    assert_eq!(sqlite(here.path()).await.moved_from(), None);
}

#[tokio::test]
async fn every_commit_is_synced_and_the_journal_is_a_write_ahead_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path()).await;
    let mut write = store.write().await.unwrap();
    let mode: String = query("PRAGMA journal_mode").fetch_one(write.connection()).await.unwrap().try_get(0).unwrap();
    let synchronous: i64 = query("PRAGMA synchronous").fetch_one(write.connection()).await.unwrap().try_get(0).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2), "2 is FULL (sqlite.org/pragma.html#pragma_synchronous)");
}
