//! Pauses: a row for each component whose automation is off, and one for all.

use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::schedule::pause::{Pause, Scope};
use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// Every pause that is kept, also one that has ended and was not swept yet.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<Pause>, StoreError> {
    let rows = query("SELECT component, since, until, reason, by FROM pauses ORDER BY component").fetch_all(connection).await?;
    let mut pauses = Vec::with_capacity(rows.len());
    for row in rows {
        let component: String = row.try_get(0)?;
        let scope = scope(&component)?;
        let (since, until): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        pauses.push(Pause { scope, since: Timestamp(since), until: Timestamp(until), reason: row.try_get(3)?, by: row.try_get(4)? });
    }
    Ok(pauses)
}

/// Keeps a pause in place of the one of the same scope.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, pause: &Pause) -> Result<(), StoreError> {
    query(
        "INSERT INTO pauses (component, since, until, reason, by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (component) DO UPDATE SET since = excluded.since, until = excluded.until, reason = excluded.reason, by = excluded.by",
    )
    .bind(pause.scope.as_str())
    .bind(pause.since.0)
    .bind(pause.until.0)
    .bind(&pause.reason)
    .bind(&pause.by)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a pause.
///
/// # Errors
/// The database's.
pub async fn delete(connection: &mut Connection, scope: &Scope) -> Result<(), StoreError> {
    query("DELETE FROM pauses WHERE component = $1").bind(scope.as_str()).execute(connection).await?;
    Ok(())
}

/// Forgets those that have ended.
///
/// # Errors
/// The database's.
pub async fn sweep(connection: &mut Connection, now: Timestamp) -> Result<(), StoreError> {
    query("DELETE FROM pauses WHERE until <= $1").bind(now.0).execute(connection).await?;
    Ok(())
}

fn scope(component: &str) -> Result<Scope, StoreError> {
    if component.is_empty() {
        return Ok(Scope::All);
    }
    let name: Result<Name, _> = component.parse();
    let corrupt =
        |error: muster_common::name::InvalidName| StoreError::Corrupt { what: "pause", id: component.to_owned(), why: error.to_string() };
    name.map(Scope::Component).map_err(corrupt)
}
