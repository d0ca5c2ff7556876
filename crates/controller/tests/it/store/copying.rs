//! A whole store copied from one database to the other.

use muster_controller::store::copy::copy;
use muster_controller::store::error::StoreError;
use muster_controller::store::place::Place;
use muster_controller::store::{Store, agents, meta};

use super::every_table::filled;
use super::server;

fn file(folder: &tempfile::TempDir, name: &str) -> Place {
    Place::File(folder.path().join(name))
}

#[tokio::test]
async fn a_store_goes_to_a_server_and_back_and_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to, back) = (file(&folder, "a.db"), server::shared().database().await, file(&folder, "b.db"));
    filled(&from).await;
    let there = copy(&from, &to).await.unwrap();
    assert!(there.iter().map(|table| table.rows).sum::<u64>() > 15, "{there:?}");
    assert_eq!(copy(&to, &back).await.unwrap(), there);
    let refused = copy(&from, &to).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotEmpty { .. }), "{refused}");

    let store = Store::open_at(&to).await.unwrap();
    assert!(store.moved_from().is_some(), "it says that it ran elsewhere");
    assert_eq!(store.term().0, 2);
    let mut read = store.read().await.unwrap();
    assert_eq!(agents::all(&mut read).await.unwrap().len(), 3);
    assert_eq!(meta::sequence(&mut read).await.unwrap(), 900);
}

#[tokio::test]
async fn a_store_that_runs_is_none_or_is_older_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (file(&folder, "a.db"), file(&folder, "b.db"));
    let refused = copy(&from, &to).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoStore { .. }), "{refused}");
    let running = Store::open_at(&from).await.unwrap();
    let refused = copy(&from, &to).await.unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    running.close().await;
    drop(running);
    server::beside(&from, "DELETE FROM migrations WHERE version = (SELECT max(version) FROM migrations)").await;
    let refused = copy(&from, &to).await.unwrap_err();
    assert!(matches!(refused, StoreError::OlderSchema { .. }), "{refused}");
    let empty = server::shared().database().await;
    let refused = copy(&empty, &to).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoStore { .. }), "{refused}");
}
