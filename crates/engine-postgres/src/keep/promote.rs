//! Makes a standby that runs a writer. Its permit was written before, and nobody has read it yet: until it is read the promoted server
//! acknowledges nothing.

use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use rustix::process::Signal;

use crate::engine::Postgres;
use crate::keep::{hit, io, permit, processes, server};

/// What it has received is replayed first; that may take a while.
const PROMOTED: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_millis(20);

/// Promotes. One that is a writer already reads its permit, and is asked whether it goes by it.
///
/// # Errors
/// Where it has no writer's permit, does not run, does not become one, or goes by other settings.
pub async fn promote(instance: &Postgres) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    let name = &instance.config.name;
    if permit::read(&keeping)?.is_none_or(|about| about.writes.is_none()) {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("promote {name}: it has no writer's permit"))
            .hint("promotions are operations: muster switchover, muster failover"));
    }
    let Some(postmaster) = server::postmaster(instance)? else {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("promote {name}: it does not run")).hint("its log tells why"));
    };
    if is_standby(instance).await? {
        // What `pg_ctl promote` does; `pg_promote()` would need a right and a free connection.
        let path = data.join("promote");
        std::fs::write(&path, b"").map_err(|error| io("write", &path, &error))?;
        processes::signal(postmaster, Signal::USR1);
        let begun = Instant::now();
        while is_standby(instance).await? {
            if begun.elapsed() >= PROMOTED {
                return Err(Fault::failed(
                    ErrorKind::Stalled,
                    format!("promote {name}: it is still in recovery after {} s", PROMOTED.as_secs()),
                )
                .hint("its log tells how far it has replayed"));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    hit("postgres.promote.promoted")?;
    server::reload(instance).await
}

async fn is_standby(instance: &Postgres) -> Result<bool, Fault> {
    let doing = "ask whether it is in recovery";
    let mut kept = instance.keeper.lock().await;
    if let Some(session) = kept.as_ref().filter(|session| !session.client.is_closed())
        && let Ok(row) = session.client.query_one("SELECT pg_is_in_recovery()", &[]).await
    {
        return row.try_get(0).map_err(|error| server::refused(doing, &error));
    }
    let session = server::session_soon(instance).await?;
    let row = session.client.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(|error| server::refused(doing, &error))?;
    *kept = Some(session);
    row.try_get(0).map_err(|error| server::refused(doing, &error))
}
