//! What a finding is about, and its text. What always holds: the text is stable, it is a key of the store and a label of the metric.

use std::fmt;

use muster_common::id::OperationId;
use muster_common::name::{InstanceName, Name};

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// This controller.
    Controller,
    /// A component.
    Component(Name),
    /// An instance.
    Instance(InstanceName),
    /// An agent.
    Agent(Name),
    /// An operator.
    Operator(Name),
    /// An operation.
    Operation(OperationId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Component(name) => write!(f, "component/{name}"),
            Self::Instance(name) => write!(f, "instance/{name}"),
            Self::Agent(name) => write!(f, "agent/{name}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
            Self::Operation(id) => write!(f, "operation/{id}"),
        }
    }
}

impl Subject {
    /// The subject of a stored text; `None` where it is none of this version.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let Some((kind, rest)) = text.split_once('/') else { return (text == "controller").then_some(Self::Controller) };
        match kind {
            "component" => rest.parse().ok().map(Self::Component),
            "instance" => rest.parse().ok().map(Self::Instance),
            "agent" => rest.parse().ok().map(Self::Agent),
            "operator" => rest.parse().ok().map(Self::Operator),
            "operation" => rest.parse().ok().map(Self::Operation),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        let all = ["controller", "component/orders-db", "instance/orders-db/istanbul", "agent/istanbul-db1", "operator/ada"];
        let operation = format!("operation/{}", "ab".repeat(16));
        for text in all.into_iter().chain([operation.as_str()]) {
            assert_eq!(Subject::read(text).map(|subject| subject.to_string()).as_deref(), Some(text));
        }
        for text in ["", "site/a", "component/", "component/A B", "instance/a", "controller/"] {
            assert_eq!(Subject::read(text), None, "{text:?}");
        }
    }
}
