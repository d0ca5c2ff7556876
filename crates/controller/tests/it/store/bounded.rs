//! What has passed is kept within the bounds that were set, on both databases, however far beyond it was before.

use std::time::Duration;

use muster_common::counter::EventNumber;
use muster_common::id::OperationId;
use muster_common::time::Timestamp;
use muster_controller::audit::chain::{Verdict, What};
use muster_controller::bounds::{Bounds, hold};
use muster_controller::store::operations::Filter;
use muster_controller::store::place::Place;
use muster_controller::store::sql::query;
use muster_controller::store::{Store, audit, events, history, meta, operations};
use muster_wire::proto::v1::history_entry::Entry;
use muster_wire::proto::v1::{Operation, RoleChange};

use super::every_table::operation;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

async fn count(store: &Store, table: &str) -> i64 {
    let mut read = store.read().await.unwrap();
    query(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&mut read).await.unwrap().try_get(0).unwrap()
}

pub async fn what_has_passed_is_kept_within_its_bounds(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    let mut write = store.write().await.unwrap();
    let connection = write.connection();
    for number in 0..6_100_u64 {
        let event = meta::next_event(connection).await.unwrap();
        events::insert(connection, event, NOW, "text", &Operation::default()).await.unwrap();
        if number < 300 {
            history::insert(connection, NOW, Entry::Role(RoleChange::default())).await.unwrap();
            audit::append(connection, What { at: NOW, ..What::default() }).await.unwrap();
        }
    }
    // The oldest has not ended, and stays whatever the bounds say.
    for number in 1..=5_u8 {
        operations::insert(connection, &mut operation(number, number > 1)).await.unwrap();
    }
    write.commit().await.unwrap();

    let usual = Bounds::default();
    hold(&store, &usual, NOW).await.unwrap();
    assert_eq!((count(&store, "events").await, count(&store, "history").await, count(&store, "audit").await), (6_100, 300, 300));
    let tight = Bounds { events: 1_000, history: 50, operations: 2, operations_for: Duration::from_secs(86_400), audit: 100, ..usual };
    hold(&store, &tight, NOW).await.unwrap();
    assert_eq!((count(&store, "events").await, count(&store, "history").await), (1_000, 50), "more than one transaction forgets");
    assert!(count(&store, "audit").await <= 100);
    hold(&store, &tight, NOW).await.unwrap();
    let mut read = store.read().await.unwrap();
    assert!(matches!(audit::verify(&mut read, Vec::new()).await.unwrap(), Verdict::Whole(_)));
    let left: Vec<_> = operations::list(&mut read, &Filter::default(), 10).await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(left, [5, 4, 1].map(|byte| OperationId::from_bytes([byte; 16])));
    assert_eq!(meta::last_event(&mut read).await.unwrap(), EventNumber(6_100), "numbers go on");
    drop(read);
    // By age.
    hold(&store, &tight, NOW.plus(tight.audit_for + Duration::from_secs(3 * 86_400))).await.unwrap();
    assert!(count(&store, "audit").await <= 2, "the newest, and the entry that tells what was forgotten");
}
