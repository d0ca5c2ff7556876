//! The assignment that each agent should have: stored before it is sent, so that its number never goes back.

use std::collections::BTreeMap;

use muster_common::counter::Revision;
use muster_common::name::Name;
use muster_wire::proto::agent::v1::Assignment;
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::query;

/// An assignment as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number.
    pub revision: Revision,
    /// Tells its content from another's.
    pub digest: String,
    /// What is sent.
    pub assignment: Assignment,
}

/// The agent's assignment. `None`: it never had one.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn get(connection: &mut Connection, agent: &Name) -> Result<Option<Record>, StoreError> {
    let row =
        query("SELECT revision, digest, bytes FROM assignments WHERE agent = $1").bind(agent.as_str()).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let (revision, digest, bytes): (i64, String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let assignment = Assignment::decode(bytes.as_slice()).map_err(|error| StoreError::Corrupt {
        what: "assignment",
        id: agent.to_string(),
        why: error.to_string(),
    })?;
    Ok(Some(Record { revision: Revision(from_sql(revision)), digest, assignment }))
}

/// Keeps an agent's assignment in place of the one before.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, agent: &Name, record: &Record) -> Result<(), StoreError> {
    query(
        "INSERT INTO assignments (agent, revision, digest, bytes) VALUES ($1, $2, $3, $4) ON CONFLICT (agent) DO UPDATE SET \
         revision = excluded.revision, digest = excluded.digest, bytes = excluded.bytes",
    )
    .bind(agent.as_str())
    .bind(to_sql(record.revision.0))
    .bind(&record.digest)
    .bind(record.assignment.encode_to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// The number and the digest of each agent's assignment.
///
/// # Errors
/// The database's, or a name that is none.
pub async fn digests(connection: &mut Connection) -> Result<BTreeMap<Name, (Revision, String)>, StoreError> {
    let rows = query("SELECT agent, revision, digest FROM assignments").fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get(0)?;
            let agent = name.parse().map_err(|error: muster_common::name::InvalidName| StoreError::Corrupt {
                what: "assignment",
                id: name.clone(),
                why: error.to_string(),
            })?;
            Ok((agent, (Revision(from_sql(row.try_get(1)?)), row.try_get(2)?)))
        })
        .collect()
}
