//! The store on a real file and on a real PostgreSQL server: one suite, run on both.

mod auditing;
mod bounded;
mod copying;
mod every_table;
mod file;
mod postgres;
pub mod server;
mod tls;
mod together;

use muster_common::counter::Term;
use muster_controller::store::Store;
use muster_controller::store::error::StoreError;
use muster_controller::store::meta;
use muster_controller::store::place::Place;
use muster_controller::store::sql::query;

/// Makes one test of each: on a file, and on a server.
macro_rules! on_both_places {
    ($($name:ident),+ $(,)?) => {
        mod on_a_file {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(super::Place::File(folder.path().join("muster.db"))).await;
            })+
        }
        mod on_a_server {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::server::shared().database().await).await;
            })+
        }
    };
}

on_both_places!(
    it_holds_what_a_store_promises,
    a_process_whose_term_is_over_cannot_write,
    a_newer_schema_is_refused_and_left_as_it_is,
    writers_queue_and_none_is_refused,
    a_reader_sees_one_moment_and_holds_no_writer_up,
    what_failed_within_a_transaction_is_not_committed_without_a_word,
    every_table_gives_back_what_was_put_in,
    writes_beside_each_other_are_all_kept_and_one_that_is_given_up_takes_back_its_own,
    what_a_write_that_is_given_up_had_seen_is_on_disk_when_it_ends,
    the_audit_log_is_a_chain_and_what_was_changed_in_it_is_named,
    entries_are_found_by_caller_resource_and_time_and_one_line_tells_a_call,
    what_the_retention_forgets_is_told_and_the_log_stays_whole,
    what_has_passed_is_kept_within_its_bounds,
);

use auditing::{
    entries_are_found_by_caller_resource_and_time_and_one_line_tells_a_call, the_audit_log_is_a_chain_and_what_was_changed_in_it_is_named,
    what_the_retention_forgets_is_told_and_the_log_stays_whole,
};
use bounded::what_has_passed_is_kept_within_its_bounds;
use every_table::every_table_gives_back_what_was_put_in;
use together::{
    what_a_write_that_is_given_up_had_seen_is_on_disk_when_it_ends,
    writes_beside_each_other_are_all_kept_and_one_that_is_given_up_takes_back_its_own,
};

async fn it_holds_what_a_store_promises(place: Place) {
    let first = Store::open_at(&place).await.unwrap();
    assert_eq!(first.term(), Term(1));
    match Store::open_at(&place).await {
        Err(StoreError::Locked { holder, .. }) => assert!(!holder.is_empty()),
        other => panic!("a second opener is refused: {other:?}"),
    }

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

    let second = Store::open_at(&place).await.unwrap();
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

async fn a_process_whose_term_is_over_cannot_write(place: Place) {
    let stale = Store::open_at(&place).await.unwrap();
    // Somebody else's rule begins, as if the lock had failed.
    server::beside(&place, "UPDATE meta SET term = term + 1").await;
    let refused = stale.write().await.unwrap_err();
    assert!(matches!(refused, StoreError::Superseded { ours: Term(1), stored: Term(2) }), "{refused}");
}

async fn a_newer_schema_is_refused_and_left_as_it_is(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    store.close().await;
    drop(store);
    server::beside(&place, "INSERT INTO migrations (version, digest) VALUES (99, 'x')").await;
    let refused = Store::open_at(&place).await.unwrap_err();
    assert!(matches!(refused, StoreError::NewerSchema { found: 99, .. }), "{refused}");
    server::beside(&place, "UPDATE migrations SET digest = 'other' WHERE version = 1").await;
    server::beside(&place, "DELETE FROM migrations WHERE version = 99").await;
    assert!(matches!(Store::open_at(&place).await.unwrap_err(), StoreError::ChangedMigration { version: 1 }));
    server::beside(&place, "DELETE FROM migrations").await;
    let refused = Store::open_at(&place).await.unwrap_err();
    assert!(matches!(refused, StoreError::Database(_)), "tables that are there are not made again: {refused}");
}

async fn writers_queue_and_none_is_refused(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
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

async fn a_reader_sees_one_moment_and_holds_no_writer_up(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    let mut read = store.read().await.unwrap();
    assert_eq!(meta::sequence(&mut read).await.unwrap(), 0);
    let mut write = store.write().await.unwrap();
    meta::next_sequence(write.connection()).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(meta::sequence(&mut read).await.unwrap(), 0);
    drop(read);
    assert_eq!(meta::sequence(&mut store.read().await.unwrap()).await.unwrap(), 1);
}

async fn what_failed_within_a_transaction_is_not_committed_without_a_word(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    let mut write = store.write().await.unwrap();
    meta::next_sequence(write.connection()).await.unwrap();
    let failed = query("INSERT INTO operators (name) VALUES ('a')").execute(write.connection()).await;
    failed.unwrap_err();
    let committed = write.commit().await.is_ok();
    let sequence = meta::sequence(&mut store.read().await.unwrap()).await.unwrap();
    assert_eq!(committed, sequence == 1, "whoever was told of a commit finds it");
}
