//! The permit is given: the configuration is made to ask for it, the lock goes, the file appears, and a server that runs reads it.

use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{Governed, Keeping};
use muster_failover::permit::Permit;
use muster_failover::reign::Mark;

use crate::config::PostgresConfig;
use crate::data_directory::is_postgres;
use crate::engine::Postgres;
use crate::keep::permit::{self, About};
use crate::keep::{conf, hit, incomplete, io, lock, mark, processes, server};
use crate::restore::{folders, off_runtime};

/// Gives it.
///
/// # Errors
/// Where the data are half-made, the files cannot be written, or the server does not go by it.
pub async fn give(instance: &Postgres, permit: &Permit, governed: &Governed) -> Result<(), Fault> {
    give_for(instance, permit.writes(), governed).await
}

/// The same, for who knows what the permit says.
///
/// # Errors
/// As [`give`].
pub(super) async fn give_for(instance: &Postgres, writes: Option<Mark>, governed: &Governed) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    let config = instance.config.clone();
    let runs = server::postmaster(instance)?.is_some();
    let standby = data.join("standby.signal").exists();
    if writes.is_none() && (governed.upstream.is_none() || !standby) {
        let why = if standby { "no upstream is declared for it" } else { "its data do not start as a standby" };
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} gets no follower's permit: {why}", config.name))
            .hint("follow an upstream first: muster rejoin NAME"));
    }
    let about = about(&config, writes, governed, runs)?;
    off_runtime(move || prepare(&keeping, &config, &data, &about, runs)).await?;
    hit("postgres.give.permit")?;
    // A standby that is to be promoted reads it after: until then it acknowledges nothing.
    if runs && !(standby && writes.is_some()) { server::reload(instance).await } else { Ok(()) }
}

fn prepare(keeping: &Keeping, config: &PostgresConfig, data: &Path, about: &About, runs: bool) -> Result<(), Fault> {
    incomplete::refuse(data)?;
    let text = permit::text(about, server::major(data)?)?;
    permit::run_folder(keeping)?;
    ask_for_it(keeping, config, data)?;
    mark::put(keeping, data)?;
    if !runs {
        drop_overrides(data)?;
        // Somebody's shell in the folder is no server.
        if !processes::of(data)?.into_iter().any(is_postgres) {
            lock::release(keeping, data)?;
        }
    }
    hit("postgres.give.prepared")?;
    permit::write(keeping, &text)
}

/// What the permit is written from. A server that runs names its data directory itself: another way to write it would be a change.
///
/// # Errors
/// Where the running server's lock file cannot be read.
pub fn about(config: &PostgresConfig, writes: Option<Mark>, governed: &Governed, runs: bool) -> Result<About, Fault> {
    let path = config.data_directory.join("postmaster.pid");
    let named = match std::fs::read_to_string(&path) {
        Ok(text) if runs => text.lines().nth(1).map(PathBuf::from),
        Ok(_) => None,
        Err(error) if error.kind() == Io::NotFound => None,
        Err(error) => return Err(io("read", &path, &error)),
    };
    Ok(About {
        writes,
        governed: Governed { upstream: governed.upstream.clone().filter(|_| writes.is_none()), ..governed.clone() },
        data_directory: named.unwrap_or_else(|| config.data_directory.clone()),
        token: format!("{}-{}", crate::clock::now().0, rustix::process::getpid().as_raw_nonzero()),
    })
}

/// The configuration that the server is started with.
#[must_use]
pub fn configuration(config: &PostgresConfig, data: &Path) -> PathBuf {
    config.config_file.clone().unwrap_or_else(|| data.join("postgresql.conf"))
}

/// Makes the include line of this instance's permit the last line of the configuration. Written is written.
///
/// # Errors
/// Where the configuration cannot be read or written.
pub fn ask_for_it(keeping: &Keeping, config: &PostgresConfig, data: &Path) -> Result<(), Fault> {
    let path = configuration(config, data);
    let text = std::fs::read_to_string(&path).map_err(|error| io("read", &path, &error))?;
    let wanted = conf::with_include(&text, &permit::path(keeping));
    if wanted == text {
        return Ok(());
    }
    replace(&path, &wanted)
}

/// Replaces a configuration whole, with its mode kept.
///
/// # Errors
/// Where it cannot be written.
pub fn replace(path: &Path, text: &str) -> Result<(), Fault> {
    // A link stays a link: what it leads to is replaced.
    let path = path.canonicalize().map_err(|error| io("find", path, &error))?;
    let mode = std::fs::metadata(&path).map_err(|error| io("look at", &path, &error))?.permissions();
    folders::write(&path, text.as_bytes())?;
    std::fs::set_permissions(&path, mode).map_err(|error| io("write", &path, &error))?;
    path.parent().map_or(Ok(()), folders::sync)
}

/// What a permit governs, in whatever way it is given.
pub const GOVERNED: [&str; 6] = [
    "data_directory",
    "primary_conninfo",
    "primary_slot_name",
    "synchronous_standby_names",
    "default_transaction_read_only",
    permit::TOKEN,
];

/// Takes governed settings out of `postgresql.auto.conf`, which wins over the permit. The server is stopped.
///
/// # Errors
/// Where the file cannot be written.
pub fn drop_overrides(data: &Path) -> Result<(), Fault> {
    let path = data.join("postgresql.auto.conf");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == Io::NotFound => return Ok(()),
        Err(error) => return Err(io("read", &path, &error)),
    };
    if conf::sets(&text, &GOVERNED).is_empty() {
        return Ok(());
    }
    tracing::info!(path = %path.display(), "governed settings are taken out of it");
    replace(&path, &conf::without(&text, &GOVERNED))
}
