//! Refusals are values: which check, what was seen, how old that is, and what would lift it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The command comes from the controller that leads.
    Rule,
    /// The command is of the highest reign that is known here.
    Reign,
    /// Two reigns of which neither descends from the other.
    Conflict,
    /// The command is not older than one that was taken on.
    Sequence,
    /// The command's limit has not passed, in this boot.
    Limit,
    /// The shard is in a phase in which this can be done.
    Phase,
    /// The instance's own role allows it.
    Role,
    /// What this agent pledged allows it.
    Pledge,
    /// This agent is, and has been, the keeper of what the receipt would speak for.
    Custody,
    /// Every possible writer is proved.
    Proof,
    /// The candidate holds all that is provable and reachable.
    Position,
    /// The loss is within the approved ceiling.
    Loss,
    /// The controller has heard from every instance since it was restored or moved.
    Adopting,
    /// The mode (manual, automatic) knows this.
    Mode,
    /// The server, its permit and its files are as they must be before this.
    Server,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// Which check.
    pub check: Check,
    /// What was seen.
    pub evidence: String,
    /// How old that is; `None`: seen now.
    pub age: Option<Duration>,
    /// What would lift it.
    pub lifted_by: String,
}

impl Refusal {
    /// A refusal on what is seen now.
    pub fn new(check: Check, evidence: impl Into<String>, lifted_by: impl Into<String>) -> Self {
        Self { check, evidence: evidence.into(), age: None, lifted_by: lifted_by.into() }
    }

    /// The same on what was seen `age` ago.
    #[must_use]
    pub fn aged(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.evidence)?;
        if let Some(age) = self.age {
            write!(f, " (seen {} s ago)", age.as_secs())?;
        }
        write!(f, "; lifted by: {}", self.lifted_by)
    }
}
