//! The engine of one folder.

use std::path::PathBuf;

use async_trait::async_trait;
use muster_common::fault::{ErrorKind, Fault};
use muster_engine::capability::{Capabilities, Verb};
use muster_engine::observation::{Depth, Observation};
use muster_engine::request::{BackupOutcome, BackupRequest, DiscardRequest, RestoreOutcome, RestoreRequest, VerifyOutcome, VerifyRequest};
use muster_engine::verbs::Engine;
use muster_engine::work::Work;

use crate::{backup, discard, observe, restore, verify};

/// One folder of files.
#[derive(Clone, Debug)]
pub struct Files {
    /// What it is called in texts: `documents/istanbul`.
    name: String,
    /// The folder, absolute.
    folder: PathBuf,
}

impl Files {
    /// The engine of `folder`, which need not exist yet. `name` is for texts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] where it is not absolute or has no parent.
    pub fn new(name: impl Into<String>, folder: impl Into<PathBuf>) -> Result<Self, Fault> {
        let (name, folder) = (name.into(), folder.into());
        if !folder.is_absolute() || folder.parent().is_none() || folder.file_name().is_none() {
            let message = format!("keep {name}: {} is no absolute path below /", folder.display());
            return Err(Fault::refused(ErrorKind::InvalidArgument, message).hint("correct `files.path` in the component's spec"));
        }
        Ok(Self { name, folder })
    }
}

#[async_trait]
impl Engine for Files {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "files", verbs: &[Verb::Observe, Verb::Backup, Verb::Restore, Verb::Verify] }
    }

    async fn observe(&self, depth: Depth) -> Observation {
        observe::observe(&self.folder, depth).await
    }

    async fn backup(&self, work: &Work, request: &BackupRequest) -> Result<BackupOutcome, Fault> {
        if request.dump.is_some() {
            return Err(Fault::refused(ErrorKind::NotAvailable, format!("dump {}: a folder of files has no databases", self.name))
                .hint("take a backup of it"));
        }
        backup::backup(&self.name, &self.folder, work, request).await
    }

    async fn restore(&self, work: &Work, request: &RestoreRequest) -> Result<RestoreOutcome, Fault> {
        restore::restore(&self.name, &self.folder, work, request).await
    }

    async fn discard(&self, _work: &Work, request: &DiscardRequest) -> Result<(), Fault> {
        discard::discard(&self.folder, &request.path).await
    }

    async fn verify(&self, work: &Work, request: &VerifyRequest) -> Result<VerifyOutcome, Fault> {
        verify::verify(&self.name, work, request).await
    }
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(act).await.map_err(|error| {
        Fault::failed(ErrorKind::Internal, format!("a thread of the agent ended: {error}")).hint("please report this with the agent's log")
    })
}
