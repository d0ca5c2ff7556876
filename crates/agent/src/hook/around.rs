//! A verb with its hooks: before, the verb, after.
//!
//! ```text
//!  before 1..n, in order -> one fails, is stopped or is unknown, and its file does not let that pass -> the verb is refused
//!  the verb              -> its result is kept durably
//!  after 1..m, in order  -> all of them, whatever came of the verb or of each other, once a hook or the verb has begun
//! ```
//! What always holds: what is thawed after was frozen before: once a before-hook has begun, every after-hook runs, also where somebody
//! asked to stop, and also where the agent was killed between: each run and the verb's result stand in the folder of the command, and the
//! next process goes on behind them. Who asks to stop ends before-hooks and the verb, never an after-hook: that has its own timeout.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::name::Name;
use muster_engine::work::Progress;

use crate::agent::Agent;
use crate::durable::{self, DurableError, Format};
use crate::hook::ran::{End, Moment, Ran};
use crate::hook::run::{Run, Want, end_leftovers, run};
use crate::task::command::{Command, Done, Job};
use crate::task::perform::{Attempts, blocking, perform};
use crate::task::run::{Brake, Reason};

const VERB: Format = Format { magic: "MUSTER-HOOK-VERB", version: 1 };

/// What came of a command: its verb's result, and the hooks that ran.
pub type Came = (Result<Done, Fault>, Vec<Ran>);

/// Runs the command with its hooks.
pub async fn around(agent: &Agent, command: &Command, attempts: &Attempts, brake: &Brake) -> Came {
    match &command.job {
        Job::Hook { hook } => alone(agent, command, attempts, brake, hook).await,
        Job::Backup { .. }
        | Job::Restore { .. }
        | Job::Check { .. }
        | Job::Discard { .. }
        | Job::Prune { .. }
        | Job::Hold { .. }
        | Job::Order { .. }
        | Job::Verify { .. }
            if command.hooks.is_none() =>
        {
            (perform(agent, command, attempts).await, Vec::new())
        }
        Job::Backup { .. }
        | Job::Restore { .. }
        | Job::Check { .. }
        | Job::Discard { .. }
        | Job::Prune { .. }
        | Job::Hold { .. }
        | Job::Order { .. }
        | Job::Verify { .. } => hooked(agent, command, attempts, brake).await,
    }
}

async fn hooked(agent: &Agent, command: &Command, attempts: &Attempts, brake: &Brake) -> Came {
    let mut ran = Vec::new();
    let mut refused = None;
    for (number, hook) in command.hooks.before.iter().enumerate() {
        if brake.reason().is_some() && ran.is_empty() && !folder(agent, command, Moment::Before, number, hook).exists() {
            let fault =
                Fault::refused(ErrorKind::Cancelled, format!("{} {}: stopped before it began", command.job.name(), command.instance));
            return (Err(fault), ran);
        }
        match one(agent, command, attempts, brake, (Moment::Before, number, hook), None).await {
            Ok(run) => {
                let passes = run.passes();
                ran.push(run);
                if !passes {
                    refused = ran.last().map(|run| refusal(command, run));
                    break;
                }
            }
            Err(fault) => {
                refused = Some(fault);
                break;
            }
        }
    }
    if brake.reason() == Some(Reason::Stopping) {
        return (Err(left()), ran);
    }
    let result = match verb(agent, command, attempts, refused).await {
        Ok(result) => result,
        Err(fault) => return (Err(fault), ran),
    };
    // A verb that the agent's stop has cut short goes on in the next process, and so do the hooks after it.
    if result.is_err() && brake.reason() == Some(Reason::Stopping) {
        return (result, ran);
    }
    if let Err(fault) = keep_verb(agent, command, &result).await {
        tracing::error!(%fault, "the verb's result is not kept before its hooks: it would run again if the agent ended now");
    }
    let outcome = match &result {
        Ok(_) => "succeeded",
        Err(fault) if fault.kind == ErrorKind::Cancelled => "cancelled",
        Err(_) => "failed",
    };
    for (number, hook) in command.hooks.after.iter().enumerate() {
        match one(agent, command, attempts, brake, (Moment::After, number, hook), Some(outcome)).await {
            Ok(run) => ran.push(run),
            Err(fault) if brake.reason() == Some(Reason::Stopping) => return (Err(fault), ran),
            Err(fault) => ran.push(unstarted(hook, &fault)),
        }
    }
    (result, ran)
}

/// The verb, unless a hook refused it or an earlier process has its result.
async fn verb(agent: &Agent, command: &Command, attempts: &Attempts, refused: Option<Fault>) -> Result<Result<Done, Fault>, Fault> {
    if let Some(fault) = refused {
        return Ok(Err(fault));
    }
    let path = home(agent, command).join("verb");
    let kept = blocking(move || durable::read_json::<Result<Done, Fault>>(&path, VERB)).await?;
    match kept.map_err(|error| cannot_keep(command, &error))? {
        Some(result) => Ok(result),
        None => Ok(perform(agent, command, attempts).await),
    }
}

async fn keep_verb(agent: &Agent, command: &Command, result: &Result<Done, Fault>) -> Result<(), Fault> {
    let (path, result) = (home(agent, command).join("verb"), result.clone());
    let folder = home(agent, command);
    let kept = blocking(move || {
        muster_service::files::create_private_folder(&folder)?;
        durable::write_json(&path, VERB, &result)
    });
    kept.await?.map_err(|error: DurableError| cannot_keep(command, &error))?;
    muster_failpoint::hit("agent.hook.verb_kept")
        .map_err(|injected| Fault::failed(ErrorKind::Internal, injected.to_string()).hint("unset MUSTER_FAILPOINTS"))
}

async fn alone(agent: &Agent, command: &Command, attempts: &Attempts, brake: &Brake, hook: &Name) -> Came {
    let ran = match one(agent, command, attempts, brake, (Moment::Alone, 0, hook), None).await {
        Ok(ran) => ran,
        Err(fault) => return (Err(fault), Vec::new()),
    };
    let result = if ran.passes() { Ok(Done::Hook { hook: hook.clone() }) } else { Err(failure(command, &ran)) };
    (result, vec![ran])
}

/// One hook of the command, from wherever it is to its end.
async fn one(
    agent: &Agent,
    command: &Command,
    attempts: &Attempts,
    brake: &Brake,
    (moment, number, hook): (Moment, usize, &Name),
    outcome: Option<&str>,
) -> Result<Ran, Fault> {
    let declared = agent.hooks.declared.get(hook).cloned().ok_or_else(|| agent.hooks.unknown(hook))?;
    let folder = folder(agent, command, moment, number, hook);
    let environment = environment(command, outcome);
    let (name, program, brake) = (hook.clone(), agent.hooks.program.clone(), brake.clone());
    let phase = match moment {
        Moment::Before => format!("hook {hook} before"),
        Moment::After => format!("hook {hook} after"),
        Moment::Alone => format!("hook {hook}"),
    };
    attempts.progress.send_replace(Progress { phase, ..Progress::default() });
    attempts.in_hook.store(true, Ordering::Relaxed);
    tracing::info!(%hook, ?moment, "a hook runs");
    let ran = blocking(move || {
        let want = || match (brake.reason(), moment) {
            (Some(Reason::Stopping), _) => Want::Leave,
            (Some(Reason::Asked | Reason::Stalled(_)), Moment::Before | Moment::Alone) => Want::Stop,
            (Some(Reason::Asked | Reason::Stalled(_)), Moment::After) | (None, _) => Want::Go,
        };
        run(&Run { name: &name, hook: &declared, moment, folder, environment, program: &program }, &want)
    })
    .await;
    attempts.in_hook.store(false, Ordering::Relaxed);
    let ran = ran??.ok_or_else(left)?;
    match ran.end {
        End::Succeeded => tracing::info!(%hook, took_ms = ran.took_ms, "the hook has succeeded"),
        End::Failed | End::Stopped | End::Unknown => {
            tracing::warn!(%hook, end = ?ran.end, detail = %ran.detail, "the hook has not succeeded")
        }
    }
    muster_failpoint::hit("agent.hook.ran")
        .map_err(|injected| Fault::failed(ErrorKind::Internal, injected.to_string()).hint("unset MUSTER_FAILPOINTS"))?;
    Ok(ran)
}

fn environment(command: &Command, outcome: Option<&str>) -> Vec<(String, String)> {
    let told = [
        ("MUSTER_OPERATION", command.operation.to_string()),
        ("MUSTER_COMPONENT", command.instance.component.to_string()),
        ("MUSTER_INSTANCE", command.instance.instance.to_string()),
        ("MUSTER_VERB", verb_name(command).to_owned()),
        ("MUSTER_EPOCH", command.epoch.to_string()),
    ];
    let outcome = outcome.map(|outcome| ("MUSTER_OUTCOME", outcome.to_owned()));
    told.into_iter().chain(outcome).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A logical backup is told apart: what it needs frozen is another thing.
fn verb_name(command: &Command) -> &'static str {
    match &command.job {
        Job::Backup { request } if request.dump.is_some() => "dump",
        Job::Backup { .. }
        | Job::Restore { .. }
        | Job::Check { .. }
        | Job::Discard { .. }
        | Job::Prune { .. }
        | Job::Hold { .. }
        | Job::Order { .. }
        | Job::Verify { .. }
        | Job::Hook { .. } => command.job.name(),
    }
}

/// The folder of all that is kept of a command's hooks.
fn home(agent: &Agent, command: &Command) -> PathBuf {
    agent.hooks.folder.join(command.id.to_string())
}

fn folder(agent: &Agent, command: &Command, moment: Moment, number: usize, hook: &Name) -> PathBuf {
    let moment = match moment {
        Moment::Before => "before",
        Moment::After => "after",
        Moment::Alone => "alone",
    };
    home(agent, command).join(format!("{moment}-{number}-{hook}"))
}

/// Removes what is kept of a command's hooks, and ends what still runs of them. Blocks.
///
/// # Errors
/// Where something stays.
pub fn forget(home: &Path) -> std::io::Result<()> {
    end_leftovers(home).map_err(std::io::Error::other)?;
    match std::fs::remove_dir_all(home) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The verb was not begun.
fn refusal(command: &Command, ran: &Ran) -> Fault {
    let title = format!("{} {}", command.job.name(), command.instance);
    let kind = if ran.end == End::Stopped { ErrorKind::Cancelled } else { ErrorKind::FailedPrecondition };
    let effect = if ran.end == End::Unknown { Effect::Unknown } else { Effect::None };
    let fault = Fault::refused(kind, format!("{title}: hook {} before it: {}", ran.hook, ran.detail)).effect(effect);
    said(fault.evidence("it was not begun; the hooks after it have run"), ran)
}

/// A hook by itself did not succeed.
fn failure(command: &Command, ran: &Ran) -> Fault {
    let message = format!("hook {} of {}: {}", ran.hook, command.instance, ran.detail);
    let fault = match ran.end {
        End::Stopped => Fault::refused(ErrorKind::Cancelled, message).effect(Effect::Unknown),
        End::Succeeded | End::Failed | End::Unknown => Fault::failed(ErrorKind::FailedPrecondition, message).effect(Effect::Unknown),
    };
    said(fault, ran)
}

fn said(fault: Fault, ran: &Ran) -> Fault {
    let last = ran.output.iter().skip(ran.output.len().saturating_sub(5));
    last.fold(fault, |fault, line| fault.evidence(line.clone()))
        .hint(format!("`muster logs` has all that it said; see what hook {} does on the agent's machine, then ask again", ran.hook))
}

/// An after-hook that could not even be started has failed.
fn unstarted(hook: &Name, fault: &Fault) -> Ran {
    Ran {
        hook: hook.clone(),
        moment: Moment::After,
        end: End::Failed,
        code: None,
        detail: fault.message.clone(),
        took_ms: 0,
        output: Vec::new(),
        failure_passes: false,
    }
}

/// The agent stops; nobody sees this.
fn left() -> Fault {
    Fault::refused(ErrorKind::Cancelled, "the agent stops; the next one goes on")
}

fn cannot_keep(command: &Command, error: &dyn std::error::Error) -> Fault {
    Fault::failed(ErrorKind::ResourceExhausted, format!("keep what became of command {}: {error}", command.id))
        .hint("make room for the agent's state directory")
}
