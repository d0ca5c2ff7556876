//! Findings that stand, as their messages.

use muster_wire::proto::v1;
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// All that stand.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<v1::Finding>, StoreError> {
    let rows = query("SELECT subject, bytes FROM findings ORDER BY rule, subject").fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let (id, bytes): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            v1::Finding::decode(bytes.as_slice()).map_err(|error| StoreError::Corrupt { what: "finding", id, why: error.to_string() })
        })
        .collect()
}

/// Keeps one that was raised.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, finding: &v1::Finding) -> Result<(), StoreError> {
    query(
        "INSERT INTO findings (rule, subject, bytes) VALUES ($1, $2, $3) ON CONFLICT (rule, subject) DO UPDATE SET bytes = excluded.bytes",
    )
    .bind(&finding.name)
    .bind(&finding.subject)
    .bind(finding.encode_to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets one that was cleared.
///
/// # Errors
/// The database's.
pub async fn remove(connection: &mut Connection, finding: &v1::Finding) -> Result<(), StoreError> {
    query("DELETE FROM findings WHERE rule = $1 AND subject = $2").bind(&finding.name).bind(&finding.subject).execute(connection).await?;
    Ok(())
}
