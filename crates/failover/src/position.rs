//! How far an instance is, whatever engine keeps it. Nothing else here knows that there are engines.

use std::cmp::Ordering;
use std::fmt;

use muster_common::position::{Ancestry, PostgresPosition};
use serde::{Deserialize, Serialize};

/// A position with all that is needed to tell whether two are of one line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Position {
    /// PostgreSQL: system identifier, timeline history, LSN.
    Postgres(PostgresPosition),
}

impl Position {
    /// How this one stands to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ancestry {
        match (self, other) {
            (Self::Postgres(own), Self::Postgres(other)) => own.compare(other),
        }
    }

    /// Whether all that `other` has is here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        matches!(self.compare(other), Ancestry::Line(Ordering::Equal | Ordering::Greater))
    }

    /// How many bytes of log lie between this one and `ahead`, where they are of one line and `ahead` is not behind. An upper bound.
    #[must_use]
    pub fn bytes_to(&self, ahead: &Self) -> Option<u64> {
        if !ahead.covers(self) {
            return None;
        }
        match (self, ahead) {
            (Self::Postgres(own), Self::Postgres(ahead)) => Some(ahead.lsn.0.saturating_sub(own.lsn.0)),
        }
    }

    /// Bytes that name this position and no other, for what is signed: every field, each of a fixed length or after its count.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        match self {
            Self::Postgres(position) => {
                let mut bytes = b"postgres".to_vec();
                bytes.extend(position.system_id.to_be_bytes());
                bytes.extend(position.timeline.to_be_bytes());
                bytes.extend((position.history.len() as u64).to_be_bytes());
                for fork in &position.history {
                    bytes.extend(fork.timeline.to_be_bytes());
                    bytes.extend(fork.at.0.to_be_bytes());
                }
                bytes.extend(position.lsn.0.to_be_bytes());
                bytes
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(position) => position.fmt(f),
        }
    }
}
