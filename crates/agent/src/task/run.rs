//! The life of one running task: its verb, watched for stalls and requests to stop, and its outcome made durable.
//!
//! What always holds: an outcome is told only after it is durable; a task whose process ends has no outcome and is run again
//! by the next one.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use muster_common::duration;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_engine::work::Progress;
use muster_service::clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::convert;
use crate::durable::DurableError;
use crate::engines;
use crate::hook::around::{self, Came, around};
use crate::kept;
use crate::task::command::{Command, Done, Ended, Job};
use crate::task::inbox::InboxError;
use crate::task::perform::{Attempts, blocking};
use crate::task::stall::Stall;

/// How often a task is looked at: progress is told and stalls are found so often.
const LOOK: Duration = Duration::from_secs(1);

/// Why a task is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked.
    Asked,
    /// Nothing moved for so long.
    Stalled(Duration),
    /// The agent stops; the next process goes on.
    Stopping,
}

/// The way to stop a running task. The first reason counts, but that the agent stops goes before all others.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    /// Cancelled when the task is to stop.
    pub cancel: CancellationToken,
    reason: Arc<Mutex<Option<Reason>>>,
}

impl Brake {
    /// Asks the task to stop.
    pub fn pull(&self, reason: Reason) {
        let mut present = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if present.is_none() || reason == Reason::Stopping {
            *present = Some(reason);
        }
        drop(present);
        self.cancel.cancel();
    }

    /// Why it is to stop. `None`: it is not.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a task to its durable end. `false` where it has none, because the agent stops.
pub async fn run(agent: &Agent, command: &Command, brake: &Brake) -> bool {
    let (result, hooks) = watched(agent, command, brake).await;
    let result = match (result, brake.reason()) {
        // What was done is done, whoever asked to stop.
        (Ok(done), _) => Ok(done),
        (Err(_), Some(Reason::Stopping)) => return false,
        (Err(fault), Some(Reason::Stalled(still))) => Err(stalled(command, fault, still)),
        (Err(fault), Some(Reason::Asked)) => Err(cancelled(command, fault)),
        (Err(fault), None) => Err(fault),
    };
    match &result {
        Ok(_) => tracing::info!("done"),
        Err(fault) => tracing::warn!(kind = ?fault.kind, effect = ?fault.effect, "ended: {fault}"),
    }
    agent.ends.count(command.job.name(), result.is_ok());
    record(agent, command, Ended { at: clock::now(), result, hooks }, brake).await
}

/// The verb with a watch over it.
async fn watched(agent: &Agent, command: &Command, brake: &Brake) -> Came {
    let attempts = Attempts::new(brake.cancel.clone());
    let verb = AssertUnwindSafe(around(agent, command, &attempts, brake)).catch_unwind();
    tokio::pin!(verb);
    let began = Instant::now();
    // An order is not cut off in the middle of an act: it looks for requests to stop between its rounds itself.
    let is_order = matches!(command.job, Job::Order { .. });
    let mut stall = command.stall_limit_ms.filter(|_| !is_order).map(|limit| Stall::new(Duration::from_millis(limit), Duration::ZERO));
    let mut told = Progress::default();
    let mut failed = 0;
    let mut given_up_at = None;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            ended = &mut verb => return ended.unwrap_or_else(|_| (Err(panicked(command)), Vec::new())),
            _ = look.tick() => {}
            () = brake.cancel.cancelled(), if given_up_at.is_none() && !is_order => given_up_at = Some(began.elapsed() + agent.settings.grace),
        }
        if attempts.in_hook.load(Ordering::Relaxed) {
            // A hook ends by its own timeout, and after-hooks are not stopped: neither limit counts meanwhile.
            given_up_at = given_up_at.map(|_| began.elapsed() + agent.settings.grace);
            if let Some(stall) = &mut stall {
                stall.moved(began.elapsed());
            }
            agent.outbox.progress(command.id, convert::progress_to_proto(&in_hook(&attempts, began.elapsed()), clock::now()));
            continue;
        }
        let progress = attempts.progress();
        if progress != told {
            agent.outbox.progress(command.id, convert::progress_to_proto(&progress, clock::now()));
            told.clone_from(&progress);
        }
        if let Some(stall) = &mut stall {
            let tries = attempts.failed.load(Ordering::Relaxed);
            if tries != failed {
                failed = tries;
                stall.next_try();
            }
            stall.hear(&progress, began.elapsed());
            if let Some(still) = stall.stalled(began.elapsed())
                && given_up_at.is_none()
            {
                brake.pull(Reason::Stalled(still));
            }
        }
        if given_up_at.is_some_and(|at| began.elapsed() >= at) {
            return (Err(deaf(command, agent.settings.grace, &told)), Vec::new());
        }
    }
}

/// How far a hook is: it tells nothing itself, so that the time must show that somebody watches.
fn in_hook(attempts: &Attempts, elapsed: Duration) -> Progress {
    let progress = attempts.progress();
    Progress {
        phase: format!("{} ({} since the task began)", progress.phase, duration::show(Duration::from_secs(elapsed.as_secs()))),
        ..progress
    }
}

/// Makes the end durable, however long the disk refuses; then it may be told.
async fn record(agent: &Agent, command: &Command, ended: Ended, brake: &Brake) -> bool {
    let mut wait = Duration::from_millis(200);
    loop {
        let Err(error) = keep(agent, command, &ended).await else { break };
        tracing::error!(%error, "the outcome cannot be kept yet: make room for the agent's state directory");
        let progress = Progress { phase: format!("ended; its outcome cannot be kept yet ({error})"), ..Progress::default() };
        agent.outbox.progress(command.id, convert::progress_to_proto(&progress, clock::now()));
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(10)),
            () = brake.cancel.cancelled(), if brake.reason() == Some(Reason::Stopping) => return false,
        }
    }
    if let Err(error) = muster_failpoint::hit("agent.stop8.recorded") {
        tracing::warn!(%error, "the outcome is not told until the next session");
        return true;
    }
    agent.outbox.outcome(command.id);
    let (scratch, id) = (agent.scratch.clone(), command.id);
    match blocking(move || scratch.remove(id, engines::end_leftovers)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the scratch folder stays until the next start"),
        Err(fault) => tracing::warn!(%fault, "the scratch folder stays until the next start"),
    }
    let home = agent.hooks.folder.join(id.to_string());
    match blocking(move || around::forget(&home)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the hooks' folder stays until the next start"),
        Err(fault) => tracing::warn!(%fault, "the hooks' folder stays until the next start"),
    }
    true
}

/// What must be known before the outcome is, in this order, and then the outcome.
async fn keep(agent: &Agent, command: &Command, ended: &Ended) -> Result<(), KeepError> {
    if let Ok(Done::Restore { outcome, .. }) = &ended.result
        && let Job::Restore { request, next_epoch } = &command.job
        && !request.dry_run
    {
        if let Some(directory) = &outcome.kept {
            let entry = kept::Entry { instance: command.instance.clone(), command: command.id, directory: directory.clone() };
            agent.kept.add(entry)?;
        }
        agent.memory.change(|remembered| remembered.learn_epoch(&command.instance, *next_epoch, None))?;
    }
    if let Ok(Done::Discard { path }) = &ended.result {
        agent.kept.remove(path)?;
    }
    let (inbox, id, ended) = (agent.inbox.clone(), command.id, ended.clone());
    blocking(move || inbox.end(id, ended)).await??;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error(transparent)]
    Thread(#[from] Fault),
}

fn stalled(command: &Command, fault: Fault, still: Duration) -> Fault {
    let message = format!("{} {}: nothing moved for {}", command.job.name(), command.instance, duration::show(still));
    let hint = if fault.hint.is_empty() { "look at what it waited for, then ask for it anew".to_owned() } else { fault.hint };
    Fault { kind: ErrorKind::Stalled, effect: fault.effect, message, evidence: vec![fault.message], hint }
}

fn cancelled(command: &Command, fault: Fault) -> Fault {
    let message = format!("{} {}: stopped because somebody asked", command.job.name(), command.instance);
    let evidence = if fault.kind == ErrorKind::Cancelled { Vec::new() } else { vec![fault.message] };
    Fault { kind: ErrorKind::Cancelled, effect: fault.effect, message, evidence, hint: String::new() }
}

fn deaf(command: &Command, grace: Duration, told: &Progress) -> Fault {
    let message = format!("{} {}: it was asked to stop and did not within {}", command.job.name(), command.instance, duration::show(grace));
    Fault::failed(ErrorKind::Internal, message)
        .evidence(format!("its last phase was {:?}", told.phase))
        .hint("look at the instance; restart the agent if threads of it still work; please report this with the agent's log")
}

fn panicked(command: &Command) -> Fault {
    let message = format!("{} {}: the agent has a defect: it panicked", command.job.name(), command.instance);
    Fault { effect: Effect::Unknown, ..Fault::failed(ErrorKind::Internal, message) }
        .hint("look at the instance, then ask for the operation anew; please report this with the agent's log")
}
