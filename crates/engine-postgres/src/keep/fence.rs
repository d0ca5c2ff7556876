//! Stop, provably: the server is asked, then told, then every process of it is killed; its lock is taken; and it is looked at once more.
//!
//! The order is the proof. A server that was stalled before its lock dies at ours; one that got the lock first works in the data
//! directory by then, and the last look finds it.

use std::path::Path;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{Keeping, Patience};
use rustix::process::Signal;

use crate::engine::Postgres;
use crate::keep::lock::{self, Lock};
use crate::keep::{hit, look, permit, position, processes};
use crate::restore::off_runtime;

/// A killed process is gone in no time, unless it waits for a disk that does not answer.
const KILLED: Duration = Duration::from_secs(10);
/// So often the lock may be lost to a server that starts meanwhile: without a permit there is no second one.
const ROUNDS: usize = 5;

/// Fences.
///
/// # Errors
/// Where a process stays, or the lock cannot be had.
pub async fn fence(instance: &Postgres, patience: Patience) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    let folder = data.clone();
    // On a thread, to its end: nobody who stops waiting cuts it off half-way.
    off_runtime(move || stop_and_lock(&keeping, &data, patience)).await?;
    let Ok(control) = position::control(&folder) else { return Ok(()) };
    match look::elsewhere(instance, &control).await {
        None => Ok(()),
        Some(pid) => Err(Fault::failed(
            ErrorKind::FailedPrecondition,
            format!(
                "fence {}: no server works in {}, and one of this cluster answers (process {pid})",
                instance.config.name,
                folder.display()
            ),
        )
        .evidence(format!("it works in {}", std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default().display()))
        .hint("its data directory was moved while it ran, or a copy of it was started: stop that server, then fence again")),
    }
}

/// The same, blocking.
///
/// # Errors
/// As [`fence`].
pub fn stop_and_lock(keeping: &Keeping, data: &Path, patience: Patience) -> Result<(), Fault> {
    permit::remove(keeping)?;
    hit("postgres.fence.permit")?;
    for _ in 0..ROUNDS {
        stop(keeping, data, patience)?;
        hit("postgres.fence.stopped")?;
        processes::kill_all(data, KILLED)?;
        hit("postgres.fence.killed")?;
        if !lock::take(keeping, data)? {
            continue;
        }
        hit("postgres.fence.locked")?;
        // Only now: whoever is not seen here meets the lock.
        let left = processes::of(data)?;
        if left.is_empty() && matches!(lock::look(keeping, data)?, Lock::Held(_) | Lock::Empty) {
            return Ok(());
        }
    }
    Err(Fault::failed(ErrorKind::FailedPrecondition, format!("fence the server in {}: somebody starts it over and over", data.display()))
        .hint("stop what starts it (systemctl, a loop, another manager), then fence again"))
}

/// Asks the server to stop: in order, then at once. Whatever is left is killed after.
fn stop(keeping: &Keeping, data: &Path, patience: Patience) -> Result<(), Fault> {
    for (signal, wait) in [(Signal::INT, patience.fast), (Signal::QUIT, patience.immediate)] {
        let Lock::Server(postmaster) = lock::look(keeping, data)? else { return Ok(()) };
        if !processes::of(data)?.contains(&postmaster) {
            return Ok(());
        }
        tracing::info!(data = %data.display(), postmaster, ?signal, "stopping the server");
        processes::signal(postmaster, signal);
        // A postmaster that is gone has ended its children, or left orphans that are to be killed.
        let ended = processes::gone(wait, || Ok(processes::of(data)?.into_iter().filter(|pid| *pid == postmaster).collect()))?;
        if ended.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}
