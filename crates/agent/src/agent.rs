//! What the parts of one agent share. Each keeps its own lock; none is held across an await.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::assignment::force::Assignments;
use crate::hook::own::Hooks;
use crate::instruments::Ends;
use crate::keeper::kept::Keepers;
use crate::kept::KeptDirectories;
use crate::link::outbox::Outbox;
use crate::memory::Memory;
use crate::repositories::Repositories;
use crate::task::inbox::Inbox;
use crate::task::scratch::Scratch;

/// The settings that tasks and duties need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many tasks run at once.
    pub parallel_tasks: usize,
    /// How many threads a task keeps busy.
    pub threads: usize,
    /// How many commands may stand in the inbox.
    pub inbox: usize,
    /// How long tombstones are kept.
    pub tombstones: Duration,
    /// How many are kept at most.
    pub most_tombstones: usize,
    /// Where sockets and permits go.
    pub run_directory: PathBuf,
    /// How long a task that is asked to stop may take before it is given up.
    pub grace: Duration,
}

/// One agent.
pub struct Agent {
    /// Commands and outcomes.
    pub inbox: Arc<Inbox>,
    /// What must never be forgotten.
    pub memory: Arc<Memory>,
    /// The assignment in force.
    pub assignments: Assignments,
    /// The repositories of its components.
    pub repositories: Repositories,
    /// Directories that restores moved aside.
    pub kept: KeptDirectories,
    /// Who may write: its instances' keepers.
    pub keepers: Keepers,
    /// What is to be sent.
    pub outbox: Outbox,
    /// The programs that its file declares.
    pub hooks: Hooks,
    /// The tasks' own folders.
    pub scratch: Scratch,
    /// Counts ends of tasks.
    pub ends: Ends,
    /// Settings.
    pub settings: Settings,
}
