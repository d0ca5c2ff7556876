//! Asks for the runs of all schedules at their time, as operations. One task; it owns the lanes.
//!
//! What always holds: a run's operation and its lane's step are one transaction, so that a run that was accepted is never asked for
//! again; a run that is refused waits, the newest one of its lane only, and is asked for again with growing pauses; what the wall clock does is
//! looked at twice a second and nothing else depends on how long something took.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::schedule_spec::Work;
use muster_wire::proto::v1::{MissedRuns, ScheduleSpec};

use crate::agents::link::Agents;
use crate::inventory::Declared;
use crate::operation::asked::{Asked, AskedBackup, AskedCheck, AskedPrune, AskedVerify, Run, What};
use crate::schedule::lane::{Decision, Lane};
use crate::schedule::timing::Timing;
use crate::store::error::StoreError;
use crate::store::lanes;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);
/// A run that was refused is asked for again after so long, growing to the second.
const AGAIN: Duration = Duration::from_secs(2);
/// See [`AGAIN`].
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);
/// After a start agents are given so long to come and tell what they see: which instance is fit is not known before.
const SETTLE: Duration = Duration::from_secs(10);

/// What tells a lane.
type Key = (String, Name);

/// A schedule as it is declared.
#[derive(Clone, Debug)]
struct Planned {
    name: Name,
    spec: ScheduleSpec,
    timing: Timing,
}

/// A lane and when it is looked at next.
#[derive(Debug)]
struct Kept {
    lane: Lane,
    /// Nothing is to be done before this moment of the wall clock.
    rest: Option<Timestamp>,
    /// A run was refused: when it is asked for again, and how long that was waited for.
    again: Option<(Instant, Duration)>,
}

struct Driver {
    agents: Agents,
    started: Instant,
    seen: Option<Arc<Declared>>,
    schedules: BTreeMap<String, Planned>,
    lanes: BTreeMap<Key, Kept>,
    last: Timestamp,
}

/// Runs until the controller stops.
pub async fn run(agents: Agents) {
    let token = agents.gate.token().clone();
    let mut driver = Driver {
        last: agents.clock.now(),
        agents,
        started: Instant::now(),
        seen: None,
        schedules: BTreeMap::new(),
        lanes: BTreeMap::new(),
    };
    loop {
        if let Err(fault) = driver.tick().await
            && !token.is_cancelled()
        {
            tracing::warn!(%fault, "schedules cannot be looked after; it is tried again");
            // What is in memory may differ from the store now.
            driver.seen = None;
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

impl Driver {
    async fn tick(&mut self) -> Result<(), Fault> {
        let now = self.agents.clock.now();
        let declared = self.agents.assigner.declared();
        if self.seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &declared)) {
            self.take(&declared, now).await?;
            self.seen = Some(Arc::clone(&declared));
        }
        if now < self.last {
            self.lanes.values_mut().for_each(|kept| kept.rest = None);
        }
        self.last = now;
        let due: Vec<Key> = self.lanes.iter().filter(|(_, kept)| kept.is_due(now)).map(|(key, _)| key.clone()).collect();
        for key in due {
            if self.agents.gate.token().is_cancelled() {
                return Ok(());
            }
            self.look(&key, now).await?;
        }
        Ok(())
    }

    /// Takes what is declared: lanes that are new begin at the present, those of what is gone are forgotten.
    async fn take(&mut self, declared: &Declared, now: Timestamp) -> Result<(), Fault> {
        let schedules: BTreeMap<String, Planned> = declared
            .iter()
            .filter_map(|(_, name, resource)| match &resource.spec {
                Some(Spec::Schedule(spec)) => {
                    // It was read when it was applied; a zone that this machine lost since is told, and nothing runs by it.
                    let timing = Timing::read(spec).inspect_err(|wrong| {
                        tracing::error!(schedule = %name, field = wrong.field, reason = wrong.reason, "a schedule cannot be read and does not run");
                    });
                    Some((resource.id.clone(), Planned { name: name.clone(), spec: spec.clone(), timing: timing.ok()? }))
                }
                Some(Spec::Site(_) | Spec::Repository(_) | Spec::Component(_) | Spec::Route(_)) | None => None,
            })
            .collect();
        let still_declared = |lane: &Lane| {
            declared.iter().any(|(_, _, resource)| {
                resource.id == lane.schedule
                    && matches!(&resource.spec, Some(Spec::Schedule(spec)) if spec.components.iter().any(|c| c == lane.component.as_str()))
            })
        };
        let mut write = self.agents.store.write().await?;
        let connection = write.connection();
        let mut taken = BTreeMap::new();
        for lane in lanes::all(connection).await? {
            if !still_declared(&lane) {
                lanes::delete(connection, &lane).await?;
            } else if schedules.contains_key(&lane.schedule) {
                taken.insert((lane.schedule.clone(), lane.component.clone()), Kept::of(lane));
            }
        }
        for (id, planned) in &schedules {
            for component in planned.spec.components.iter().filter_map(|text| text.parse::<Name>().ok()) {
                if let Entry::Vacant(place) = taken.entry((id.clone(), component)) {
                    let lane = Lane::begin(id, &place.key().1, &planned.timing, now);
                    lanes::put(connection, &lane).await?;
                    place.insert(Kept::of(lane));
                }
            }
        }
        write.commit().await?;
        self.schedules = schedules;
        self.lanes = taken;
        Ok(())
    }

    /// Decides about one lane and does it.
    async fn look(&mut self, key: &Key, now: Timestamp) -> Result<(), Fault> {
        let Some(planned) = self.schedules.get(&key.0) else { return Ok(()) };
        let Some(kept) = self.lanes.get_mut(key) else { return Ok(()) };
        let missed = MissedRuns::try_from(planned.spec.missed).unwrap_or(MissedRuns::Unspecified);
        let paused = self.agents.pauses.of(&key.1, now).is_some();
        match kept.lane.decide(&planned.timing, missed, paused, now) {
            Decision::Rest(until) => kept.rest = Some(until.unwrap_or(Timestamp(i64::MAX))),
            Decision::Paused => {}
            Decision::Begin(lane) | Decision::LeaveOut(lane) => {
                if !lane.left_out.is_empty() && lane.left_out != kept.lane.left_out {
                    tracing::warn!(schedule = %planned.name, component = %key.1, lane.left_out, "runs were missed");
                }
                keep(&self.agents, &lane).await?;
                kept.lane = lane;
            }
            Decision::Start { .. } if !settled(&self.agents, &key.1, self.started) => {}
            Decision::Start { planned: moment, after } => {
                let asked = asked(planned, &kept.lane, moment, after);
                match self.agents.operations.start(asked).await {
                    Ok(operation) => {
                        tracing::info!(schedule = %planned.name, component = %key.1, operation = operation.id, "a run of a schedule was accepted");
                        *kept = Kept::of(accepted(&self.agents, &kept.lane, moment, &operation.id).await?);
                    }
                    Err(refused) => {
                        let waiting = kept.lane.waits(moment, why(&refused));
                        if waiting != kept.lane {
                            tracing::warn!(schedule = %planned.name, component = %key.1, why = %refused, "a run of a schedule waits");
                            keep(&self.agents, &waiting).await?;
                            kept.lane = waiting;
                        }
                        kept.wait();
                    }
                }
            }
        }
        Ok(())
    }
}

impl Kept {
    const fn of(lane: Lane) -> Self {
        Self { lane, rest: None, again: None }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.rest.is_none_or(|until| now >= until) && self.again.is_none_or(|(at, _)| Instant::now() >= at)
    }

    fn wait(&mut self) {
        let time = self.again.map_or(AGAIN, |(_, before)| (before * 2).min(AGAIN_AT_MOST));
        self.again = Some((Instant::now() + time, time));
    }
}

/// Whether what the component's agents see is known, or they were given their time.
fn settled(agents: &Agents, component: &Name, started: Instant) -> bool {
    let declared = agents.assigner.declared();
    let mut instances = declared.instances_of(component);
    started.elapsed() >= SETTLE || instances.all(|instance| agents.observations.of(&instance.name).is_some())
}

async fn keep(agents: &Agents, lane: &Lane) -> Result<(), StoreError> {
    let mut write = agents.store.write().await?;
    lanes::put(write.connection(), lane).await?;
    write.commit().await
}

/// The lane as it was kept with the operation. Where the run had been accepted before under its key, the lane is moved on now.
async fn accepted(agents: &Agents, before: &Lane, moment: Timestamp, operation: &str) -> Result<Lane, Fault> {
    let mut read = agents.store.read().await?;
    let kept = lanes::of_schedule(&mut read, &before.schedule).await?.into_iter().find(|lane| lane.component == before.component);
    drop(read);
    match kept {
        Some(lane) if lane.done >= moment => Ok(lane),
        Some(_) | None => {
            tracing::warn!(operation, "this run had been accepted before");
            let lane = Lane { done: moment, waiting: None, ..before.clone() };
            keep(agents, &lane).await?;
            Ok(lane)
        }
    }
}

fn why(refused: &Fault) -> String {
    let hint = if refused.hint.is_empty() { String::new() } else { format!("; {}", refused.hint) };
    format!("{}{hint}", refused.message).chars().take(1_000).collect()
}

/// A run as it is asked for.
fn asked(schedule: &Planned, lane: &Lane, moment: Timestamp, after: Lane) -> Asked {
    let caller = format!("schedule/{}", schedule.name);
    let request_id = lane.run_key(moment);
    Asked {
        cause: caller.clone(),
        caller,
        // The key tells all: what is asked for may have been declared otherwise since.
        digest: request_id.clone(),
        request_id: Some(request_id),
        parent: None,
        stall_limit: None,
        traceparent: String::new(),
        run: Some(Run { before: lane.done, planned: moment, after }),
        what: what(schedule, lane),
    }
}

fn what(schedule: &Planned, lane: &Lane) -> What {
    let component = lane.component.clone();
    let instance = |text: &str| text.parse().ok();
    match &schedule.spec.work {
        Some(Work::Check(check)) => What::Check(AskedCheck {
            component,
            instance: instance(&check.instance),
            read_data_part: match u64::from(check.read_data_parts) {
                0 => 0,
                parts => u32::try_from(lane.runs % parts).unwrap_or(0),
            },
            read_data_of: check.read_data_parts,
        }),
        Some(Work::Prune(prune)) => What::Prune(AskedPrune { component, instance: instance(&prune.instance), dry_run: false }),
        Some(Work::Verify(verify)) => What::Verify(AskedVerify { component, instance: instance(&verify.instance), point: String::new() }),
        Some(Work::Backup(backup)) => What::Backup(AskedBackup {
            component,
            instance: instance(&backup.instance),
            label: if backup.label.is_empty() { schedule.name.to_string() } else { backup.label.clone() },
            compression_level: backup.compression_level,
            slow_checkpoint: backup.slow_checkpoint,
            dump: None,
        }),
        // Nothing without work was ever applied.
        None => What::Backup(AskedBackup {
            component,
            instance: None,
            label: schedule.name.to_string(),
            compression_level: 0,
            slow_checkpoint: false,
            dump: None,
        }),
    }
}
