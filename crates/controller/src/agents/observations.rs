//! What agents saw last of each instance, in memory: after a start it is empty until they connect.
//!
//! What always holds: a look at the role only keeps what the last full look found; nothing is kept of an instance that is not declared;
//! ages are counted by this process's own clock from the arrival, never by an agent's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use muster_common::name::{InstanceName, Name};
use muster_failover::directive::{Kept, Question};
use muster_failover::refusal::Refusal;
use muster_wire::proto::agent::v1::ObservationReport;
use muster_wire::proto::v1::{InstanceRole, KeptDirectory, Observation, Position, position};
use tokio::sync::watch;

/// The most conditions, details and kept directories that one look may tell; the rest is left out.
const MOST_LISTED: usize = 100;

/// What a move of a component lacks: what was seen, and what would lift it.
pub type Lacks = Vec<(String, String)>;

/// What is known of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The newest look; its conditions and details are those of the last full one.
    pub observation: Observation,
    /// Directories that restores keep aside there, as of the last full look.
    pub kept: Vec<KeptDirectory>,
    /// The agent that told it.
    pub agent: Name,
    /// When it arrived here.
    pub arrived: Instant,
}

impl Seen {
    /// How old it is.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.arrived)
    }
}

/// What the keeper of an instance reported last.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The report.
    pub kept: Kept,
    /// When it arrived here.
    pub arrived: Instant,
}

/// The last observation of every declared instance. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Observations {
    shared: Arc<Mutex<BTreeMap<InstanceName, Seen>>>,
    kept: Arc<Mutex<BTreeMap<InstanceName, Reported>>>,
    later: Arc<Mutex<BTreeMap<Name, Refusal>>>,
    missing: Arc<Mutex<BTreeMap<Name, Lacks>>>,
    turned: Arc<Mutex<BTreeSet<Name>>>,
    changes: watch::Sender<u64>,
}

impl Default for Observations {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            kept: Arc::default(),
            later: Arc::default(),
            missing: Arc::default(),
            turned: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Observations {
    /// Takes an agent's report in. `instance` was checked to be the agent's own.
    pub fn record(&self, instance: InstanceName, agent: &Name, report: ObservationReport, now: Instant) {
        let Some(mut observation) = report.observation else { return };
        let mut seen = self.lock();
        let last = seen.get(&instance);
        let mut kept = report.kept;
        kept.truncate(MOST_LISTED);
        observation.conditions.truncate(MOST_LISTED);
        if observation.details.len() > MOST_LISTED {
            observation.details = std::mem::take(&mut observation.details).into_iter().take(MOST_LISTED).collect();
        }
        if !observation.full
            && let Some(last) = last
        {
            observation.conditions.clone_from(&last.observation.conditions);
            observation.details.clone_from(&last.observation.details);
            if observation.position.is_none() && observation.role() == InstanceRole::ReadWrite {
                observation.position = last.observation.position.clone().filter(counted);
            }
            observation.data_bytes = observation.data_bytes.or(last.observation.data_bytes);
            kept.clone_from(&last.kept);
            if observation.version.is_empty() {
                observation.version.clone_from(&last.observation.version);
            }
        }
        if last.is_none_or(|last| last.observation.role() != observation.role()) {
            self.turned.lock().unwrap_or_else(PoisonError::into_inner).insert(instance.component.clone());
        }
        seen.insert(instance, Seen { observation, kept, agent: agent.clone(), arrived: now });
        drop(seen);
        self.changes.send_modify(|number| *number += 1);
    }

    /// What was seen last of an instance. `None`: nothing since this process started.
    #[must_use]
    pub fn of(&self, instance: &InstanceName) -> Option<Seen> {
        self.lock().get(instance).cloned()
    }

    /// Takes a keeper's report in. The instance was checked to be the agent's own.
    pub fn keep(&self, kept: Kept, now: Instant) {
        let mut reports = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(kept.instance.clone(), Reported { kept, arrived: now });
        drop(reports);
        self.changes.send_modify(|number| *number += 1);
    }

    /// What the keeper of an instance reported last. `None`: nothing since this process started.
    #[must_use]
    pub fn kept_of(&self, instance: &InstanceName) -> Option<Reported> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(instance).cloned()
    }

    /// The last report of every keeper.
    #[must_use]
    pub fn all_kept(&self) -> Vec<Reported> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Why a later reign of a component than the journal knows, which keepers report, is not believed yet. `None`: none is reported.
    #[must_use]
    pub fn later_reign(&self, component: &Name) -> Option<Refusal> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner).get(component).cloned()
    }

    /// See [`Observations::later_reign`].
    pub fn set_later_reign(&self, component: &Name, refusal: Option<Refusal>) {
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        match refusal {
            Some(refusal) => later.insert(component.clone(), refusal),
            None => later.remove(component),
        };
    }

    /// What a move of a component lacked when it was evaluated last: what was seen, and what would lift it.
    #[must_use]
    pub fn missing(&self, component: &Name) -> Lacks {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).get(component).cloned().unwrap_or_default()
    }

    /// See [`Observations::missing`].
    pub fn set_missing(&self, component: &Name, missing: Lacks) {
        let mut all = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match missing.is_empty() {
            true => all.remove(component),
            false => all.insert(component.clone(), missing),
        };
    }

    /// The instances whose keepers ask whether they may start again, by their last reports.
    #[must_use]
    pub fn asking(&self) -> BTreeMap<InstanceName, Question> {
        let reports = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        reports.iter().filter_map(|(instance, reported)| Some((instance.clone(), reported.kept.asks?))).collect()
    }

    /// Forgets what is no longer declared.
    pub fn keep_only(&self, declared: &BTreeSet<InstanceName>) {
        self.lock().retain(|instance, _| declared.contains(instance));
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| declared.contains(instance));
        let components: BTreeSet<&Name> = declared.iter().map(|instance| &instance.component).collect();
        self.later.lock().unwrap_or_else(PoisonError::into_inner).retain(|component, _| components.contains(component));
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).retain(|component, _| components.contains(component));
        self.changes.send_modify(|number| *number += 1);
    }

    /// The components of which an instance was seen for the first time, or in another role, since this was asked last. One asks.
    #[must_use]
    pub fn take_turned(&self) -> BTreeSet<Name> {
        std::mem::take(&mut self.turned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes its value with each report.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceName, Seen>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a position is one that only a full look tells: files are counted, a server is asked each time.
fn counted(position: &Position) -> bool {
    matches!(position.position, Some(position::Position::Files(_)))
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{Condition, FilesPosition};

    use super::*;

    fn instance() -> InstanceName {
        "orders-db/istanbul".parse().unwrap()
    }

    fn report(full: bool, role: InstanceRole) -> ObservationReport {
        let mut observation = Observation { role: role.into(), full, ..Observation::default() };
        let mut kept = Vec::new();
        if full {
            observation.version = "15.14".into();
            observation.data_bytes = Some(7);
            observation.conditions = vec![Condition { name: "ServerReachable".into(), ok: true, ..Condition::default() }];
            observation.details = [("port".to_owned(), "5432".to_owned())].into();
            kept = vec![KeptDirectory { path: "/srv/pg.old".into(), bytes: 9, until: None }];
        }
        ObservationReport { component: "orders-db".into(), instance: "istanbul".into(), observation: Some(observation), kept }
    }

    #[test]
    fn a_look_at_the_role_only_keeps_what_the_last_full_look_found() {
        let observations = Observations::default();
        let agent = "istanbul-db1".parse().unwrap();
        let start = Instant::now();
        observations.record(instance(), &agent, report(true, InstanceRole::ReadWrite), start);
        observations.record(instance(), &agent, report(false, InstanceRole::Down), start + Duration::from_secs(1));
        let seen = observations.of(&instance()).unwrap();
        assert_eq!(seen.observation.role(), InstanceRole::Down);
        assert_eq!(seen.observation.conditions.len(), 1);
        assert_eq!((seen.observation.version.as_str(), seen.observation.data_bytes, seen.kept.len()), ("15.14", Some(7), 1));
        assert_eq!(seen.age(start + Duration::from_secs(3)), Duration::from_secs(2));
    }

    #[test]
    fn the_count_of_files_stays_between_full_looks_while_the_folder_is_there() {
        let observations = Observations::default();
        let agent = "istanbul-1".parse().unwrap();
        let files = Position { position: Some(position::Position::Files(FilesPosition { count: 12, newest: None })) };
        let mut full = report(true, InstanceRole::ReadWrite);
        full.observation.as_mut().unwrap().position = Some(files.clone());
        observations.record(instance(), &agent, full, Instant::now());
        observations.record(instance(), &agent, report(false, InstanceRole::ReadWrite), Instant::now());
        assert_eq!(observations.of(&instance()).unwrap().observation.position, Some(files));
        observations.record(instance(), &agent, report(false, InstanceRole::Down), Instant::now());
        assert_eq!(observations.of(&instance()).unwrap().observation.position, None);
    }

    #[test]
    fn what_is_no_longer_declared_is_forgotten() {
        let observations = Observations::default();
        observations.record(instance(), &"a".parse().unwrap(), report(true, InstanceRole::Standby), Instant::now());
        let changes = observations.changes();
        observations.keep_only(&BTreeSet::new());
        assert_eq!(observations.of(&instance()), None);
        assert!(changes.has_changed().unwrap());
    }
}
