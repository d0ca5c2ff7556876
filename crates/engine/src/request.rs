//! What the finite verbs are asked, and what they answer. All of it is data that the inbox keeps as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_common::id::{ComponentId, PointId};
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::observation::Position;

/// Take a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The component, whose data key seals the point.
    pub component: ComponentId,
    /// The id that the point will have: chosen with the command, so that a repeated command finds its own point.
    pub point: PointId,
    /// A label of the operator's. May be empty.
    pub label: String,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Start with a checkpoint at once instead of waiting for the next one.
    pub fast_checkpoint: bool,
    /// Take a logical point of this scope. Absent: a physical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<DumpScope>,
}

/// What a logical point holds, besides roles and tablespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpScope {
    /// The databases. Empty: all that take connections.
    pub databases: Vec<String>,
    /// Patterns of schemas, as `pg_dump` takes them. Empty: all.
    pub schemas: Vec<String>,
    /// Patterns of tables. Empty: all.
    pub tables: Vec<String>,
}

/// A recovery point was taken: every byte of it is durable in the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOutcome {
    /// The point.
    pub point: PointId,
    /// When reading began and ended, by the agent's clock.
    pub started: Timestamp,
    /// See `started`.
    pub finished: Timestamp,
    /// The position that a restore of it reaches.
    pub position: Option<Position>,
    /// Bytes of data that the point restores to.
    pub bytes_total: u64,
    /// Bytes that this backup added to the repository.
    pub bytes_stored: u64,
    /// Files in it.
    pub files: u64,
    /// Pages whose checksum was wrong twice, with file and block. At most 1,000 are told; `damaged_pages` counts all.
    pub damage: Vec<String>,
    /// How many pages were damaged.
    pub damaged_pages: u64,
    /// What else a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RestoreTarget {
    /// The instance's own place, which must be empty or absent.
    Empty,
    /// The instance's own place; what is there is kept aside until discarded.
    InPlace,
    /// Another folder on the same machine, beside the running one, with a port of its own where the kind has one.
    Beside {
        /// An absolute path that must be empty or absent.
        directory: PathBuf,
        /// TCP port of the restored server; 0 leaves the server stopped.
        port: u16,
    },
    /// A new database of the running server, out of a logical point.
    Database {
        /// The new one's name; none may be there of that name.
        name: String,
        /// The database of the point. Empty: its only one.
        from: String,
    },
}

/// Bring a recovery point back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The component whose point it is.
    pub component: ComponentId,
    /// The point.
    pub point: PointId,
    /// Where to.
    pub target: RestoreTarget,
    /// Only answer what would be done.
    pub dry_run: bool,
    /// Tablespaces by OID: where each goes. One that is not named goes to a folder beside the data.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// How long the old directory is kept after a restore in place, in seconds.
    pub keep_old_seconds: u64,
    /// Start the server and wait until it accepts connections.
    pub start: bool,
    /// The operator agreed that what is there now is replaced. Without it nothing that runs or holds data is touched.
    pub consent: bool,
}

/// What a restore would do, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Bytes that will be written.
    pub bytes: u64,
    /// Files that will be written.
    pub files: u64,
    /// Seconds it will take, predicted from this agent's earlier restores, else from a measured guess that the notes name.
    pub predicted_seconds: u64,
    /// Free bytes at the target.
    pub free_bytes: u64,
    /// What would be moved aside or overwritten, in words, with sizes. Empty where nothing is there.
    pub replaces: Vec<String>,
    /// What else a person should know: settings dropped, tablespaces mapped, refusals that would come.
    pub notes: Vec<String>,
}

/// A recovery point was brought back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    /// What was done, in the plan's terms. Of a dry run, what would be.
    pub plan: RestorePlan,
    /// Where it was restored to.
    pub directory: PathBuf,
    /// Where the old directory lies, if one was kept, and its bytes.
    pub kept: Option<KeptDirectory>,
    /// The position reached, where the server was started.
    pub position: Option<Position>,
    /// Seconds for each phase: `fetch`, `start`, `replay`.
    pub phases: BTreeMap<String, f64>,
}

/// A directory that was moved aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it will be removed.
    pub until: Timestamp,
}

/// Prove a recovery point good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// The component whose point it is.
    pub component: ComponentId,
    /// The point.
    pub point: PointId,
    /// What a restored copy must answer. At most 100.
    pub assertions: Vec<Assertion>,
    /// How long one statement of an assertion may run, in seconds.
    pub statement_timeout_seconds: u64,
}

/// One question to a restored copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assertion {
    /// What it is called.
    pub name: String,
    /// The database that is asked.
    pub database: String,
    /// One statement.
    pub sql: String,
    /// The answer: columns separated by a tab, rows by a line break.
    pub expect: String,
}

/// A recovery point was restored to scratch and passed every check that could be made. One that did not is a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyOutcome {
    /// The point.
    pub point: PointId,
    /// Seconds for each phase: `fetch`, `start`, `replay`, `checks`.
    pub phases: BTreeMap<String, f64>,
    /// Bytes restored.
    pub bytes: u64,
    /// Files restored.
    pub files: u64,
    /// The position reached.
    pub position: Option<Position>,
    /// What was checked, and what was not.
    pub checks: Vec<VerifyCheck>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// One check of a verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyCheck {
    /// `amcheck`, `hashes`, `assertion NAME`.
    pub name: String,
    /// Whether it was made.
    pub checked: Checked,
    /// What it saw; of one that was not made, why and what to do.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

/// Whether a check was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// It found nothing wrong.
    Passed,
    /// It could not be made.
    NotChecked,
}

/// Remove what an earlier restore in place kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardRequest {
    /// The directory, as the restore's outcome named it.
    pub path: PathBuf,
}
