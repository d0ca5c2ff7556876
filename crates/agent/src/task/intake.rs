//! What the controller says about commands, turned into durable facts and answers.
//!
//! What always holds: a command is judged once in the life of this process (a refusal is remembered, so that a late copy of a
//! refused command cannot run after all); whatever is resent or reordered, there is one effect and one outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_common::counter::Term;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{CommandId, StoreId};
use muster_failover::here::Limit;
use muster_service::clock;
use muster_wire::proto::agent::v1 as link;

use crate::agent::Agent;
use crate::convert;
use crate::task::admit::{Standing, admit};
use crate::task::command::{Command, Ended, Job};
use crate::task::inbox::{InboxError, Known};
use crate::task::perform::blocking;
use crate::task::runner::{Runner, Stop};

/// How many refusals are remembered.
const MAX_REFUSED: usize = 10_000;

/// See the module.
pub struct Intake {
    agent: Arc<Agent>,
    runner: Arc<Runner>,
    refused: Mutex<Refused>,
}

#[derive(Default)]
struct Refused {
    by_id: BTreeMap<CommandId, Ended>,
    order: VecDeque<CommandId>,
}

impl Refused {
    fn remember(&mut self, id: CommandId, ended: Ended) {
        if self.by_id.insert(id, ended).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > MAX_REFUSED {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }
}

impl Intake {
    /// Nothing was refused yet.
    #[must_use]
    pub fn new(agent: Arc<Agent>, runner: Arc<Runner>) -> Self {
        Self { agent, runner, refused: Mutex::default() }
    }

    /// A command came, for the first or the fourth time.
    ///
    /// # Errors
    /// Where a test asked this place to fail; the session ends then.
    pub async fn command(self: &Arc<Self>, message: link::Command, store: StoreId) -> Result<(), muster_failpoint::Injected> {
        muster_failpoint::hit("agent.stop5.received")?;
        let Ok(id) = message.id.parse::<CommandId>() else {
            tracing::error!(id = ?message.id, "a command without an id that can be read cannot even be refused");
            return Ok(());
        };
        let this = self.clone();
        match blocking(move || this.judge(id, &message, store)).await {
            Ok(Verdict::TakenOn(command)) => {
                muster_failpoint::hit("agent.stop6.taken_on")?;
                self.agent.outbox.accepted(id);
                tracing::info!(command = %id, kind = command.job.name(), instance = %command.instance, "taken on");
                self.runner.submit([*command], true);
            }
            Ok(Verdict::Known) => self.tell(id),
            Ok(Verdict::Refused(fault)) => self.refuse(id, fault),
            Err(fault) => tracing::error!(%fault, "a command could not be judged; it will be sent again"),
        }
        Ok(())
    }

    /// What became of a command?
    pub fn ask(&self, id: &str) {
        match id.parse() {
            Ok(id) => self.agent.outbox.report(id),
            Err(_) => tracing::warn!(id, "somebody asks about what is no command id"),
        }
    }

    /// Stop a task. One that never came is remembered as stopped, so that it cannot begin when it comes late.
    pub async fn cancel(self: &Arc<Self>, message: &link::CancelTask) {
        let Some(id) = self.of_this_term(&message.command_id, message.term, "cancel") else { return };
        if self.runner.stop(id) == Stop::Asked {
            tracing::info!(command = %id, "asked to stop");
            return;
        }
        match self.know(id).await {
            Ok(Known::Unheard) => {
                self.refuse(
                    id,
                    Fault::refused(ErrorKind::Cancelled, format!("command {id}: stopped before it came because somebody asked")),
                );
            }
            Ok(Known::TakenOn | Known::Ended(_) | Known::Buried(_)) => self.agent.outbox.outcome(id),
            Err(fault) => tracing::error!(%fault, "look for a command to cancel"),
        }
    }

    /// An outcome is journaled.
    ///
    /// # Errors
    /// Where a test asked this place to fail; the session ends then.
    pub async fn acknowledged(self: &Arc<Self>, message: &link::OutcomeAcknowledged) -> Result<(), muster_failpoint::Injected> {
        let Some(id) = self.of_this_term(&message.command_id, message.term, "acknowledge") else { return Ok(()) };
        muster_failpoint::hit("agent.stop9.acknowledged")?;
        self.agent.outbox.settled(id);
        let inbox = self.agent.inbox.clone();
        match blocking(move || inbox.acknowledge(id, clock::now())).await {
            Ok(Ok(buried)) => tracing::debug!(command = %id, buried, "acknowledged"),
            Ok(Err(error)) => tracing::error!(%error, "an outcome stays in the inbox: make room for the agent's state directory"),
            Err(fault) => tracing::error!(%fault, "an outcome stays in the inbox"),
        }
        Ok(())
    }

    /// What is known of a command, refusals included.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    pub async fn know(&self, id: CommandId) -> Result<Known, Fault> {
        if let Some(ended) = self.lock().by_id.get(&id) {
            return Ok(Known::Ended(ended.clone()));
        }
        let inbox = self.agent.inbox.clone();
        blocking(move || inbox.know(id)).await?.map_err(|error| unreadable(&error))
    }

    /// A command of which something is known already: its state is told again.
    fn tell(&self, id: CommandId) {
        self.agent.outbox.accepted(id);
        self.agent.outbox.outcome(id);
    }

    fn refuse(&self, id: CommandId, fault: Fault) {
        tracing::warn!(command = %id, kind = ?fault.kind, "refused: {fault}");
        self.lock().remember(id, Ended { at: clock::now(), result: Err(fault), hooks: Vec::new() });
        self.agent.outbox.outcome(id);
    }

    /// Blocks for the disk.
    fn judge(&self, id: CommandId, message: &link::Command, store: StoreId) -> Verdict {
        if self.lock().by_id.contains_key(&id) {
            return Verdict::Known;
        }
        match self.agent.inbox.know(id) {
            Ok(Known::Unheard) => {}
            Ok(Known::TakenOn | Known::Ended(_) | Known::Buried(_)) => return Verdict::Known,
            Err(error) => return Verdict::Refused(unreadable(&error)),
        }
        match self.take_on(message, store) {
            Ok(command) => Verdict::TakenOn(Box::new(command)),
            Err(fault) if fault.hint.is_empty() => {
                Verdict::Refused(fault.hint("upgrade the older of agent and controller: they read this command differently"))
            }
            Err(fault) => Verdict::Refused(fault),
        }
    }

    fn take_on(&self, message: &link::Command, store: StoreId) -> Result<Command, Fault> {
        let name = convert::instance_of(message)?;
        let in_force = self.agent.assignments.current();
        let instance = in_force.instances.get(&name).ok_or_else(|| {
            let fault = Fault::refused(
                ErrorKind::FailedPrecondition,
                format!("take on command {}: {name} is not assigned to this agent", message.id),
            );
            in_force
                .problems
                .iter()
                .fold(fault, |fault, problem| fault.evidence(problem.clone()))
                .hint("look at the component's declaration, and at the agent's problems with `muster agents`")
        })?;
        let mut command = convert::command_from_proto(message, instance.assigned.component)?;
        if let Job::Order { directive, limit } = &mut command.job
            && let Some(lasts) = directive.lapses()
        {
            *limit = Some(Limit::after(&self.agent.keepers.place.here()?, lasts));
        }
        let alone = match &command.job {
            Job::Hook { hook } => Some(hook),
            Job::Backup { .. }
            | Job::Restore { .. }
            | Job::Check { .. }
            | Job::Discard { .. }
            | Job::Prune { .. }
            | Job::Hold { .. }
            | Job::Order { .. }
            | Job::Verify { .. } => None,
        };
        self.agent.hooks.require(command.hooks.names().chain(alone))?;
        let remembered = self.agent.memory.get();
        let standing = Standing {
            highest_term: remembered.highest_term,
            epoch: remembered.epoch(&name),
            now: clock::now(),
            tombstones: self.agent.settings.tombstones,
            dropped_until: remembered.dropped_until,
            tasks: self.agent.inbox.len(),
            most_tasks: self.agent.settings.inbox,
        };
        admit(&command, &standing)?;
        // Before the record: a controller that was restored must not issue this number a second time unnoticed.
        let kept = self.agent.memory.change(|remembered| {
            if remembered.store == Some(store) {
                remembered.highest_sequence = remembered.highest_sequence.max(command.sequence);
            } else {
                remembered.store = Some(store);
                remembered.highest_sequence = command.sequence;
            }
            remembered.learn_term(command.term);
            remembered.learn_epoch(&name, command.epoch, None);
        });
        kept.map_err(|error| cannot_keep(&command, &error))?;
        self.agent.inbox.take_on(&command, clock::now()).map_err(|error| cannot_keep(&command, &error))?;
        Ok(command)
    }

    /// The command's id, where it can be read and the term is not one of the past.
    fn of_this_term(&self, id: &str, term: u64, what: &str) -> Option<CommandId> {
        let highest = self.agent.memory.get().highest_term;
        if Term(term) < highest {
            tracing::warn!(command = id, term, highest = highest.0, "a controller of an older term wants to {what}: left");
            return None;
        }
        let parsed = id.parse().ok();
        if parsed.is_none() {
            tracing::warn!(command = id, "a controller wants to {what} what is no command id: left");
        }
        parsed
    }

    fn lock(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Verdict {
    TakenOn(Box<Command>),
    Known,
    Refused(Fault),
}

fn cannot_keep(command: &Command, error: &dyn std::error::Error) -> Fault {
    Fault::refused(ErrorKind::ResourceExhausted, format!("take on command {}: it cannot be kept durably: {error}", command.id))
        .hint("make room for the agent's state directory, then ask for the operation anew")
}

fn unreadable(error: &InboxError) -> Fault {
    Fault::refused(ErrorKind::DataLoss, format!("look into the agent's inbox: {error}"))
        .hint("check the disk of the agent's state directory, then restart the agent")
}
