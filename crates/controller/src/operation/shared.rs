//! What the handle, the drivers and the sessions share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::{CommandId, OperationId};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_service::tasks::TaskGate;
use muster_wire::proto::agent::v1::{SessionResponse, session_response};
use tokio::sync::{RwLock, mpsc};
use tokio_util::sync::CancellationToken;

use crate::agents::courier::Courier;
use crate::agents::observations::Observations;
use crate::operation::driver::Message;
use crate::operation::hub::Hub;
use crate::store::error::StoreError;
use crate::store::{Store, Write};

/// What they share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) courier: Courier,
    pub(super) observations: Observations,
    pub(super) gate: TaskGate,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Steady,
    /// How often operations were suspended. Whoever sends to an agent holds it for reading and compares: nothing that was decided before
    /// a suspension is sent after it.
    pub(super) suspensions: RwLock<u64>,
    /// Cancelled when another controller rules on this store: nothing can be journaled any more.
    pub(super) superseded: CancellationToken,
    driven: Mutex<Driven>,
    agents: Mutex<Agents>,
}

/// The drivers by operation and by command.
#[derive(Debug, Default)]
struct Driven {
    operations: BTreeMap<OperationId, Driver>,
    commands: BTreeMap<CommandId, OperationId>,
}

/// How one driver is reached.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    pub(super) operation: OperationId,
    pub(super) agent: Name,
    pub(super) mailbox: mpsc::Sender<Message>,
    /// When something moved last, in microseconds of [`Steady`].
    pub(super) moved: Arc<AtomicI64>,
}

#[derive(Debug, Default)]
struct Agents {
    /// Those whose Hello was heard in their present session.
    heard: BTreeSet<Name>,
    /// Those whose Hello was heard since this process began its term.
    met: BTreeSet<Name>,
}

/// A clock that only goes forward, for how long something stood still.
#[derive(Debug)]
pub(super) struct Steady {
    wall: Timestamp,
    start: Instant,
}

impl Steady {
    pub(super) fn begin() -> Self {
        Self { wall: muster_service::clock::now(), start: Instant::now() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.wall.plus(self.start.elapsed())
    }

    /// The moment of the process's own clock that `at` stands for.
    pub(super) fn instant(&self, at: Timestamp) -> Instant {
        self.start + at.since(self.wall)
    }
}

impl Shared {
    pub(super) fn new(store: Store, courier: Courier, observations: Observations, gate: TaskGate, hub: Hub) -> Self {
        Self {
            store,
            courier,
            observations,
            gate,
            hub: Arc::new(hub),
            clock: Steady::begin(),
            suspensions: RwLock::new(0),
            superseded: CancellationToken::new(),
            driven: Mutex::default(),
            agents: Mutex::default(),
        }
    }

    /// Begins a transaction that writes; notices when this process rules no longer.
    pub(super) async fn write(&self) -> Result<Write, StoreError> {
        let write = self.store.write().await;
        if matches!(write, Err(StoreError::Superseded { .. })) {
            self.superseded.cancel();
        }
        write
    }

    /// The same together with others that write at the same time: see [`Store::write_together`].
    pub(super) async fn write_together(&self) -> Result<Write, StoreError> {
        let write = self.store.write_together().await;
        if matches!(write, Err(StoreError::Superseded { .. })) {
            self.superseded.cancel();
        }
        write
    }

    pub(super) fn enter(&self, driver: Driver, command: CommandId) {
        self.hub.enter(driver.operation);
        let mut driven = lock(&self.driven);
        driven.commands.insert(command, driver.operation);
        driven.operations.insert(driver.operation, driver);
    }

    pub(super) fn leave(&self, operation: OperationId, command: CommandId) {
        let mut driven = lock(&self.driven);
        driven.commands.remove(&command);
        driven.operations.remove(&operation);
        drop(driven);
        self.hub.forget(operation);
    }

    pub(super) fn driver(&self, operation: OperationId) -> Option<Driver> {
        lock(&self.driven).operations.get(&operation).cloned()
    }

    /// An operation tells the one that it is a part of to look. A full mailbox needs no word: it looks anyway.
    pub(super) fn tell(&self, parent: Option<OperationId>) {
        if let Some(parent) = parent.and_then(|parent| self.driver(parent))
            && parent.mailbox.try_send(Message::Reload).is_err()
        {
            tracing::debug!(operation = %parent.operation, "it has news enough");
        }
    }

    pub(super) fn driver_of_command(&self, command: CommandId) -> Option<Driver> {
        let driven = lock(&self.driven);
        driven.commands.get(&command).and_then(|operation| driven.operations.get(operation)).cloned()
    }

    pub(super) fn drivers(&self) -> Vec<Driver> {
        lock(&self.driven).operations.values().cloned().collect()
    }

    /// Whether the agent has a session in which its Hello was heard.
    pub(super) fn is_heard(&self, agent: &Name) -> bool {
        self.courier.is_connected(agent) && lock(&self.agents).heard.contains(agent)
    }

    /// Whether a Hello of the agent was heard since this process began its term.
    pub(super) fn has_met(&self, agent: &Name) -> bool {
        lock(&self.agents).met.contains(agent)
    }

    /// Whether this store may be a copy or behind, and its agents were not all heard since: it confirms nothing meanwhile.
    pub(super) fn is_adopting(&self) -> bool {
        self.store.moved_from().is_some() && lock(&self.driven).operations.values().any(|driver| !self.has_met(&driver.agent))
    }

    pub(super) fn meet(&self, agent: &Name) {
        lock(&self.agents).met.insert(agent.clone());
    }

    pub(super) fn set_heard(&self, agent: &Name, heard: bool) {
        let mut agents = lock(&self.agents);
        if heard {
            agents.heard.insert(agent.clone());
        } else {
            agents.heard.remove(agent);
        }
    }

    pub(super) fn send(&self, agent: &Name, message: session_response::Message) -> bool {
        self.courier.send(agent, SessionResponse { message: Some(message) })
    }
}

impl Driver {
    pub(super) fn moved_at(&self, now: Timestamp) {
        self.moved.fetch_max(now.0, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes a failpoint.
pub(super) fn pass(place: &'static str) -> Result<(), Fault> {
    muster_failpoint::hit(place).map_err(|injected| {
        Fault::failed(ErrorKind::Internal, injected.to_string()).effect(Effect::Unknown).hint("a test asked for this failure")
    })
}
