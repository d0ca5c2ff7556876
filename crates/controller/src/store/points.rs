//! Recovery points as backups reported them: what the newest one of a component is, and which a few digits mean.

use muster_common::id::PointId;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1;
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::{Row, query};

/// Keeps a point; one that is known already stays as it is.
///
/// # Errors
/// The database's.
pub async fn insert(connection: &mut Connection, point: &v1::RecoveryPoint, finished: Timestamp) -> Result<(), StoreError> {
    query(
        "INSERT INTO points (id, component, instance, repository, finished, bytes) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&point.id)
    .bind(&point.component)
    .bind(&point.instance)
    .bind(&point.repository)
    .bind(finished.0)
    .bind(point.encode_to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest points of a component, `limit` at most, from before the place (finished, id) that the page before ended at.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn list(
    connection: &mut Connection,
    component: &Name,
    before: Option<(Timestamp, PointId)>,
    limit: u32,
) -> Result<Vec<v1::RecoveryPoint>, StoreError> {
    let (finished, id) = before.map_or((i64::MAX, String::new()), |(at, id)| (at.0, id.to_string()));
    let rows = query(
        "SELECT id, bytes FROM points WHERE component = $1 AND (finished < $2 OR (finished = $2 AND id < $3)) ORDER BY finished DESC, id DESC LIMIT $4",
    )
    .bind(component.as_str())
    .bind(finished)
    .bind(id)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// The kind of logical points: they hold what was chosen, and no data directory can be made of them.
pub const DUMP: &str = "postgres.dump";

/// The newest point that brings the whole component back: the newest that is no logical one, among the newest 1,000.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn newest_whole(connection: &mut Connection, component: &Name) -> Result<Option<v1::RecoveryPoint>, StoreError> {
    let newest = list(connection, component, None, 1).await?.into_iter().next();
    if newest.as_ref().is_none_or(|point| point.kind != DUMP) {
        return Ok(newest);
    }
    Ok(list(connection, component, None, 1_000).await?.into_iter().find(|point| point.kind != DUMP))
}

/// The points of a component whose ids begin with `prefix`: two at most, which is enough to know that it is ambiguous.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn by_prefix(connection: &mut Connection, component: &Name, prefix: &str) -> Result<Vec<v1::RecoveryPoint>, StoreError> {
    let rows = query("SELECT id, bytes FROM points WHERE component = $1 AND id >= $2 AND id < $2 || 'g' ORDER BY id LIMIT 2")
        .bind(component.as_str())
        .bind(prefix)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// Writes down what was said of a point; nothing where it is not known.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn tell(connection: &mut Connection, component: &Name, point: PointId, fate: v1::PointFate) -> Result<(), StoreError> {
    let known = by_prefix(connection, component, &point.to_string()).await?;
    let Some(mut known) = known.into_iter().next() else { return Ok(()) };
    known.fate = Some(fate);
    query("UPDATE points SET bytes = $1 WHERE id = $2").bind(known.encode_to_vec()).bind(&known.id).execute(connection).await?;
    Ok(())
}

/// Forgets a point that is gone.
///
/// # Errors
/// The database's.
pub async fn forget_one(connection: &mut Connection, component: &Name, point: PointId) -> Result<(), StoreError> {
    query("DELETE FROM points WHERE component = $1 AND id = $2")
        .bind(component.as_str())
        .bind(point.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets what is known of a component's points; they stay in their repository.
///
/// # Errors
/// The database's.
pub async fn forget(connection: &mut Connection, component: &Name) -> Result<(), StoreError> {
    query("DELETE FROM points WHERE component = $1").bind(component.as_str()).execute(connection).await?;
    Ok(())
}

fn read(row: &Row) -> Result<v1::RecoveryPoint, StoreError> {
    let (id, bytes): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
    v1::RecoveryPoint::decode(bytes.as_slice()).map_err(|error| StoreError::Corrupt { what: "point", id, why: error.to_string() })
}
