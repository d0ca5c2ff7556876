//! The handle that the API and the sessions use.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_service::tasks::TaskGate;
use muster_wire::proto::agent::v1::SessionResponse;
use muster_wire::proto::v1::{self, OperationState};
use tokio::sync::{oneshot, watch};

use crate::agents::courier::Courier;
use crate::agents::observations::Observations;
use crate::operation::asked::{Asked, What};
use crate::operation::driver::{self, Message, Steer};
use crate::operation::hub::Hub;
use crate::operation::journal::{self, Journaled};
use crate::operation::kind::Phase;
use crate::operation::moves::preflight::{self, Preflight};
use crate::operation::moves::task::Approval;
use crate::operation::news::AgentNews;
use crate::operation::shared::Shared;
use crate::operation::watch::WatchUpdate;
use crate::operation::{accept, retry, session, writers};
use crate::store::{Store, meta, operations};

/// The longest that one call waits.
const MOST_WAIT: Duration = Duration::from_secs(3_600);

/// All operations of this controller. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Operations {
    shared: Arc<Shared>,
}

/// Which operations a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Of this component.
    pub component: Option<Name>,
    /// In this state. Unspecified: in all.
    pub state: OperationState,
    /// Only those that have not ended.
    pub running: bool,
    /// From the page before. `None`: the first page.
    pub before: Option<u64>,
}

impl Operations {
    /// Says that the record of a shard changed without an operation.
    pub fn shard_changed(&self) {
        self.shared.hub.shard_changed();
    }

    /// Takes over the store's unfinished operations and drives them on, each in a task of `gate`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn open(store: Store, courier: Courier, observations: Observations, gate: TaskGate) -> Result<Self, Fault> {
        let unfinished = take_over(&store).await?;
        let mut read = store.read().await?;
        let last = meta::last_event(&mut read).await?;
        drop(read);
        let shared = Arc::new(Shared::new(store, courier, observations, gate, Hub::new(last)));
        for journaled in unfinished {
            driver::start(&shared, journaled);
        }
        shared.gate.spawn_vital("journal", tracing::info_span!("journal"), writers::watch_over(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Accepts an operation: it is journaled when this returns.
    ///
    /// # Errors
    /// Why it is refused; then nothing was changed.
    pub async fn start(&self, asked: Asked) -> Result<v1::Operation, Fault> {
        let shared = Arc::clone(&self.shared);
        let (reply, answer) = oneshot::channel();
        // In a task of its own: a caller that goes away in the middle must not leave an operation that nobody drives.
        let accepting = async move {
            let accepted = accept::accept(&shared, &asked).await;
            let shown = accepted.map(|(journaled, new)| {
                let shown = shared.hub.enrich(journaled.state.id, journaled.shown());
                if new {
                    driver::start(&shared, journaled);
                }
                shown
            });
            if reply.send(shown).is_err() {
                tracing::debug!("whoever asked has gone");
            }
        };
        self.shared.gate.spawn("accept", tracing::Span::current(), accepting);
        answer.await.map_err(|_| stopping())?
    }

    /// What to ask for so that an operation that failed or was cancelled is done again, with its stall limit and the cause that names it.
    ///
    /// # Errors
    /// Where there is none, it has succeeded, or it has not ended.
    pub async fn again(&self, id: &str, by: &str, consent: &str) -> Result<(What, Duration, String), Fault> {
        let old = self.find(id).await?.state;
        Ok((retry::again(&old, consent)?, old.stall_limit(), retry::cause(by, &old)))
    }

    /// One operation, by its id or the first 6 or more digits of it.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub async fn get(&self, id: &str) -> Result<v1::Operation, Fault> {
        let journaled = self.find(id).await?;
        Ok(self.shared.hub.enrich(journaled.state.id, journaled.shown()))
    }

    /// Operations, newest first, `limit` at most, and where the next page begins.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn list(&self, filter: ListFilter, limit: u32) -> Result<(Vec<v1::Operation>, Option<u64>), Fault> {
        let phase = Phase::ALL.into_iter().find(|phase| phase.proto() == filter.state).map(Phase::name);
        let wanted = operations::Filter { component: filter.component, phase, running: filter.running, before: filter.before };
        let mut read = self.shared.store.read().await?;
        let mut rows = operations::list(&mut read, &wanted, limit.saturating_add(1)).await?;
        drop(read);
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(|row| row.number);
        let mut shown = Vec::with_capacity(rows.len());
        for row in &rows {
            shown.push(self.shared.hub.enrich(row.id, journal::read(row)?.shown()));
        }
        Ok((shown, next))
    }

    /// Transitions after a number, and progress between them: of one operation (it ends after the last one) or of all.
    ///
    /// # Errors
    /// Where the operation is unknown or the events are gone; in the stream, also that the controller stops.
    pub async fn watch(&self, id: Option<&str>, after: EventNumber) -> Result<BoxStream<'static, Result<WatchUpdate, Fault>>, Fault> {
        let (of, ended) = match id {
            Some(id) => {
                let journaled = self.find(id).await?;
                (Some(journaled.state.id), journaled.state.phase.ended())
            }
            None => (None, false),
        };
        let stop = self.shared.gate.token().clone();
        super::watch::watch(self.shared.store.clone(), Arc::clone(&self.shared.hub), stop, of, after, ended).await
    }

    /// Waits until the operation has ended, for at most `timeout` (an hour at most); tells whether it has.
    ///
    /// # Errors
    /// Where the operation is unknown, or the controller stops.
    pub async fn wait(&self, id: &str, timeout: Duration) -> Result<(v1::Operation, bool), Fault> {
        let mut events = self.shared.hub.events();
        let until = tokio::time::Instant::now() + timeout.min(MOST_WAIT);
        loop {
            events.mark_unchanged();
            let shown = self.get(id).await?;
            if super::watch::has_ended(shown.state()) {
                return Ok((shown, true));
            }
            tokio::select! {
                () = self.shared.gate.token().cancelled() => return Err(stopping()),
                () = tokio::time::sleep_until(until) => return Ok((self.get(id).await?, false)),
                changed = events.changed() => changed.map_err(|_| stopping())?,
            }
        }
    }

    /// Asks an operation to stop.
    ///
    /// # Errors
    /// Where it is unknown or has ended.
    pub async fn cancel(&self, id: &str, caller: &str, reason: &str) -> Result<v1::Operation, Fault> {
        if reason.len() > 1_000 {
            return Err(Fault::refused(ErrorKind::InvalidArgument, format!("the reason has {} bytes", reason.len())).hint("1,000 at most"));
        }
        self.steer(id, Steer::Cancel { by: caller.to_owned(), reason: reason.to_owned() }).await
    }

    /// Ends an operation whose outcome is unknown by a recorded word.
    ///
    /// # Errors
    /// Where it is unknown, its outcome is not, or the word is empty.
    pub async fn resolve(&self, id: &str, caller: &str, succeeded: bool, word: &str) -> Result<v1::Operation, Fault> {
        self.steer(id, Steer::Resolve { by: caller.to_owned(), succeeded, word: word.to_owned() }).await
    }

    /// Adds an operator's words, and what may be lost, to a move.
    ///
    /// # Errors
    /// Where it is unknown, waits for none, or has ended.
    pub async fn approve(&self, id: &str, caller: &str, approval: Approval) -> Result<v1::Operation, Fault> {
        self.steer(id, Steer::Approve { by: caller.to_owned(), approval }).await
    }

    /// What a switchover to `to` needs now, and what a failover to it would lose. `None`: to whoever would lose least.
    ///
    /// # Errors
    /// Where there is no such component or instance.
    pub async fn preflight(&self, component: &Name, to: Option<&Name>) -> Result<Preflight, Fault> {
        let mut read = self.shared.store.read().await?;
        let fleet = accept::fleet(&self.shared, &mut read, component).await?;
        if let Some(to) = to {
            fleet.instance(to)?;
        }
        let members = accept::members(&self.shared, &mut read, component).await?;
        Ok(preflight::look(component, fleet.shard.record.as_ref(), &members, to))
    }

    /// Takes an agent's news in; what comes back is to be sent to that agent, in order. An outcome is journaled when this returns.
    /// `Connected` is handed in after the courier knows the session and before its Welcome is made, whose term may have become higher.
    ///
    /// # Errors
    /// Where it could not be journaled or makes no sense: the session ends, and the agent tells it again.
    pub async fn hear(&self, agent: &Name, news: AgentNews) -> Result<Vec<SessionResponse>, Fault> {
        match news {
            AgentNews::Connected(hello) => session::connected(&self.shared, agent, &hello).await?,
            AgentNews::Disconnected => session::disconnected(&self.shared, agent).await,
            AgentNews::TakenOn { command_id } => session::taken_on(&self.shared, agent, &command_id).await?,
            AgentNews::Progress(progress) => session::progress(&self.shared, agent, progress)?,
            AgentNews::Report(report) => session::report(&self.shared, agent, &report).await?,
            AgentNews::Outcome(outcome) => return session::outcome(&self.shared, agent, &outcome).await,
        }
        Ok(Vec::new())
    }

    /// The number of the newest transition, as it changes.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<EventNumber> {
        self.shared.hub.events()
    }

    /// A journaled operation with what waits and moves now.
    #[must_use]
    pub fn live(&self, id: OperationId, shown: v1::Operation) -> v1::Operation {
        self.shared.hub.enrich(id, shown)
    }

    /// Changes its value whenever an epoch, a writer or the superseded ones of a shard changed: assignments are to be made anew.
    #[must_use]
    pub fn shards_changed(&self) -> watch::Receiver<u64> {
        self.shared.hub.shards()
    }

    /// How many commands were sent again since the process began.
    #[must_use]
    pub fn resends(&self) -> watch::Receiver<u64> {
        self.shared.hub.resends()
    }

    /// Why the store was found to be behind its agents, in words. Empty: it was not.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn behind(&self) -> Result<String, Fault> {
        let mut read = self.shared.store.read().await?;
        Ok(meta::behind(&mut read).await?)
    }

    async fn find(&self, id: &str) -> Result<Journaled, Fault> {
        let mut read = self.shared.store.read().await?;
        accept::find(&mut read, id).await
    }

    async fn steer(&self, id: &str, steer: Steer) -> Result<v1::Operation, Fault> {
        let journaled = self.find(id).await?;
        if let Some(driver) = self.shared.driver(journaled.state.id) {
            let (reply, answer) = oneshot::channel();
            if driver.mailbox.send(Message::Steer { steer: steer.clone(), reply }).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
        }
        // It has ended meanwhile, and says so; or the process stops.
        let journaled = self.find(id).await?;
        driver::refuse(&journaled.state, &steer).map_or_else(|| Err(stopping()), Err)
    }
}

fn stopping() -> Fault {
    Fault::refused(ErrorKind::Unavailable, "the controller stops").hint("ask again when it is back; what was accepted goes on then")
}

/// The unfinished operations; where the store runs elsewhere than it did, each is suspended first.
async fn take_over(store: &Store) -> Result<Vec<Journaled>, Fault> {
    let mut write = store.write().await?;
    if let Some(from) = store.moved_from() {
        let why = format!("this store last ran elsewhere ({from}) and may be a copy");
        meta::set_behind(write.connection(), &why).await?;
        session::suspend_all(&mut write, &why).await?;
    }
    let mut unfinished = Vec::new();
    for record in operations::unfinished(write.connection()).await? {
        match journal::read(&record) {
            Ok(journaled) => unfinished.push(journaled),
            // One damaged row must not keep a controller from starting.
            Err(error) => tracing::error!(operation = %record.id, %error, "an unfinished operation cannot be read and is not driven"),
        }
    }
    if store.moved_from().is_none() && unfinished.iter().all(|journaled| journaled.state.phase != Phase::Suspended) {
        meta::set_behind(write.connection(), "").await?;
    }
    write.commit().await?;
    Ok(unfinished)
}
