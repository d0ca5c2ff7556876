//! What can go wrong, in one closed list, and how a fault is told to a person.
//!
//! Every fault that leaves a process says what failed, what that did to the world, and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something was refused or failed. Mapped to a gRPC status in one place (`wire::status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// What was asked cannot be meant: a bad field, an impossible combination.
    InvalidArgument,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks may not.
    PermissionDenied,
    /// What is named does not exist.
    NotFound,
    /// It exists already with other content.
    AlreadyExists,
    /// Something else holds what is needed, or it changed meanwhile.
    Conflict,
    /// The world is not as it has to be (a server down, a folder wrong, a right missing).
    FailedPrecondition,
    /// An event number or offset that is gone.
    OutOfRange,
    /// A bound is reached; the text names it.
    ResourceExhausted,
    /// Somebody cannot be reached now.
    Unavailable,
    /// Nothing moved for the stall limit.
    Stalled,
    /// Somebody asked to stop.
    Cancelled,
    /// This engine, version or build cannot do that.
    NotAvailable,
    /// Two versions that do not speak to each other.
    Incompatible,
    /// Bytes are damaged or missing.
    DataLoss,
    /// A defect of ours.
    Internal,
}

/// What a failed or refused act did to the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing was changed.
    None,
    /// It may have been done in part or whole.
    #[default]
    Unknown,
    /// It was done; what failed came after.
    Done,
}

/// A failure or refusal as a value: journaled, sent, shown. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind.
    pub kind: ErrorKind,
    /// What it did to the world.
    pub effect: Effect,
    /// What failed, in one sentence: "verb object: reason".
    pub message: String,
    /// What was seen, with its age where that counts. May be empty.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// What to do next. Empty only where there is nothing.
    #[serde(default)]
    pub hint: String,
}

impl Fault {
    /// A fault that changed nothing.
    pub fn refused(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, effect: Effect::None, message: message.into(), evidence: Vec::new(), hint: String::new() }
    }

    /// A fault whose effect is not known.
    pub fn failed(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { effect: Effect::Unknown, ..Self::refused(kind, message) }
    }

    /// The same fault with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same fault with one more thing that was seen.
    #[must_use]
    pub fn evidence(mut self, seen: impl Into<String>) -> Self {
        self.evidence.push(seen.into());
        self
    }

    /// The same fault with another effect.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for seen in &self.evidence {
            write!(f, "; {seen}")?;
        }
        if !self.hint.is_empty() {
            write!(f, ". HINT: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_with_its_evidence_and_its_hint() {
        let fault = Fault::refused(ErrorKind::FailedPrecondition, "back up orders-db/istanbul: the server does not answer")
            .evidence("connect 10.1.0.5:5432: refused, 2 s ago")
            .hint("start the server, or look at its log");
        assert_eq!(
            fault.to_string(),
            "back up orders-db/istanbul: the server does not answer; connect 10.1.0.5:5432: refused, 2 s ago. HINT: start the server, or look at its log"
        );
        assert_eq!(fault.effect, Effect::None);
    }
}
