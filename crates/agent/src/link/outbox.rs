//! What is to be sent to the controller: one entry a subject, the newest wins, outcomes by id only.
//!
//! What always holds: its size is bounded by the tasks and instances of the agent, however long nobody takes anything out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_common::id::CommandId;
use muster_common::name::InstanceName;
use muster_wire::proto::agent::v1::{AssignmentApplied, KeptReport, ObservationReport, TrustKept};
use muster_wire::proto::v1;
use tokio::sync::Notify;

/// How many answers about commands may wait. A controller that asks for more at once asks again.
const MAX_ANSWERS: usize = 10_000;

/// One thing to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A heartbeat of this number.
    Heartbeat(u64),
    /// A command was taken on.
    Accepted(CommandId),
    /// What became of a command; the outcome follows where it has ended.
    Report(CommandId),
    /// How a task ended.
    Outcome(CommandId),
    /// An assignment is in force.
    Applied(AssignmentApplied),
    /// Which CAs are trusted.
    TrustKept(TrustKept),
    /// What was seen.
    Observation(Box<ObservationReport>),
    /// What a keeper knows.
    Kept(Box<KeptReport>),
    /// How far a task is.
    Progress(CommandId, v1::Progress),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
    sessions: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    heartbeat: Option<u64>,
    accepted: BTreeSet<CommandId>,
    reports: BTreeSet<CommandId>,
    outcomes: BTreeSet<CommandId>,
    applied: Option<AssignmentApplied>,
    trust_kept: Option<TrustKept>,
    full: BTreeMap<InstanceName, ObservationReport>,
    role: BTreeMap<InstanceName, ObservationReport>,
    keepers: BTreeMap<InstanceName, KeptReport>,
    progress: BTreeMap<CommandId, v1::Progress>,
}

impl Outbox {
    /// A session begins: answers to the one before are void, and every outcome that is not acknowledged is told again.
    pub fn begin(&self, unacknowledged: impl IntoIterator<Item = CommandId>) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.put(|inner| {
            inner.heartbeat = None;
            inner.accepted.clear();
            inner.reports.clear();
            inner.outcomes = unacknowledged.into_iter().collect();
        });
    }

    /// How many sessions have begun. Whoever tells changes only tells everything anew when it grew: the controller may have forgotten.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// A heartbeat; a later one replaces it.
    pub fn heartbeat(&self, number: u64) {
        self.put(|inner| inner.heartbeat = Some(number));
    }

    /// A command was taken on.
    pub fn accepted(&self, command: CommandId) {
        self.put(|inner| answer(&mut inner.accepted, command));
    }

    /// A command was asked for.
    pub fn report(&self, command: CommandId) {
        self.put(|inner| answer(&mut inner.reports, command));
    }

    /// A task ended; its progress no longer counts.
    pub fn outcome(&self, command: CommandId) {
        self.put(|inner| {
            inner.progress.remove(&command);
            answer(&mut inner.outcomes, command);
        });
    }

    /// An outcome is acknowledged.
    pub fn settled(&self, command: CommandId) {
        let mut inner = self.lock();
        inner.outcomes.remove(&command);
        inner.progress.remove(&command);
    }

    /// An assignment is in force.
    pub fn applied(&self, applied: AssignmentApplied) {
        self.put(|inner| inner.applied = Some(applied));
    }

    /// Which CAs are trusted; the newest counts.
    pub fn trust_kept(&self, kept: TrustKept) {
        self.put(|inner| inner.trust_kept = Some(kept));
    }

    /// An instance was looked at. A look at the role does not replace a full one that waits.
    pub fn observation(&self, instance: &InstanceName, report: ObservationReport) {
        let full = report.observation.as_ref().is_some_and(|observation| observation.full);
        self.put(|inner| {
            if full {
                // What was seen of the role before it is older.
                inner.role.remove(instance);
                inner.full.insert(instance.clone(), report);
            } else {
                inner.role.insert(instance.clone(), report);
            }
        });
    }

    /// An instance is no longer kept.
    pub fn forget(&self, instance: &InstanceName) {
        let mut inner = self.lock();
        inner.full.remove(instance);
        inner.role.remove(instance);
        inner.keepers.remove(instance);
    }

    /// What the keeper of an instance knows; the newest counts.
    pub fn kept(&self, instance: &InstanceName, report: KeptReport) {
        self.put(|inner| drop(inner.keepers.insert(instance.clone(), report)));
    }

    /// A task moved.
    pub fn progress(&self, command: CommandId, progress: v1::Progress) {
        self.put(|inner| drop(inner.progress.insert(command, progress)));
    }

    /// Takes what is to be sent next, waiting until there is something. Dropping the wait loses nothing.
    pub async fn next(&self) -> Item {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            if let Some(item) = self.lock().take() {
                return item;
            }
            filled.await;
        }
    }

    /// How many entries wait.
    #[must_use]
    pub fn len(&self) -> usize {
        let inner = self.lock();
        let answers = inner.accepted.len() + inner.reports.len() + inner.outcomes.len() + inner.progress.len();
        let single = usize::from(inner.heartbeat.is_some()) + usize::from(inner.applied.is_some());
        let single = single + usize::from(inner.trust_kept.is_some());
        answers + single + inner.full.len() + inner.role.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.filled.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What keeps the session alive first, then what others wait for, then what is only shown.
    fn take(&mut self) -> Option<Item> {
        if let Some(number) = self.heartbeat.take() {
            return Some(Item::Heartbeat(number));
        }
        if let Some(command) = self.accepted.pop_first() {
            return Some(Item::Accepted(command));
        }
        if let Some(command) = self.reports.pop_first() {
            return Some(Item::Report(command));
        }
        if let Some(command) = self.outcomes.pop_first() {
            return Some(Item::Outcome(command));
        }
        if let Some(applied) = self.applied.take() {
            return Some(Item::Applied(applied));
        }
        if let Some(kept) = self.trust_kept.take() {
            return Some(Item::TrustKept(kept));
        }
        if let Some((_, report)) = self.keepers.pop_first() {
            return Some(Item::Kept(Box::new(report)));
        }
        let seen = self.full.pop_first().or_else(|| self.role.pop_first());
        if let Some((_, report)) = seen {
            return Some(Item::Observation(Box::new(report)));
        }
        self.progress.pop_first().map(|(command, progress)| Item::Progress(command, progress))
    }
}

fn answer(answers: &mut BTreeSet<CommandId>, command: CommandId) {
    if answers.len() < MAX_ANSWERS {
        answers.insert(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CommandId {
        CommandId::from_bytes([n; 16])
    }

    fn seen(full: bool, version: &str) -> ObservationReport {
        let observation = v1::Observation { full, version: version.into(), ..Default::default() };
        ObservationReport { observation: Some(observation), ..Default::default() }
    }

    async fn drain(outbox: &Outbox) -> Vec<Item> {
        let mut items = Vec::new();
        while !outbox.is_empty() {
            items.push(outbox.next().await);
        }
        items
    }

    #[tokio::test]
    async fn however_much_is_told_only_the_newest_of_each_subject_waits() {
        let outbox = Outbox::default();
        let instance: InstanceName = "a/b".parse().unwrap();
        for n in 0..100_000_u64 {
            outbox.heartbeat(n);
            outbox.progress(id(1), v1::Progress { bytes_done: n, ..Default::default() });
            outbox.observation(&instance, seen(n % 10 == 0, &n.to_string()));
        }
        assert_eq!(outbox.len(), 4);
        let items = drain(&outbox).await;
        assert_eq!(items[0], Item::Heartbeat(99_999));
        assert_eq!(items[1], Item::Observation(Box::new(seen(true, "99990"))));
        assert_eq!(items[2], Item::Observation(Box::new(seen(false, "99999"))));
        assert!(matches!(&items[3], Item::Progress(_, progress) if progress.bytes_done == 99_999));
    }

    #[tokio::test]
    async fn acceptance_is_told_before_the_outcome_and_an_end_silences_progress() {
        let outbox = Outbox::default();
        outbox.progress(id(1), v1::Progress::default());
        outbox.outcome(id(1));
        outbox.accepted(id(1));
        assert_eq!(drain(&outbox).await, [Item::Accepted(id(1)), Item::Outcome(id(1))]);
    }

    #[tokio::test]
    async fn a_new_session_tells_every_outcome_again_until_it_is_settled() {
        let outbox = Outbox::default();
        outbox.report(id(7));
        outbox.begin([id(1), id(2)]);
        outbox.settled(id(1));
        assert_eq!(drain(&outbox).await, [Item::Outcome(id(2))]);
    }

    #[tokio::test]
    async fn answers_are_bounded() {
        let outbox = Outbox::default();
        for n in 0..20_000_u32 {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            outbox.report(CommandId::from_bytes(bytes));
        }
        assert_eq!(outbox.len(), MAX_ANSWERS);
    }
}
