//! The handle that the API and the sessions use.

use std::time::Duration;

use futures::stream::BoxStream;
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_service::tasks::TaskGate;
use muster_wire::proto::agent::v1::SessionResponse;
use muster_wire::proto::v1;
use tokio::sync::watch;

use crate::agents::courier::Courier;
use crate::agents::observations::Observations;
use crate::operation::asked::Asked;
use crate::operation::news::AgentNews;
use crate::operation::watch::WatchUpdate;
use crate::store::Store;

/// All operations of this controller. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Operations {
    store: Store,
}

/// Which operations a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Of this component.
    pub component: Option<Name>,
    /// In this state. Unspecified: in all.
    pub state: v1::OperationState,
    /// Only those that have not ended.
    pub running: bool,
    /// From the page before. `None`: the first page.
    pub before: Option<u64>,
}

fn not_yet() -> Fault {
    Fault::refused(ErrorKind::NotAvailable, "operations are not built yet")
}

impl Operations {
    /// Takes over the store's unfinished operations and drives them on, each in a task of `gate`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn open(store: Store, courier: Courier, observations: Observations, gate: TaskGate) -> Result<Self, Fault> {
        drop((courier, observations, gate));
        Ok(Self { store })
    }

    /// Accepts an operation: it is journaled when this returns.
    ///
    /// # Errors
    /// Why it is refused; then nothing was changed.
    pub async fn start(&self, asked: Asked) -> Result<v1::Operation, Fault> {
        drop(asked);
        Err(not_yet())
    }

    /// One operation, by its id or the first 6 or more digits of it.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub async fn get(&self, id: &str) -> Result<v1::Operation, Fault> {
        Err(not_yet().evidence(id))
    }

    /// Operations, newest first, and where the next page begins.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn list(&self, filter: ListFilter, limit: u32) -> Result<(Vec<v1::Operation>, Option<u64>), Fault> {
        drop((filter, limit));
        Err(not_yet())
    }

    /// Transitions after a number, and progress between them: of one operation (it ends after the last one) or of all.
    ///
    /// # Errors
    /// Where the operation is unknown or the events are gone.
    pub async fn watch(&self, id: Option<&str>, after: EventNumber) -> Result<BoxStream<'static, Result<WatchUpdate, Fault>>, Fault> {
        Err(not_yet().evidence(format!("{id:?} {after}")))
    }

    /// Waits until the operation has ended, for at most `timeout`; tells whether it has.
    ///
    /// # Errors
    /// Where the operation is unknown.
    pub async fn wait(&self, id: &str, timeout: Duration) -> Result<(v1::Operation, bool), Fault> {
        Err(not_yet().evidence(format!("{id:?} {timeout:?}")))
    }

    /// Asks an operation to stop.
    ///
    /// # Errors
    /// Where it is unknown or has ended.
    pub async fn cancel(&self, id: &str, caller: &str, reason: &str) -> Result<v1::Operation, Fault> {
        Err(not_yet().evidence(format!("{id} {caller} {reason}")))
    }

    /// Ends an operation whose outcome is unknown by a recorded word.
    ///
    /// # Errors
    /// Where it is unknown, its outcome is not, or the word is empty.
    pub async fn resolve(&self, id: &str, caller: &str, succeeded: bool, word: &str) -> Result<v1::Operation, Fault> {
        Err(not_yet().evidence(format!("{id} {caller} {succeeded} {word}")))
    }

    /// Takes an agent's news in; what comes back is to be sent to that agent, in order. An outcome is journaled when this returns.
    ///
    /// # Errors
    /// Where it could not be journaled or makes no sense: the session ends, and the agent tells it again.
    pub async fn hear(&self, agent: &Name, news: AgentNews) -> Result<Vec<SessionResponse>, Fault> {
        drop((agent, news));
        Err(not_yet())
    }

    /// Changes its value whenever an epoch, a writer or the superseded ones of a shard changed: assignments are to be made anew.
    #[must_use]
    pub fn shards_changed(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Why the store was found to be behind its agents, in words. Empty: it was not.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn behind(&self) -> Result<String, Fault> {
        let mut read = self.store.read().await?;
        Ok(crate::store::meta::behind(&mut read).await?)
    }
}
