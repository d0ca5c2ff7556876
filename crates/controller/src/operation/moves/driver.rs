//! A move's driver: a task that reads what is journaled and seen, decides, journals, and waits for news.
//!
//! What always holds: what is journaled was decided on the very record and state that the transaction finds; a part is driven only after
//! the transaction that holds it; a driver that is stopped anywhere is resumed from the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ReignId;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::shard::ShardRecord;
use muster_wire::proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::operation::done::Done;
use crate::operation::driver::{Message, Steer};
use crate::operation::event::Event;
use crate::operation::journal::{self, Journaled};
use crate::operation::moves::decide::{Action, decide};
use crate::operation::moves::route::Deed;
use crate::operation::moves::routing;
use crate::operation::moves::view::{Part, View};
use crate::operation::shared::{Shared, pass};
use crate::operation::state::Work;
use crate::operation::{accept, driver, life};
use crate::store::{operations, shards};

/// How long after a failure of the store it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What is seen is looked at again after this, whatever is waited for.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two news: observations come each second.
const SOON: Duration = Duration::from_millis(100);
/// How often one message is tried on a state that another writer changes.
const TRIES: usize = 5;

pub(in crate::operation) struct Drive {
    pub(in crate::operation) shared: Arc<Shared>,
    pub(in crate::operation) journaled: Journaled,
}

impl Drive {
    pub(in crate::operation) async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let stop = self.shared.gate.token().clone();
        loop {
            let until = match self.act().await {
                Ok(until) => until,
                Err(_) if self.shared.superseded.is_cancelled() => return,
                Err(fault) => {
                    tracing::error!(%fault, "a move cannot be driven; it is tried again");
                    self.shared.clock.now().plus(RETRY)
                }
            };
            if self.journaled.state.phase.ended() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                message = mailbox.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                () = tokio::time::sleep_until(self.shared.clock.instant(until).into()) => {}
            }
        }
        self.let_go();
        self.shared.leave(self.journaled.state.id, self.journaled.state.command_id());
        tracing::info!(phase = self.journaled.state.phase.name(), "the operation has ended");
    }

    /// Asks its parts that have not ended to stop: an order of a move that is over must not reach an agent that connects later.
    fn let_go(&self) {
        let by = format!("operation/{}", self.journaled.state.id);
        for step in &self.journaled.state.steps {
            let Work::Child { operation } = &step.work else { continue };
            let Some(driver) = self.shared.driver(*operation) else { continue };
            let steer = Steer::Cancel { by: by.clone(), reason: "its move has ended".to_owned() };
            let (reply, _) = oneshot::channel();
            if driver.mailbox.try_send(Message::Steer { steer, reply }).is_err() {
                tracing::warn!(part = %operation, "a part of a move that has ended could not be asked to stop: muster cancel {operation}");
            }
        }
    }

    /// Decides and journals until there is nothing to do but wait; answers until when.
    async fn act(&mut self) -> Result<Timestamp, Fault> {
        loop {
            let view = self.look().await?;
            match decide(&view) {
                Action::Record(events) => {
                    pass("controller.move.decided")?;
                    if self.record(&events, view.record.as_ref()).await? {
                        pass("controller.move.recorded")?;
                    }
                    if self.journaled.state.phase.ended() {
                        return Ok(self.shared.clock.now());
                    }
                }
                Action::Route { route, deed } => {
                    self.shared.hub.waits(self.journaled.state.id, &format!("route {route}: {}", deed.name()));
                    let (old_ttl, fault) = match self.route(&view, &route, deed).await {
                        Ok(old_ttl) => (old_ttl, None),
                        Err(fault) => (0, Some(fault)),
                    };
                    pass("controller.move.routed")?;
                    let ended = Event::RouteEnded { route, deed, old_ttl, fault };
                    self.record(&[ended], view.record.as_ref()).await?;
                }
                Action::Wait { reason, until } => {
                    self.shared.hub.waits(self.journaled.state.id, &reason);
                    // Moments are told by the journal's clock, and waited for by the process's own.
                    let pause = until.map_or(LOOK, |until| until.since(view.now).clamp(SOON, LOOK));
                    return Ok(self.shared.clock.now().plus(pause));
                }
            }
        }
    }

    /// Carries out what is journaled as begun.
    async fn route(&self, view: &View, route: &Name, deed: Deed) -> Result<u32, Fault> {
        let mut read = self.shared.store.read().await?;
        let declared = routing::declared(&mut read, route).await?;
        drop(read);
        let refused = |why: &str| Fault::refused(ErrorKind::FailedPrecondition, format!("route {route}: {why}")).hint("muster status");
        let record = view.record.as_ref().ok_or_else(|| refused("no writer is known"))?;
        let site = view.member(&record.reign.writer).and_then(|member| member.site.parse().ok());
        let site: Name = site.ok_or_else(|| refused("the writer is no longer declared"))?;
        routing::carry(&declared, deed, &site, &record.line()).await
    }

    async fn look(&mut self) -> Result<View, Fault> {
        let mut read = self.shared.store.read().await?;
        let connection = &mut read;
        let id = self.journaled.state.id;
        if let Some(record) = operations::get(connection, id).await? {
            self.journaled = journal::read(&record)?;
        }
        let component = self.journaled.state.target.component.clone();
        let record = shards::get(connection, &component).await?.record;
        let mut parts = BTreeMap::new();
        for step in &self.journaled.state.steps {
            if let Work::Child { operation } = &step.work
                && let Some(record) = operations::get(connection, *operation).await?
            {
                parts.insert(step.name.clone(), part(&journal::read(&record)?));
            }
        }
        let members = accept::members(&self.shared, connection, &component).await.unwrap_or_default();
        Ok(View {
            state: self.journaled.state.clone(),
            record,
            parts,
            members,
            routes: routing::of_component(connection, &component).await?,
            rule: self.shared.store.rule(),
            adopting: self.shared.is_adopting() || self.shared.observations.later_reign(&component).is_some(),
            now: muster_service::clock::now(),
            drawn: ReignId::from_bytes(rand::random()),
        })
    }

    /// Journals events if the shard's record is still the one that they were decided on. `false`: it is not, or another writer was faster.
    async fn record(&mut self, events: &[Event], seen: Option<&ShardRecord>) -> Result<bool, Fault> {
        let shared = Arc::clone(&self.shared);
        let mut write = shared.write_together().await?;
        let kept = shards::get(write.connection(), &self.journaled.state.target.component).await?;
        let now = muster_service::clock::now();
        let recorded = match kept.record.as_ref() == seen {
            true => journal::record(&mut write, &self.journaled, events.to_vec(), None, shared.store.rule(), now).await?,
            false => None,
        };
        let Some(recorded) = recorded else {
            write.abandon().await?;
            return Ok(false);
        };
        write.commit().await?;
        shared.hub.committed(recorded.journaled.last_event);
        if recorded.shard_changed {
            shared.hub.shard_changed();
        }
        self.journaled = recorded.journaled;
        shared.tell(self.journaled.state.parent);
        for part in recorded.parts {
            driver::start(&shared, part);
        }
        Ok(true)
    }

    async fn take(&mut self, message: Message) {
        match message {
            // It has no command of its own: there is no news of one.
            Message::News { reply, .. } => drop(reply),
            Message::Steer { steer, reply } => {
                let steered = self.steer(&steer).await;
                answer(reply, steered);
            }
            Message::Session | Message::Reload => {}
        }
    }

    async fn steer(&mut self, steer: &Steer) -> Result<v1::Operation, Fault> {
        for _ in 0..TRIES {
            let view = self.look().await?;
            let events = match steer {
                Steer::Cancel { by, reason } => life::cancel(&view.state, by, reason),
                Steer::Resolve { by, succeeded, word } => life::resolve(&view.state, by, *succeeded, word),
                Steer::Approve { by, approval } => life::approve(&view.state, by, approval),
            }?;
            if events.is_empty() || self.record(&events, view.record.as_ref()).await? {
                break;
            }
        }
        Ok(self.shared.hub.enrich(self.journaled.state.id, self.journaled.shown()))
    }
}

fn answer<T>(reply: oneshot::Sender<Result<T, Fault>>, answer: Result<T, Fault>) {
    if reply.send(answer).is_err() {
        tracing::debug!("whoever asked has gone");
    }
}

/// What a part came to.
fn part(journaled: &Journaled) -> Part {
    let state = &journaled.state;
    let answer = match &state.done {
        Some(Done::Order(answer)) => Some((**answer).clone()),
        Some(
            Done::Backup(_)
            | Done::Restore(_)
            | Done::Check(_)
            | Done::Discard { .. }
            | Done::Verify(_)
            | Done::Prune(_)
            | Done::Hold(_)
            | Done::Hook { .. }
            | Done::Move(_)
            | Done::Site(_),
        )
        | None => None,
    };
    Part { phase: state.phase, answer, fault: state.fault.clone(), since: state.created, finished: state.finished }
}
