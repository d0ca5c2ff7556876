//! What is new, for whoever waits for it: the number of the newest event, and the newest progress of each running operation.
//!
//! What always holds: nothing queues here. A watcher reads transitions from the journal and takes the newest progress when it is ready,
//! so that a slow one costs nothing and never slows the work.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_common::counter::EventNumber;
use muster_common::id::OperationId;
use muster_wire::proto::v1::{Operation, Progress, ProgressUpdate};
use tokio::sync::watch;

/// What is new.
#[derive(Debug)]
pub struct Hub {
    last_event: watch::Sender<EventNumber>,
    generation: watch::Sender<u64>,
    live: Mutex<BTreeMap<OperationId, Live>>,
    shards: watch::Sender<u64>,
    resends: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Live {
    generation: u64,
    progress: Option<Progress>,
    waiting_for: String,
}

impl Hub {
    /// A hub of a store whose newest event is `last`.
    #[must_use]
    pub fn new(last: EventNumber) -> Self {
        Self {
            last_event: watch::Sender::new(last),
            generation: watch::Sender::new(0),
            live: Mutex::default(),
            shards: watch::Sender::new(0),
            resends: watch::Sender::new(0),
        }
    }

    /// An event was committed.
    pub fn committed(&self, number: EventNumber) {
        self.last_event.send_if_modified(|last| {
            let newer = number > *last;
            *last = number.max(*last);
            newer
        });
    }

    /// The record of who writes changed.
    pub fn shard_changed(&self) {
        self.shards.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// An operation is driven from now on.
    pub fn enter(&self, operation: OperationId) {
        self.lock().insert(operation, Live::default());
    }

    /// A command was sent again.
    pub fn resent(&self) {
        self.resends.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How many commands were sent again.
    #[must_use]
    pub fn resends(&self) -> watch::Receiver<u64> {
        self.resends.subscribe()
    }

    /// Newer progress of an operation that is driven; tells whether it differs from the one before in more than its time.
    pub fn progress(&self, operation: OperationId, progress: Progress) -> bool {
        let mut live = self.lock();
        // Under the lock, so that no watcher sees the number before what it counts.
        let generation = self.generation.borrow().wrapping_add(1);
        let Some(entry) = live.get_mut(&operation) else { return false };
        let timeless = |progress: &Progress| Progress { at: None, ..progress.clone() };
        let moved = entry.progress.as_ref().is_none_or(|last| timeless(last) != timeless(&progress));
        entry.progress = Some(progress);
        entry.generation = generation;
        self.generation.send_replace(generation);
        moved
    }

    /// What an operation that is driven waits for now. Empty: nothing.
    pub fn waits(&self, operation: OperationId, reason: &str) {
        if let Some(entry) = self.lock().get_mut(&operation)
            && entry.waiting_for != reason
        {
            reason.clone_into(&mut entry.waiting_for);
        }
    }

    /// What an operation that is driven waits for now. Empty: nothing.
    #[must_use]
    pub fn waiting_for(&self, operation: OperationId) -> String {
        self.lock().get(&operation).map(|live| live.waiting_for.clone()).unwrap_or_default()
    }

    /// An operation has ended.
    pub fn forget(&self, operation: OperationId) {
        self.lock().remove(&operation);
    }

    /// Adds what waits and moves now.
    #[must_use]
    pub fn enrich(&self, id: OperationId, mut shown: Operation) -> Operation {
        if let Some(live) = self.lock().get(&id) {
            shown.progress.clone_from(&live.progress);
            shown.waiting_for.clone_from(&live.waiting_for);
        }
        shown
    }

    /// Progress that is newer than `seen`, of one operation or of all, and what to ask after next.
    #[must_use]
    pub fn since(&self, seen: u64, of: Option<OperationId>) -> (Vec<ProgressUpdate>, u64) {
        let live = self.lock();
        let newest = *self.generation.borrow();
        let newer = live.iter().filter(|(id, live)| live.generation > seen && of.is_none_or(|of| of == **id));
        let updates = newer.map(|(id, live)| ProgressUpdate { operation_id: id.to_string(), progress: live.progress.clone() });
        (updates.collect(), newest)
    }

    /// Changes with each committed event.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<EventNumber> {
        self.last_event.subscribe()
    }

    /// Changes with each progress.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Changes with each record of who writes.
    #[must_use]
    pub fn shards(&self) -> watch::Receiver<u64> {
        self.shards.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OperationId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
