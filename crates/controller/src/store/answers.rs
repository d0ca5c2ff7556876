//! What calls that are no operations answered, by request id, so that a call that is repeated is answered as the first time.

use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::requests::REMEMBERED;
use crate::store::sql::query;

/// What was answered before under a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A digest of what was asked.
    pub digest: String,
    /// The answer's message.
    pub bytes: Vec<u8>,
}

/// Looks a request id up; what is older than seven days is forgotten first.
///
/// # Errors
/// The database's.
pub async fn find(connection: &mut Connection, caller: &str, request_id: &str, now: Timestamp) -> Result<Option<Answer>, StoreError> {
    let horizon = now.0.saturating_sub(i64::try_from(REMEMBERED.as_micros()).unwrap_or(i64::MAX));
    query("DELETE FROM answers WHERE at < $1").bind(horizon).execute(&mut *connection).await?;
    let row = query("SELECT digest, bytes FROM answers WHERE caller = $1 AND request_id = $2")
        .bind(caller)
        .bind(request_id)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(Answer { digest: row.try_get(0)?, bytes: row.try_get(1)? })).transpose()
}

/// Remembers an answer.
///
/// # Errors
/// The database's; also where the id is remembered already.
pub async fn insert(
    connection: &mut Connection,
    caller: &str,
    request_id: &str,
    answer: &Answer,
    now: Timestamp,
) -> Result<(), StoreError> {
    query("INSERT INTO answers (caller, request_id, digest, bytes, at) VALUES ($1, $2, $3, $4, $5)")
        .bind(caller)
        .bind(request_id)
        .bind(&answer.digest)
        .bind(&answer.bytes)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}
