//! The durable note of a restore: how far it is, and what it moves. Whoever runs the command again goes on by it.
//!
//! ```text
//! Fetching ──► Swapping ──► Done
//!                 │
//!                 └──► PuttingBack ──► (failed)
//! ```
//! While `Fetching`, nothing that was there is touched. From `Swapping` on the restore goes forward until the server
//! accepts connections, or is put back. Every move is done by looking at what is there, so each may be done again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::request::RestoreOutcome;
use muster_engine::work::Notes;
use serde::{Deserialize, Serialize};

/// The version of the note.
const VERSION: u32 = 1;

/// How far a restore is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Files are being written beside what is there.
    Fetching,
    /// All files are durable. What is there is moved aside, the new one put in its place and started.
    Swapping,
    /// The new one did not come up: what was there is put back and started.
    PuttingBack(Box<Fault>),
    /// Done; asked again, this is the answer.
    Done(Box<RestoreOutcome>),
}

/// A folder that is put in another one's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// Where it has to stand in the end.
    pub current: PathBuf,
    /// Where it is built.
    pub new: PathBuf,
    /// Where what is there now goes. Absent: nothing is there.
    pub old: Option<PathBuf>,
}

/// The note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    version: u32,
    /// How far it is.
    pub phase: Phase,
    /// The data directory, real path.
    pub data: PathBuf,
    /// The data directory's own swap; absent where it is built in its place.
    pub data_swap: Option<Swap>,
    /// The tablespaces' version folders.
    pub tablespace_swaps: Vec<Swap>,
    /// Whether a server ran there when the swap began.
    pub was_running: bool,
    /// Bytes of what is moved aside.
    pub old_bytes: u64,
    /// What the restore did so far, in the outcome's terms.
    pub outcome: RestoreOutcome,
    /// Seconds of the phases that are over.
    pub phases: BTreeMap<String, f64>,
}

impl Note {
    /// A note of a restore that begins.
    #[must_use]
    pub const fn new(data: PathBuf, data_swap: Option<Swap>, tablespace_swaps: Vec<Swap>, outcome: RestoreOutcome) -> Self {
        Self {
            version: VERSION,
            phase: Phase::Fetching,
            data,
            data_swap,
            tablespace_swaps,
            was_running: false,
            old_bytes: 0,
            outcome,
            phases: BTreeMap::new(),
        }
    }

    /// Where the data directory is being built.
    #[must_use]
    pub fn building(&self) -> &PathBuf {
        self.data_swap.as_ref().map_or(&self.data, |swap| &swap.new)
    }

    /// The note of an earlier run.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read(notes: &dyn Notes) -> Result<Option<Self>, Fault> {
        let Some(bytes) = notes.read().await? else { return Ok(None) };
        let wrong = |what: String| {
            Fault::failed(ErrorKind::Internal, format!("the restore's own note cannot be read: {what}"))
                .hint("start a new restore; look for folders named *.muster-old-* beside the data directory first")
        };
        let note: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if note.version == VERSION { Ok(Some(note)) } else { Err(wrong(format!("version {}", note.version))) }
    }

    /// Keeps it durably.
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub async fn keep(&self, notes: &dyn Notes) -> Result<(), Fault> {
        let bytes = serde_json::to_vec(self).map_err(|error| Fault::failed(ErrorKind::Internal, format!("the restore's note: {error}")))?;
        notes.keep(&bytes).await
    }
}
