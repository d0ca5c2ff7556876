//! One command through its verb: the repository opened, the verb run, and run again while somebody cannot be reached.
//!
//! Every verb may be run again with the same request, so that waiting for a repository or a server is: try, say so, wait, try.
//! How long that may go on is the stall limit's business; there is a bound on the tries besides.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use muster_common::backoff::Backoff;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_engine::capability::Verb;
use muster_engine::request::{RestoreRequest, RestoreTarget};
use muster_engine::work::{Notes, OpenRepository, Progress, Work};
use muster_repository::repository::Repository;
use muster_repository::retention::Rules;
use rand::RngExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::assignment::force::{InForce, Instance};
use crate::task::command::{Command, Done, Job};
use crate::task::inbox::Inbox;
use crate::task::keep;

/// How often one task is tried at most.
const MAX_TRIES: u32 = 1_000;

/// How long an open repository waits for its store by itself where there is no stall limit.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What a task shows of itself while its verb runs.
#[derive(Debug)]
pub struct Attempts {
    /// Cancelled when it should stop.
    pub cancel: CancellationToken,
    /// Where the verb tells how far it is.
    pub progress: Arc<watch::Sender<Progress>>,
    /// How many tries have failed.
    pub failed: AtomicU32,
    /// Whether a hook runs now, which has a timeout of its own.
    pub in_hook: AtomicBool,
    /// The repository that it uses now.
    repository: Mutex<Option<Repository>>,
}

impl Attempts {
    /// Before the first try.
    #[must_use]
    pub fn new(cancel: CancellationToken) -> Self {
        let progress = Arc::new(watch::Sender::new(Progress { phase: "starting".to_owned(), ..Progress::default() }));
        Self { cancel, progress, failed: AtomicU32::new(0), in_hook: AtomicBool::new(false), repository: Mutex::default() }
    }

    /// How far it is; where its repository does not answer, that stands in the phase.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = self.progress.borrow().clone();
        let repository = self.repository.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(trouble) = repository.and_then(|repository| repository.trouble()) {
            progress.phase = format!("waiting for the repository ({})", trouble.what);
        }
        progress
    }
}

/// Runs the command's verb until it succeeds, fails for good or is cancelled.
///
/// # Errors
/// The verb's fault; while waiting for somebody, the last reason.
pub async fn perform(agent: &Agent, command: &Command, attempts: &Attempts) -> Result<Done, Fault> {
    let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
    let mut last: Option<Fault> = None;
    loop {
        let fault = match attempt(agent, command, attempts).await {
            Ok(done) => return Ok(done),
            // Stopped while it waited once more: why it waits tells more than that it was stopped.
            Err(fault) if fault.kind == ErrorKind::Cancelled && fault.effect == Effect::None => return Err(last.unwrap_or(fault)),
            Err(fault) => fault,
        };
        let failed = attempts.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if fault.kind != ErrorKind::Unavailable || attempts.cancel.is_cancelled() || failed >= MAX_TRIES {
            return Err(fault);
        }
        let phase = format!("waiting (try {failed} failed: {})", fault.message);
        tracing::info!(failed, reason = %fault.message, "tried, and will try again");
        attempts.progress.send_replace(Progress { phase, ..Progress::default() });
        let wait = backoff.map_or(Duration::from_secs(5), |backoff| backoff.delay(failed - 1, rand::rng().random()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = attempts.cancel.cancelled() => return Err(fault),
        }
        last = Some(fault);
    }
}

async fn attempt(agent: &Agent, command: &Command, attempts: &Attempts) -> Result<Done, Fault> {
    let in_force = agent.assignments.current();
    let instance = in_force.instances.get(&command.instance).cloned().ok_or_else(|| {
        Fault::refused(ErrorKind::Unavailable, format!("{} {}: it is not assigned to this agent now", command.job.name(), command.instance))
            .hint("declare the instance with this agent, or cancel the operation")
    })?;
    let verb = match &command.job {
        Job::Backup { .. } => Some(Verb::Backup),
        Job::Restore { .. } | Job::Discard { .. } => Some(Verb::Restore),
        Job::Verify { .. } => Some(Verb::Verify),
        Job::Check { .. } | Job::Prune { .. } | Job::Hold { .. } | Job::Hook { .. } | Job::Order { .. } => None,
    };
    if let Some(verb) = verb {
        instance.engine.capabilities().require(verb)?;
    }
    let work = work(agent, command, attempts, &in_force, &instance).await?;
    muster_failpoint::hit("agent.stop7.working").map_err(injected)?;
    let done = run(agent, command, &instance, &work).await?;
    muster_failpoint::hit("agent.stop7.done").map_err(injected)?;
    Ok(done)
}

async fn work(agent: &Agent, command: &Command, attempts: &Attempts, in_force: &InForce, instance: &Instance) -> Result<Work, Fault> {
    let repository = match &command.job {
        Job::Backup { .. } | Job::Restore { .. } | Job::Check { .. } | Job::Verify { .. } | Job::Prune { .. } | Job::Hold { .. } => {
            let opening = agent.repositories.of(in_force, instance);
            let opened = tokio::select! {
                opened = opening => opened.map_err(|closed| closed.fault)?,
                () = attempts.cancel.cancelled() => return Err(Fault::refused(ErrorKind::Cancelled, "asked to stop before the repository was open")),
            };
            let patience = command.stall_limit_ms.map_or(PATIENCE, Duration::from_millis).max(Duration::from_secs(5));
            opened.map(|open| OpenRepository { repository: open.repository.with_patience(patience), ..open })
        }
        Job::Discard { .. } | Job::Hook { .. } | Job::Order { .. } => None,
    };
    *attempts.repository.lock().unwrap_or_else(PoisonError::into_inner) = repository.as_ref().map(|open| open.repository.clone());
    let scratch = agent.scratch.clone();
    let id = command.id;
    let scratch = blocking(move || scratch.make(id)).await??;
    Ok(Work {
        command: command.id,
        cancel: attempts.cancel.clone(),
        progress: attempts.progress.clone(),
        notes: Arc::new(InboxNotes { inbox: agent.inbox.clone(), command: command.id }),
        scratch,
        threads: agent.settings.threads,
        repository,
    })
}

async fn run(agent: &Agent, command: &Command, instance: &Instance, work: &Work) -> Result<Done, Fault> {
    match &command.job {
        Job::Backup { request } => Ok(Done::Backup { outcome: instance.engine.backup(work, request).await? }),
        Job::Restore { request, .. } => {
            refuse_kept(agent, instance, request)?;
            let restoring = instance.engine.restore(work, request);
            let restored = if request.dry_run { restoring.await } else { keep::held(work, request.point, command, restoring).await };
            Ok(Done::Restore { point: request.point, outcome: restored? })
        }
        Job::Prune { within_seconds, last, dry_run } => {
            let rules = Rules { keep_within: within_seconds.map(Duration::from_secs), keep_last: *last };
            Ok(Done::Prune { outcome: keep::prune(work, rules, *dry_run).await? })
        }
        Job::Hold { point, lasts_seconds, holder, reason } => {
            keep::hold(work, *point, lasts_seconds.map(Duration::from_secs), holder, reason).await
        }
        Job::Check { part, of } => Ok(Done::Check { outcome: crate::task::check::check(work, *part, *of).await? }),
        Job::Discard { request } => {
            // Whoever sends commands cannot have other folders removed than those that a restore of this instance kept.
            if !agent.kept.contains(&command.instance, &request.path) {
                if request.path.exists() {
                    let message = format!("discard {}: no restore of {} keeps it", request.path.display(), command.instance);
                    return Err(Fault::refused(ErrorKind::NotFound, message)
                        .hint("`muster ops` lists restores, and `muster discard OP` removes what one of them kept"));
                }
            } else {
                instance.engine.discard(work, request).await?;
            }
            Ok(Done::Discard { path: request.path.clone() })
        }
        Job::Verify { request } => {
            let verifying = instance.engine.verify(work, request);
            Ok(Done::Verify { outcome: keep::held(work, request.point, command, verifying).await? })
        }
        Job::Order { directive, limit } => Ok(Done::Order { answer: agent.keepers.obey(instance, work, directive, *limit).await? }),
        Job::Hook { hook } => {
            Err(Fault::refused(ErrorKind::Internal, format!("hook {hook} is no verb")).hint("please report this with the agent's log"))
        }
    }
}

/// A kept instance's data are replaced by nobody who does not go through its keeper.
fn refuse_kept(agent: &Agent, instance: &Instance, request: &RestoreRequest) -> Result<(), Fault> {
    let replaces = match request.target {
        RestoreTarget::Empty | RestoreTarget::InPlace => !request.dry_run,
        RestoreTarget::Beside { .. } | RestoreTarget::Database { .. } => false,
    };
    if replaces && agent.keepers.keeps(instance) {
        let message =
            format!("restore {}: it is kept by Muster, and a restore in its place is not built for kept instances", instance.name);
        return Err(Fault::refused(ErrorKind::FailedPrecondition, message)
            .hint("restore it beside (`--beside DIRECTORY`), or into a new database of the running server"));
    }
    Ok(())
}

/// The verb's note, kept by the inbox.
struct InboxNotes {
    inbox: Arc<Inbox>,
    command: CommandId,
}

#[async_trait]
impl Notes for InboxNotes {
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault> {
        let (inbox, command) = (self.inbox.clone(), self.command);
        blocking(move || inbox.read_note(command)).await?.map_err(|error| {
            Fault::failed(ErrorKind::DataLoss, format!("read the note of command {command}: {error}"))
                .hint("look at the instance before asking for the operation anew; check the disk of the agent's state directory")
        })
    }

    async fn keep(&self, note: &[u8]) -> Result<(), Fault> {
        let (inbox, command, note) = (self.inbox.clone(), self.command, note.to_owned());
        blocking(move || inbox.keep_note(command, &note)).await?.map_err(|error| {
            Fault::failed(ErrorKind::ResourceExhausted, format!("keep the note of command {command}: {error}"))
                .hint("make room for the agent's state directory, then ask for the operation anew")
        })
    }
}

/// Runs what blocks for the disk on a thread of its own.
///
/// # Errors
/// Where it panicked.
pub async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(act).await.map_err(|error| {
        Fault::failed(ErrorKind::Internal, format!("a thread of the agent ended: {error}")).hint("please report this with the agent's log")
    })
}

fn injected(injected: muster_failpoint::Injected) -> Fault {
    Fault::failed(ErrorKind::Internal, injected.to_string()).hint("unset MUSTER_FAILPOINTS")
}
