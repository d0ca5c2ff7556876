//! What happened beside operations: findings raised and cleared, changes of roles. Numbered; the oldest are forgotten beyond a bound.

use muster_common::counter::EventNumber;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1;
use muster_wire::proto::v1::history_entry::Entry;
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::query;

/// Entries that are forgotten at once.
const MOST_FORGOTTEN: u64 = 5_000;

/// Keeps an entry and gives it its number.
///
/// # Errors
/// The database's.
pub async fn insert(connection: &mut Connection, at: Timestamp, entry: Entry) -> Result<EventNumber, StoreError> {
    let number = newest(connection).await?.0.saturating_add(1);
    let (component, finding) = match &entry {
        Entry::Operation(operation) => (operation.component.clone(), 0_i64),
        Entry::Finding(finding) => (finding.component.clone(), 1),
        Entry::Role(role) => (role.component.clone(), 0),
    };
    let entry = v1::HistoryEntry { at: Some(muster_wire::convert::timestamp_to_proto(at)), entry: Some(entry) };
    query("INSERT INTO history (number, at, component, finding, bytes) VALUES ($1, $2, $3, $4, $5)")
        .bind(to_sql(number))
        .bind(at.0)
        .bind(component)
        .bind(finding)
        .bind(entry.encode_to_vec())
        .execute(connection)
        .await?;
    Ok(EventNumber(number))
}

/// Whether there are more than these.
///
/// # Errors
/// The database's.
pub async fn beyond(connection: &mut Connection, keep: u64) -> Result<bool, StoreError> {
    let newest = newest(connection).await?;
    Ok(oldest(connection).await?.is_some_and(|oldest| oldest.saturating_add(keep) <= newest.0))
}

/// Forgets the oldest beyond these, some thousands at most; tells whether there are more.
///
/// # Errors
/// The database's.
pub async fn forget(connection: &mut Connection, keep: u64) -> Result<bool, StoreError> {
    let last = newest(connection).await?.0.saturating_sub(keep);
    let Some(oldest) = oldest(connection).await? else { return Ok(false) };
    let cut = last.min(oldest.saturating_add(MOST_FORGOTTEN - 1));
    query("DELETE FROM history WHERE number <= $1").bind(to_sql(cut)).execute(connection).await?;
    Ok(cut < last)
}

async fn oldest(connection: &mut Connection) -> Result<Option<u64>, StoreError> {
    let oldest: Option<i64> = query("SELECT min(number) FROM history").fetch_one(connection).await?.try_get(0)?;
    Ok(oldest.map(from_sql))
}

/// The newest entry's number; 0: there was none. The newest is never dropped.
///
/// # Errors
/// The database's.
pub async fn newest(connection: &mut Connection) -> Result<EventNumber, StoreError> {
    let number: Option<i64> = query("SELECT max(number) FROM history").fetch_one(connection).await?.try_get(0)?;
    Ok(EventNumber(number.map_or(0, from_sql)))
}

/// Findings raised or cleared after `after`, in order, `limit` at most.
///
/// # Errors
/// [`StoreError::EventsGone`] where entries after `after` were dropped or `after` was never given out.
pub async fn findings(connection: &mut Connection, after: EventNumber, limit: u32) -> Result<Vec<v1::FindingEvent>, StoreError> {
    let newest = newest(connection).await?;
    let oldest = EventNumber(oldest(connection).await?.unwrap_or(newest.0.saturating_add(1)));
    if after > newest || (after.0 > 0 && after.0.saturating_add(1) < oldest.0) {
        return Err(StoreError::EventsGone { asked: after, oldest, newest });
    }
    let rows = query("SELECT number, bytes FROM history WHERE finding = 1 AND number > $1 ORDER BY number LIMIT $2")
        .bind(to_sql(after.0))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let (number, bytes): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        let entry = read(number, &bytes)?;
        if let Some(Entry::Finding(finding)) = entry.entry {
            events.push(v1::FindingEvent { number: from_sql(number), at: entry.at, finding: Some(finding) });
        }
    }
    Ok(events)
}

/// Entries older than the place (at, number), newest first, `limit` at most, each with its place.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn list(
    connection: &mut Connection,
    component: Option<&Name>,
    before: (Timestamp, u64),
    limit: u32,
) -> Result<Vec<(Timestamp, u64, v1::HistoryEntry)>, StoreError> {
    let rows = query(
        "SELECT at, number, bytes FROM history WHERE ($1 = '' OR component = $1) AND (at < $2 OR (at = $2 AND number < $3)) \
         ORDER BY at DESC, number DESC LIMIT $4",
    )
    .bind(component.map_or("", Name::as_str))
    .bind(before.0.0)
    .bind(to_sql(before.1))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let (at, number, bytes): (i64, i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok((Timestamp(at), from_sql(number), read(number, &bytes)?))
        })
        .collect()
}

fn read(number: i64, bytes: &[u8]) -> Result<v1::HistoryEntry, StoreError> {
    let corrupt = |error: prost::DecodeError| StoreError::Corrupt { what: "history", id: number.to_string(), why: error.to_string() };
    v1::HistoryEntry::decode(bytes).map_err(corrupt)
}
