//! What `/metrics` shows of an agent. Names carry no instance: their number is bounded.

use std::sync::{Arc, Weak};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::link::dial::LinkState;
use crate::task::runner::Runner;

/// Counts tasks that ended, by kind and outcome.
#[derive(Clone, Debug)]
pub struct Ends(Counter<u64>);

impl Ends {
    /// The counter of this process.
    #[must_use]
    pub fn new() -> Self {
        let meter = opentelemetry::global::meter("muster-agent");
        Self(meter.u64_counter("muster.agent.tasks.ended").with_description("Tasks that ended.").build())
    }

    /// One more.
    pub fn count(&self, kind: &'static str, succeeded: bool) {
        let outcome = if succeeded { "succeeded" } else { "failed" };
        self.0.add(1, &[KeyValue::new("kind", kind), KeyValue::new("outcome", outcome)]);
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows what stands now: whether there is a session, tasks that wait and run, outcomes nobody has acknowledged, what waits to be sent.
pub fn show(agent: &Arc<Agent>, runner: &Arc<Runner>, link: watch::Receiver<LinkState>) {
    let meter = opentelemetry::global::meter("muster-agent");
    drop(
        meter
            .u64_observable_gauge("muster.agent.connected")
            .with_description("1 while there is a session with a controller.")
            .with_callback(move |gauge| gauge.observe(u64::from(link.borrow().connected_to.is_some()), &[]))
            .build(),
    );
    let tasks: Weak<Runner> = Arc::downgrade(runner);
    drop(
        meter
            .u64_observable_gauge("muster.agent.tasks")
            .with_description("Tasks that wait, and tasks that run.")
            .with_callback(move |gauge| {
                let (waiting, running) = tasks.upgrade().map_or((0, 0), |runner| runner.counts());
                gauge.observe(waiting as u64, &[KeyValue::new("state", "waiting")]);
                gauge.observe(running as u64, &[KeyValue::new("state", "running")]);
            })
            .build(),
    );
    let of_outbox: Weak<Agent> = Arc::downgrade(agent);
    drop(
        meter
            .u64_observable_gauge("muster.agent.outbox")
            .with_description("Messages that wait to be sent.")
            .with_callback(move |gauge| gauge.observe(of_outbox.upgrade().map_or(0, |agent| agent.outbox.len()) as u64, &[]))
            .build(),
    );
    let of_inbox: Weak<Agent> = Arc::downgrade(agent);
    drop(
        meter
            .u64_observable_gauge("muster.agent.inbox")
            .with_description("Commands that are not acknowledged as ended.")
            .with_callback(move |gauge| gauge.observe(of_inbox.upgrade().map_or(0, |agent| agent.inbox.len()) as u64, &[]))
            .build(),
    );
}
