//! Shards: who writes, in which epoch, and the highest epoch that any agent remembers.

use muster_common::counter::Epoch;
use muster_common::id::ReignId;
use muster_common::name::Name;
use muster_failover::shard::ShardRecord;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::{Row, query};

/// What is kept of a component's one unnamed shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Who writes. `None` while no writer is known.
    pub record: Option<ShardRecord>,
    /// The highest epoch that an agent remembers. 0: none.
    pub floor: Epoch,
    /// Its reign's id, where the agent told one.
    pub floor_reign: Option<ReignId>,
}

/// What is kept of a component's shard; nothing is the default.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn get(connection: &mut Connection, component: &Name) -> Result<Kept, StoreError> {
    let row = query("SELECT component, record, floor_epoch, floor_reign FROM shards WHERE component = $1 AND shard = ''")
        .bind(component.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(read).transpose()?.map(|(_, kept)| kept).unwrap_or_default())
}

/// All shards, by component.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<(Name, Kept)>, StoreError> {
    let rows = query("SELECT component, record, floor_epoch, floor_reign FROM shards ORDER BY component").fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// Keeps it.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, component: &Name, kept: &Kept) -> Result<(), StoreError> {
    let corrupt = |error: serde_json::Error| StoreError::Corrupt { what: "shard", id: component.to_string(), why: error.to_string() };
    let record = kept.record.as_ref().map(serde_json::to_string).transpose().map_err(corrupt)?;
    query(
        "INSERT INTO shards (component, shard, record, floor_epoch, floor_reign) VALUES ($1, '', $2, $3, $4) \
         ON CONFLICT (component, shard) DO UPDATE SET record = excluded.record, floor_epoch = excluded.floor_epoch, \
         floor_reign = excluded.floor_reign",
    )
    .bind(component.as_str())
    .bind(record)
    .bind(to_sql(kept.floor.0))
    .bind(kept.floor_reign.map(|id| id.to_string()).unwrap_or_default())
    .execute(connection)
    .await?;
    Ok(())
}

fn read(row: &Row) -> Result<(Name, Kept), StoreError> {
    let (component, record, floor, reign): (String, Option<String>, i64, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let corrupt = |why: String| StoreError::Corrupt { what: "shard", id: component.clone(), why };
    let record = record.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| corrupt(error.to_string()))?;
    let floor_reign = match reign.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| corrupt(format!("reign {text:?}")))?),
    };
    let name = component.parse().map_err(|error: muster_common::name::InvalidName| corrupt(error.to_string()))?;
    Ok((name, Kept { record, floor: Epoch(from_sql(floor)), floor_reign }))
}
