//! Writes that share a transaction.

use std::time::Duration;

use muster_controller::store::place::Place;
use muster_controller::store::sql::query;
use muster_controller::store::{Connection, Store};

async fn table(store: &Store) {
    let mut write = store.write().await.unwrap();
    query("CREATE TABLE notes (number BIGINT PRIMARY KEY, text TEXT)").execute(write.connection()).await.unwrap();
    write.commit().await.unwrap();
}

async fn put(connection: &mut Connection, number: i64, text: &str) -> Result<(), sqlx::Error> {
    query("INSERT INTO notes (number, text) VALUES ($1, $2)").bind(number).bind(text).execute(connection).await.map(drop)
}

async fn kept(store: &Store) -> Vec<i64> {
    let mut read = store.read().await.unwrap();
    let rows = query("SELECT number FROM notes ORDER BY number").fetch_all(&mut read).await.unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

pub async fn writes_beside_each_other_are_all_kept_and_one_that_is_given_up_takes_back_its_own(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    table(&store).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..90_i64 {
        let store = store.clone();
        writers.spawn(async move {
            // Others write alone in between.
            let mut write = if number % 7 == 0 { store.write().await } else { store.write_together().await }.unwrap();
            put(write.connection(), number, "x").await.unwrap();
            match number % 3 {
                0 => write.commit().await.unwrap(),
                1 => drop(write),
                _ => write.abandon().await.unwrap(),
            }
            if number % 3 == 0 {
                assert!(kept(&store).await.contains(&number), "{number} was committed and is not there");
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(kept(&store).await, (0..90).step_by(3).collect::<Vec<i64>>());
    // Nothing is left open by those that were dropped.
    let write = tokio::time::timeout(Duration::from_secs(5), store.write()).await.unwrap().unwrap();
    drop(write);
    store.close().await;
}

pub async fn what_a_write_that_is_given_up_had_seen_is_on_disk_when_it_ends(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    table(&store).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..60_i64 {
        let store = store.clone();
        writers.spawn(async move {
            let mut write = store.write_together().await.unwrap();
            if number % 2 == 0 {
                put(write.connection(), number, "x").await.unwrap();
                return write.commit().await.unwrap();
            }
            let rows = query("SELECT number FROM notes").fetch_all(write.connection()).await.unwrap();
            let seen: Vec<i64> = rows.iter().map(|row| row.try_get(0).unwrap()).collect();
            write.abandon().await.unwrap();
            let kept = kept(&store).await;
            assert!(seen.iter().all(|number| kept.contains(number)), "saw {seen:?}, kept are {kept:?}");
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn where_a_file_is_full_each_writer_is_told_what_became_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("muster.db")).await.unwrap();
    table(&store).await;
    let mut write = store.write().await.unwrap();
    let pages: i64 = query("PRAGMA page_count").fetch_one(write.connection()).await.unwrap().try_get(0).unwrap();
    let most = format!("PRAGMA max_page_count = {}", pages + 40);
    query(sqlx::AssertSqlSafe(most)).fetch_all(write.connection()).await.unwrap();
    write.commit().await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..200_i64 {
        let store = store.clone();
        writers.spawn(async move {
            let mut write = store.write_together().await.unwrap();
            let text = "x".repeat(if number % 10 == 9 { 60_000 } else { 100 });
            let put = put(write.connection(), number, &text).await;
            (number, put.is_ok() && write.commit().await.is_ok())
        });
    }
    let (mut told, mut failed) = (Vec::new(), 0);
    while let Some(done) = writers.join_next().await {
        let (number, is_kept) = done.unwrap();
        if is_kept { told.push(number) } else { failed += 1 }
    }
    told.sort_unstable();
    assert_eq!(kept(&store).await, told, "{failed} were refused");
    assert!(failed > 0 && told.len() >= 10, "{failed} were refused, {} kept", told.len());
    // There is room again.
    let mut write = store.write().await.unwrap();
    query("PRAGMA max_page_count = 100000").fetch_all(write.connection()).await.unwrap();
    write.commit().await.unwrap();
    let mut write = store.write_together().await.unwrap();
    put(write.connection(), 1_000, &"x".repeat(100_000)).await.unwrap();
    write.commit().await.unwrap();
    assert!(kept(&store).await.contains(&1_000));
}
