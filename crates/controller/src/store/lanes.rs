//! Lanes: how far each schedule is with each of its components, a row each.

use muster_common::time::Timestamp;

use crate::schedule::lane::{Lane, Last, Waiting};
use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::{Row, query};

/// Every lane.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<Lane>, StoreError> {
    let rows = query("SELECT * FROM lanes ORDER BY schedule, component").fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// The lanes of one schedule.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn of_schedule(connection: &mut Connection, schedule: &str) -> Result<Vec<Lane>, StoreError> {
    let rows = query("SELECT * FROM lanes WHERE schedule = $1 ORDER BY component").bind(schedule).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// Keeps a lane in place of what it was.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, lane: &Lane) -> Result<(), StoreError> {
    query(
        "INSERT INTO lanes (schedule, component, timing, done, round, runs, waiting, waiting_for, last_planned, last_operation, left_out) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (schedule, component) DO UPDATE SET timing = excluded.timing, \
         done = excluded.done, round = excluded.round, runs = excluded.runs, waiting = excluded.waiting, \
         waiting_for = excluded.waiting_for, last_planned = excluded.last_planned, last_operation = excluded.last_operation, \
         left_out = excluded.left_out",
    )
    .bind(&lane.schedule)
    .bind(lane.component.as_str())
    .bind(&lane.timing)
    .bind(lane.done.0)
    .bind(to_sql(lane.round))
    .bind(to_sql(lane.runs))
    .bind(lane.waiting.as_ref().map(|waiting| waiting.planned.0))
    .bind(lane.waiting.as_ref().map_or("", |waiting| waiting.why.as_str()))
    .bind(lane.last.as_ref().map(|last| last.planned.0))
    .bind(lane.last.as_ref().map(|last| last.operation.to_string()).unwrap_or_default())
    .bind(&lane.left_out)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what a run made of its lane, if the lane is still as far as `before`; tells whether it was.
///
/// # Errors
/// The database's.
pub async fn advance(connection: &mut Connection, after: &Lane, before: Timestamp) -> Result<bool, StoreError> {
    let row = query("SELECT done, round FROM lanes WHERE schedule = $1 AND component = $2")
        .bind(&after.schedule)
        .bind(after.component.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let (done, round): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if done != before.0 || from_sql(round) != after.round {
        return Ok(false);
    }
    put(connection, after).await?;
    Ok(true)
}

/// Forgets a lane.
///
/// # Errors
/// The database's.
pub async fn delete(connection: &mut Connection, lane: &Lane) -> Result<(), StoreError> {
    query("DELETE FROM lanes WHERE schedule = $1 AND component = $2")
        .bind(&lane.schedule)
        .bind(lane.component.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

fn read(row: &Row) -> Result<Lane, StoreError> {
    let (schedule, component): (String, String) = (row.try_get("schedule")?, row.try_get("component")?);
    let corrupt = |why: String| StoreError::Corrupt { what: "lane", id: format!("{schedule}/{component}"), why };
    let waiting: Option<i64> = row.try_get("waiting")?;
    let last: Option<i64> = row.try_get("last_planned")?;
    let why: String = row.try_get("waiting_for")?;
    let operation: String = row.try_get("last_operation")?;
    let last = match last {
        None => None,
        Some(planned) => {
            let operation = operation.parse().map_err(|error: muster_common::id::InvalidId| corrupt(error.to_string()))?;
            Some(Last { planned: Timestamp(planned), operation })
        }
    };
    Ok(Lane {
        component: component.parse().map_err(|error: muster_common::name::InvalidName| corrupt(error.to_string()))?,
        timing: row.try_get("timing")?,
        done: Timestamp(row.try_get("done")?),
        round: from_sql(row.try_get("round")?),
        runs: from_sql(row.try_get("runs")?),
        waiting: waiting.map(|planned| Waiting { planned: Timestamp(planned), why }),
        last,
        left_out: row.try_get("left_out")?,
        schedule,
    })
}
