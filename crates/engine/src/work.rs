//! What a verb is given besides its request: a way to hear that it should stop, to tell how far it is, to keep a
//! durable note for its own resumption, scratch space, and the repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_repository::keys::DataKeys;
use muster_repository::repository::Repository;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How far a task is. Coalesced: only the newest counts, and none is ever stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What goes on now, in a few words: `reading`, `waiting for the repository (3rd try, connection refused)`.
    pub phase: String,
    /// Bytes done, and of how many; 0 of 0 where bytes are not what counts.
    pub bytes_done: u64,
    /// See `bytes_done`.
    pub bytes_total: u64,
    /// Files done.
    pub files_done: u64,
    /// Files in all, where known.
    pub files_total: u64,
    /// Bytes that reached the repository.
    pub bytes_stored: u64,
}

/// A verb's way to a durable note of its own: what it needs to go on after kill -9 (a resume token). The inbox keeps it.
#[async_trait]
pub trait Notes: Send + Sync {
    /// The note as it was last kept; `None` at the first run of the command.
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault>;
    /// Keeps the note: durable when it returns. At most 64 KiB.
    async fn keep(&self, note: &[u8]) -> Result<(), Fault>;
}

/// The component's repository, opened by its pin, with the component's keys.
#[derive(Clone, Debug)]
pub struct OpenRepository {
    /// The repository. It waits by itself for a store that does not answer.
    pub repository: Repository,
    /// The component's keys.
    pub keys: DataKeys,
    /// A folder for what spares requests. Nothing in it is trusted; it may be gone at the next start.
    pub cache: PathBuf,
}

/// One piece of finite work.
#[derive(Clone)]
pub struct Work {
    /// The command that asked for it.
    pub command: CommandId,
    /// Cancelled when it should stop; it then stops at a place where nothing is lost.
    pub cancel: CancellationToken,
    /// Where progress goes. Whatever moves here keeps the stall limit away.
    pub progress: Arc<watch::Sender<Progress>>,
    /// The durable note.
    pub notes: Arc<dyn Notes>,
    /// A folder of its own, empty at the first run, removed with the task.
    pub scratch: PathBuf,
    /// How many threads it may keep busy.
    pub threads: usize,
    /// The component's repository. Absent where it has none, and for what needs none.
    pub repository: Option<OpenRepository>,
}

impl Work {
    /// Tells how far the work is.
    pub fn tell(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Its scratch folder.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The repository, which this work cannot do without.
    ///
    /// # Errors
    /// [`ErrorKind::FailedPrecondition`] where the component has none.
    pub fn repository(&self) -> Result<&OpenRepository, Fault> {
        self.repository.as_ref().ok_or_else(|| {
            Fault::refused(ErrorKind::FailedPrecondition, "use the component's repository: it has none")
                .hint("declare `repository: NAME` in the component's spec and `muster apply` it")
        })
    }
}
