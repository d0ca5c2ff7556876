//! Request ids of callers: which operation each asked for, remembered for seven days.

use std::time::Duration;

use muster_common::id::OperationId;
use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// How long a request id is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// What a caller asked for before under a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// A digest of what was asked.
    pub digest: String,
    /// The operation that was accepted.
    pub operation: OperationId,
}

/// Looks a request id up; one that is older than [`REMEMBERED`] is forgotten first.
///
/// # Errors
/// The database's.
pub async fn find(connection: &mut Connection, caller: &str, request_id: &str, now: Timestamp) -> Result<Option<Remembered>, StoreError> {
    let horizon = now.0.saturating_sub(i64::try_from(REMEMBERED.as_micros()).unwrap_or(i64::MAX));
    query("DELETE FROM requests WHERE at < $1").bind(horizon).execute(&mut *connection).await?;
    let row = query("SELECT digest, operation FROM requests WHERE caller = $1 AND request_id = $2")
        .bind(caller)
        .bind(request_id)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (digest, operation): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let operation = operation.parse().map_err(|_| StoreError::Corrupt { what: "request", id: request_id.into(), why: operation })?;
    Ok(Some(Remembered { digest, operation }))
}

/// Remembers a request id.
///
/// # Errors
/// The database's; also where it is remembered already.
pub async fn insert(
    connection: &mut Connection,
    caller: &str,
    request_id: &str,
    remembered: &Remembered,
    now: Timestamp,
) -> Result<(), StoreError> {
    query("INSERT INTO requests (caller, request_id, digest, operation, at) VALUES ($1, $2, $3, $4, $5)")
        .bind(caller)
        .bind(request_id)
        .bind(&remembered.digest)
        .bind(remembered.operation.to_string())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}
