//! The session that holds a backup open: `pg_backup_start`, what the server says of itself, `pg_backup_stop`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;

use crate::config::PostgresConfig;
use crate::connect::{self, Purpose, Session, tell};
use crate::observe::conditions;
use crate::observe::full::missing_rights;

/// What the server said before the backup began.
#[derive(Clone, Debug)]
pub struct Server {
    /// 150020 for 15.20.
    pub version: i32,
    /// Its cluster.
    pub system_id: u64,
    /// Whether it is a standby.
    pub standby: bool,
    /// Settings that a restore wants to know. None of them can hold a password.
    pub settings: BTreeMap<String, String>,
}

/// What `pg_backup_stop` answered.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Where the backup ends.
    pub lsn: Lsn,
    /// The text of `backup_label`.
    pub label: String,
}

/// Settings that are kept in the point. `archive_command` and `primary_conninfo` can hold passwords and are not.
const SETTINGS: [&str; 24] = [
    "archive_mode",
    "block_size",
    "config_file",
    "data_checksums",
    "data_directory",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "server_encoding",
    "server_version",
    "shared_buffers",
    "shared_preload_libraries",
    "synchronous_standby_names",
    "track_commit_timestamp",
    "unix_socket_directories",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
];

/// Opens the session and checks what a backup needs of the server.
///
/// # Errors
/// A refusal before anything started: the server down, too old, without rights.
pub async fn open(config: &PostgresConfig) -> Result<(Session, Server), Fault> {
    let session = connect::connect(config, Purpose::Backup).await.map_err(|error| error.fault(config))?;
    let failed = |error: &tokio_postgres::Error| statement_failed(config, "ask the server about itself", error);
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
        (SELECT system_identifier FROM pg_control_system())";
    let row = session.client.query_one(sql, &[]).await.map_err(|error| failed(&error))?;
    let read = || {
        Ok::<_, tokio_postgres::Error>((
            row.try_get::<_, i32>(0)?,
            row.try_get::<_, String>(1)?,
            row.try_get(2)?,
            row.try_get::<_, i64>(3)?,
        ))
    };
    let (version, text, standby, system_id) = read().map_err(|error| failed(&error))?;
    let missing = missing_rights(&session)
        .await
        .map_err(|why| Fault::refused(ErrorKind::FailedPrecondition, format!("back up {}: {why}", config.name)))?;
    for condition in [conditions::version(version, &text), conditions::backup_rights(&missing, &config.user)] {
        if !condition.ok {
            return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("back up {}: {}", config.name, condition.message))
                .hint(condition.hint));
        }
    }
    let names: Vec<&str> = SETTINGS.to_vec();
    let rows = session
        .client
        .query("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", &[&names])
        .await
        .map_err(|error| failed(&error))?;
    let settings = rows.iter().filter_map(|row| Some((row.try_get(0).ok()?, row.try_get::<_, Option<String>>(1).ok()??))).collect();
    Ok((session, Server { version, system_id: system_id.cast_unsigned(), standby, settings }))
}

impl Server {
    /// The configuration files that the server uses.
    #[must_use]
    pub fn configuration(&self) -> Vec<PathBuf> {
        ["config_file", "hba_file", "ident_file"].into_iter().filter_map(|name| self.settings.get(name)).map(PathBuf::from).collect()
    }

    /// A setting, or nothing.
    #[must_use]
    pub fn setting(&self, name: &str) -> String {
        self.settings.get(name).cloned().unwrap_or_default()
    }
}

/// `pg_backup_start`: where replay will begin.
///
/// # Errors
/// Where the server refuses it.
pub async fn start(config: &PostgresConfig, session: &Session, label: &str, fast: bool) -> Result<Lsn, Fault> {
    let row = session.client.query_one("SELECT pg_backup_start($1, $2)::text", &[&label, &fast]).await;
    let text: Result<String, _> = row.and_then(|row| row.try_get(0));
    let text = text.map_err(|error| statement_failed(config, "pg_backup_start", &error))?;
    text.parse().map_err(|error| Fault::failed(ErrorKind::Internal, format!("pg_backup_start answered {error}")).hint("please report this"))
}

/// `pg_backup_stop`, without waiting for the server's own archive: this backup has its own WAL.
///
/// # Errors
/// Where the server refuses it: it was promoted meanwhile, or ran without full-page writes.
pub async fn stop(config: &PostgresConfig, session: &Session) -> Result<Stopped, Fault> {
    let row = session.client.query_one("SELECT lsn::text, labelfile FROM pg_backup_stop(false)", &[]).await;
    let read = row.and_then(|row| Ok((row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?)));
    let (lsn, label) = read.map_err(|error| statement_failed(config, "pg_backup_stop", &error))?;
    let lsn = lsn
        .parse()
        .map_err(|error| Fault::failed(ErrorKind::Internal, format!("pg_backup_stop answered {error}")).hint("please report this"))?;
    Ok(Stopped { lsn, label })
}

fn statement_failed(config: &PostgresConfig, what: &str, error: &tokio_postgres::Error) -> Fault {
    let message = format!("back up {}: {what}: {}", config.name, tell(error));
    if error.is_closed() || error.as_db_error().is_none() {
        Fault::failed(ErrorKind::Unavailable, message).hint("see whether the server still runs and what its log says, then back up again")
    } else {
        Fault::failed(ErrorKind::FailedPrecondition, message).hint("correct what the server names, then back up again")
    }
}
