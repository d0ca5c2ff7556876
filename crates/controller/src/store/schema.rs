//! The schema, brought up to date step by step. A step that was released never changes; a newer schema is refused.

use sha2::{Digest, Sha256};

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::{query, run_all};

/// One step: its version, dense from 1, and its text.
struct Migration {
    version: i64,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 7] = [
    Migration { version: 1, sql: include_str!("../../migrations/0001_first.sql") },
    Migration { version: 2, sql: include_str!("../../migrations/0002_identities.sql") },
    Migration { version: 3, sql: include_str!("../../migrations/0003_pauses.sql") },
    Migration { version: 4, sql: include_str!("../../migrations/0004_findings.sql") },
    Migration { version: 5, sql: include_str!("../../migrations/0005_lanes.sql") },
    Migration { version: 6, sql: include_str!("../../migrations/0006_audit.sql") },
    Migration { version: 7, sql: include_str!("../../migrations/0007_authorities.sql") },
];

/// The version that this build writes.
pub const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Applies what is missing, inside the caller's transaction: all of it or nothing.
///
/// # Errors
/// Where the schema is newer than this build or was made with other texts.
pub async fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    migrate_to(connection, KNOWN).await
}

/// The same up to a version, for what was written with an older one.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to(connection: &mut Connection, wanted: i64) -> Result<(), StoreError> {
    query("CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY, digest TEXT NOT NULL)").execute(&mut *connection).await?;
    let rows = query("SELECT version, digest FROM migrations ORDER BY version").fetch_all(&mut *connection).await?;
    let mut applied = 0;
    for row in rows {
        let (version, digest): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        if version > KNOWN {
            let newest = query("SELECT max(version) FROM migrations").fetch_one(&mut *connection).await?.try_get(0)?;
            return Err(StoreError::NewerSchema { found: newest, known: KNOWN });
        }
        let same = MIGRATIONS.iter().any(|migration| migration.version == version && digest_of(migration) == digest);
        if !same {
            return Err(StoreError::ChangedMigration { version });
        }
        applied = version;
    }
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > applied && migration.version <= wanted) {
        match connection {
            Connection::Sqlite(_) => run_all(migration.sql, connection).await?,
            Connection::Postgres(_) => run_all(sqlx::AssertSqlSafe(for_postgres(migration.sql)), connection).await?,
        }
        query("INSERT INTO migrations (version, digest) VALUES ($1, $2)")
            .bind(migration.version)
            .bind(digest_of(migration))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The schema's version. 0: there is none yet.
///
/// # Errors
/// The database's.
pub async fn version(connection: &mut Connection) -> Result<i64, StoreError> {
    let asked = match connection {
        Connection::Sqlite(_) => "SELECT count(*) FROM sqlite_master WHERE name = 'migrations'",
        Connection::Postgres(_) => "SELECT CASE WHEN to_regclass('migrations') IS NULL THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END",
    };
    let there: i64 = query(asked).fetch_one(&mut *connection).await?.try_get(0)?;
    if there == 0 {
        return Ok(0);
    }
    Ok(query("SELECT coalesce(max(version), 0) FROM migrations").fetch_one(connection).await?.try_get(0)?)
}

fn digest_of(migration: &Migration) -> String {
    hex::encode(Sha256::digest(migration.sql.as_bytes()))
}

/// The text as PostgreSQL takes it: whole numbers of 64 bits, bytes, and texts that compare by their bytes as SQLite's do.
fn for_postgres(sql: &str) -> String {
    let lines = sql.lines().map(|line| {
        let (code, comment) = line.split_once("--").map_or((line, None), |(code, comment)| (code, Some(comment)));
        let code: Vec<String> = code
            .split_inclusive(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .map(|piece| {
                let word = piece.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                let rest = piece.strip_prefix(word).unwrap_or("");
                let word = match word {
                    "INTEGER" => "BIGINT",
                    "TEXT" => "TEXT COLLATE \"C\"",
                    "BLOB" => "BYTEA",
                    other => other,
                };
                format!("{word}{rest}")
            })
            .collect();
        match comment {
            Some(comment) => format!("{}--{comment}", code.concat()),
            None => code.concat(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_postgresqls_and_comments_stay() {
        let text = "-- INTEGER\nCREATE TABLE t (\n    a INTEGER PRIMARY KEY, -- TEXT\n    b TEXT NOT NULL,\n    c BLOB\n);";
        let wanted = "-- INTEGER\nCREATE TABLE t (\n    a BIGINT PRIMARY KEY, -- TEXT\n    b TEXT COLLATE \"C\" NOT NULL,\n    c BYTEA\n);";
        assert_eq!(for_postgres(text), wanted);
    }
}
