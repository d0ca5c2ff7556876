//! Waits for a restored server: it lives, replays, is promoted, accepts connections.

use std::path::Path;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::{Lsn, PostgresPosition};
use muster_engine::work::Work;

use crate::backup::cancelled;
use crate::config::{Address, PostgresConfig};
use crate::connect::{self, ConnectError, Purpose, tell};
use crate::control::pg_ctl::PgCtl;
use crate::data_directory::{self, Postmaster};
use crate::point::PostgresPoint;
use crate::wal_get;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// A server that is gone counts as gone after so many looks.
const GONE: u32 = 10;

/// What came up.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// It was asked where it is.
    At(PostgresPosition),
    /// It accepts connections, and refuses this role's login.
    LoginRefused(String),
}

/// Waits for the server in `data`. `log_from`: how long its log was before it was started.
///
/// # Errors
/// Where it ended, came up as another cluster, or the work is cancelled.
pub async fn wait(
    work: &Work,
    config: &PostgresConfig,
    address: &Address,
    data: &Path,
    server: &PgCtl,
    log_from: u64,
    known: &PostgresPoint,
) -> Result<Arrival, Fault> {
    let mut gone = 0;
    loop {
        match data_directory::postmaster(data) {
            Ok(Postmaster::Alive { .. }) => gone = 0,
            Ok(Postmaster::Absent | Postmaster::Dead { .. }) | Err(_) => gone += 1,
        }
        if gone >= GONE {
            return Err(Fault::failed(
                ErrorKind::FailedPrecondition,
                format!("the restored server in {} ended before it accepted connections", data.display()),
            )
            .evidence(server.log_tail(log_from))
            .hint(format!("the server's log {} tells why", server.log().display())));
        }
        match connect::connect_to(config, address, Purpose::Observe).await {
            Ok(session) => {
                if let Some(position) = ask(&session, data).await? {
                    return check(position, known).map(Arrival::At);
                }
            }
            Err(ConnectError::Refused(why)) => return Ok(Arrival::LoginRefused(why)),
            Err(ConnectError::Own(fault)) => return Ok(Arrival::LoginRefused(fault.message)),
            Err(ConnectError::NotThere(_) | ConnectError::NotYet(_) | ConnectError::Full(_) | ConnectError::Silent(_)) => {}
        }
        let served = std::fs::metadata(data.join(wal_get::FOLDER).join(wal_get::SERVED)).map_or(0, |meta| meta.len());
        work.tell(|progress| {
            progress.phase = format!("replaying ({served} log files)");
        });
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = work.cancel.cancelled() => return Err(cancelled()),
        }
    }
}

/// Where it is; `None` while it replays.
async fn ask(session: &connect::Session, data: &Path) -> Result<Option<PostgresPosition>, Fault> {
    let sql = "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()),
        CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn()::text END,
        CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
    let read = match session.client.query_one(sql, &[]).await {
        Ok(row) => (|| {
            Ok::<_, tokio_postgres::Error>((
                row.try_get::<_, bool>(0)?,
                row.try_get::<_, i64>(1)?,
                row.try_get::<_, Option<String>>(2)?,
                row.try_get::<_, Option<String>>(3)?,
            ))
        })(),
        // It goes on starting up, or the connection was cut: asked again.
        Err(error) => {
            tracing::debug!("ask the restored server: {}", tell(&error));
            return Ok(None);
        }
    };
    let (replaying, system_id, lsn, timeline) =
        read.map_err(|error| Fault::failed(ErrorKind::Internal, format!("the restored server: {}", tell(&error))))?;
    let (false, Some(lsn), Some(timeline)) = (replaying, lsn, timeline) else { return Ok(None) };
    let timeline = u32::from_str_radix(&timeline, 16).unwrap_or_default();
    let history = data_directory::history(data, timeline).unwrap_or_default().0;
    Ok(Some(PostgresPosition { system_id: system_id.cast_unsigned(), timeline, history, lsn: lsn.parse().unwrap_or(Lsn(0)) }))
}

fn check(position: PostgresPosition, known: &PostgresPoint) -> Result<PostgresPosition, Fault> {
    let wrong = |what: String| Err(Fault::failed(ErrorKind::Internal, what).hint("please report this with the server's log"));
    if position.system_id != known.system_id {
        return wrong(format!("the server that answers is of cluster {}, the point of {}", position.system_id, known.system_id));
    }
    if position.timeline <= known.timeline || position.lsn < Lsn(known.end_lsn) {
        return wrong(format!(
            "the restored server is at {position}; the point ends at {} on timeline {}",
            Lsn(known.end_lsn),
            known.timeline
        ));
    }
    Ok(position)
}
