//! One look at a kept server: permit, lock, processes, what it does, how far it is. It changes nothing.
//!
//! Whether it takes writes is known without asking it: `postmaster.pid` tells that it is ready, `pg_control` tells as what. It is asked
//! for positions only, so a server that lets nobody in is judged all the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;
use muster_failover::look::{Look, Server};
use muster_failover::position::Position;
use tokio::sync::OwnedMutexGuard;
use tokio_postgres::Row;

use crate::connect::{self, Purpose, Session};
use crate::control_file::{ControlFile, State};
use crate::data_directory::is_postgres;
use crate::engine::Postgres;
use crate::keep::lock::{self, Lock};
use crate::keep::{incomplete, permit, position, processes, upstream};
use crate::restore::off_runtime;

/// A look ends before this, whatever hangs.
const BOUND: Duration = Duration::from_millis(4_800);
/// How long the server may take to tell its position.
const ASK: Duration = Duration::from_millis(2_000);

/// One statement: no table is touched.
const WHERE: &str = "SELECT pg_is_in_recovery(), pg_backend_pid(),
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn() END::text,
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END::text,
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
    pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text,
    (SELECT status = 'streaming' FROM pg_stat_wal_receiver)";

/// What the server told.
#[derive(Clone, Debug)]
pub struct Told {
    /// It is in recovery.
    pub standby: bool,
    /// The process that answered.
    pub backend: i32,
    flushed: Option<Lsn>,
    inserts: Option<Lsn>,
    replayed: Option<Lsn>,
    received: Option<Lsn>,
    /// Of a writer.
    timeline: Option<u32>,
    /// It streams from its upstream.
    pub streams: bool,
}

/// What the disk and the process list tell.
struct Found {
    permit: bool,
    lock: Lock,
    processes: BTreeSet<i32>,
    control: Option<ControlFile>,
    standby: bool,
    _turn: OwnedMutexGuard<()>,
}

/// Looks, within 4.8 s.
///
/// # Errors
/// Where the disk or the process list cannot be read, or not in time.
pub async fn look(instance: &Postgres) -> Result<Look, Fault> {
    let looked = tokio::time::timeout(BOUND, async {
        // One at a time: threads that wait for a disk that does not answer do not pile up.
        let turn = instance.looking.clone().lock_owned().await;
        look_now(instance, turn).await
    });
    looked.await.unwrap_or_else(|_| {
        Err(Fault::refused(ErrorKind::Stalled, format!("look at {}: it took longer than {} ms", instance.config.name, BOUND.as_millis()))
            .hint("see whether the disk of the data directory answers"))
    })
}

async fn look_now(instance: &Postgres, turn: OwnedMutexGuard<()>) -> Result<Look, Fault> {
    let keeping = instance.keeping()?.clone();
    let data = instance.config.data_directory.clone();
    let found = off_runtime(move || {
        let processes = processes::of(&data)?;
        Ok(Found {
            permit: permit::path(&keeping).exists(),
            lock: lock::look(&keeping, &data)?,
            control: position::control(&data).ok(),
            standby: data.join("standby.signal").exists() && !incomplete::is(&data),
            processes,
            _turn: turn,
        })
    })
    .await?;
    let locked = matches!(found.lock, Lock::Held(_) | Lock::Empty);
    let rest = Look {
        permit: found.permit,
        server: Server::Stopped,
        locked,
        standby: found.standby,
        position: None,
        clean: false,
        ahead_of_upstream: false,
    };
    let Some(control) = found.control.clone() else {
        let server = if found.processes.is_empty() { Server::Stopped } else { Server::Unclear };
        return Ok(Look { server, ..rest });
    };
    if found.processes.is_empty() {
        // Renamed under a running server, the data directory has no process, and the server has it still.
        if elsewhere(instance, &control).await.is_some() {
            return Ok(Look { server: Server::Unclear, ..rest });
        }
        let position = at_rest(instance, &control).await?;
        return Ok(Look { clean: position::is_clean(&control), position, ..rest });
    }
    let told = ask(instance, &found.processes).await;
    let server = match &told {
        Some(told) if told.standby => Server::ReadOnly,
        Some(_) => Server::ReadWrite,
        None => by_disk(&instance.config.data_directory, &found, &control),
    };
    let position = match &told {
        Some(told) => of_running(instance, &control, told.clone()).await?,
        None => None,
    };
    let ahead = match (&told, &position) {
        (Some(told), Some(own)) if told.standby && !told.streams => upstream::is_behind(instance, own).await,
        (Some(_) | None, _) => false,
    };
    Ok(Look { server, position, ahead_of_upstream: ahead, ..rest })
}

/// What a server that lets nobody in does, by its lock file's last line and its control file.
fn by_disk(data: &Path, found: &Found, control: &ControlFile) -> Server {
    let Lock::Server(postmaster) = found.lock else { return Server::Unclear };
    if !found.processes.contains(&postmaster) {
        return Server::Unclear;
    }
    // Line 8 is the state (`miscadmin.h`, LOCK_FILE_LINE_PM_STATUS).
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let state = text.lines().nth(7).map(str::trim).unwrap_or_default();
    match (state, control.state) {
        ("ready", State::InProduction) => Server::ReadWrite,
        ("ready" | "standby", State::InArchiveRecovery) => Server::ReadOnly,
        _ => Server::Unclear,
    }
}

async fn at_rest(instance: &Postgres, control: &ControlFile) -> Result<Option<Position>, Fault> {
    let (data, control) = (instance.config.data_directory.clone(), control.clone());
    if incomplete::is(&data) {
        return Ok(None);
    }
    let known = instance.known(|known| known.end);
    let found = off_runtime(move || Ok(position::at_rest(&data, &control, known, position::ALLOWANCE))).await?;
    Ok(found.and_then(|(position, end)| {
        instance.known(|known| *known = position::Known { end: Some(end), ..position::Known::default() });
        position
    }))
}

async fn of_running(instance: &Postgres, control: &ControlFile, told: Told) -> Result<Option<Position>, Fault> {
    let data = instance.config.data_directory.clone();
    if let (Some(flushed), Some(inserts), Some(timeline)) = (told.flushed, told.inserts, told.timeline) {
        return Ok(instance.known(|known| position::writer(&data, control, timeline, flushed, inserts, known)));
    }
    let Some(replayed) = told.replayed else { return Ok(None) };
    let control = control.clone();
    off_runtime(move || Ok(position::standby(&data, &control, replayed, told.received))).await
}

/// Asks the server, on a session that is kept. `None` where it does not answer in time, or is not the one that works in these data.
pub async fn ask(instance: &Postgres, processes: &BTreeSet<i32>) -> Option<Told> {
    let asking = async {
        let mut kept = instance.keeper.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| !session.client.is_closed())
            && let Ok(row) = session.client.query_one(WHERE, &[]).await
        {
            return read(&row);
        }
        *kept = None;
        let session: Session = connect::connect(&instance.config, Purpose::Observe).await.ok()?;
        let row = session.client.query_one(WHERE, &[]).await.ok()?;
        *kept = Some(session);
        read(&row)
    };
    let told = tokio::time::timeout(ASK, asking).await;
    if told.is_err()
        && let Ok(mut kept) = instance.keeper.try_lock()
    {
        *kept = None;
    }
    told.ok().flatten().filter(|told| processes.contains(&told.backend) || works_in(told.backend, &instance.config.data_directory))
}

/// A server of this machine and of this cluster that answers at the instance's address and works in another folder.
pub async fn elsewhere(instance: &Postgres, control: &ControlFile) -> Option<i32> {
    let asking = async {
        let session = connect::connect(&instance.config, Purpose::Observe).await.ok()?;
        let sql = "SELECT pg_backend_pid(), (SELECT system_identifier FROM pg_control_system())";
        let row = session.client.query_one(sql, &[]).await.ok()?;
        let (pid, system): (i32, i64) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
        (is_postgres(pid) && system.cast_unsigned() == control.system_id).then_some(pid)
    };
    tokio::time::timeout(ASK, asking).await.ok().flatten()
}

/// The session was begun after the processes were listed.
fn works_in(pid: i32, data: &Path) -> bool {
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
    folder.is_some() && folder == data.canonicalize().ok()
}

fn read(row: &Row) -> Option<Told> {
    let lsn = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten().and_then(|text| text.parse().ok());
    let file: Option<String> = row.try_get(4).ok()?;
    let streams: Option<bool> = row.try_get(7).ok()?;
    Some(Told {
        standby: row.try_get(0).ok()?,
        backend: row.try_get(1).ok()?,
        flushed: lsn(2),
        inserts: lsn(3),
        replayed: lsn(5),
        received: lsn(6),
        timeline: file.and_then(|text| u32::from_str_radix(&text, 16).ok()),
        streams: streams.unwrap_or_default(),
    })
}
