//! Declared resources: one row each, the spec as the message that was declared.

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1::{self, ResourceKind, resource::Spec};
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::{Row, query};

/// One resource as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its name.
    pub name: Name,
    /// Its id, given when it was first applied.
    pub id: String,
    /// Changes with each change.
    pub etag: String,
    /// What is declared.
    pub spec: Spec,
    /// When it was first applied.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

/// The kind that a spec is of.
#[must_use]
pub fn kind_of(spec: &Spec) -> ResourceKind {
    match spec {
        Spec::Site(_) => ResourceKind::Site,
        Spec::Repository(_) => ResourceKind::Repository,
        Spec::Component(_) => ResourceKind::Component,
        Spec::Schedule(_) => ResourceKind::Schedule,
        Spec::Route(_) => ResourceKind::Route,
    }
}

/// One resource.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn get(connection: &mut Connection, kind: ResourceKind, name: &Name) -> Result<Option<Declared>, StoreError> {
    let row = query("SELECT * FROM resources WHERE kind = $1 AND name = $2")
        .bind(i64::from(i32::from(kind)))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The resources of a kind, or with `ResourceKind::Unspecified` of all, by kind and name, after this place, `limit` at most.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn list(
    connection: &mut Connection,
    kind: ResourceKind,
    after: Option<(ResourceKind, &Name)>,
    limit: u32,
) -> Result<Vec<Declared>, StoreError> {
    let (after_kind, after_name) = after.map_or((0, ""), |(kind, name)| (i32::from(kind), name.as_str()));
    let rows = query(
        "SELECT * FROM resources WHERE ($1 = 0 OR kind = $1) AND (kind > $2 OR (kind = $2 AND name > $3)) ORDER BY kind, name LIMIT $4",
    )
    .bind(i64::from(i32::from(kind)))
    .bind(i64::from(after_kind))
    .bind(after_name)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// The names of a kind, `limit` at most.
///
/// # Errors
/// The database's, or a name that is none.
pub async fn names(connection: &mut Connection, kind: ResourceKind, limit: u32) -> Result<Vec<Name>, StoreError> {
    let rows = query("SELECT name FROM resources WHERE kind = $1 ORDER BY name LIMIT $2")
        .bind(i64::from(i32::from(kind)))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    let name = |row: &Row| -> Result<Name, StoreError> {
        let name: String = row.try_get(0)?;
        let corrupt =
            |error: muster_common::name::InvalidName| StoreError::Corrupt { what: "resource", id: name.clone(), why: error.to_string() };
        name.parse().map_err(corrupt)
    };
    rows.iter().map(name).collect()
}

/// Keeps a resource in place of what has its kind and name.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, declared: &Declared) -> Result<(), StoreError> {
    let message = v1::Resource { spec: Some(declared.spec.clone()), ..v1::Resource::default() };
    query(
        "INSERT INTO resources (kind, name, id, etag, spec, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (kind, name) DO UPDATE SET etag = excluded.etag, spec = excluded.spec, updated = excluded.updated",
    )
    .bind(i64::from(i32::from(kind_of(&declared.spec))))
    .bind(declared.name.as_str())
    .bind(&declared.id)
    .bind(&declared.etag)
    .bind(message.encode_to_vec())
    .bind(declared.created.0)
    .bind(declared.updated.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a resource; tells whether it was there.
///
/// # Errors
/// The database's.
pub async fn delete(connection: &mut Connection, kind: ResourceKind, name: &Name) -> Result<bool, StoreError> {
    let done = query("DELETE FROM resources WHERE kind = $1 AND name = $2")
        .bind(i64::from(i32::from(kind)))
        .bind(name.as_str())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

fn read(row: &Row) -> Result<Declared, StoreError> {
    let (name, bytes): (String, Vec<u8>) = (row.try_get("name")?, row.try_get("spec")?);
    let corrupt = |why: String| StoreError::Corrupt { what: "resource", id: name.clone(), why };
    let message = v1::Resource::decode(bytes.as_slice()).map_err(|error| corrupt(error.to_string()))?;
    Ok(Declared {
        name: name.parse().map_err(|error: muster_common::name::InvalidName| corrupt(error.to_string()))?,
        id: row.try_get("id")?,
        etag: row.try_get("etag")?,
        spec: message.spec.ok_or_else(|| corrupt("it has no spec".into()))?,
        created: Timestamp(row.try_get("created")?),
        updated: Timestamp(row.try_get("updated")?),
    })
}
