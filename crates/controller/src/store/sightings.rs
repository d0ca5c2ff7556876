//! What each instance did when it was seen last: what changes of roles and versions are told against.

use muster_common::name::InstanceName;
use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// One instance, as it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The number of its role, as muster.v1.InstanceRole.
    pub role: i32,
    /// The server's version. Empty: none was told.
    pub version: String,
    /// The version before. Empty: no other was seen.
    pub version_before: String,
    /// Since when the present version is there.
    pub version_since: Timestamp,
}

/// All of them.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<(InstanceName, Sighting)>, StoreError> {
    let rows =
        query("SELECT component, instance, role, version, version_before, version_since FROM sightings").fetch_all(connection).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        let (component, instance): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(component), Ok(instance)) = (component.parse(), instance.parse()) else { continue };
        let sighting = Sighting {
            role: i32::try_from(row.try_get::<i64, _>(2)?).unwrap_or_default(),
            version: row.try_get(3)?,
            version_before: row.try_get(4)?,
            version_since: Timestamp(row.try_get(5)?),
        };
        all.push((InstanceName { component, instance }, sighting));
    }
    Ok(all)
}

/// Keeps one.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, instance: &InstanceName, sighting: &Sighting) -> Result<(), StoreError> {
    query(
        "INSERT INTO sightings (component, instance, role, version, version_before, version_since) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (component, instance) DO UPDATE SET role = excluded.role, version = excluded.version, \
         version_before = excluded.version_before, version_since = excluded.version_since",
    )
    .bind(instance.component.as_str())
    .bind(instance.instance.as_str())
    .bind(i64::from(sighting.role))
    .bind(&sighting.version)
    .bind(&sighting.version_before)
    .bind(sighting.version_since.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets an instance that is declared no longer.
///
/// # Errors
/// The database's.
pub async fn remove(connection: &mut Connection, instance: &InstanceName) -> Result<(), StoreError> {
    query("DELETE FROM sightings WHERE component = $1 AND instance = $2")
        .bind(instance.component.as_str())
        .bind(instance.instance.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
