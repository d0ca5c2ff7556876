//! The first look at who writes: a component of which exactly one instance was seen to take writes gets its first reign.
//!
//! It also watches over the journal: when another controller rules on the store, this task ends, and with it the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_wire::proto::v1::{InstanceRole, ResourceKind};

use crate::failover;
use crate::operation::accept;
use crate::operation::fleet::Fleet;
use crate::operation::shared::Shared;
use crate::store::{resources, shards};

/// Looks are as far apart, however many observations come.
const PAUSE: Duration = Duration::from_millis(500);
/// Components that are looked at.
const MOST: u32 = 100_000;

/// Runs until the process stops or rules no longer.
pub(super) async fn watch_over(shared: Arc<Shared>) {
    let stop = shared.gate.token().clone();
    let mut changes = shared.observations.changes();
    loop {
        if let Err(fault) = begin_reigns(&shared).await {
            if shared.superseded.is_cancelled() {
                say_superseded(&shared);
                return;
            }
            tracing::error!(%fault, "who writes cannot be recorded; it is tried again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.superseded.cancelled() => {
                say_superseded(&shared);
                return;
            }
            () = next_look(&mut changes) => {}
        }
    }
}

fn say_superseded(shared: &Shared) {
    tracing::error!(term = %shared.store.term(), "another controller rules on this store: this process ends");
}

async fn next_look(changes: &mut tokio::sync::watch::Receiver<u64>) {
    tokio::time::sleep(PAUSE).await;
    if changes.changed().await.is_err() {
        // Nobody observes any more: the process stops.
        std::future::pending::<()>().await;
    }
}

/// Begins the reigns that can be begun.
async fn begin_reigns(shared: &Shared) -> Result<(), Fault> {
    let mut read = shared.store.read().await?;
    let known: BTreeSet<Name> =
        shards::all(&mut read).await?.into_iter().filter(|(_, kept)| kept.record.is_some()).map(|(name, _)| name).collect();
    let mut writers = Vec::new();
    for declared in resources::list(&mut read, ResourceKind::Component, None, MOST).await? {
        if !known.contains(&declared.name) {
            let fleet = accept::fleet(shared, &mut read, &declared.name).await?;
            writers.extend(sole_writer(&fleet).map(|writer| (declared.name, writer)));
        }
    }
    drop(read);
    for (component, writer) in writers {
        let mut write = shared.write().await?;
        if failover::shards::begin(write.connection(), &component, &writer).await? {
            write.commit().await?;
            tracing::info!(%component, %writer, "the first reign: it was seen as the only instance that takes writes");
            shared.hub.shard_changed();
        }
    }
    Ok(())
}

/// The one instance that takes writes; `None` where none or more than one does.
#[must_use]
pub fn sole_writer(fleet: &Fleet) -> Option<Name> {
    let mut writers = fleet.instances.iter().filter(|instance| instance.role == InstanceRole::ReadWrite);
    match (writers.next(), writers.next()) {
        (Some(writer), None) => Some(writer.name.clone()),
        (None, _) | (Some(_), Some(_)) => None,
    }
}
