//! The record of each shard: begun at the first look at a sole writer, moved by a restore of the writer in place, never lowered.

use muster_common::counter::Epoch;
use muster_common::id::ReignId;
use muster_common::name::{InstanceName, Name};
use muster_failover::reign::Reign;
use muster_failover::shard::{Refused, ShardRecord};
use muster_wire::proto::v1::ResourceKind;
use muster_wire::proto::v1::resource::Spec;

use crate::store::error::StoreError;
use crate::store::shards::Kept;
use crate::store::{Connection, resources, shards};

/// That an epoch moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The epoch before.
    pub from: Epoch,
    /// The epoch that began.
    pub to: Epoch,
    /// Instances that hold what the writer no longer has.
    pub superseded: Vec<Name>,
}

/// An instance was restored in its own place. `promised` is the epoch that its agent was told would begin, 0: none. `None`: it is not the
/// writer, or no writer is known, or the agent told of the promised epoch before its outcome came and it was adopted then.
///
/// # Errors
/// The store's; inside, that epochs are used up.
pub async fn restored_in_place(
    connection: &mut Connection,
    target: &InstanceName,
    promised: Epoch,
) -> Result<Result<Option<Moved>, Refused>, StoreError> {
    let mut kept = shards::get(connection, &target.component).await?;
    let Some(record) = &kept.record else { return Ok(Ok(None)) };
    let others = instances(connection, &target.component).await?;
    let from = record.reign.epoch;
    if promised != Epoch(0) && from >= promised {
        return Ok(Ok(None));
    }
    let next = match record.restored_in_place(&target.instance, from, &others, ReignId::from_bytes(rand::random())) {
        Ok(next) => next,
        Err(refused) => return Ok(Err(refused)),
    };
    let moved =
        (next.reign.epoch != from).then(|| Moved { from, to: next.reign.epoch, superseded: next.superseded.iter().cloned().collect() });
    kept.floor = kept.floor.max(next.reign.epoch);
    kept.record = Some(next);
    shards::put(connection, &target.component, &kept).await?;
    Ok(Ok(moved))
}

/// `writer` was seen as the only instance that takes writes: where no writer is known yet its reign begins, in epoch 1 or in the highest
/// one that an agent remembers. Tells whether it began.
///
/// # Errors
/// The store's.
pub async fn begin(connection: &mut Connection, component: &Name, writer: &Name) -> Result<bool, StoreError> {
    let mut kept = shards::get(connection, component).await?;
    if kept.record.is_some() {
        return Ok(false);
    }
    kept.record = Some(first(writer, &kept, ReignId::from_bytes(rand::random())));
    kept.floor = kept.floor.max(Epoch(1));
    shards::put(connection, component, &kept).await?;
    Ok(true)
}

fn first(writer: &Name, kept: &Kept, id: ReignId) -> ShardRecord {
    let fresh = ShardRecord::first(writer.clone(), kept.floor_reign.unwrap_or(id));
    let epoch = fresh.reign.epoch.max(kept.floor);
    ShardRecord { reign: Reign { epoch, ..fresh.reign }, ..fresh }
}

/// An agent remembers `epoch` of an instance: where it is higher than ours it is adopted. Tells whether it was.
///
/// # Errors
/// The store's.
pub async fn adopt(connection: &mut Connection, instance: &InstanceName, epoch: Epoch, reign: Option<ReignId>) -> Result<bool, StoreError> {
    let mut kept = shards::get(connection, &instance.component).await?;
    let known = kept.record.as_ref().map_or(kept.floor, |record| record.reign.epoch);
    if epoch <= known {
        return Ok(false);
    }
    let others = instances(connection, &instance.component).await?;
    // The id of the reign that we know cannot be the id of a later one.
    let present = kept.record.as_ref().map(|record| record.reign.id);
    let id = reign.filter(|id| Some(*id) != present).unwrap_or_else(|| ReignId::from_bytes(rand::random()));
    kept.record = kept.record.map(|record| record.adopted(epoch, id, &others));
    kept.floor = epoch;
    kept.floor_reign = Some(id);
    shards::put(connection, &instance.component, &kept).await?;
    Ok(true)
}

/// The names of a component's declared instances.
async fn instances(connection: &mut Connection, component: &Name) -> Result<Vec<Name>, StoreError> {
    let Some(declared) = resources::get(connection, ResourceKind::Component, component).await? else { return Ok(Vec::new()) };
    let spec = match declared.spec {
        Spec::Component(spec) => spec,
        Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_) => return Ok(Vec::new()),
    };
    let name =
        |instance: &muster_wire::proto::v1::InstanceSpec| if instance.name.is_empty() { &instance.site } else { &instance.name }.parse();
    Ok(spec.instances.iter().filter_map(|instance| name(instance).ok()).collect())
}
