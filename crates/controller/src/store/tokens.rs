//! Join tokens.

use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;

/// Makes every unused token unusable: a store restored from an older copy may hold tokens that were used or withdrawn since.
///
/// # Errors
/// The database's.
pub async fn void_unused(connection: &mut Connection, now: Timestamp) -> Result<u64, StoreError> {
    Ok(sqlx::query("UPDATE tokens SET used_at = $1 WHERE used_at IS NULL").bind(now.0).execute(connection).await?.rows_affected())
}
