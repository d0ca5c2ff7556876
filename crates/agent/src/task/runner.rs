//! Which tasks wait and which run. One loop starts them in order; each runs as a task of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_common::name::InstanceName;
use muster_engine::work::Progress;
use muster_service::tasks::TaskGate;
use muster_service::{clock, trace};
use tokio::sync::Notify;

use crate::agent::Agent;
use crate::convert;
use crate::task::command::{Command, Ended};
use crate::task::perform::blocking;
use crate::task::run::{Brake, Reason, run};
use crate::task::schedule::{Place, startable};

/// What became of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It will end as it can.
    Asked,
    /// It is neither waiting nor running here.
    NotHere,
}

/// Starts tasks. Share it by `Arc`.
pub struct Runner {
    agent: Arc<Agent>,
    gate: TaskGate,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    running: BTreeMap<CommandId, (Place, Brake)>,
}

struct Waiting {
    command: Command,
    brake: Brake,
    /// Whether no process ever ran it: then it can be ended without looking.
    fresh: bool,
}

impl Runner {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(agent: Arc<Agent>, gate: TaskGate) -> Self {
        Self { agent, gate, state: Mutex::default(), changed: Notify::new() }
    }

    /// Puts commands that the inbox holds in the queue: those of a previous process too (`fresh` is false then).
    pub fn submit(&self, commands: impl IntoIterator<Item = Command>, fresh: bool) {
        let mut state = self.lock();
        for command in commands {
            let known = state.running.contains_key(&command.id) || state.waiting.iter().any(|waiting| waiting.command.id == command.id);
            if !known {
                let progress = Progress { phase: "waiting for its turn".to_owned(), ..Progress::default() };
                self.agent.outbox.progress(command.id, convert::progress_to_proto(&progress, clock::now()));
                state.waiting.push(Waiting { command, brake: Brake::default(), fresh });
            }
        }
        state.waiting.sort_by_key(|waiting| (waiting.command.sequence, waiting.command.id));
        drop(state);
        self.changed.notify_one();
    }

    /// Asks a task to stop.
    pub fn stop(self: &Arc<Self>, id: CommandId) -> Stop {
        let mut state = self.lock();
        if let Some((_, brake)) = state.running.get(&id) {
            brake.pull(Reason::Asked);
            return Stop::Asked;
        }
        let Some(at) = state.waiting.iter().position(|waiting| waiting.command.id == id) else { return Stop::NotHere };
        match state.waiting.get(at) {
            Some(waiting) if waiting.fresh => {
                let waiting = state.waiting.remove(at);
                drop(state);
                self.never_started(waiting.command);
            }
            // A previous process ran it: its verb has to look at what is left of that.
            Some(waiting) => waiting.brake.pull(Reason::Asked),
            None => {}
        }
        Stop::Asked
    }

    /// Whether a task holds the instance now, or is about to.
    #[must_use]
    pub fn is_busy(&self, instance: &InstanceName) -> bool {
        let state = self.lock();
        state.running.values().any(|(place, _)| place.holds_instance && place.instance == *instance)
            || state.waiting.iter().any(|waiting| waiting.command.job.holds_instance() && waiting.command.instance == *instance)
    }

    /// How many tasks wait, and how many run.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.running.len())
    }

    /// Starts what may start until the gate closes; then asks what runs to stop.
    pub async fn serve(self: Arc<Self>) {
        loop {
            for waiting in self.take_startable() {
                self.start(waiting);
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.gate.token().cancelled() => break,
            }
        }
        for (_, brake) in self.lock().running.values() {
            brake.pull(Reason::Stopping);
        }
    }

    fn take_startable(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        let waiting: Vec<Place> = state.waiting.iter().map(|waiting| place(&waiting.command)).collect();
        let running: Vec<Place> = state.running.values().map(|(place, _)| place.clone()).collect();
        let start = startable(&waiting, &running, self.agent.settings.parallel_tasks);
        let (started, rest) = std::mem::take(&mut state.waiting).into_iter().partition(|waiting| start.contains(&waiting.command.id));
        state.waiting = rest;
        let started: Vec<Waiting> = started;
        for waiting in &started {
            state.running.insert(waiting.command.id, (place(&waiting.command), waiting.brake.clone()));
        }
        started
    }

    fn start(self: &Arc<Self>, waiting: Waiting) {
        let Waiting { command, brake, .. } = waiting;
        let span =
            tracing::info_span!(parent: None, "task", kind = command.job.name(), command = %command.id, instance = %command.instance);
        trace::set_parent(&span, &command.traceparent);
        let this = self.clone();
        let name = format!("{} of {} (command {})", command.job.name(), command.instance, command.id);
        let id = command.id;
        let entry = Entry { runner: self.clone(), id };
        self.gate.spawn(name, span, async move {
            let _entry = entry;
            run(&this.agent, &command, &brake).await;
        });
    }

    /// Ends a command whose verb never ran.
    fn never_started(self: &Arc<Self>, command: Command) {
        let fault = Fault::refused(
            ErrorKind::Cancelled,
            format!("{} {}: stopped before it began because somebody asked", command.job.name(), command.instance),
        );
        let this = self.clone();
        self.gate.spawn(format!("end of command {}", command.id), tracing::Span::current(), async move {
            let (inbox, id) = (this.agent.inbox.clone(), command.id);
            let kept = blocking(move || inbox.end(id, Ended { at: clock::now(), result: Err(fault), hooks: Vec::new() })).await;
            match kept {
                Ok(Ok(())) => this.agent.outbox.outcome(command.id),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a command that was cancelled waits again: its end cannot be kept");
                    this.submit([command], true);
                }
                Err(fault) => tracing::error!(%fault, "a command that was cancelled stays in the inbox"),
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running task's entry: it leaves however the task ends.
struct Entry {
    runner: Arc<Runner>,
    id: CommandId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.runner.lock().running.remove(&self.id);
        self.runner.changed.notify_one();
    }
}

fn place(command: &Command) -> Place {
    Place {
        id: command.id,
        instance: command.instance.clone(),
        holds_instance: command.job.holds_instance(),
        at_once: command.job.is_at_once(),
    }
}
