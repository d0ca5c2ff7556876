//! The controller's instruments. What is counted is counted where it happens; this names it once.

use muster_wire::proto::v1::{OperationKind, OperationState};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter, UpDownCounter};

/// All instruments. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Sessions of agents that live now.
    pub sessions: UpDownCounter<i64>,
    /// Sessions that ended, by why.
    pub sessions_ended: Counter<u64>,
    /// What agents said for what is not their own.
    pub refused_news: Counter<u64>,
    /// Commands that were sent again when an agent connected.
    pub commands_resent: Counter<u64>,
    /// Transitions of operations, by kind and state.
    pub transitions: Counter<u64>,
    /// Certificates that were issued, to whom.
    pub certificates: Counter<u64>,
}

impl Metrics {
    /// The instruments of a meter: the process's own, or a test's.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self {
            sessions: meter.i64_up_down_counter("muster.controller.sessions").with_description("sessions of agents that live now").build(),
            sessions_ended: meter.u64_counter("muster.controller.sessions_ended").with_description("sessions that ended, by why").build(),
            refused_news: meter
                .u64_counter("muster.controller.refused_news")
                .with_description("messages in which an agent spoke for what is not its own")
                .build(),
            commands_resent: meter
                .u64_counter("muster.controller.commands_resent")
                .with_description("commands that were sent again when an agent connected")
                .build(),
            transitions: meter
                .u64_counter("muster.controller.operation_transitions")
                .with_description("journaled transitions of operations, by kind and state")
                .build(),
            certificates: meter.u64_counter("muster.controller.certificates").with_description("certificates issued, by whom for").build(),
        }
    }

    /// Counts an operation's transition.
    pub fn transition(&self, kind: OperationKind, state: OperationState) {
        let word = |name: &'static str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase();
        let kind = KeyValue::new("kind", word(kind.as_str_name(), "OPERATION_KIND_"));
        self.transitions.add(1, &[kind, KeyValue::new("state", word(state.as_str_name(), "OPERATION_STATE_"))]);
    }
}
