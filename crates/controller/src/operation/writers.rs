//! The first look at who writes: a component of which exactly one instance was seen to take writes gets its first reign.
//!
//! It also watches over the journal: when another controller rules on the store, this task ends, and with it the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// All components are looked at so often, and at others those whose instances turned: an observation that grew old tells nobody.
const ALL: Duration = Duration::from_secs(30);
/// Components that are looked at.
const MOST: u32 = 100_000;
/// The most reigns that begin in one transaction: others want to write too.
const AT_ONCE: usize = 200;

/// Runs until the process stops or rules no longer.
pub(super) async fn watch_over(shared: Arc<Shared>) {
    let stop = shared.gate.token().clone();
    let mut changes = shared.observations.changes();
    let mut all: Option<Instant> = None;
    loop {
        let turned = shared.observations.take_turned();
        let is_whole = all.is_none_or(|at| at.elapsed() >= ALL);
        if is_whole {
            all = Some(Instant::now());
        }
        if let Err(fault) = look(&shared, if is_whole { None } else { Some(turned) }).await {
            if shared.superseded.is_cancelled() {
                say_superseded(&shared);
                return;
            }
            tracing::error!(%fault, "who writes cannot be recorded; it is tried again");
            all = None;
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

/// Begins the reigns that can be begun, of these components or of all.
async fn look(shared: &Shared, of: Option<BTreeSet<Name>>) -> Result<(), Fault> {
    if of.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(());
    }
    let writers = sole_writers(shared, of).await?;
    for writers in writers.chunks(AT_ONCE) {
        let mut write = shared.write().await?;
        let mut begun = Vec::new();
        for (component, writer) in writers {
            if failover::shards::begin(write.connection(), component, writer).await? {
                begun.push((component, writer));
            }
        }
        write.commit().await?;
        for (component, writer) in &begun {
            tracing::info!(%component, %writer, "the first reign: it was seen as the only instance that takes writes");
        }
        if !begun.is_empty() {
            shared.hub.shard_changed();
        }
    }
    Ok(())
}

/// The components without a reign whose one writer is seen.
async fn sole_writers(shared: &Shared, of: Option<BTreeSet<Name>>) -> Result<Vec<(Name, Name)>, Fault> {
    let mut read = shared.store.read().await?;
    let unknown: Vec<Name> = match of {
        Some(turned) => {
            let mut unknown = Vec::new();
            for component in turned {
                if shards::get(&mut read, &component).await?.record.is_none()
                    && resources::get(&mut read, ResourceKind::Component, &component).await?.is_some()
                {
                    unknown.push(component);
                }
            }
            unknown
        }
        None => {
            let known: BTreeSet<Name> =
                shards::all(&mut read).await?.into_iter().filter(|(_, kept)| kept.record.is_some()).map(|(name, _)| name).collect();
            let names = resources::names(&mut read, ResourceKind::Component, MOST).await?;
            names.into_iter().filter(|name| !known.contains(name)).collect()
        }
    };
    let mut writers = Vec::new();
    for component in unknown {
        let fleet = accept::fleet(shared, &mut read, &component).await?;
        writers.extend(sole_writer(&fleet).map(|writer| (component, writer)));
    }
    Ok(writers)
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
