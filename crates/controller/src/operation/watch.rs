//! Watchers of operations.

use muster_wire::proto::v1::{OperationEvent, ProgressUpdate};

/// What a watcher is given.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchUpdate {
    /// A transition; none is left out.
    Event(Box<OperationEvent>),
    /// Newer progress; older one that was not taken is left out.
    Progress(ProgressUpdate),
}
