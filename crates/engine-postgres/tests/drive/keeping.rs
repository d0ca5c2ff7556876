//! One act of a keeper in a process of its own, as the owner of the data. The permit comes from the table itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::id::{BootId, CommandId, MachineId};
use muster_engine::keep::{Governed, Keep, Patience, Upstream};
use muster_engine::verbs::Engine;
use muster_engine::work::{Progress, Work};
use muster_engine_postgres::config::PostgresConfig;
use muster_engine_postgres::engine::Postgres;
use muster_failover::control::{Control, Role};
use muster_failover::here::{Here, Uptime};
use muster_failover::look::{Look, Server};
use muster_failover::permit::{Permit, Wanted, may_give_permit};
use muster_failover::reign::{Line, Reign};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{FileNotes, failed};

#[derive(Deserialize)]
pub struct Order {
    config: PostgresConfig,
    act: Act,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Look,
    TakeOver { writes: bool, governed: Governed },
    IsMarked,
    RemovePermit,
    Fence { fast_ms: u64 },
    Give { writes: bool, governed: Governed },
    Start,
    Promote,
    Follow(Upstream),
    Rejoin(Upstream),
    Slots(BTreeSet<String>),
    Govern,
}

/// A permit as the table gives one.
fn permit(writes: bool) -> Result<Permit, Fault> {
    let reign = Reign {
        epoch: muster_common::counter::Epoch(1),
        id: muster_common::id::ReignId::from_bytes([7; 16]),
        writer: "istanbul".parse().map_err(failed)?,
        parent: None,
    };
    let (machine, boot) = (MachineId::from_bytes([1; 16]), BootId::from_bytes([2; 16]));
    let here = Here { machine, boot, now: Uptime(Duration::from_secs(1)) };
    let role = if writes { Role::Writer { reign: reign.mark() } } else { Role::Follower { kept: false } };
    let control = Control {
        machine,
        boot,
        component: "orders-db".parse().map_err(failed)?,
        instance: "istanbul".parse().map_err(failed)?,
        line: Line::of(reign.mark()),
        writer: "istanbul".parse().map_err(failed)?,
        role,
        last: None,
        pledges: Vec::new(),
        rule: None,
        sequence: 0,
        others: BTreeSet::new(),
        sole: true,
    };
    let server = if writes { Server::ReadWrite } else { Server::ReadOnly };
    let look = Look { permit: false, server, locked: false, standby: !writes, position: None, clean: false, ahead_of_upstream: false };
    let wanted = if writes { Wanted::Lost } else { Wanted::Follower };
    may_give_permit(&control, &here, &look, &wanted).map_err(|refusal| failed(format!("{refusal:?}")))
}

fn work() -> Work {
    Work {
        command: CommandId::from_bytes([9; 16]),
        cancel: CancellationToken::new(),
        progress: Arc::new(tokio::sync::watch::channel(Progress::default()).0),
        notes: Arc::new(FileNotes("/nonexistent".into())),
        scratch: "/nonexistent".into(),
        threads: 1,
        repository: None,
    }
}

fn told(look: &Look) -> serde_json::Value {
    serde_json::json!({
        "permit": look.permit, "server": format!("{:?}", look.server), "locked": look.locked, "standby": look.standby,
        "position": look.position, "clean": look.clean, "ahead": look.ahead_of_upstream, "stopped": look.is_stopped(),
    })
}

pub async fn run(order: Order) -> Result<serde_json::Value, Fault> {
    let instance = Postgres::new(order.config)?;
    let kept: &dyn Keep = instance.keep().ok_or_else(|| failed("it is not to be kept"))?;
    match order.act {
        Act::Look => return kept.look().await.map(|look| told(&look)),
        Act::TakeOver { writes, governed } => kept.take_over(&permit(writes)?, &governed).await?,
        Act::IsMarked => return Ok(kept.is_marked().await?.into()),
        Act::RemovePermit => kept.remove_permit().await?,
        Act::Fence { fast_ms } => {
            kept.fence(Patience { fast: Duration::from_millis(fast_ms), immediate: Duration::from_millis(fast_ms) }).await?;
        }
        Act::Give { writes, governed } => kept.give_permit(&permit(writes)?, &governed).await?,
        Act::Start => kept.start().await?,
        Act::Promote => kept.promote().await?,
        Act::Follow(upstream) => kept.follow(&upstream).await?,
        Act::Rejoin(upstream) => return serde_json::to_value(kept.rejoin(&work(), &upstream).await?).map_err(failed),
        Act::Slots(wanted) => kept.slots(&wanted).await?,
        Act::Govern => {
            let found: BTreeMap<_, _> = kept.govern().await?.into_iter().map(|found| (found.name, (found.ok, found.message))).collect();
            return serde_json::to_value(found).map_err(failed);
        }
    }
    Ok(serde_json::Value::Null)
}
