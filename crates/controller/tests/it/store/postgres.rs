//! What only a server has to keep: it goes away and comes back, sessions are ended, somebody else rules, two begin at once.

use std::time::{Duration, Instant};

use muster_common::fault::ErrorKind;
use muster_controller::store::Store;
use muster_controller::store::error::StoreError;
use muster_controller::store::meta;
use muster_controller::store::sql::query;

use super::server::{self, Server};

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_refused_names_who_has_the_store_open() {
    let place = server::shared().database().await;
    let _first = Store::open_at(&place).await.unwrap();
    let refused = Store::open_at(&place).await.unwrap_err();
    let told = refused.fault().to_string();
    assert!(
        told.contains("muster-controller") && told.contains(&format!("pid {}", std::process::id())) && told.contains("127.0.0.1"),
        "{told}"
    );
    assert_eq!(refused.fault().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn of_many_who_begin_at_once_on_an_empty_database_one_makes_the_tables() {
    let place = server::shared().database().await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let place = place.clone();
            tokio::spawn(async move { Store::open_at(&place).await })
        })
        .collect();
    let mut opened = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(store) => opened.push(store),
            Err(StoreError::Locked { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(opened.len(), 1);
}

#[tokio::test]
async fn sessions_that_the_server_ends_are_made_anew() {
    let place = server::shared().database().await;
    let store = Store::open_at(&place).await.unwrap();
    for round in 1..=3 {
        let others =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        server::beside(&place, others).await;
        let sequence = until("it writes again", async || {
            let mut write = store.write().await.ok()?;
            let sequence = meta::next_sequence(write.connection()).await.ok()?;
            write.commit().await.ok().map(|()| sequence)
        })
        .await;
        assert_eq!(sequence, round, "each once");
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_told_as_it_was() {
    let place = server::shared().database().await;
    let store = Store::open_at(&place).await.unwrap();
    let mut write = store.write().await.unwrap();
    meta::next_sequence(write.connection()).await.unwrap();
    let others =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    server::beside(&place, others).await;
    let refused = write.commit().await.unwrap_err();
    assert!(matches!(refused, StoreError::Database(_)), "it is known that nothing was written: {refused:?}");
    let sequence = until("it reads", async || meta::sequence(&mut store.read().await.ok()?).await.ok()).await;
    assert_eq!(sequence, 0);
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_at_once_and_the_store_comes_back_with_it() {
    let server = Server::start();
    let place = server.database().await;
    let store = Store::open_at(&place).await.unwrap();
    server.down();
    let fault =
        until("it is seen", async || store.write().await.err().filter(|error| matches!(error, StoreError::Away { .. }))).await.fault();
    assert_eq!(fault.kind, ErrorKind::Unavailable);
    assert!(fault.hint.contains("goes on by itself"), "{fault}");
    let began = Instant::now();
    store.read().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1), "a read is refused at once");
    server.up();
    until("it writes again", async || store.write().await.ok()).await.commit().await.unwrap();
    // Another who ruled meanwhile is found.
    server.down();
    server.up();
    server::beside(&place, "UPDATE meta SET term = 77").await;
    until("it is superseded", async || store.write().await.err().filter(|error| matches!(error, StoreError::Superseded { .. }))).await;
}

#[tokio::test]
async fn a_commit_of_which_nothing_is_known_ends_the_writing() {
    let server = Server::start();
    let place = server.database().await;
    let store = Store::open_at(&place).await.unwrap();
    let mut write = store.write().await.unwrap();
    meta::next_sequence(write.connection()).await.unwrap();
    server.down();
    let lost = write.commit().await.unwrap_err();
    assert!(matches!(lost, StoreError::Ended { .. }), "{lost:?}");
    let why = tokio::time::timeout(Duration::from_secs(1), store.ended()).await.unwrap();
    assert!(why.contains("not known"), "{why}");
    server.up();
    assert!(matches!(store.write().await.unwrap_err(), StoreError::Ended { .. }));
    drop(store);
    let again = until("the lock is free", async || Store::open_at(&place).await.ok()).await;
    assert_eq!(meta::sequence(&mut again.read().await.unwrap()).await.unwrap(), 0);
}

#[tokio::test]
async fn commits_are_synchronous_whatever_the_database_says() {
    let place = server::shared().database().await;
    server::beside(&place, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
        .await;
    let store = Store::open_at(&place).await.unwrap();
    let mut write = store.write().await.unwrap();
    let set: String = query("SHOW synchronous_commit").fetch_one(write.connection()).await.unwrap().try_get(0).unwrap();
    assert_eq!(set, "on");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let place = server::shared().database().await;
    server::beside(&place, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'").await;
    let text = place.to_string();
    let (server, _) = text.rsplit_once('/').unwrap();
    let latin = muster_controller::store::place::Place::parse(&format!("{server}/latin"), None).unwrap();
    let refused = Store::open_at(&latin).await.unwrap_err();
    assert!(refused.to_string().contains("LATIN1"), "{refused}");
}
