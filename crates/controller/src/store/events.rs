//! Transitions of operations, numbered densely over the store; the oldest are forgotten beyond a bound.

use std::collections::BTreeSet;

use muster_common::counter::EventNumber;
use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1;
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{self, from_sql, to_sql};
use crate::store::sql::query;

/// Events that are forgotten at once.
const MOST_FORGOTTEN: u64 = 5_000;

/// Keeps one event, under the number that [`meta::next_event`] gave out in this transaction.
///
/// # Errors
/// The database's.
pub async fn insert(
    connection: &mut Connection,
    number: EventNumber,
    at: Timestamp,
    text: &str,
    snapshot: &v1::Operation,
) -> Result<(), StoreError> {
    query("INSERT INTO events (number, operation, at, text, snapshot) VALUES ($1, $2, $3, $4, $5)")
        .bind(to_sql(number.0))
        .bind(&snapshot.id)
        .bind(at.0)
        .bind(text)
        .bind(snapshot.encode_to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there are more than these.
///
/// # Errors
/// The database's.
pub async fn beyond(connection: &mut Connection, keep: u64) -> Result<bool, StoreError> {
    let newest = meta::last_event(connection).await?;
    Ok(oldest(connection).await?.is_some_and(|oldest| oldest.0.saturating_add(keep) <= newest.0))
}

/// Forgets the oldest beyond these, some thousands at most; tells whether there are more.
///
/// # Errors
/// The database's.
pub async fn forget(connection: &mut Connection, keep: u64) -> Result<bool, StoreError> {
    let newest = meta::last_event(connection).await?;
    let Some(oldest) = oldest(connection).await? else { return Ok(false) };
    let last = newest.0.saturating_sub(keep);
    let cut = last.min(oldest.0.saturating_add(MOST_FORGOTTEN - 1));
    query("DELETE FROM events WHERE number <= $1").bind(to_sql(cut)).execute(connection).await?;
    Ok(cut < last)
}

/// Events with a number above `after`, of one operation or of all, in order, `limit` at most.
///
/// # Errors
/// [`StoreError::EventsGone`] where events after `after` were dropped or `after` was never given out.
pub async fn list(
    connection: &mut Connection,
    operation: Option<OperationId>,
    after: EventNumber,
    limit: u32,
) -> Result<Vec<v1::OperationEvent>, StoreError> {
    let newest = meta::last_event(connection).await?;
    let oldest = oldest(connection).await?.unwrap_or(EventNumber(newest.0.saturating_add(1)));
    if after > newest || (after.0 > 0 && after.0.saturating_add(1) < oldest.0) {
        return Err(StoreError::EventsGone { asked: after, oldest, newest });
    }
    let rows =
        query("SELECT number, at, text, snapshot FROM events WHERE ($1 = '' OR operation = $1) AND number > $2 ORDER BY number LIMIT $3")
            .bind(operation.map(|id| id.to_string()).unwrap_or_default())
            .bind(to_sql(after.0))
            .bind(i64::from(limit))
            .fetch_all(connection)
            .await?;
    rows.iter()
        .map(|row| {
            let (number, at, text, snapshot): (i64, i64, String, Vec<u8>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let corrupt = |error: prost::DecodeError| StoreError::Corrupt { what: "event", id: number.to_string(), why: error.to_string() };
            let operation = v1::Operation::decode(snapshot.as_slice()).map_err(corrupt)?;
            let at = muster_wire::convert::timestamp_to_proto(Timestamp(at));
            Ok(v1::OperationEvent { number: from_sql(number), at: Some(at), text, operation: Some(operation) })
        })
        .collect()
}

/// The components whose operations have events above `after`. `None`: some of these are gone, it may be any.
///
/// # Errors
/// The database's.
pub async fn components_since(connection: &mut Connection, after: EventNumber) -> Result<Option<BTreeSet<Name>>, StoreError> {
    if oldest(connection).await?.is_some_and(|oldest| after.0.saturating_add(1) < oldest.0) {
        return Ok(None);
    }
    let rows = query("SELECT DISTINCT o.component FROM events e JOIN operations o ON o.id = e.operation WHERE e.number > $1")
        .bind(to_sql(after.0))
        .fetch_all(connection)
        .await?;
    let mut components = BTreeSet::new();
    for row in &rows {
        components.extend(row.try_get::<String, _>(0)?.parse());
    }
    Ok(Some(components))
}

async fn oldest(connection: &mut Connection) -> Result<Option<EventNumber>, StoreError> {
    let oldest: Option<i64> = query("SELECT min(number) FROM events").fetch_one(connection).await?.try_get(0)?;
    Ok(oldest.map(|number| EventNumber(from_sql(number))))
}
