//! The running server of a kept instance: a session with it, its configuration read again, and proof that it goes by its permit.

use std::path::Path;
use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use rustix::process::Signal;

use crate::connect::{self, Purpose, Session, tell};
use crate::engine::Postgres;
use crate::keep::lock::{self, Lock};
use crate::keep::permit::{self, About};
use crate::keep::processes;

/// A server reads its configuration again in so long.
const RELOAD: Duration = Duration::from_secs(10);
/// A restart and a busy machine take so long to let the agent in.
const LET_IN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(25);

/// A session for an act.
///
/// # Errors
/// Where the server lets nobody in.
pub async fn session(instance: &Postgres) -> Result<Session, Fault> {
    connect::connect(&instance.config, Purpose::Observe).await.map_err(|error| error.fault(&instance.config))
}

/// A session, as soon as the server lets the agent in.
///
/// # Errors
/// As [`session`], after half a minute.
pub async fn session_soon(instance: &Postgres) -> Result<Session, Fault> {
    let begun = Instant::now();
    loop {
        match session(instance).await {
            Err(_) if begun.elapsed() < LET_IN => tokio::time::sleep(AGAIN).await,
            answer => return answer,
        }
    }
}

/// A failed statement as a fault.
#[must_use]
pub fn refused(doing: &str, error: &tokio_postgres::Error) -> Fault {
    Fault::failed(ErrorKind::FailedPrecondition, format!("{doing}: {}", tell(error)))
        .hint("see the server's log; a right that lacks is granted by a superuser")
}

/// The postmaster that works in the data directory.
///
/// # Errors
/// Where the machine's processes cannot be listed.
pub fn postmaster(instance: &Postgres) -> Result<Option<i32>, Fault> {
    let (keeping, data) = instance.kept()?;
    match lock::look(&keeping, &data)? {
        Lock::Server(pid) if processes::of(&data)?.contains(&pid) => Ok(Some(pid)),
        Lock::Server(_) | Lock::Free | Lock::Held(_) | Lock::Empty | Lock::Stale => Ok(None),
    }
}

/// The major version of the data.
///
/// # Errors
/// Where `PG_VERSION` cannot be read.
pub fn major(data: &Path) -> Result<u32, Fault> {
    let path = data.join("PG_VERSION");
    let text = std::fs::read_to_string(&path).map_err(|error| crate::keep::io("read", &path, &error))?;
    text.trim().parse().map_err(|_| Fault::refused(ErrorKind::FailedPrecondition, format!("{} names no version", path.display())))
}

/// Has the server read its configuration, and reads back that it goes by its permit. No role's or database's own setting is meant.
///
/// # Errors
/// Where it does not: with what it goes by, and where that comes from.
pub async fn reload(instance: &Postgres) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    let Some(about) = permit::read(&keeping)? else {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} runs without a permit", instance.config.name)));
    };
    if let Some(pid) = postmaster(instance)? {
        processes::signal(pid, Signal::HUP);
    }
    let wanted = permit::settings(&about, major(&data)?);
    let session = session_soon(instance).await?;
    let begun = Instant::now();
    loop {
        let other = differs(&session, &about, &wanted).await?;
        if other.is_empty() {
            return Ok(());
        }
        if begun.elapsed() >= RELOAD {
            let mut fault = Fault::failed(
                ErrorKind::FailedPrecondition,
                format!("{} does not go by its permit {}", instance.config.name, permit::path(&keeping).display()),
            );
            fault.evidence = other;
            return Err(fault.hint("see that the include line is the last one of the configuration that the server uses, and what pg_settings.sourcefile names; SELECT * FROM pg_file_settings WHERE error IS NOT NULL"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What a running server goes by instead of its permit. What it does not show to this role is left out.
async fn differs(session: &Session, about: &About, wanted: &[permit::Setting]) -> Result<Vec<String>, Fault> {
    let doing = "read the settings back";
    let row =
        session.client.query_one("SELECT current_setting($1, true)", &[&permit::TOKEN]).await.map_err(|error| refused(doing, &error))?;
    let token: Option<String> = row.try_get(0).map_err(|error| refused(doing, &error))?;
    if token.as_deref() != Some(about.token.as_str()) {
        return Ok(vec!["it has not read this permit".into()]);
    }
    let names: Vec<&str> =
        wanted.iter().map(|(name, _)| *name).filter(|name| *name != permit::TOKEN && *name != "data_directory").collect();
    let sql = "SELECT name, setting, source, coalesce(sourcefile, '') FROM pg_settings WHERE name = ANY($1::text[])";
    let rows = session.client.query(sql, &[&names]).await.map_err(|error| refused(doing, &error))?;
    let mut other = Vec::new();
    for row in rows {
        let read = || -> Result<(String, Option<String>, String, String), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (name, is, source, file) = read().map_err(|error| refused(doing, &error))?;
        let own = matches!(source.as_str(), "user" | "database" | "database user" | "client" | "session");
        let Some((_, value)) = wanted.iter().find(|(wanted, _)| *wanted == name) else { continue };
        if !own && is.as_deref() != Some(value.as_str()) {
            other.push(format!("{name} comes from {source} {file}"));
        }
    }
    Ok(other)
}
