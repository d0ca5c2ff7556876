//! Operators and their roles. The role is kept here and not in the certificate, so that it changes at once.

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_identity::caller::Role;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::{Row, query};

/// One operator as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Whether it is revoked.
    pub revoked: bool,
    /// When its newest certificate ends.
    pub certificate_until: Option<Timestamp>,
}

/// All operators, by name.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<Record>, StoreError> {
    let rows = query("SELECT name, role, revoked, cert_until FROM operators ORDER BY name").fetch_all(connection).await?;
    let read = |row: &Row| {
        let (name, role): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let corrupt = |why: String| StoreError::Corrupt { what: "operator", id: name.clone(), why };
        Ok(Record {
            name: name.parse().map_err(|error: muster_common::name::InvalidName| corrupt(error.to_string()))?,
            role: role.parse().map_err(|error: muster_identity::caller::InvalidRole| corrupt(error.to_string()))?,
            revoked: row.try_get::<i64, _>(2)? != 0,
            certificate_until: row.try_get::<Option<i64>, _>(3)?.map(Timestamp),
        })
    };
    rows.iter().map(read).collect()
}

/// Keeps an operator with a new certificate; one that was revoked counts again.
///
/// # Errors
/// The database's.
pub async fn issued(connection: &mut Connection, name: &Name, role: Role, serial: &str, until: Timestamp) -> Result<(), StoreError> {
    query(
        "INSERT INTO operators (name, role, serial, cert_until) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO UPDATE SET \
         role = excluded.role, serial = excluded.serial, cert_until = excluded.cert_until, revoked = 0",
    )
    .bind(name.as_str())
    .bind(role.as_str())
    .bind(serial)
    .bind(until.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks an operator as revoked; tells whether it exists.
///
/// # Errors
/// The database's.
pub async fn revoke(connection: &mut Connection, name: &Name) -> Result<bool, StoreError> {
    Ok(query("UPDATE operators SET revoked = 1 WHERE name = $1").bind(name.as_str()).execute(connection).await?.rows_affected() == 1)
}
