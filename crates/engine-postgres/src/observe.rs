//! One look at an instance. What cannot be read becomes a condition; a look never fails and never takes 5 s.
//!
//! The look at the role is one cheap statement on a connection that is kept; the full look asks for the rest on a new one, as clients need
//! it: a server that lets nobody in any more answers those that it has.

use std::path::Path;
use std::time::Duration;

use muster_common::position::{Lsn, PostgresPosition};
use muster_engine::observation::{Depth, Observation, Position, Role};
use tokio_postgres::Row;

use crate::clock;
use crate::connect::{self, ConnectError, Purpose, Session, tell};
use crate::data_directory::{self, Postmaster};
use crate::engine::Postgres;
use crate::observe::conditions::{bad, good};

pub mod conditions;
pub(crate) mod full;

/// A look ends before this, whatever hangs.
const BOUND: Duration = Duration::from_millis(4_800);

/// The most that a new connection may take beside that.
const LET_IN: Duration = Duration::from_secs(2);

/// One statement for the role: no table is touched.
const ROLE: &str = "SELECT pg_is_in_recovery(),
    (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_flush_lsn() END)::text,
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
    current_setting('server_version'), current_setting('server_version_num')::int,
    (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline,
        (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'))
     FROM pg_control_checkpoint() c, pg_control_recovery() r)";

/// What the role statement answered.
#[derive(Clone, Debug)]
pub(crate) struct RoleRow {
    pub standby: bool,
    pub lsn: Lsn,
    pub timeline: u32,
    pub version: String,
    pub version_number: i32,
}

/// Looks.
pub async fn observe(instance: &Postgres, depth: Depth) -> Observation {
    let mut seen = Observation { at: clock::now(), ..Observation::default() };
    let looked = tokio::time::timeout(BOUND, look(instance, depth, &mut seen)).await;
    if looked.is_err() {
        // A session that hangs is not asked again. Whoever holds the lock is another look, which ends by itself.
        if let Ok(mut session) = instance.session.try_lock() {
            *session = None;
        }
        seen.role = Role::Unknown;
        let message = format!("the server took longer than {} ms to answer", BOUND.as_millis());
        seen.conditions.push(bad("ServerReachable", true, message.clone(), "look at the machine's load and at the server's log"));
        seen.conditions.push(bad("Answers", false, message, "look at the machine's load and at the server's log"));
    }
    if seen.conditions.iter().all(|condition| condition.name != "DataDirectory") && depth == Depth::Full {
        seen.conditions.push(conditions::data_directory_alone(&instance.config));
    }
    seen
}

async fn look(instance: &Postgres, depth: Depth, seen: &mut Observation) {
    let mut kept = instance.session.lock().await;
    let row = match role(instance, &mut kept).await {
        Ok(row) => row,
        Err(error) => {
            *kept = None;
            unreachable(instance, &error, seen);
            return;
        }
    };
    seen.role = if row.standby { Role::Standby } else { Role::ReadWrite };
    seen.version = Some(row.version.clone());
    if depth == Depth::Full {
        match anew(instance, &mut kept).await {
            Ok(()) => {
                let message = format!("PostgreSQL {} answers at {}", row.version, instance.config.address);
                seen.conditions.push(good("ServerReachable", true, message));
            }
            Err(error) => not_let_in(instance, &error, seen),
        }
        seen.conditions.push(conditions::version(row.version_number, &row.version));
        if let Some(session) = kept.as_ref() {
            full::look(instance, session, &row, seen).await;
        }
    }
    seen.position = instance.recall().system_id.map(|system_id| {
        let history = data_directory::history(&instance.config.data_directory, row.timeline).unwrap_or_default();
        Position::Postgres(PostgresPosition { system_id, timeline: row.timeline, history: history.0, lsn: row.lsn })
    });
}

/// Puts a new session in the place of the kept one, as proof that there are new ones. Where there are none the kept one stays: by it the
/// rest is still seen.
async fn anew(instance: &Postgres, kept: &mut Option<Session>) -> Result<(), ConnectError> {
    let connected = tokio::time::timeout(LET_IN, connect::connect(&instance.config, Purpose::Observe)).await;
    let silent = |_| ConnectError::Silent(format!("no answer to a new connection within {} ms", LET_IN.as_millis()));
    *kept = Some(connected.map_err(silent)??);
    Ok(())
}

/// Asks for the role on the kept session, or on a new one where that has ended.
async fn role(instance: &Postgres, kept: &mut Option<Session>) -> Result<RoleRow, ConnectError> {
    if let Some(session) = kept.as_ref().filter(|session| !session.client.is_closed())
        && let Ok(row) = session.client.query_one(ROLE, &[]).await
    {
        return read(&row);
    }
    *kept = None;
    let session = connect::connect(&instance.config, Purpose::Observe).await?;
    let row = session.client.query_one(ROLE, &[]).await.map_err(|error| ConnectError::NotThere(tell(&error)))?;
    *kept = Some(session);
    read(&row)
}

fn read(row: &Row) -> Result<RoleRow, ConnectError> {
    let read = || -> Result<RoleRow, tokio_postgres::Error> {
        let (lsn, file_timeline): (String, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
        let control_timeline: i32 = row.try_get(5)?;
        let written = file_timeline.and_then(|text| u32::from_str_radix(&text, 16).ok());
        Ok(RoleRow {
            standby: row.try_get(0)?,
            lsn: lsn.parse().unwrap_or_default(),
            timeline: written.unwrap_or_else(|| u32::try_from(control_timeline).unwrap_or_default()),
            version: row.try_get(3)?,
            version_number: row.try_get(4)?,
        })
    };
    read().map_err(|error| ConnectError::NotThere(tell(&error)))
}

fn unreachable(instance: &Postgres, error: &ConnectError, seen: &mut Observation) {
    let running = data_directory::postmaster(&instance.config.data_directory);
    seen.role = match (error, &running) {
        (ConnectError::NotThere(_), Ok(Postmaster::Absent | Postmaster::Dead { .. })) => Role::Down,
        _ => Role::Unknown,
    };
    not_let_in(instance, error, seen);
    if let (Some(condition), Ok(Postmaster::Alive { pid, .. })) = (seen.conditions.last_mut(), running) {
        condition.message.push_str(&format!("; a server (process {pid}) holds the data directory"));
    }
}

/// The condition that nobody new gets in. What has a reason of its own is told by it too.
fn not_let_in(instance: &Postgres, error: &ConnectError, seen: &mut Observation) {
    let fault = error.fault(&instance.config);
    let reason = match error {
        ConnectError::NotYet(_) => Some("Startup"),
        ConnectError::Full(_) => Some("Connections"),
        ConnectError::Silent(_) => Some("Answers"),
        ConnectError::NotThere(_) | ConnectError::Refused(_) | ConnectError::Own(_) => None,
    };
    seen.conditions.extend(reason.map(|name| bad(name, false, fault.message.clone(), fault.hint.clone())));
    seen.conditions.push(bad("ServerReachable", true, fault.message, fault.hint));
}

/// Whether two paths are one place.
pub(crate) fn same_place(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}
