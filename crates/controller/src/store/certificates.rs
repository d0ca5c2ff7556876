//! Certificates that were issued, and what of them is revoked.

use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// Keeps a certificate until it ends; forgets those that have ended.
///
/// # Errors
/// The database's.
pub async fn issued(
    connection: &mut Connection,
    subject: &str,
    serial: &str,
    key: &str,
    until: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    query("DELETE FROM certificates WHERE until < $1").bind(now.0).execute(&mut *connection).await?;
    query("INSERT INTO certificates (serial, subject, key_fingerprint, until) VALUES ($1, $2, $3, $4) ON CONFLICT (serial) DO NOTHING")
        .bind(serial)
        .bind(subject)
        .bind(key)
        .bind(until.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Revokes all certificates of a subject that are known, and their keys.
///
/// # Errors
/// The database's.
pub async fn revoke_subject(connection: &mut Connection, subject: &str, reason: &str, now: Timestamp) -> Result<(), StoreError> {
    for statement in [
        "INSERT INTO revoked_serials (serial, reason, at) SELECT serial, $1, $2 FROM certificates WHERE subject = $3 ON CONFLICT (serial) DO NOTHING",
        "INSERT INTO revoked_keys (fingerprint, reason, at) SELECT DISTINCT key_fingerprint, $1, $2 FROM certificates WHERE subject = $3 \
         ON CONFLICT (fingerprint) DO NOTHING",
    ] {
        query(statement).bind(reason).bind(now.0).bind(subject).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Revokes one key, with every certificate that was or will be issued for it.
///
/// # Errors
/// The database's.
pub async fn revoke_key(connection: &mut Connection, key: &str, reason: &str, now: Timestamp) -> Result<(), StoreError> {
    query("INSERT INTO revoked_keys (fingerprint, reason, at) VALUES ($1, $2, $3) ON CONFLICT (fingerprint) DO NOTHING")
        .bind(key)
        .bind(reason)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Revokes one certificate; tells whether that is news.
///
/// # Errors
/// The database's.
pub async fn revoke_serial(connection: &mut Connection, serial: &str, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
    let done = query("INSERT INTO revoked_serials (serial, reason, at) VALUES ($1, $2, $3) ON CONFLICT (serial) DO NOTHING")
        .bind(serial)
        .bind(reason)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The newest revoked serial numbers, `most` at most.
///
/// # Errors
/// The database's.
pub async fn revoked_serials(connection: &mut Connection, most: u32) -> Result<Vec<String>, StoreError> {
    let rows =
        query("SELECT serial FROM revoked_serials ORDER BY at DESC, serial LIMIT $1").bind(i64::from(most)).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// All revoked keys.
///
/// # Errors
/// The database's.
pub async fn revoked_keys(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let rows = query("SELECT fingerprint FROM revoked_keys").fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
