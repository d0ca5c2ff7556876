//! The full look: rights, folder, settings, archiver, slots, sizes, health. Each part fails by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::position::Lsn;
use muster_common::size::Size;
use muster_engine::observation::{Condition, Observation};

use tokio_postgres::error::SqlState;

use crate::clock;
use crate::connect::{Session, tell};
use crate::control_file::ControlFile;
use crate::data_directory;
use crate::engine::Postgres;
use crate::observe::conditions::{self, bad, good};
use crate::observe::{RoleRow, same_place};
use crate::replication::client::Replication;
use crate::rights::Right;

/// Databases are counted again after so long.
const COUNT_AGAIN: Duration = Duration::from_secs(60);
/// A replication connection is tried again after so long.
const TRY_REPLICATION_AGAIN: Duration = Duration::from_secs(300);

/// Settings that matter to backups, restores and durability.
const SETTINGS: [&str; 26] = [
    "archive_command",
    "archive_mode",
    "archive_timeout",
    "checkpoint_timeout",
    "data_checksums",
    "data_directory",
    "fsync",
    "full_page_writes",
    "hot_standby",
    "listen_addresses",
    "max_connections",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_wal_size",
    "port",
    "primary_slot_name",
    "server_version",
    "shared_buffers",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_keep_size",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
    "wal_sender_timeout",
];

pub(super) async fn look(instance: &Postgres, session: &Session, role: &RoleRow, seen: &mut Observation) {
    let settings = settings(session).await.unwrap_or_default();
    let control = data_directory::control_file(&instance.config.data_directory);
    let asked = ask_system_id(session).await;
    seen.conditions.push(data_directory(instance, &settings, &control, asked));
    if let (Some(asked), Ok(_)) = (asked, &control) {
        instance.remember(|known| known.system_id = Some(asked));
    }
    seen.conditions.push(rights(instance, session).await);
    seen.conditions.push(replication(instance, &settings).await);
    seen.conditions.extend(control.as_ref().ok().map(checksums));
    seen.conditions.push(durability(&settings));
    seen.conditions.extend(disk(instance));
    seen.conditions.push(archiver(session, role, &settings).await);
    seen.conditions.push(slots(session, &settings, &mut seen.details).await);
    if role.standby {
        seen.lag_bytes = lag(session).await;
    } else {
        standbys(session, &mut seen.details).await;
    }
    seen.bytes = bytes(instance, session).await;
    seen.details.extend(settings);
    if let Ok(control) = control {
        seen.details.insert("system_id".into(), control.system_id.to_string());
        seen.details.insert("redo_lsn".into(), control.redo.to_string());
        seen.details.insert("block_size".into(), control.block_size.to_string());
    }
    seen.details.insert("timeline".into(), role.timeline.to_string());
}

async fn settings(session: &Session) -> Option<BTreeMap<String, String>> {
    let names: Vec<&str> = SETTINGS.to_vec();
    let rows = session.client.query("SELECT name, current_setting(name, true) FROM unnest($1::text[]) name", &[&names]).await;
    let rows = match rows {
        Ok(rows) => rows,
        // data_directory is for members of pg_read_all_settings alone; the rest is for everybody. Any other error would come again.
        Err(error) if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            tracing::debug!(%error, "the settings were not read in this look");
            return None;
        }
        Err(_) => {
            let public: Vec<&str> = names.into_iter().filter(|name| *name != "data_directory" && *name != "archive_command").collect();
            session.client.query("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", &[&public]).await.ok()?
        }
    };
    Some(rows.iter().filter_map(|row| Some((row.try_get(0).ok()?, row.try_get::<_, Option<String>>(1).ok()??))).collect())
}

async fn ask_system_id(session: &Session) -> Option<u64> {
    let row = session.client.query_one("SELECT system_identifier FROM pg_control_system()", &[]).await.ok()?;
    row.try_get::<_, i64>(0).ok().map(i64::cast_unsigned)
}

fn data_directory(
    instance: &Postgres,
    settings: &BTreeMap<String, String>,
    control: &Result<ControlFile, data_directory::DataDirectoryError>,
    asked: Option<u64>,
) -> Condition {
    let name = "DataDirectory";
    let path = &instance.config.data_directory;
    let hint =
        "correct the instance's dataDirectory or address so that both mean one cluster, and run the agent as the owner of that folder";
    let control = match control {
        Ok(control) => control,
        Err(error) => return bad(name, true, format!("{}: {error}", path.display()), hint),
    };
    if let Some(told) = settings.get("data_directory").filter(|told| !same_place(told.as_ref(), path)) {
        return bad(
            name,
            true,
            format!("the server at {} keeps its data in {told}, not in {}", instance.config.address, path.display()),
            hint,
        );
    }
    match asked {
        Some(id) if id != control.system_id => {
            let message = format!(
                "{} holds cluster {}; the server at {} serves cluster {id}",
                path.display(),
                control.system_id,
                instance.config.address
            );
            bad(name, true, message, hint)
        }
        Some(id) => good(name, true, format!("{} holds cluster {id}", path.display())),
        None => bad(
            name,
            true,
            format!("the server at {} did not tell its system identifier", instance.config.address),
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the role",
        ),
    }
}

async fn rights(instance: &Postgres, session: &Session) -> Condition {
    let user = &instance.config.user;
    match missing_rights(session).await {
        Ok(missing) => conditions::backup_rights(&missing, user),
        Err(error) => {
            bad("BackupRights", true, format!("the rights of role {user} could not be read: {error}"), "look at the server's log")
        }
    }
}

/// The rights that the session's role lacks.
pub(crate) async fn missing_rights(session: &Session) -> Result<Vec<Right>, String> {
    let sql = "SELECT rolreplication OR rolsuper,
            has_function_privilege('pg_catalog.pg_backup_start(text, boolean)', 'EXECUTE'),
            has_function_privilege('pg_catalog.pg_backup_stop(boolean)', 'EXECUTE'),
            pg_has_role('pg_monitor', 'USAGE')
        FROM pg_roles WHERE rolname = current_user";
    let row = session.client.query_one(sql, &[]).await.map_err(|error| tell(&error))?;
    let mut missing = Vec::new();
    for (at, right) in crate::rights::RIGHTS.into_iter().enumerate() {
        if !row.try_get::<_, bool>(at).map_err(|error| tell(&error))? {
            missing.push(right);
        }
    }
    Ok(missing)
}

/// `ReplicationRights`: the log of a backup's span can be streamed.
async fn replication(instance: &Postgres, settings: &BTreeMap<String, String>) -> Condition {
    let name = "ReplicationRights";
    for (setting, needed, sql) in [
        ("wal_level", "replica or logical", "ALTER SYSTEM SET wal_level = replica; then restart the server"),
        ("max_wal_senders", "at least 2", "ALTER SYSTEM SET max_wal_senders = 10; then restart the server"),
        ("max_replication_slots", "at least 1", "ALTER SYSTEM SET max_replication_slots = 10; then restart the server"),
    ] {
        let value = settings.get(setting).map_or("", String::as_str);
        if matches!((setting, value), ("wal_level", "minimal") | ("max_wal_senders", "0" | "1") | ("max_replication_slots", "0")) {
            return bad(name, true, format!("{setting} is {value}; backups need {needed}"), format!("as a superuser: {sql}"));
        }
    }
    let now = clock::now();
    if instance.recall().replication_at.is_some_and(|at| now.since(at) < TRY_REPLICATION_AGAIN) {
        return good(name, true, "a replication connection was accepted within the last 5 minutes");
    }
    match Replication::connect(&instance.config).await {
        Ok(connection) => {
            connection.close().await;
            instance.remember(|known| known.replication_at = Some(now));
            good(name, true, "a replication connection is accepted")
        }
        Err(fault) => bad(name, true, fault.message, fault.hint),
    }
}

fn checksums(control: &ControlFile) -> Condition {
    if control.checksum_version == 0 {
        bad(
            "Checksums",
            false,
            "the cluster has no page checksums: a page that the disk damaged is not noticed",
            "stop the server, run pg_checksums --enable on the data directory, start it",
        )
    } else {
        good("Checksums", false, "pages have checksums; each backup verifies them")
    }
}

fn durability(settings: &BTreeMap<String, String>) -> Condition {
    let off: Vec<_> =
        ["fsync", "full_page_writes"].into_iter().filter(|name| settings.get(*name).is_some_and(|value| value == "off")).collect();
    match off.first() {
        None => good("Durability", false, "fsync and full_page_writes are on"),
        Some(name) => bad(
            "Durability",
            false,
            format!("{} off: a crash of the machine damages the cluster", off.join(" and ")),
            format!("as a superuser: ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"),
        ),
    }
}

fn disk(instance: &Postgres) -> Option<Condition> {
    let path = &instance.config.data_directory;
    let stat = rustix::fs::statvfs(path).ok()?;
    let (free, all) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    let told = format!("{} of {} free at {}", Size(free), Size(all), path.display());
    Some(if free.saturating_mul(20) < all {
        bad("DiskSpace", false, told, "free space or enlarge the file system before the server stops for lack of it")
    } else {
        good("DiskSpace", false, told)
    })
}

async fn archiver(session: &Session, role: &RoleRow, settings: &BTreeMap<String, String>) -> Condition {
    let name = "Archiver";
    let mode = settings.get("archive_mode").map_or("", String::as_str);
    if mode == "off" || (role.standby && mode != "always") {
        return good(name, false, "the server archives nothing by itself");
    }
    let sql = "SELECT failed_count, last_failed_wal, last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver";
    let row = match session.client.query_one(sql, &[]).await {
        Ok(row) => row,
        Err(error) => return bad(name, false, format!("pg_stat_archiver: {}", tell(&error)), "GRANT pg_monitor to the agent's role"),
    };
    let failing = row.try_get::<_, Option<bool>>(2).ok().flatten().unwrap_or(false);
    if failing {
        let file: Option<String> = row.try_get(1).ok().flatten();
        let message =
            format!("archive_command fails for {}; {} failures", file.unwrap_or_default(), row.try_get::<_, i64>(0).unwrap_or_default());
        bad(name, false, message, "look at the server's log for what archive_command said; pg_wal grows until it succeeds")
    } else {
        good(name, false, "archive_command succeeds")
    }
}

async fn slots(session: &Session, settings: &BTreeMap<String, String>, details: &mut BTreeMap<String, String>) -> Condition {
    let name = "Slots";
    let sql = "SELECT slot_name, slot_type, active, coalesce(wal_status, ''),
            coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::int8
        FROM pg_replication_slots WHERE NOT temporary ORDER BY 5 DESC LIMIT 20";
    let rows = match session.client.query(sql, &[]).await {
        Ok(rows) => rows,
        Err(error) => return bad(name, false, format!("pg_replication_slots: {}", tell(&error)), "GRANT pg_monitor to the agent's role"),
    };
    let mut worst = None;
    for row in &rows {
        let (Ok(slot), Ok(kind)) = (row.try_get::<_, String>(0), row.try_get::<_, String>(1)) else { continue };
        let active: bool = row.try_get(2).unwrap_or(false);
        let status: String = row.try_get(3).unwrap_or_default();
        let behind = Size(u64::try_from(row.try_get::<_, i64>(4).unwrap_or_default()).unwrap_or_default());
        let told = format!("{kind}, {}, {status}, holds {behind}", if active { "active" } else { "inactive" });
        if status == "lost" || status == "unreserved" {
            worst.get_or_insert(format!("slot {slot}: {told}"));
        } else if !active && settings.get("max_slot_wal_keep_size").is_some_and(|value| value == "-1") {
            worst.get_or_insert(format!("slot {slot}: {told}, with no bound"));
        }
        details.insert(format!("slot.{slot}"), told);
    }
    match worst {
        None => good(name, false, format!("{} replication slots, none lost or unbounded", rows.len())),
        Some(message) => bad(
            name,
            false,
            message,
            "drop the slot if nobody needs it: SELECT pg_drop_replication_slot('name'); and set max_slot_wal_keep_size",
        ),
    }
}

async fn lag(session: &Session) -> Option<u64> {
    let sql = "SELECT pg_wal_lsn_diff(greatest(w.latest_end_lsn, pg_last_wal_receive_lsn()), pg_last_wal_replay_lsn())::int8 FROM pg_stat_wal_receiver w";
    let row = session.client.query_opt(sql, &[]).await.ok()??;
    row.try_get::<_, Option<i64>>(0).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok())
}

async fn standbys(session: &Session, details: &mut BTreeMap<String, String>) {
    let sql = "SELECT coalesce(application_name, ''), coalesce(sync_state, ''), coalesce(flush_lsn, '0/0')::text FROM pg_stat_replication ORDER BY pid LIMIT 20";
    let Ok(rows) = session.client.query(sql, &[]).await else { return };
    for row in rows {
        if let (Ok(name), Ok(state), Ok(lsn)) = (row.try_get::<_, String>(0), row.try_get::<_, String>(1), row.try_get::<_, String>(2)) {
            let lsn: Lsn = lsn.parse().unwrap_or_default();
            details.insert(format!("standby.{name}"), format!("{state}, flushed {lsn}"));
        }
    }
}

async fn bytes(instance: &Postgres, session: &Session) -> Option<u64> {
    let now = clock::now();
    if let Some((bytes, at)) = instance.recall().bytes.filter(|(_, at)| now.since(*at) < COUNT_AGAIN) {
        tracing::trace!(bytes, ?at, "size counted before");
        return Some(bytes);
    }
    let sql = "SELECT sum(pg_tablespace_size(oid))::int8 FROM pg_tablespace";
    let counted = session.client.query_one(sql, &[]).await.ok()?.try_get::<_, Option<i64>>(0).ok()??;
    let counted = u64::try_from(counted).ok()?;
    instance.remember(|known| known.bytes = Some((counted, now)));
    Some(counted)
}
