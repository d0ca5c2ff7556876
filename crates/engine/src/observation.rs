//! What one look at an instance found. Observing never fails as a whole: what could not be read is a condition.

use std::collections::BTreeMap;

use muster_common::position::PostgresPosition;
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Role and read-write state only: each second.
    Role,
    /// Everything: every 10 s, each second while watched.
    Full,
}

/// What an instance does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It could not be seen.
    #[default]
    Unknown,
    /// It takes writes.
    ReadWrite,
    /// It follows another one, or replays.
    Standby,
    /// It does not run.
    Down,
}

/// One thing about an instance that is as it should be, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// CamelCase and stable: `ServerReachable`, `BackupRights`, `DataDirectory`, `Archiver`, `Clock`, `DataKey`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Whether backups and restores are refused while it does not hold.
    pub blocking: bool,
    /// One sentence of what was seen.
    pub message: String,
    /// What to do or type, for example the SQL that grants what is missing. Empty where it holds.
    pub hint: String,
}

/// How far an instance is, per kind of component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Position {
    /// PostgreSQL.
    Postgres(PostgresPosition),
    /// A folder: how many files, the newest change.
    Files {
        /// Regular files below the folder.
        count: u64,
        /// The newest modification time.
        newest: Timestamp,
    },
}

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The agent's wall clock when it looked.
    pub at: Timestamp,
    /// What the instance does.
    pub role: Role,
    /// How far it is, where that could be read.
    pub position: Option<Position>,
    /// The server's version in its own words, where it has one.
    pub version: Option<String>,
    /// Bytes of data on disk, where they were counted.
    pub bytes: Option<u64>,
    /// How far it lies behind its upstream in bytes, where it follows one.
    pub lag_bytes: Option<u64>,
    /// What should hold. Only of a full look.
    pub conditions: Vec<Condition>,
    /// Settings and figures that matter, by name. At most 100.
    pub details: BTreeMap<String, String>,
}
