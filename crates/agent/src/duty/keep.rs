//! Removes directories that restores kept aside once their time is over, when no task holds their instance.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_common::fault::{ErrorKind, Fault};
use muster_engine::request::DiscardRequest;
use muster_engine::work::{Notes, Progress, Work};
use muster_service::clock;
use muster_service::tasks::TaskGate;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::kept::Entry;
use crate::task::runner::Runner;

/// How often it is looked.
const EACH: Duration = Duration::from_secs(10);

/// Looks until the gate closes.
pub async fn serve(agent: Arc<Agent>, runner: Arc<Runner>, gate: TaskGate) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EACH) => {}
            () = gate.token().cancelled() => return,
        }
        remove_due(&agent, &runner, &gate).await;
    }
}

/// Removes what is due and free.
async fn remove_due(agent: &Agent, runner: &Runner, gate: &TaskGate) {
    for entry in agent.kept.due(clock::now()) {
        let path = &entry.directory.path;
        // One whose instance is no longer assigned stays: nobody knows any more what it is.
        let Some(instance) = agent.assignments.current().instances.get(&entry.instance).cloned() else { continue };
        if runner.is_busy(&entry.instance) {
            continue;
        }
        let request = DiscardRequest { path: path.clone() };
        let work = work(&entry, gate);
        match instance.engine.discard(&work, &request).await {
            Ok(()) => match agent.kept.remove(path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), instance = %entry.instance, "its time is over: the old directory is removed")
                }
                Err(error) => tracing::error!(%error, "a removed directory stays on the list until that can be written"),
            },
            Err(fault) => tracing::error!(path = %path.display(), "an old directory whose time is over cannot be removed: {fault}"),
        }
    }
}

fn work(entry: &Entry, gate: &TaskGate) -> Work {
    Work {
        command: entry.command,
        cancel: gate.token().child_token(),
        progress: Arc::new(watch::Sender::new(Progress::default())),
        notes: Arc::new(NoNotes),
        scratch: PathBuf::new(),
        threads: 1,
        repository: None,
    }
}

/// A duty begins anew each time: it keeps no notes.
struct NoNotes;

#[async_trait]
impl Notes for NoNotes {
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    async fn keep(&self, _note: &[u8]) -> Result<(), Fault> {
        Err(Fault::refused(ErrorKind::Internal, "a duty keeps no notes").hint("please report this with the agent's log"))
    }
}
