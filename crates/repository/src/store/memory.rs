//! A repository in memory with a clock that a test turns: each request is seen by the others at one instant, and whoever asked waits
//! once before it and once after it, so that a test can put anything between.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use muster_common::time::Timestamp;

use super::{Failed, Listed, lock};
use crate::error::StoreErrorKind;

#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    clock: Timestamp,
    objects: BTreeMap<String, (Bytes, Timestamp)>,
}

/// Lets everyone else go first, once.
async fn step() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn absent(path: &str) -> Failed {
    Failed(StoreErrorKind::NotFound, format!("no object {path}"))
}

impl Memory {
    pub(crate) fn clock(&self) -> Timestamp {
        lock(&self.state).clock
    }

    pub(crate) fn set_clock(&self, now: Timestamp) {
        lock(&self.state).clock = now;
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        lock(&self.state).objects.contains_key(path)
    }

    /// When an object was written. `None`: it is not there.
    pub(crate) fn written_at(&self, path: &str) -> Option<Timestamp> {
        lock(&self.state).objects.get(path).map(|(_, at)| *at)
    }

    pub(crate) fn paths(&self, prefix: &str) -> Vec<String> {
        lock(&self.state).objects.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    pub(super) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<(), Failed> {
        step().await;
        {
            let mut state = lock(&self.state);
            if state.objects.contains_key(path) {
                return Err(Failed(StoreErrorKind::AlreadyExists, "exists".into()));
            }
            let now = state.clock;
            state.objects.insert(path.to_owned(), (bytes, now));
        }
        step().await;
        Ok(())
    }

    pub(super) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, Failed> {
        step().await;
        let read = lock(&self.state).objects.get(path).map(|(bytes, _)| bytes.slice(range.start as usize..range.end as usize));
        step().await;
        read.ok_or_else(|| absent(path))
    }

    pub(super) async fn look(&self, path: &str) -> Result<Listed, Failed> {
        step().await;
        let seen = lock(&self.state).objects.get(path).map(|(bytes, at)| (bytes.len() as u64, *at));
        step().await;
        seen.map(|(size, modified)| Listed { path: path.to_owned(), size, modified }).ok_or_else(|| absent(path))
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failed> {
        step().await;
        let found = self.under(prefix);
        step().await;
        Ok(found)
    }

    fn under(&self, prefix: &str) -> Vec<Listed> {
        let under = format!("{prefix}/");
        let state = lock(&self.state);
        let found = state.objects.iter().filter(|(path, _)| path.starts_with(&under));
        found.map(|(path, (bytes, at))| Listed { path: path.clone(), size: bytes.len() as u64, modified: *at }).collect()
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), Failed> {
        step().await;
        let removed = lock(&self.state).objects.remove(path);
        step().await;
        removed.map(|_| ()).ok_or_else(|| absent(path))
    }
}
