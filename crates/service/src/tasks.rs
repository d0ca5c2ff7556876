//! The one place where tasks are spawned: each has a name and a span, and stopping waits for them within a bound.
//!
//! What always holds: a token asks, the gate waits and names who is late. A task that panics is logged as an error; one that was
//! called vital and ends before it was asked to, stops the whole gate.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Tasks that live and end together. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct TaskGate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    token: CancellationToken,
    tasks: Mutex<Tasks>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Tasks {
    running: BTreeMap<u64, String>,
    next: u64,
    closed: bool,
    first_failure: Option<String>,
}

/// Tasks that had not ended when the bound was over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("after {} ms still running: {}", bound.as_millis(), names.join(", "))]
pub struct Late {
    /// How long was waited.
    pub bound: Duration,
    /// The names of who is late.
    pub names: Vec<String>,
}

impl TaskGate {
    /// A gate that stops when `token` is cancelled (or by [`TaskGate::close`]).
    #[must_use]
    pub fn new(token: CancellationToken) -> Self {
        Self { shared: Arc::new(Shared { token, tasks: Mutex::default(), ended: Notify::new() }) }
    }

    /// Cancelled when the tasks are asked to end. Every loop in a task waits for it too.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.shared.token
    }

    /// Runs a future as a task under this name, in this span. After [`TaskGate::close`] it is dropped unrun and `false` comes back.
    pub fn spawn(&self, name: impl Into<String>, span: tracing::Span, future: impl Future<Output = ()> + Send + 'static) -> bool {
        self.start(name.into(), span, future, false)
    }

    /// The same for a task without which the process makes no sense: when it ends or panics before it was asked to, the gate's token is
    /// cancelled and [`TaskGate::failure`] tells why.
    pub fn spawn_vital(&self, name: impl Into<String>, span: tracing::Span, future: impl Future<Output = ()> + Send + 'static) -> bool {
        self.start(name.into(), span, future, true)
    }

    /// Why the gate was stopped from within: the first panic of any task, or the first early end of a vital one.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().first_failure.clone()
    }

    /// How many tasks run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lock().running.len()
    }

    /// Asks all tasks to end, takes no new ones, and waits for at most `bound`.
    ///
    /// # Errors
    /// [`Late`] names the tasks that still run; they are left running.
    pub async fn close(&self, bound: Duration) -> Result<(), Late> {
        self.lock().closed = true;
        self.shared.token.cancel();
        let all_ended = async {
            loop {
                let ended = self.shared.ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if self.running() == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(bound, all_ended).await.map_err(|_| Late { bound, names: self.lock().running.values().cloned().collect() })
    }

    fn start(&self, name: String, span: tracing::Span, future: impl Future<Output = ()> + Send + 'static, vital: bool) -> bool {
        let Some(place) = self.enter(name.clone()) else { return false };
        let task = async move {
            let ended = AssertUnwindSafe(future).catch_unwind().await;
            let gate = &place.gate;
            match ended {
                Err(panic) => gate.failed(vital, format!("task {name} panicked: {}", panic_text(panic.as_ref()))),
                Ok(()) if vital && !gate.token().is_cancelled() => gate.failed(vital, format!("task {name} ended before it was asked to")),
                Ok(()) => {}
            }
        };
        tokio::spawn(task.instrument(span));
        true
    }

    fn enter(&self, name: String) -> Option<Place> {
        let mut tasks = self.lock();
        if tasks.closed {
            return None;
        }
        let number = tasks.next;
        tasks.next += 1;
        tasks.running.insert(number, name);
        Some(Place { gate: self.clone(), number })
    }

    fn failed(&self, vital: bool, why: String) {
        tracing::error!(vital, "{why}");
        self.lock().first_failure.get_or_insert(why);
        if vital {
            self.shared.token.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running task's entry; it leaves when the task ends, is aborted, or its runtime is dropped.
struct Place {
    gate: TaskGate,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().running.remove(&self.number);
        self.gate.shared.ended.notify_waiters();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use tracing::Span;

    use super::*;

    #[tokio::test]
    async fn closing_waits_for_tasks_that_obey_the_token() {
        let gate = TaskGate::new(CancellationToken::new());
        for n in 0..10 {
            let token = gate.token().clone();
            assert!(gate.spawn(format!("worker {n}"), Span::none(), async move { token.cancelled().await }));
        }
        assert_eq!(gate.running(), 10);
        gate.close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(gate.running(), 0);
        assert!(!gate.spawn("too late", Span::none(), async {}));
        assert_eq!(gate.failure(), None);
    }

    #[tokio::test]
    async fn who_is_late_is_named() {
        let gate = TaskGate::new(CancellationToken::new());
        gate.spawn("deaf", Span::none(), std::future::pending());
        gate.spawn("quick", Span::none(), async {});
        let late = gate.close(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late.names, ["deaf"]);
        assert_eq!(late.to_string(), "after 50 ms still running: deaf");
    }

    #[tokio::test]
    async fn a_vital_task_that_ends_or_panics_stops_the_gate_and_is_named() {
        for panics in [false, true] {
            let gate = TaskGate::new(CancellationToken::new());
            gate.spawn_vital("driver", Span::none(), async move { assert!(!panics, "boom") });
            tokio::time::timeout(Duration::from_secs(5), gate.token().cancelled()).await.unwrap();
            let why = gate.failure().unwrap();
            assert!(why.contains("driver") && why.contains(if panics { "boom" } else { "before it was asked to" }), "{why}");
        }
    }

    #[tokio::test]
    async fn a_panic_of_another_task_is_remembered_and_the_rest_goes_on() {
        let gate = TaskGate::new(CancellationToken::new());
        gate.spawn("request", Span::none(), async { panic!("boom") });
        let seen = async {
            while gate.failure().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), seen).await.unwrap();
        assert!(!gate.token().is_cancelled());
    }
}
