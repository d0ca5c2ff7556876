//! The driver of a site's move: a task that reads, decides, begins components' operations, journals, and waits for news.
//!
//! What always holds: an operation that was accepted for a component and not journaled here is found again by its request id; a driver
//! that is stopped anywhere is resumed from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::operation::asked::{Asked, AskedMove, Move, What};
use crate::operation::driver::{Message, Steer};
use crate::operation::event::Event;
use crate::operation::journal::{self, Journaled};
use crate::operation::moves::task::Approval;
use crate::operation::moves::view::Member;
use crate::operation::shared::{Shared, pass};
use crate::operation::sites::decide::{Action, Part, Refused, View, decide};
use crate::operation::sites::task::{How, Planned, Task};
use crate::operation::state::{Task as Any, Work};
use crate::operation::{accept, driver, life};
use crate::store::{operations, shards};

/// How long after a failure of the store it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What is seen is looked at again after this, whatever is waited for.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at the least.
const SOON: Duration = Duration::from_millis(100);
/// How often one message is tried on a state that another writer changes.
const TRIES: usize = 5;

pub(in crate::operation) struct Drive {
    shared: Arc<Shared>,
    journaled: Journaled,
    task: Task,
    refused: BTreeMap<Name, Refused>,
    /// Those that were asked to stop.
    stopped: BTreeSet<OperationId>,
}

impl Drive {
    pub(in crate::operation) fn new(shared: Arc<Shared>, journaled: Journaled, task: Task) -> Self {
        Self { shared, journaled, task, refused: BTreeMap::new(), stopped: BTreeSet::new() }
    }

    pub(in crate::operation) async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let stop = self.shared.gate.token().clone();
        loop {
            let until = match self.act().await {
                Ok(until) => until,
                Err(_) if self.shared.superseded.is_cancelled() => return,
                Err(fault) => {
                    tracing::error!(%fault, "a site's move cannot be driven; it is tried again");
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
        self.shared.leave(self.journaled.state.id, self.journaled.state.command_id());
        tracing::info!(phase = self.journaled.state.phase.name(), "the operation has ended");
    }

    /// Decides and acts until there is nothing to do but wait; answers until when.
    async fn act(&mut self) -> Result<Timestamp, Fault> {
        loop {
            let view = self.look().await?;
            self.stop_parts();
            match decide(&view, &self.task) {
                Action::Record(events) => {
                    self.record(&events).await?;
                    if self.journaled.state.phase.ended() {
                        return Ok(self.shared.clock.now());
                    }
                }
                Action::Begin(component) => self.begin(&component).await?,
                Action::Wait { reason, until } => {
                    self.shared.hub.waits(self.journaled.state.id, &reason);
                    let pause = until.map_or(LOOK, |until| until.since(view.now).clamp(SOON, LOOK));
                    return Ok(self.shared.clock.now().plus(pause));
                }
            }
        }
    }

    async fn look(&mut self) -> Result<View, Fault> {
        let mut read = self.shared.store.read().await?;
        if let Some(record) = operations::get(&mut read, self.journaled.state.id).await? {
            self.journaled = journal::read(&record)?;
        }
        let (mut parts, mut here) = (BTreeMap::new(), BTreeSet::new());
        for planned in &self.task.components {
            match self.operation_of(&planned.component) {
                Some(operation) => {
                    if let Some(record) = operations::get(&mut read, operation).await? {
                        let state = journal::read(&record)?.state;
                        let waits = self.shared.hub.waiting_for(operation);
                        parts.insert(planned.component.clone(), Part { phase: state.phase, fault: state.fault, waits });
                    }
                }
                None => {
                    let record = shards::get(&mut read, &planned.component).await?.record;
                    if record.is_some_and(|record| planned.here.contains(&record.reign.writer)) {
                        here.insert(planned.component.clone());
                    }
                }
            }
        }
        let state = self.journaled.state.clone();
        Ok(View { state, parts, here, refused: self.refused.clone(), now: muster_service::clock::now() })
    }

    fn operation_of(&self, component: &Name) -> Option<OperationId> {
        self.journaled.state.steps.iter().filter(|step| step.name == component.as_str()).find_map(|step| match &step.work {
            Work::Child { operation } => Some(*operation),
            Work::Command { .. } | Work::Wait(_) | Work::Action(_) => None,
        })
    }

    /// Asks for a component's operation, and journals which one it is.
    async fn begin(&mut self, component: &Name) -> Result<(), Fault> {
        let Some(planned) = self.task.components.iter().find(|planned| planned.component == *component) else { return Ok(()) };
        let asked = match self.wanted(planned).await {
            Ok(what) => self.asked(component, what),
            Err(fault) => return self.refuse(component, fault),
        };
        match accept::accept(&self.shared, &asked).await {
            Ok((part, new)) => {
                pass("controller.site.begun")?;
                let operation = part.state.id;
                if new {
                    driver::start(&self.shared, part);
                }
                self.refused.remove(component);
                self.record(&[Event::Begun { component: component.clone(), operation }]).await?;
                Ok(())
            }
            Err(fault) => self.refuse(component, fault),
        }
    }

    fn refuse(&mut self, component: &Name, fault: Fault) -> Result<(), Fault> {
        if self.shared.superseded.is_cancelled() {
            return Err(fault);
        }
        let now = muster_service::clock::now();
        let since = self.refused.get(component).map_or(now, |refused| refused.since);
        self.refused.insert(component.clone(), Refused { fault, since, last: now });
        Ok(())
    }

    fn asked(&self, component: &Name, what: AskedMove) -> Asked {
        let id = self.journaled.state.id;
        let key = format!("site-{id}-{component}");
        Asked {
            // Words are recorded with the name of who asked for the site.
            caller: self.journaled.state.cause.clone(),
            cause: format!("operation/{id}"),
            // The key tells all: to whom it goes was chosen when it was asked for first.
            digest: key.clone(),
            request_id: Some(key),
            parent: Some(id),
            stall_limit: None,
            traceparent: self.journaled.state.traceparent.clone(),
            run: None,
            what: What::Move(what),
        }
    }

    async fn wanted(&self, planned: &Planned) -> Result<AskedMove, Fault> {
        let mut read = self.shared.store.read().await?;
        let members = accept::members(&self.shared, &mut read, &planned.component).await?;
        drop(read);
        let to = elsewhere(&members, &self.task);
        let component = planned.component.clone();
        match &self.task.how {
            How::Switchover { stop_limit } => {
                let to = to.ok_or_else(|| nowhere(&component, &self.task))?;
                Ok(AskedMove { component, what: Move::Switchover { to, stop_limit: *stop_limit }, approval: Approval::default() })
            }
            How::Failover { states, ceiling } => {
                let to = Some(to.ok_or_else(|| nowhere(&component, &self.task))?);
                let words = states.iter().flat_map(|states| planned.here.iter().map(|name| (name.clone(), *states))).collect();
                Ok(AskedMove { component, what: Move::Failover { to }, approval: Approval { words, ceiling: *ceiling } })
            }
        }
    }

    /// Asks those under way to stop, once each: they go back where they can.
    fn stop_parts(&mut self) {
        let Some(cancel) = &self.journaled.state.cancel else { return };
        let (by, reason) = (cancel.by.clone(), cancel.reason.clone());
        for planned in &self.task.components {
            let Some(operation) = self.operation_of(&planned.component) else { continue };
            let Some(driver) = self.shared.driver(operation) else { continue };
            if !self.stopped.contains(&operation) {
                let (reply, _) = oneshot::channel();
                let steer = Steer::Cancel { by: by.clone(), reason: reason.clone() };
                if driver.mailbox.try_send(Message::Steer { steer, reply }).is_ok() {
                    self.stopped.insert(operation);
                }
            }
        }
    }

    /// Journals events. `false`: another writer was faster.
    async fn record(&mut self, events: &[Event]) -> Result<bool, Fault> {
        let shared = Arc::clone(&self.shared);
        let mut write = shared.write_together().await?;
        let now = muster_service::clock::now();
        let recorded = journal::record(&mut write, &self.journaled, events.to_vec(), None, shared.store.rule(), now).await?;
        let Some(recorded) = recorded else {
            write.abandon().await?;
            return Ok(false);
        };
        write.commit().await?;
        shared.hub.committed(recorded.journaled.last_event);
        self.journaled = recorded.journaled;
        Ok(true)
    }

    async fn take(&mut self, message: Message) {
        match message {
            // It has no command of its own: there is no news of one.
            Message::News { reply, .. } => drop(reply),
            Message::Steer { steer, reply } => {
                let steered = self.steer(&steer).await;
                if reply.send(steered).is_err() {
                    tracing::debug!("whoever asked has gone");
                }
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
            if events.is_empty() || self.record(&events).await? {
                break;
            }
        }
        Ok(self.shared.hub.enrich(self.journaled.state.id, self.journaled.shown()))
    }
}

/// Where the writer goes: of those elsewhere whose agent is connected the one that is furthest, else the first that is declared.
fn elsewhere(members: &[Member], task: &Task) -> Option<Name> {
    let fits =
        |member: &&Member| member.site != task.site.as_str() && task.to_site.as_ref().is_none_or(|to_site| member.site == to_site.as_str());
    let mut best: Option<&Member> = None;
    for member in members.iter().filter(fits) {
        let is_better = match best {
            None => true,
            Some(best) => match (member.connected, best.connected) {
                (true, false) => true,
                (false, _) => false,
                (true, true) => match (member.fresh(), best.fresh()) {
                    (Some(own), Some(other)) => own.covers(other) && !other.covers(own),
                    (Some(_), None) => true,
                    (None, _) => false,
                },
            },
        };
        if is_better {
            best = Some(member);
        }
    }
    best.map(|member| member.name.clone())
}

fn nowhere(component: &Name, task: &Task) -> Fault {
    let where_to = task.to_site.as_ref().map_or_else(|| format!("outside of {}", task.site), |to_site| format!("at {to_site}"));
    Fault::refused(muster_common::fault::ErrorKind::FailedPrecondition, format!("{component} has no instance {where_to}"))
        .hint("declare one and let it follow; until then its data are restored from a recovery point: muster restore")
}

/// The task of a site's move. `None`: it is none.
#[must_use]
pub(in crate::operation) fn task(journaled: &Journaled) -> Option<Task> {
    match &journaled.state.task {
        Any::Site(task) => Some((**task).clone()),
        Any::Backup(_)
        | Any::Restore(_)
        | Any::Check(_)
        | Any::Discard(_)
        | Any::Verify(_)
        | Any::Prune(_)
        | Any::Hold(_)
        | Any::Hook(_)
        | Any::Order(_)
        | Any::Move(_) => None,
    }
}
