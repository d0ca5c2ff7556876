//! Housekeeping: tombstones whose time is over are dropped, and what ended tasks left in scratch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_service::clock;
use muster_service::tasks::TaskGate;

use crate::agent::Agent;
use crate::durable::DurableError;
use crate::engines;
use crate::hook::run::end_leftovers;
use crate::task::inbox::InboxError;
use crate::task::perform::blocking;
use crate::task::scratch::Scratch;

/// How often.
const EACH: Duration = Duration::from_secs(3_600);

/// Why it could not be done now.
#[derive(Debug, thiserror::Error)]
enum HouseError {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error(transparent)]
    Memory(#[from] DurableError),
    #[error("clean scratch: {0}")]
    Scratch(#[from] std::io::Error),
}

/// Cleans now and each hour until the gate closes.
pub async fn serve(agent: Arc<Agent>, gate: TaskGate) {
    loop {
        let one = agent.clone();
        match blocking(move || clean(&one)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "housekeeping is tried again in an hour"),
            Err(fault) => tracing::error!(%fault, "housekeeping is tried again in an hour"),
        }
        tokio::select! {
            () = tokio::time::sleep(EACH) => {}
            () = gate.token().cancelled() => return,
        }
    }
}

/// Blocks for the disk.
fn clean(agent: &Agent) -> Result<(), HouseError> {
    let (keep, most) = (agent.settings.tombstones, agent.settings.most_tombstones);
    agent.inbox.drop_tombstones(clock::now(), keep, most, |until| {
        agent.memory.change(|remembered| remembered.dropped_until = remembered.dropped_until.max(until)).map_err(HouseError::from)
    })?;
    let under_way = || agent.inbox.under_way().into_iter().map(|command| command.id).collect::<BTreeSet<_>>();
    agent.scratch.clean(under_way, engines::end_leftovers)?;
    Scratch::new(agent.hooks.folder.clone(), u64::MAX).clean(under_way, |folder, _| end_leftovers(folder))?;
    Ok(())
}
