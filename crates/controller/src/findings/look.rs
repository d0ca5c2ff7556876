//! Looks each second: reads the world, judges it, records what was raised, cleared and changed in one transaction, then publishes it.
//!
//! What always holds: nothing is published that was not recorded; a look that cannot be recorded is forgotten and made again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use muster_common::counter::EventNumber;
use muster_common::fault::Fault;
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::proto::v1::Finding;
use muster_wire::proto::v1::history_entry::Entry;
use tokio::sync::watch;

use crate::api::Api;
use crate::findings::damping::{Change, Damper, Moment};
use crate::findings::gather::{self, Read};
use crate::findings::judge::{blind, judge};
use crate::findings::seen::{self, Sighted, Watched};
use crate::findings::shown;
use crate::findings::subject::Subject;
use crate::findings::watch::{Figure, Measure};
use crate::findings::world::World;
use crate::store::{findings, history, sightings};

/// How often it is looked.
const EACH: Duration = Duration::from_secs(1);
/// The store is read so often where no operation moved.
const READ_EACH: Duration = Duration::from_secs(5);
/// Reading takes a tenth of the time at most, however many components there are.
const READ_SHARE: u32 = 10;
/// The same trouble is told so often.
const TOLD_EACH: Duration = Duration::from_secs(60);

/// What is kept from look to look.
struct Looks {
    api: Api,
    started: Instant,
    damper: Damper,
    watched: Watched,
    read: Read,
    read_at: Option<(Instant, Duration)>,
    events: watch::Receiver<EventNumber>,
    newest: EventNumber,
    /// The most refused messages that were seen of an agent, and when they last became more.
    refused: BTreeMap<Name, (Option<Timestamp>, u64)>,
}

/// Looks until the controller stops.
pub async fn serve(api: Api) {
    let token = api.agents.gate.token().clone();
    let events = api.agents.operations.events();
    let mut looks: Option<Looks> = None;
    let mut told: Option<Instant> = None;
    loop {
        let looked = match &mut looks {
            Some(looks) => looks.look().await,
            None => Looks::begin(&api, events.clone()).await.map(|begun| looks = Some(begun)),
        };
        if let Err(fault) = looked
            && told.is_none_or(|at| at.elapsed() >= TOLD_EACH)
        {
            told = Some(Instant::now());
            tracing::warn!(%fault, "findings cannot be judged or recorded; it is tried again each second");
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(EACH) => {}
        }
    }
}

impl Looks {
    async fn begin(api: &Api, events: watch::Receiver<EventNumber>) -> Result<Self, Fault> {
        let mut read = api.agents.store.read().await?;
        let kept = findings::all(&mut read).await?;
        let newest = history::newest(&mut read).await?;
        drop(read);
        let damper = Damper::standing(kept.iter().filter_map(shown::read));
        let looks = Self {
            api: api.clone(),
            started: Instant::now(),
            damper,
            watched: Watched::default(),
            read: Read::default(),
            read_at: None,
            events,
            newest,
            refused: BTreeMap::new(),
        };
        looks.publish(Vec::new());
        Ok(looks)
    }

    async fn look(&mut self) -> Result<(), Fault> {
        self.read_where_due().await?;
        let now = Moment { wall: clock::now(), up: self.started.elapsed() };
        self.count_refused(now.wall);
        let refused = self.refused.iter().filter_map(|(agent, (at, count))| Some((agent.clone(), ((*at)?, *count)))).collect();
        let world = gather::world(&self.api, &self.read, &refused);
        let present = Present::of(&world);
        // On copies, which take the place of the old ones once all is recorded.
        let (mut damper, mut watched) = (self.damper.clone(), self.watched.clone());
        let changes = damper.look(now, judge(&world), &blind(&world), |subject| present.has(subject));
        let sighted = watched.instances(now, &world, &self.read.sightings);
        let reigns = watched.reigns(&self.read.shards);
        let forgotten = seen::forgotten(&world, &self.read.sightings);
        if !(changes.is_empty() && sighted.is_empty() && reigns.is_empty() && forgotten.is_empty()) {
            let mut write = self.api.agents.store.write().await?;
            let connection = write.connection();
            let mut newest = self.newest;
            for change in &changes {
                newest = record(connection, change, now.wall).await?;
            }
            for role in reigns.into_iter().chain(sighted.iter().filter_map(|sighted| sighted.told.clone())) {
                newest = history::insert(connection, now.wall, Entry::Role(role)).await?;
            }
            for Sighted { instance, sighting, .. } in &sighted {
                sightings::put(connection, instance, sighting).await?;
            }
            for instance in &forgotten {
                sightings::remove(connection, instance).await?;
            }
            write.commit().await?;
            self.newest = newest;
            self.read.sightings.extend(sighted.into_iter().map(|sighted| (sighted.instance, sighted.sighting)));
            self.read.sightings.retain(|instance, _| !forgotten.contains(instance));
            tell(&changes);
        }
        (self.damper, self.watched) = (damper, watched);
        self.publish(figures(&world));
        Ok(())
    }

    async fn read_where_due(&mut self) -> Result<(), Fault> {
        let moved = self.events.has_changed().unwrap_or(false);
        let due = self.read_at.is_none_or(|(at, took)| {
            let pause = if moved { EACH } else { READ_EACH };
            at.elapsed() >= pause.max(took.saturating_mul(READ_SHARE))
        });
        if due {
            self.events.mark_unchanged();
            let began = Instant::now();
            self.read = gather::read(&self.api, &self.read).await?;
            self.read_at = Some((Instant::now(), began.elapsed()));
        }
        Ok(())
    }

    fn count_refused(&mut self, now: Timestamp) {
        for (agent, count) in gather::refused(&self.api, &self.read) {
            match self.refused.get_mut(agent) {
                None => drop(self.refused.insert(agent.clone(), (None, count))),
                Some(known) if known.1 < count => *known = (Some(now), count),
                Some(_) => {}
            }
        }
    }

    fn publish(&self, figures: Vec<Figure>) {
        let mut all: Vec<Finding> =
            self.damper.all().map(|(rule, subject, standing)| shown::finding(rule, subject, standing, None)).collect();
        shown::sort(&mut all);
        self.api.findings.publish(all, figures, self.newest);
    }
}

async fn record(connection: &mut crate::store::Connection, change: &Change, now: Timestamp) -> Result<EventNumber, Fault> {
    let told = match change {
        Change::Raised(rule, subject, standing) => {
            let finding = shown::finding(*rule, subject, standing, None);
            findings::put(connection, &finding).await?;
            finding
        }
        Change::Cleared(rule, subject, standing) => {
            let finding = shown::finding(*rule, subject, standing, Some(now));
            findings::remove(connection, &finding).await?;
            finding
        }
    };
    Ok(history::insert(connection, now, Entry::Finding(told)).await?)
}

fn tell(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Raised(rule, subject, standing) => {
                tracing::warn!(rule = %rule, %subject, seen = standing.held.evidence.join("; "), "finding raised");
            }
            Change::Cleared(rule, subject, _) => tracing::info!(rule = %rule, %subject, "finding cleared"),
        }
    }
}

/// What is measured of what is declared.
fn figures(world: &World) -> Vec<Figure> {
    let mut figures = Vec::new();
    for component in &world.components {
        let age = component.stored.newest.as_ref().map(|point| world.now.since(point.finished));
        for (what, value) in [
            (Measure::Rpo, age),
            (Measure::RpoObjective, component.rpo),
            (Measure::Rto, component.stored.measured_rto),
            (Measure::RtoObjective, component.rto),
        ] {
            figures.extend(value.map(|value| Figure { what, of: component.name.to_string(), value: value.as_secs_f64() }));
        }
        for instance in &component.instances {
            let of = instance.name.to_string();
            let lag = instance.seen.as_ref().and_then(|seen| seen.lag_bytes);
            figures.extend(lag.map(|lag| Figure { what: Measure::Lag, of: of.clone(), value: lag as f64 }));
            figures.push(Figure { what: Measure::Seen, of, value: if instance.seen.is_some() { 1.0 } else { 0.0 } });
        }
    }
    figures
}

/// What is there: what is gone has no findings.
struct Present<'a> {
    components: BTreeSet<&'a Name>,
    instances: BTreeSet<&'a InstanceName>,
    agents: BTreeSet<&'a Name>,
    world: &'a World,
}

impl<'a> Present<'a> {
    fn of(world: &'a World) -> Self {
        Self {
            components: world.components.iter().map(|component| &component.name).collect(),
            instances: world.components.iter().flat_map(|component| &component.instances).map(|instance| &instance.name).collect(),
            agents: world.agents.iter().map(|agent| &agent.name).collect(),
            world,
        }
    }

    fn has(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Controller => true,
            Subject::Component(name) => self.components.contains(name),
            Subject::Instance(name) => self.instances.contains(name),
            Subject::Agent(name) => self.agents.contains(name),
            Subject::Operator(name) => self.world.operators.iter().any(|(operator, _)| operator == name),
            Subject::Operation(id) => self.world.operations.iter().any(|operation| operation.id == *id),
        }
    }
}
