//! What is declared, as the store keeps it.

use muster_common::time::Timestamp;
use muster_wire::convert::{timestamp_from_proto, timestamp_to_proto};
use muster_wire::proto::v1::{Resource, ResourceKind};

use super::{Declared, MOST_RESOURCES, form};
use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::resources;

/// All that is declared.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn load(connection: &mut Connection) -> Result<Declared, StoreError> {
    let most = u32::try_from(MOST_RESOURCES).unwrap_or(u32::MAX);
    let mut declared = Declared::default();
    for row in resources::list(connection, ResourceKind::Unspecified, None, most).await? {
        let name = row.name.to_string();
        declared.insert(resource(row)).map_err(|fault| StoreError::Corrupt { what: "resource", id: name, why: fault.message })?;
    }
    Ok(declared)
}

/// As it is told.
fn resource(row: resources::Declared) -> Resource {
    Resource {
        name: row.name.to_string(),
        etag: row.etag,
        id: row.id,
        created_at: Some(timestamp_to_proto(row.created)),
        updated_at: Some(timestamp_to_proto(row.updated)),
        conditions: Vec::new(),
        spec: Some(row.spec),
    }
}

/// Keeps a resource that [`super::changes::apply`] made.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, resource: &Resource) -> Result<(), StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { what: "resource", id: resource.name.clone(), why };
    let (_, name) = form::identify(resource).map_err(|fault| corrupt(fault.message))?;
    let at = |at: &Option<prost_types::Timestamp>| {
        at.as_ref().map_or(Ok(Timestamp(0)), |at| timestamp_from_proto(at, "time")).map_err(|fault| corrupt(fault.message))
    };
    let row = resources::Declared {
        name,
        id: resource.id.clone(),
        etag: resource.etag.clone(),
        spec: resource.spec.clone().ok_or_else(|| corrupt("it has no spec".into()))?,
        created: at(&resource.created_at)?,
        updated: at(&resource.updated_at)?,
    };
    resources::put(connection, &row).await
}
