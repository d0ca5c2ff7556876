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
    let tasks: Weak<Runner> = Arc::downgrade(runner);
    let (of_outbox, of_inbox) = (Arc::downgrade(agent), Arc::downgrade(agent));
    gauge("muster.agent.connected", "1 while there is a session with a controller.", move || {
        vec![(None, usize::from(link.borrow().connected_to.is_some()))]
    });
    gauge("muster.agent.tasks", "Tasks that wait, and tasks that run.", move || {
        let (waiting, running) = tasks.upgrade().map_or((0, 0), |runner| runner.counts());
        vec![(Some("waiting"), waiting), (Some("running"), running)]
    });
    gauge("muster.agent.outbox", "Messages that wait to be sent.", move || {
        vec![(None, of_outbox.upgrade().map_or(0, |agent| agent.outbox.len()))]
    });
    gauge("muster.agent.inbox", "Commands that are not acknowledged as ended.", move || {
        vec![(None, of_inbox.upgrade().map_or(0, |agent| agent.inbox.len()))]
    });
}

/// Registers a gauge: its values by state, read whenever somebody looks.
fn gauge(name: &'static str, description: &'static str, read: impl Fn() -> Vec<(Option<&'static str>, usize)> + Send + Sync + 'static) {
    let meter = opentelemetry::global::meter("muster-agent");
    let builder = meter.u64_observable_gauge(name).with_description(description).with_callback(move |gauge| {
        for (state, value) in read() {
            let attributes: Vec<KeyValue> = state.map(|state| KeyValue::new("state", state)).into_iter().collect();
            gauge.observe(value as u64, &attributes);
        }
    });
    // The meter keeps it.
    let _registered = builder.build();
}
