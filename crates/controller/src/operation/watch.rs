//! Watchers: every transition after a number, exactly once and in order, and progress between them.
//!
//! What always holds: a watcher holds one page of events at most; progress that it did not take is replaced by newer; of one operation
//! it ends after the last transition, which is always delivered. A watcher that vanishes leaves nothing behind.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::OperationId;
use muster_wire::proto::v1::{OperationEvent, OperationState, ProgressUpdate};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::operation::hub::Hub;
use crate::store::error::StoreError;
use crate::store::{Store, events};

/// Events that are read at once.
const PAGE: u32 = 50;

/// What a watcher is given.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchUpdate {
    /// A transition; none is left out.
    Event(Box<OperationEvent>),
    /// Newer progress; older one that was not taken is left out.
    Progress(ProgressUpdate),
}

struct Watcher {
    store: Store,
    hub: Arc<Hub>,
    of: Option<OperationId>,
    after: EventNumber,
    committed: watch::Receiver<EventNumber>,
    generations: watch::Receiver<u64>,
    seen_progress: u64,
    ready: VecDeque<WatchUpdate>,
    over: bool,
    stop: CancellationToken,
}

/// The updates after `after`, of one operation or of all. `ended` tells that the operation had ended when it was looked up.
///
/// # Errors
/// Where the events after `after` are gone. In the stream: the same, and that the controller stops.
pub async fn watch(
    store: Store,
    hub: Arc<Hub>,
    stop: CancellationToken,
    of: Option<OperationId>,
    after: EventNumber,
    ended: bool,
) -> Result<BoxStream<'static, Result<WatchUpdate, Fault>>, Fault> {
    let (committed, generations) = (hub.events(), hub.generations());
    let mut watcher =
        Watcher { store, hub, of, after, committed, generations, seen_progress: 0, ready: VecDeque::new(), over: false, stop };
    // Now, so that the caller is told at once where the number is gone.
    watcher.read_events().await?;
    // Somebody who has seen all of an operation that has ended is not kept waiting.
    watcher.over |= ended && watcher.ready.is_empty();
    Ok(stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(Some(update)) => Some((Ok(update), Some(watcher))),
            Ok(None) => None,
            Err(fault) => Some((Err(fault), None)),
        }
    })
    .boxed())
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<WatchUpdate>, Fault> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(Some(update));
            }
            if self.over {
                return Ok(None);
            }
            self.committed.mark_unchanged();
            self.generations.mark_unchanged();
            self.read_events().await?;
            // Progress is told before nothing else is left to tell, never after the end.
            if self.ready.is_empty() && !self.over {
                self.read_progress();
            }
            if !self.ready.is_empty() || self.over {
                continue;
            }
            let (stop, committed, generations) = (&self.stop, &mut self.committed, &mut self.generations);
            let stays = tokio::select! {
                () = stop.cancelled() => false,
                changed = committed.changed() => changed.is_ok(),
                changed = generations.changed() => changed.is_ok(),
            };
            if !stays {
                let after = self.after;
                return Err(Fault::refused(ErrorKind::Unavailable, "watch operations: the controller stops")
                    .hint(format!("watch again after event {after}")));
            }
        }
    }

    async fn read_events(&mut self) -> Result<(), StoreError> {
        let mut read = self.store.read().await?;
        let page = events::list(&mut read, self.of, self.after, PAGE).await?;
        drop(read);
        let whole = page.len() < PAGE as usize;
        for event in page {
            self.after = EventNumber(event.number);
            // An outcome that came late stands behind the end: as long as a page is full there may be more.
            let ended = event.operation.as_ref().is_some_and(|operation| has_ended(operation.state()));
            self.over = self.of.is_some() && ended && whole;
            self.ready.push_back(WatchUpdate::Event(Box::new(event)));
        }
        Ok(())
    }

    fn read_progress(&mut self) {
        let (updates, newest) = self.hub.since(self.seen_progress, self.of);
        self.seen_progress = newest;
        self.ready.extend(updates.into_iter().filter(|update| update.progress.is_some()).map(WatchUpdate::Progress));
    }
}

/// Whether an operation in this state has ended.
#[must_use]
pub fn has_ended(state: OperationState) -> bool {
    match state {
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
        OperationState::Unspecified
        | OperationState::Pending
        | OperationState::Running
        | OperationState::Cancelling
        | OperationState::Unknown
        | OperationState::Suspended => false,
    }
}
