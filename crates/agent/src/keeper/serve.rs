//! The keepers' loop: each instance is looked at each second; what its keeper knows is reported when it changes.

use std::sync::Arc;
use std::time::Duration;

use muster_common::name::InstanceName;
use muster_failover::control::Role;
use muster_failover::directive::Kept;
use muster_failover::here::Uptime;
use muster_service::tasks::TaskGate;
use muster_wire::failover::kept::kept_to_proto;
use tokio::time::{Instant, MissedTickBehavior};

use crate::agent::Agent;
use crate::assignment::force::Instance;
use crate::duty::each::{Begun, each};

/// How often each is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The longest silence between two reports, and how often governed settings are looked at.
const FULL: Duration = Duration::from_secs(10);

/// Keeps what is assigned, until the gate closes.
pub async fn serve(agent: Arc<Agent>, gate: TaskGate) {
    let begin = |name: InstanceName, begun: Begun| {
        let looks = keep(agent.clone(), name.clone(), gate.clone());
        gate.spawn(format!("keep {name}"), tracing::Span::none(), async move {
            let _begun = begun;
            looks.await;
        });
    };
    each(&agent, &gate, |instance| instance.engine.keep().is_some(), begin).await;
}

async fn keep(agent: Arc<Agent>, name: InstanceName, gate: TaskGate) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let keeper = agent.keepers.of(&name);
    let mut told: Option<(Kept, Instant)> = None;
    let mut session = agent.outbox.sessions();
    let mut governed: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = gate.token().cancelled() => return,
        }
        // An assignment that no longer names it leaves its control file and its permit as they are: nobody said to stop it.
        let Some(instance) = agent.assignments.current().instances.get(&name).cloned() else { return };
        // Not cut off by the gate: an act that has begun is better finished, and the process ends it where it cannot be.
        agent.keepers.tend(&instance).await;
        if governed.is_none_or(|at| at.elapsed() >= FULL) {
            governed = Some(Instant::now());
            keeper.remember_governed(govern(&agent, &instance).await);
        }
        if agent.outbox.sessions() != session {
            session = agent.outbox.sessions();
            told = None;
        }
        let Some(kept) = keeper.last() else { continue };
        if told.as_ref().is_none_or(|(before, at)| at.elapsed() >= FULL || is_news(before, &kept)) {
            agent.outbox.kept(&name, kept_to_proto(&kept));
            told = Some((kept, Instant::now()));
        }
    }
}

/// Whether something else than time and position differs.
fn is_news(before: &Kept, now: &Kept) -> bool {
    let timeless = |kept: &Kept| Kept { now: Uptime::default(), position: None, ..kept.clone() };
    timeless(before) != timeless(now)
}

/// Settings that something else decides are found, and ended where that can be. Only of what runs under a permit.
async fn govern(agent: &Agent, instance: &Instance) -> Vec<muster_engine::observation::Condition> {
    let keeper = agent.keepers.of(&instance.name);
    let Some(keep) = instance.engine.keep() else { return Vec::new() };
    let runs = keeper.last().is_some_and(|kept| {
        kept.permit && kept.known.is_some_and(|known| matches!(known.role, Role::Writer { .. } | Role::Follower { .. }))
    });
    if !runs {
        return Vec::new();
    }
    let _one = keeper.state.lock().await;
    match keep.govern().await {
        Ok(conditions) => conditions,
        Err(fault) => {
            tracing::debug!(instance = %instance.name, "its governed settings cannot be looked at now: {fault}");
            Vec::new()
        }
    }
}
