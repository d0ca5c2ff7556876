//! Taking over a server that runs, without a restart or an interruption: permit, include line, reload, mark, in this order. Killed
//! between any two, nothing is worse than before, and the same call finishes.

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::Governed;
use muster_failover::permit::Permit;

use crate::engine::Postgres;
use crate::keep::{conf, give, govern, hit, incomplete, io, managers, mark, permit, server};
use crate::observe::conditions::OLDEST_MAJOR;
use crate::restore::off_runtime;

/// Whether it may be taken over. Changes nothing but that the run folder is there.
///
/// # Errors
/// What stands against it.
pub async fn may(instance: &Postgres) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    let config = instance.config.clone();
    let place = keeping.clone();
    off_runtime(move || {
        permit::run_folder(&place)?;
        incomplete::refuse(&data)?;
        managers::refuse(&config, &data)?;
        let major = server::major(&data)?;
        if i64::from(major) < i64::from(OLDEST_MAJOR) {
            return Err(Fault::refused(ErrorKind::NotAvailable, format!("PostgreSQL {major} is older than {OLDEST_MAJOR}"))
                .hint(format!("upgrade the cluster to PostgreSQL {OLDEST_MAJOR} or newer")));
        }
        let path = give::configuration(&config, &data);
        let text = std::fs::read_to_string(&path).map_err(|error| io("read", &path, &error))?;
        if let Some(behind) = conf::behind_include(&text, &permit::path(&place)).filter(|behind| !behind.is_empty()) {
            let mut fault = Fault::refused(
                ErrorKind::FailedPrecondition,
                format!("the permit's include line is not the last one of {}", path.display()),
            );
            fault.evidence = behind;
            return Err(fault.hint("move the lines behind it above it"));
        }
        rustix::fs::access(&path, rustix::fs::Access::WRITE_OK)
            .map_err(|error| io("write", &path, &error.into()).effect(muster_common::fault::Effect::None))
    })
    .await?;
    // The configuration that the agent writes is the one that the server reads.
    let session = server::session(instance).await?;
    let asked = session.client.query_one("SELECT setting FROM pg_settings WHERE name = 'config_file'", &[]).await;
    let file: Option<String> = asked.ok().and_then(|row| row.try_get(0).ok());
    let own = give::configuration(&instance.config, &instance.config.data_directory);
    match file {
        Some(file) if !crate::observe::same_place(file.as_ref(), &own) => Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("{} is configured by {file}, not by {}", instance.config.name, own.display()),
        )
        .hint(format!("set the instance's configFile to {file}"))),
        Some(_) | None => Ok(()),
    }
}

/// Takes it over.
///
/// # Errors
/// As [`may`], or where the server does not go by its permit.
pub async fn take_over(instance: &Postgres, permit: &Permit, governed: &Governed) -> Result<(), Fault> {
    may(instance).await?;
    let (keeping, data) = instance.kept()?;
    if server::postmaster(instance)?.is_none() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("take {} over: it does not run", instance.config.name))
            .hint("start the server as you always did, then take it over"));
    }
    let follower = data.join("standby.signal").exists();
    if permit.writes().is_none() != follower {
        let is = if follower { "a standby" } else { "no standby" };
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("take {} over: it is {is}", instance.config.name))
            .hint("name the instance that takes writes as the writer, and the others as its followers"));
    }
    let about = give::about(&instance.config, permit.writes(), governed, true)?;
    let (config, place) = (instance.config.clone(), keeping.clone());
    let folder = data.clone();
    off_runtime(move || {
        permit::write(&place, &permit::text(&about, server::major(&folder)?)?)?;
        hit("postgres.take_over.permit")?;
        give::ask_for_it(&place, &config, &folder)?;
        hit("postgres.take_over.include")
    })
    .await?;
    // What ALTER SYSTEM had set would win over it.
    govern::govern(instance).await?;
    server::reload(instance).await?;
    hit("postgres.take_over.reloaded")?;
    off_runtime(move || mark::put(&keeping, &data)).await?;
    hit("postgres.take_over.marked")
}
