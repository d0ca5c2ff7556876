//! What the upstream says of itself, over a replication connection: whether a follower holds more log than it.
//!
//! A follower that streams is not ahead: its upstream accepted where it began. One that does not asks.

use std::time::Duration;

use muster_common::position::{Ancestry, Lsn, PostgresPosition};
use muster_engine::keep::Upstream;
use muster_failover::position::Position;

use crate::config::{Address, PostgresConfig};
use crate::engine::Postgres;
use crate::keep::permit;
use crate::password;
use crate::replication::client::Replication;
use crate::wal::History;

/// A look waits no longer.
const ASK: Duration = Duration::from_millis(1_000);

/// Whether the upstream writes, and holds less than `own`, or has left its line before. What cannot be asked is not said.
pub async fn is_behind(instance: &Postgres, own: &Position) -> bool {
    let upstream =
        instance.keeping().ok().and_then(|keeping| permit::read(keeping).ok().flatten()).and_then(|about| about.governed.upstream);
    let Some(upstream) = upstream else { return false };
    let asked = tokio::time::timeout(ASK, position(instance.config(), &upstream)).await;
    let Ok(Some(theirs)) = asked else { return false };
    let Position::Postgres(own) = own;
    match own.compare(&theirs) {
        Ancestry::Line(order) => order.is_gt(),
        Ancestry::Diverged(_) => true,
        // Another cluster: it is told by the follower's own log, and nothing is concluded from it.
        Ancestry::Foreign => false,
    }
}

/// Where an upstream that writes is. `None`: it does not answer, lets the agent not in, or is a standby itself.
pub async fn position(own: &PostgresConfig, upstream: &Upstream) -> Option<PostgresPosition> {
    let mut connection = connect(own, upstream).await?;
    let standby = connection.show("in_hot_standby").await.ok()?;
    let system = connection.identify().await.ok()?;
    let history = match system.timeline {
        ..=1 => History::default(),
        timeline => String::from_utf8(connection.timeline_history(timeline).await.ok()?.to_vec()).ok()?.parse().ok()?,
    };
    connection.close().await;
    let lsn: Lsn = system.lsn;
    (standby == "off").then_some(PostgresPosition { system_id: system.system_id, timeline: system.timeline, history: history.0, lsn })
}

/// The major version of an upstream.
pub async fn version(own: &PostgresConfig, upstream: &Upstream) -> Option<u32> {
    let mut connection = connect(own, upstream).await?;
    let number: u32 = connection.show("server_version_num").await.ok()?.parse().ok()?;
    connection.close().await;
    Some(number / 10_000)
}

async fn connect(own: &PostgresConfig, upstream: &Upstream) -> Option<Replication> {
    let address = if upstream.host.starts_with('/') {
        Address::Socket { folder: upstream.host.clone().into(), port: upstream.port }
    } else {
        Address::Tcp { host: upstream.host.clone(), port: upstream.port }
    };
    let config = PostgresConfig { address, user: upstream.user.clone(), password_file: None, ..own.clone() };
    let word = match &upstream.pass_file {
        Some(file) => password::find_in(file, &config.address, "replication", &config.user).ok()?,
        None => None,
    };
    Replication::connect_with(&config, word).await.ok()
}
