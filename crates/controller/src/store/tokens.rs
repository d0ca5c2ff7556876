//! Join tokens.

use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// Makes every unused token unusable: a store restored from an older copy may hold tokens that were used or withdrawn since.
///
/// # Errors
/// The database's.
pub async fn void_unused(connection: &mut Connection, now: Timestamp) -> Result<u64, StoreError> {
    Ok(query("UPDATE tokens SET used_at = $1 WHERE used_at IS NULL").bind(now.0).execute(connection).await?.rows_affected())
}

/// Whom a token lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The site.
    pub site: Name,
    /// The agent's name.
    pub agent: Name,
}

/// Keeps a token's hash; forgets those that are over for a day.
///
/// # Errors
/// The database's.
pub async fn insert(
    connection: &mut Connection,
    hash: &str,
    invited: &Invited,
    expires: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    query("DELETE FROM tokens WHERE expires < $1").bind(now.0.saturating_sub(86_400_000_000)).execute(&mut *connection).await?;
    query("INSERT INTO tokens (hash, site, agent, expires) VALUES ($1, $2, $3, $4)")
        .bind(hash)
        .bind(invited.site.as_str())
        .bind(invited.agent.as_str())
        .bind(expires.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there is such a token and it has not ended. It is looked at before the store's one writer is asked for: whoever guesses must not
/// hold others up.
///
/// # Errors
/// The database's.
pub async fn is_known(connection: &mut Connection, hash: &str, now: Timestamp) -> Result<bool, StoreError> {
    let known = query("SELECT 1 FROM tokens WHERE hash = $1 AND expires > $2");
    Ok(known.bind(hash).bind(now.0).fetch_optional(connection).await?.is_some())
}

/// Uses a token up for a key, if it is good: in one statement, so that of two who hold it one wins. The agent that joined by it may ask again
/// with the same key, since an answer can be lost and an agent killed before it kept it. `None`: it is not good (any more).
///
/// # Errors
/// The database's, or a name that is none.
pub async fn take(connection: &mut Connection, hash: &str, key: &str, now: Timestamp) -> Result<Option<Invited>, StoreError> {
    const TAKE: &str = "UPDATE tokens SET used_at = $1 WHERE hash = $2 AND expires > $1 AND (used_at IS NULL OR EXISTS \
        (SELECT 1 FROM agents WHERE agents.name = tokens.agent AND agents.site = tokens.site AND agents.key_fingerprint = $3)) \
        RETURNING site, agent";
    let row = query(TAKE).bind(now.0).bind(hash).bind(key).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let (site, agent): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let corrupt =
        |error: muster_common::name::InvalidName| StoreError::Corrupt { what: "token", id: agent.clone(), why: error.to_string() };
    Ok(Some(Invited { site: site.parse().map_err(corrupt)?, agent: agent.parse().map_err(corrupt)? }))
}

/// Whom good tokens invite now.
///
/// # Errors
/// The database's, or a name that is none.
pub async fn invited(connection: &mut Connection, now: Timestamp) -> Result<Vec<Invited>, StoreError> {
    let rows = query("SELECT site, agent FROM tokens WHERE used_at IS NULL AND expires > $1").bind(now.0).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let (site, agent): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let corrupt =
                |error: muster_common::name::InvalidName| StoreError::Corrupt { what: "token", id: agent.clone(), why: error.to_string() };
            Ok(Invited { site: site.parse().map_err(corrupt)?, agent: agent.parse().map_err(corrupt)? })
        })
        .collect()
}
