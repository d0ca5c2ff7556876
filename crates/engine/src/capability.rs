//! What an engine can do, as data: a refusal is known before anything starts.

use std::fmt;
use std::str::FromStr;

use muster_common::fault::{ErrorKind, Fault};
use serde::{Deserialize, Serialize};

/// The seven verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// One look at an instance.
    Observe,
    /// Take a recovery point.
    Backup,
    /// Bring one back.
    Restore,
    /// Prove one good.
    Verify,
    /// Stop writing, provably.
    Fence,
    /// Become the writer.
    Promote,
    /// Follow the writer.
    Follow,
}

/// All verbs, in the order of the documentation's table.
pub const VERBS: [Verb; 7] = [Verb::Observe, Verb::Backup, Verb::Restore, Verb::Verify, Verb::Fence, Verb::Promote, Verb::Follow];

impl Verb {
    /// Its name in texts and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Fence => "fence",
            Self::Promote => "promote",
            Self::Follow => "follow",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of observe, backup, restore, verify, fence, promote, follow")]
pub struct UnknownVerb(String);

impl FromStr for Verb {
    type Err = UnknownVerb;

    fn from_str(text: &str) -> Result<Self, UnknownVerb> {
        VERBS.into_iter().find(|verb| verb.name() == text).ok_or_else(|| UnknownVerb(text.to_owned()))
    }
}

/// What an engine of one kind can do in this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The kind of component, as in resources: `postgres`, `files`.
    pub kind: &'static str,
    /// The verbs it has.
    pub verbs: &'static [Verb],
}

impl Capabilities {
    /// Refuses a verb that this engine does not have.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`], with what there is.
    pub fn require(&self, verb: Verb) -> Result<(), Fault> {
        if self.verbs.contains(&verb) {
            return Ok(());
        }
        let have: Vec<_> = self.verbs.iter().map(|verb| verb.name()).collect();
        Err(Fault::refused(ErrorKind::NotAvailable, format!("{verb}: not available for kind {} in this version", self.kind)).hint(format!(
            "kind {} can: {}",
            self.kind,
            have.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_an_engine_lacks_is_refused_with_those_it_has() {
        let files = Capabilities { kind: "files", verbs: &[Verb::Observe, Verb::Backup] };
        assert_eq!(files.require(Verb::Backup), Ok(()));
        let fault = files.require(Verb::Promote).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotAvailable);
        assert!(fault.to_string().contains("observe, backup"), "{fault}");
    }

    #[test]
    fn every_verb_is_read_back_from_its_name() {
        for verb in VERBS {
            assert_eq!(verb.name().parse(), Ok(verb));
        }
    }
}
