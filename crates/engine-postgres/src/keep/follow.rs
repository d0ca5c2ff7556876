//! The data start as a standby from now on. The follower's permit, which names the upstream, comes after; a follower that runs
//! changes its upstream by reading a new one.

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{Governed, Upstream};

use crate::engine::Postgres;
use crate::keep::{give, hit, incomplete, permit, server};
use crate::restore::{folders, off_runtime};

/// Follows.
///
/// # Errors
/// Where the server runs as something else than a follower, or the data cannot be changed.
pub async fn follow(instance: &Postgres, upstream: &Upstream) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    incomplete::refuse(&data)?;
    if !data.join("PG_VERSION").is_file() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} has no data in {}", instance.config.name, data.display()))
            .hint("muster rejoin NAME copies the writer there"));
    }
    if server::postmaster(instance)?.is_some() {
        let follower = data.join("standby.signal").exists() && permit::read(&keeping)?.is_none_or(|about| about.writes.is_none());
        if !follower {
            return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} runs and is no follower", instance.config.name))
                .hint("stop it first: muster fence NAME"));
        }
        let governed = Governed { upstream: Some(upstream.clone()), synchronous_standby_names: None };
        return give::give_for(instance, None, &governed).await;
    }
    off_runtime(move || {
        folders::write(&data.join("standby.signal"), b"")?;
        folders::remove(&data.join("recovery.signal"))?;
        folders::sync(&data)?;
        hit("postgres.follow.standby")?;
        give::drop_overrides(&data)
    })
    .await
}
