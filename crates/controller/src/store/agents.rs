//! Agents that have joined.

use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::{Row, query};

/// One agent as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// Its site.
    pub site: Name,
    /// SHA-256 of its public key, in hexadecimal digits.
    pub key_fingerprint: String,
    /// The X25519 public key that data keys are wrapped to, in hexadecimal digits. Empty: it never connected.
    pub encryption_key: String,
    /// When its newest certificate ends.
    pub certificate_until: Option<Timestamp>,
    /// Its version. Empty: it never connected.
    pub build: String,
    /// When it was last heard.
    pub last_heard: Option<Timestamp>,
    /// Calls for what is not its own.
    pub refused_calls: u64,
    /// Whether it is revoked.
    pub revoked: bool,
    /// The CA of the certificate that it showed last. Empty: not known.
    pub authority: String,
    /// The CAs that it trusts, as it told.
    pub trusts: Vec<String>,
}

const SELECT: &str = "SELECT name, site, key_fingerprint, encryption_key, cert_until, build, last_heard, refused_calls, revoked, authority, \
    trusts FROM agents";

/// All agents, by name.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn all(connection: &mut Connection) -> Result<Vec<Record>, StoreError> {
    let rows = query(sqlx::AssertSqlSafe(format!("{SELECT} ORDER BY name"))).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// One agent.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn get(connection: &mut Connection, name: &Name) -> Result<Option<Record>, StoreError> {
    let row = query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE name = $1"))).bind(name.as_str()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Keeps that an agent joined, or joined again with another key.
///
/// # Errors
/// The database's.
pub async fn joined(
    connection: &mut Connection,
    name: &Name,
    site: &Name,
    key: &str,
    serial: &str,
    until: Timestamp,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO agents (name, site, key_fingerprint, serial, cert_until) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET site = excluded.site, key_fingerprint = excluded.key_fingerprint, serial = excluded.serial, \
         cert_until = excluded.cert_until, revoked = 0",
    )
    .bind(name.as_str())
    .bind(site.as_str())
    .bind(key)
    .bind(serial)
    .bind(until.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps that an agent has a new certificate for its key.
///
/// # Errors
/// The database's.
pub async fn renewed(connection: &mut Connection, name: &Name, serial: &str, until: Timestamp) -> Result<(), StoreError> {
    query("UPDATE agents SET serial = $1, cert_until = $2 WHERE name = $3")
        .bind(serial)
        .bind(until.0)
        .bind(name.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// What an agent told of itself when it connected. A store that was restored from before it joined learns of it here.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// Its name, from its certificate.
    pub name: &'a Name,
    /// Its site, from its certificate.
    pub site: &'a Name,
    /// SHA-256 of its public key, from its certificate.
    pub key_fingerprint: &'a str,
    /// Its certificate's serial number.
    pub serial: &'a str,
    /// Its certificate's end.
    pub certificate_until: Timestamp,
    /// The CA of its certificate.
    pub authority: &'a str,
    /// The CAs that it trusts.
    pub trusts: &'a [String],
    /// Its version.
    pub build: &'a str,
    /// Its X25519 public key, in hexadecimal digits.
    pub encryption_key: &'a str,
    /// The highest term it ever saw.
    pub highest_term: u64,
    /// The highest command sequence it ever took on.
    pub highest_sequence: u64,
}

/// Keeps what an agent told of itself.
///
/// # Errors
/// The database's.
pub async fn connected(connection: &mut Connection, told: &Told<'_>, now: Timestamp) -> Result<(), StoreError> {
    query(
        "INSERT INTO agents (name, site, key_fingerprint, serial, cert_until, build, encryption_key, highest_term, highest_sequence, last_heard, \
         authority, trusts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (name) DO UPDATE SET cert_until = excluded.cert_until, \
         serial = excluded.serial, build = excluded.build, encryption_key = excluded.encryption_key, highest_term = excluded.highest_term, \
         highest_sequence = excluded.highest_sequence, last_heard = excluded.last_heard, \
         authority = excluded.authority, trusts = excluded.trusts",
    )
    .bind(told.name.as_str())
    .bind(told.site.as_str())
    .bind(told.key_fingerprint)
    .bind(told.serial)
    .bind(told.certificate_until.0)
    .bind(told.build)
    .bind(told.encryption_key)
    .bind(to_sql(told.highest_term))
    .bind(to_sql(told.highest_sequence))
    .bind(now.0)
    .bind(told.authority)
    .bind(told.trusts.join(","))
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps which CAs an agent trusts.
///
/// # Errors
/// The database's.
pub async fn trusts(connection: &mut Connection, name: &Name, trusts: &[String]) -> Result<(), StoreError> {
    query("UPDATE agents SET trusts = $1 WHERE name = $2").bind(trusts.join(",")).bind(name.as_str()).execute(connection).await?;
    Ok(())
}

/// Keeps when an agent was last heard, and adds refused calls.
///
/// # Errors
/// The database's.
pub async fn heard(connection: &mut Connection, name: &Name, at: Timestamp, refused: u64) -> Result<(), StoreError> {
    query("UPDATE agents SET last_heard = $1, refused_calls = refused_calls + $2 WHERE name = $3")
        .bind(at.0)
        .bind(to_sql(refused))
        .bind(name.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks an agent as revoked; tells whether it exists.
///
/// # Errors
/// The database's.
pub async fn revoke(connection: &mut Connection, name: &Name) -> Result<bool, StoreError> {
    Ok(query("UPDATE agents SET revoked = 1 WHERE name = $1").bind(name.as_str()).execute(connection).await?.rows_affected() == 1)
}

fn read(row: &Row) -> Result<Record, StoreError> {
    let (name, site): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let corrupt = |why: muster_common::name::InvalidName| StoreError::Corrupt { what: "agent", id: name.clone(), why: why.to_string() };
    Ok(Record {
        name: name.parse().map_err(corrupt)?,
        site: site.parse().map_err(corrupt)?,
        key_fingerprint: row.try_get(2)?,
        encryption_key: row.try_get(3)?,
        certificate_until: row.try_get::<Option<i64>, _>(4)?.map(Timestamp),
        build: row.try_get(5)?,
        last_heard: row.try_get::<Option<i64>, _>(6)?.map(Timestamp),
        refused_calls: from_sql(row.try_get(7)?),
        revoked: row.try_get::<i64, _>(8)? != 0,
        authority: row.try_get(9)?,
        trusts: row.try_get::<String, _>(10)?.split(',').filter(|print| !print.is_empty()).map(str::to_owned).collect(),
    })
}
