//! What one look at a kept server found. The engine looks; nothing here knows how.

use crate::position::Position;

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// No process of it is left.
    Stopped,
    /// It runs and takes no writes.
    ReadOnly,
    /// It runs and takes writes.
    ReadWrite,
    /// Processes are there, and what they do cannot be told: it starts, hangs, or its postmaster died before its children.
    Unclear,
}

/// One look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    /// A permit of this boot is there.
    pub permit: bool,
    /// What the server does.
    pub server: Server,
    /// The lock is held against a start, by a live holder of the agent's.
    pub locked: bool,
    /// The data directory says that it starts as a standby (`standby.signal`).
    pub standby: bool,
    /// How far it is. After a stop that was not clean: the end of valid log, not what the control data say.
    pub position: Option<Position>,
    /// It ended by itself, in order.
    pub clean: bool,
    /// It holds more log than the upstream that it follows.
    pub ahead_of_upstream: bool,
}

impl Look {
    /// Whether it is proved gone: no permit, no process, and the lock held.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        !self.permit && self.locked && self.server == Server::Stopped
    }
}
