//! One operation's driver: a task that owns its state, decides, records, then acts, and waits for news.
//!
//! What always holds: nothing is sent before its intent is journaled; news is answered after it is journaled; a store that fails is tried
//! again, from what it holds; a driver that is stopped anywhere is resumed from the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::OperationId;
use muster_common::time::Timestamp;
use muster_wire::proto::agent::v1::{AskTask, CancelTask, Command, TaskOutcome, session_response};
use muster_wire::proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::operation::event::Event;
use crate::operation::journal::{self, Journaled};
use crate::operation::kind::Phase;
use crate::operation::kinds::order;
use crate::operation::life::{self, Action, News, Told, World};
use crate::operation::moves::driver::Drive;
use crate::operation::moves::task::Approval;
use crate::operation::shared::{Driver, Shared, pass};
use crate::operation::sites;
use crate::operation::state::Task as Any;
use crate::store::{commands, operations};

/// Messages that may wait for one driver.
const MAILBOX: usize = 64;
/// How long after a failure of the store it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often one message is tried on a state that another writer changes.
const TRIES: usize = 5;

/// What a driver is told.
#[derive(Debug)]
pub(super) enum Message {
    /// News of its command; answered once it is journaled.
    News { news: News, raw: Option<Box<TaskOutcome>>, reply: oneshot::Sender<Result<(), Fault>> },
    /// An operator steers; answered with the operation after it.
    Steer { steer: Steer, reply: oneshot::Sender<Result<v1::Operation, Fault>> },
    /// Its agent's session began or ended: what was sent before may not have arrived.
    Session,
    /// Somebody else journaled: read again.
    Reload,
}

/// How an operator steers.
#[derive(Clone, Debug)]
pub(super) enum Steer {
    Cancel { by: String, reason: String },
    Resolve { by: String, succeeded: bool, word: String },
    Approve { by: String, approval: Approval },
}

/// Starts the driver of an operation that has not ended.
pub(super) fn start(shared: &Arc<Shared>, journaled: Journaled) {
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let (id, agent, command) = (journaled.state.id, journaled.state.agent.clone(), journaled.state.command_id());
    let moved = Arc::new(AtomicI64::new(shared.clock.now().0));
    let parent = journaled.state.parent;
    shared.enter(Driver { operation: id, agent: agent.clone(), mailbox: sender, moved: Arc::clone(&moved) }, command);
    let span = tracing::info_span!("operation", %id, kind = journaled.state.task.kind().name(), target = %journaled.state.target, %agent);
    muster_service::trace::set_parent(&span, &journaled.state.traceparent);
    if matches!(journaled.state.task, Any::Move(_)) {
        let drive = Drive { shared: Arc::clone(shared), journaled };
        if !shared.gate.spawn(format!("operation {id}"), span, drive.run(mailbox)) {
            shared.leave(id, command);
        }
        return;
    }
    if let Some(task) = sites::driver::task(&journaled) {
        let drive = sites::driver::Drive::new(Arc::clone(shared), journaled, task);
        if !shared.gate.spawn(format!("operation {id}"), span, drive.run(mailbox)) {
            shared.leave(id, command);
        }
        return;
    }
    // What was issued before this start may have been sent before it.
    let sent = journaled.state.command().is_some();
    let task = Task { shared: Arc::clone(shared), parent, journaled, told: Told::default(), sent, moved, suspensions: None };
    if !shared.gate.spawn(format!("operation {id}"), span, task.run(mailbox)) {
        // The process stops; the journal keeps the operation for the next start.
        shared.leave(id, command);
    }
}

struct Task {
    shared: Arc<Shared>,
    /// The move that it is a part of: it is told of each change.
    parent: Option<OperationId>,
    journaled: Journaled,
    told: Told,
    /// Whether the command may have been sent before.
    sent: bool,
    moved: Arc<AtomicI64>,
    /// The number of suspensions that `journaled` is known to have seen. `None`: not known.
    suspensions: Option<u64>,
}

impl Task {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let stop = self.shared.gate.token().clone();
        loop {
            let acted = self.act().await;
            self.shared.tell(self.parent);
            let until = match acted {
                Ok(until) => until,
                // Said once, by who watches over it.
                Err(_) if self.shared.superseded.is_cancelled() => return,
                Err(fault) => {
                    tracing::error!(%fault, "an operation cannot be driven; it is tried again");
                    self.suspensions = None;
                    Some(self.shared.clock.now().plus(RETRY))
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
                () = self.until(until) => {}
            }
            if self.journaled.state.phase.ended() {
                self.shared.tell(self.parent);
                break;
            }
        }
        self.shared.leave(self.journaled.state.id, self.journaled.state.command_id());
        tracing::info!(phase = self.journaled.state.phase.name(), "the operation has ended");
    }

    async fn until(&self, until: Option<Timestamp>) {
        match until {
            Some(at) => tokio::time::sleep_until(self.shared.clock.instant(at).into()).await,
            None => std::future::pending().await,
        }
    }

    /// Decides and acts until there is nothing to do but wait; answers until when.
    async fn act(&mut self) -> Result<Option<Timestamp>, Fault> {
        loop {
            if self.suspensions.is_none() {
                self.reload().await?;
            }
            let world = World {
                connected: self.shared.is_heard(&self.journaled.state.agent),
                moved: Timestamp(self.moved.load(Ordering::SeqCst)),
                told: self.told,
            };
            let actions = life::decide(&self.journaled.state, &world, self.shared.clock.now());
            let mut until = None;
            let mut again = false;
            for action in actions {
                match action {
                    Action::Record(event) => {
                        let issued = matches!(event, Event::Issued { .. });
                        again = true;
                        if self.record(vec![event], None).await? && issued {
                            pass("controller.stop3.decided")?;
                        }
                    }
                    Action::Send => again |= !self.send_command().await?,
                    Action::Ask => again |= !self.send_ask().await,
                    Action::Cancel => again |= !self.send_cancel().await,
                    Action::Wait { reason, until: at } => {
                        self.shared.hub.waits(self.journaled.state.id, &reason);
                        until = at;
                    }
                }
                if again {
                    break;
                }
            }
            if !again {
                return Ok(until);
            }
        }
    }

    /// Sends the command as it is journaled, under the present term. `false`: the operation was suspended meanwhile, decide again.
    async fn send_command(&mut self) -> Result<bool, Fault> {
        let command = self.stored_command().await?;
        let agent = self.journaled.state.agent.clone();
        let shared = Arc::clone(&self.shared);
        let Some(_guard) = self.may_send(&shared).await else { return Ok(false) };
        let command = order::under(Command { term: shared.store.term().0, ..command }, shared.store.rule());
        self.told.command = true;
        if shared.send(&agent, session_response::Message::Command(command)) {
            if std::mem::replace(&mut self.sent, true) {
                shared.hub.resent();
            }
            pass("controller.stop4.sent")?;
        }
        Ok(true)
    }

    async fn send_ask(&mut self) -> bool {
        let (agent, command_id) = (self.journaled.state.agent.clone(), self.journaled.state.command_id().to_string());
        let shared = Arc::clone(&self.shared);
        let Some(_guard) = self.may_send(&shared).await else { return false };
        self.told.ask = true;
        shared.send(&agent, session_response::Message::Ask(AskTask { command_id, term: shared.store.term().0 }));
        true
    }

    async fn send_cancel(&mut self) -> bool {
        let (agent, command_id) = (self.journaled.state.agent.clone(), self.journaled.state.command_id().to_string());
        let shared = Arc::clone(&self.shared);
        let Some(_guard) = self.may_send(&shared).await else { return false };
        self.told.cancel = true;
        shared.send(&agent, session_response::Message::Cancel(CancelTask { command_id, term: shared.store.term().0 }));
        true
    }

    /// Holds suspensions off while something is sent. `None`: one came since the state was read.
    async fn may_send<'a>(&mut self, shared: &'a Shared) -> Option<tokio::sync::RwLockReadGuard<'a, u64>> {
        let guard = shared.suspensions.read().await;
        if self.suspensions == Some(*guard) {
            return Some(guard);
        }
        self.suspensions = None;
        None
    }

    async fn stored_command(&self) -> Result<Command, Fault> {
        let id = self.journaled.state.command_id();
        let mut read = self.shared.store.read().await?;
        let issued = commands::get(&mut read, id).await?;
        issued.map(|issued| issued.command).ok_or_else(|| {
            Fault::failed(ErrorKind::Internal, format!("command {id} was issued and is not in the store"))
                .hint("restore the store from its backup and report this as a defect")
        })
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::News { news, raw, reply } => {
                let heard = self.hear(news, raw.as_deref()).await;
                self.answer(reply, heard);
            }
            Message::Steer { steer, reply } => {
                let steered = self.steer(&steer).await;
                self.answer(reply, steered);
            }
            Message::Session => {
                self.told = Told::default();
                self.moved.fetch_max(self.shared.clock.now().0, Ordering::SeqCst);
            }
            Message::Reload => self.suspensions = None,
        }
    }

    fn answer<T>(&mut self, reply: oneshot::Sender<Result<T, Fault>>, answer: Result<T, Fault>) {
        if reply.send(answer).is_err() {
            tracing::debug!("whoever asked has gone");
        }
    }

    /// Journals what news means.
    async fn hear(&mut self, news: News, raw: Option<&TaskOutcome>) -> Result<(), Fault> {
        if matches!(news, News::Outcome(..)) {
            pass("controller.stop8.reported")?;
        }
        self.moved.fetch_max(self.shared.clock.now().0, Ordering::SeqCst);
        let done = self.journal(raw, |state, now| Ok(life::receive(state, news.clone(), now))).await;
        if matches!(news, News::Outcome(..)) {
            pass("controller.stop9.recorded")?;
        }
        done
    }

    async fn steer(&mut self, steer: &Steer) -> Result<v1::Operation, Fault> {
        let events = |state: &_, _| match steer {
            Steer::Cancel { by, reason } => life::cancel(state, by, reason),
            Steer::Resolve { by, succeeded, word } => life::resolve(state, by, *succeeded, word),
            Steer::Approve { by, approval } => life::approve(state, by, approval),
        };
        self.journal(None, events).await?;
        Ok(self.shared.hub.enrich(self.journaled.state.id, self.journaled.shown()))
    }

    /// Journals the events that follow from the state, which is read again where another writer was faster.
    async fn journal(
        &mut self,
        raw: Option<&TaskOutcome>,
        events: impl Fn(&crate::operation::state::State, Timestamp) -> Result<Vec<Event>, Fault>,
    ) -> Result<(), Fault> {
        for _ in 0..TRIES {
            if self.suspensions.is_none() {
                self.reload().await?;
            }
            let events = events(&self.journaled.state, muster_service::clock::now())?;
            if events.is_empty() || self.record(events, raw).await? {
                return Ok(());
            }
        }
        Err(Fault::refused(ErrorKind::Unavailable, format!("operation {} changes too often", self.journaled.state.id)).hint("try again"))
    }

    /// Journals events. `false`: another writer was faster; the state was read again and nothing was recorded.
    async fn record(&mut self, events: Vec<Event>, raw: Option<&TaskOutcome>) -> Result<bool, Fault> {
        let shared = Arc::clone(&self.shared);
        let mut write = shared.write_together().await?;
        let now = muster_service::clock::now();
        let recorded = journal::record(&mut write, &self.journaled, events, raw, shared.store.rule(), now).await?;
        let Some(recorded) = recorded else {
            write.abandon().await?;
            self.reload().await?;
            return Ok(false);
        };
        write.commit().await?;
        shared.hub.committed(recorded.journaled.last_event);
        if recorded.shard_changed {
            shared.hub.shard_changed();
        }
        self.replace(recorded.journaled);
        Ok(true)
    }

    /// Reads the operation from the store.
    async fn reload(&mut self) -> Result<(), Fault> {
        // Read before the state: a suspension in between is then seen as a difference.
        let suspensions = *self.shared.suspensions.read().await;
        let id: OperationId = self.journaled.state.id;
        let mut read = self.shared.store.read().await?;
        let record = operations::get(&mut read, id).await?;
        drop(read);
        let record = record.ok_or_else(|| {
            Fault::failed(ErrorKind::Internal, format!("operation {id} is not in the store")).hint("report this as a defect")
        })?;
        self.replace(journal::read(&record)?);
        self.suspensions = Some(suspensions);
        Ok(())
    }

    fn replace(&mut self, journaled: Journaled) {
        let before: Phase = self.journaled.state.phase;
        // In another phase other things are to be told.
        if before != journaled.state.phase {
            self.told = Told::default();
        }
        self.journaled = journaled;
    }
}

/// Why an operation that has ended cannot be steered. `None`: it could be.
pub(super) fn refuse(state: &crate::operation::state::State, steer: &Steer) -> Option<Fault> {
    match steer {
        Steer::Cancel { by, reason } => life::cancel(state, by, reason).err(),
        Steer::Resolve { by, succeeded, word } => life::resolve(state, by, *succeeded, word).err(),
        Steer::Approve { by, approval } => life::approve(state, by, approval).err(),
    }
}
