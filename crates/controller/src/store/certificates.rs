//! Certificates that were issued, and what of them is revoked.

use muster_common::time::Timestamp;
use muster_identity::authority::Issued;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// A certificate that was signed.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    /// Its number.
    pub serial: &'a str,
    /// SHA-256 of its key, in hexadecimal digits.
    pub key: &'a str,
    /// SHA-256 of its CA, in hexadecimal digits. Empty: not known.
    pub authority: &'a str,
    /// Its end.
    pub until: Timestamp,
}

/// Keeps a certificate until it ends; forgets those that have ended.
///
/// # Errors
/// The database's.
pub async fn issued(connection: &mut Connection, subject: &str, signed: &Signed<'_>, now: Timestamp) -> Result<(), StoreError> {
    query("DELETE FROM certificates WHERE until < $1").bind(now.0).execute(&mut *connection).await?;
    let insert = "INSERT INTO certificates (serial, subject, key_fingerprint, until, authority) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (serial) DO NOTHING";
    query(insert)
        .bind(signed.serial)
        .bind(subject)
        .bind(signed.key)
        .bind(signed.until.0)
        .bind(signed.authority)
        .execute(connection)
        .await?;
    Ok(())
}

/// Operators (`operator/ada`) with a good certificate of another CA than `authority`, and none of that one for the same key.
///
/// # Errors
/// The database's.
pub async fn operators_of_another(connection: &mut Connection, authority: &str, now: Timestamp) -> Result<Vec<String>, StoreError> {
    const OF_ANOTHER: &str = "SELECT DISTINCT c.subject FROM certificates c WHERE c.until > $1 AND c.authority <> $2 \
        AND c.subject LIKE 'operator/%' \
        AND NOT EXISTS (SELECT 1 FROM certificates n WHERE n.key_fingerprint = c.key_fingerprint AND n.authority = $2) \
        AND NOT EXISTS (SELECT 1 FROM revoked_keys k WHERE k.fingerprint = c.key_fingerprint) \
        AND NOT EXISTS (SELECT 1 FROM revoked_serials s WHERE s.serial = c.serial) ORDER BY c.subject LIMIT 10000";
    let rows = query(OF_ANOTHER).bind(now.0).bind(authority).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
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

/// Keeps a certificate that was just signed, as [`issued`].
///
/// # Errors
/// The database's.
pub async fn keep(connection: &mut Connection, subject: &str, certificate: &Issued, now: Timestamp) -> Result<(), StoreError> {
    let (key, authority) = (certificate.key_fingerprint.to_string(), certificate.authority.to_string());
    let serial = certificate.serial.as_str();
    issued(connection, subject, &Signed { serial, key: &key, authority: &authority, until: certificate.not_after }, now).await
}
