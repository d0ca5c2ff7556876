//! The observe duty: the role of each instance each second, everything each 10 s (each second while somebody looks closely).
//!
//! What always holds: a report is sent when something changed, or 10 s after the last; an instance that cannot be looked at
//! is told as unknown; one slow instance or repository keeps no other from being looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_common::name::InstanceName;
use muster_engine::observation::{Condition, Depth, Observation};
use muster_service::clock;
use muster_service::tasks::TaskGate;
use muster_wire::proto::agent::v1::ObservationReport;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::agent::Agent;
use crate::assignment::force::Instance;
use crate::convert;
use crate::duty::each::{Begun, each};
use crate::task::perform::blocking;

/// How often the role is looked at.
const ROLE: Duration = Duration::from_secs(1);
/// How often everything is looked at, and the longest silence between two reports.
const FULL: Duration = Duration::from_secs(10);
/// How often the repository is looked at while something is wrong with it: whoever repairs it waits for that.
const REPOSITORY_WRONG: Duration = Duration::from_secs(2);
/// The longest time for one look. Engines keep to 5 s themselves.
const LOOK: Duration = Duration::from_secs(10);

/// Looks at what is assigned, until the gate closes.
pub async fn serve(agent: Arc<Agent>, closely: watch::Receiver<Option<Instant>>, gate: TaskGate) {
    let begin = |name: InstanceName, begun: Begun| {
        let (conditions, seen) = watch::channel(Vec::new());
        let repository = look_at_repository(agent.clone(), name.clone(), conditions, gate.clone());
        gate.spawn(format!("look at the repository of {name}"), tracing::Span::none(), repository);
        let looks = look_at_instance(agent.clone(), name.clone(), closely.clone(), seen, gate.clone());
        gate.spawn(format!("observe {name}"), tracing::Span::none(), async move {
            let _begun = begun;
            looks.await;
        });
    };
    each(&agent, &gate, |_| true, begin).await;
}

async fn look_at_instance(
    agent: Arc<Agent>,
    name: InstanceName,
    closely: watch::Receiver<Option<Instant>>,
    mut repository: watch::Receiver<Vec<Condition>>,
    gate: TaskGate,
) {
    let mut tick = tokio::time::interval(ROLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_full: Option<Instant> = None;
    let mut told = Told::default();
    let mut session = agent.outbox.sessions();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = gate.token().cancelled() => return,
        }
        if agent.outbox.sessions() != session {
            session = agent.outbox.sessions();
            told = Told::default();
            last_full = None;
        }
        let Some(instance) = agent.assignments.current().instances.get(&name).cloned() else {
            agent.outbox.forget(&name);
            return;
        };
        let is_closely = closely.borrow().is_some_and(|until| Instant::now() < until);
        let is_due = last_full.is_none_or(|at| at.elapsed() >= FULL) || repository.has_changed().unwrap_or(false);
        let depth = if is_closely || is_due { Depth::Full } else { Depth::Role };
        let Some(mut observation) = look(&instance, depth, &gate).await else { return };
        let mut kept = Vec::new();
        if depth == Depth::Full {
            last_full = Some(Instant::now());
            observation.conditions.extend(repository.borrow_and_update().iter().cloned());
            observation.conditions.extend(agent.keepers.conditions(&name));
            observation.conditions.extend(look_at_hooks(&agent, &name).await);
            kept = agent.kept.of(&name);
        }
        let report = ObservationReport {
            component: name.component.to_string(),
            instance: name.instance.to_string(),
            observation: Some(convert::observation_to_proto(&observation, depth == Depth::Full)),
            kept: kept.iter().map(convert::kept_to_proto).collect(),
        };
        if told.is_news(&report, depth, Instant::now()) {
            agent.outbox.observation(&name, report);
        }
    }
}

/// One look, bounded; `None` where the gate closed meanwhile.
async fn look(instance: &Instance, depth: Depth, gate: &TaskGate) -> Option<Observation> {
    tokio::select! {
        looked = tokio::time::timeout(LOOK, instance.engine.observe(depth)) => Some(looked.unwrap_or_else(|_| too_slow())),
        () = gate.token().cancelled() => None,
    }
}

fn too_slow() -> Observation {
    let condition = Condition {
        name: "Observable".to_owned(),
        ok: false,
        blocking: true,
        message: format!("looking at it took longer than {} s", LOOK.as_secs()),
        hint: "see whether its disk or its server hangs".to_owned(),
    };
    Observation { at: clock::now(), conditions: vec![condition], ..Observation::default() }
}

/// What was told last of each depth, without its time, and when.
#[derive(Default)]
struct Told {
    role: Option<(ObservationReport, Instant)>,
    full: Option<(ObservationReport, Instant)>,
}

impl Told {
    /// Whether the report is to be sent; it counts as told then.
    fn is_news(&mut self, report: &ObservationReport, depth: Depth, now: Instant) -> bool {
        let mut timeless = report.clone();
        if let Some(observation) = &mut timeless.observation {
            observation.at = None;
        }
        let last = match depth {
            Depth::Role => &mut self.role,
            Depth::Full => &mut self.full,
        };
        let is_news = last.as_ref().is_none_or(|(told, at)| *told != timeless || now.saturating_duration_since(*at) >= FULL);
        if is_news {
            *last = Some((timeless, now));
        }
        is_news
    }
}

/// What is wrong with the hooks that its component names.
async fn look_at_hooks(agent: &Arc<Agent>, name: &InstanceName) -> Vec<Condition> {
    let in_force = agent.assignments.current();
    let Some(instance) = in_force.instances.get(name) else { return Vec::new() };
    let (agent, named) = (agent.clone(), instance.assigned.hooks.clone());
    blocking(move || agent.hooks.conditions(&named)).await.unwrap_or_default()
}

/// Opens the instance's repository for as long as it is assigned, and tells what is wrong.
async fn look_at_repository(agent: Arc<Agent>, name: InstanceName, told: watch::Sender<Vec<Condition>>, gate: TaskGate) {
    loop {
        let in_force = agent.assignments.current();
        let Some(instance) = in_force.instances.get(&name) else { return };
        let conditions = tokio::select! {
            conditions = agent.repositories.conditions(&in_force, instance) => conditions,
            () = gate.token().cancelled() => return,
        };
        let is_wrong = conditions.iter().any(|condition| !condition.ok);
        told.send_if_modified(|present| {
            let differs = by_name(present) != by_name(&conditions);
            if differs {
                *present = conditions;
            }
            differs
        });
        tokio::select! {
            () = tokio::time::sleep(if is_wrong { REPOSITORY_WRONG } else { FULL }) => {}
            () = told.closed() => return,
            () = gate.token().cancelled() => return,
        }
    }
}

fn by_name(conditions: &[Condition]) -> BTreeMap<&str, &Condition> {
    conditions.iter().map(|condition| (condition.name.as_str(), condition)).collect()
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1;

    use super::*;

    fn report(second: i64, version: &str) -> ObservationReport {
        let at = Some(prost_types::Timestamp { seconds: second, nanos: 0 });
        let observation = v1::Observation { at, version: version.into(), ..Default::default() };
        ObservationReport { observation: Some(observation), ..Default::default() }
    }

    #[tokio::test]
    async fn what_did_not_change_is_told_each_ten_seconds_and_a_change_at_once() {
        let start = Instant::now();
        let mut told = Told::default();
        let mut sent = Vec::new();
        for second in 0..30 {
            let version = if second < 15 { "15" } else { "16" };
            if told.is_news(&report(second, version), Depth::Role, start + Duration::from_secs(second.unsigned_abs())) {
                sent.push(second);
            }
        }
        assert_eq!(sent, [0, 10, 15, 25]);
        let at = |second| start + Duration::from_secs(second);
        assert!(told.is_news(&report(30, "16"), Depth::Full, at(30)), "a full look is compared with a full one");
        assert!(told.is_news(&report(36, "16"), Depth::Role, at(36)));
        assert!(told.is_news(&report(40, "16"), Depth::Full, at(40)), "looks at the role do not silence full ones");
    }
}
