//! One PostgreSQL instance behind the verbs: holds its configuration and the connection that looks use.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex};

use async_trait::async_trait;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::time::Timestamp;
use muster_engine::capability::{Capabilities, VERBS};
use muster_engine::keep::{Keep, Keeping};
use muster_engine::observation::{Depth, Observation};
use muster_engine::request::{BackupOutcome, BackupRequest, DiscardRequest, RestoreOutcome, RestoreRequest, VerifyOutcome, VerifyRequest};
use muster_engine::verbs::Engine;
use muster_engine::work::Work;
use tokio::sync::Mutex;

use crate::backup;
use crate::config::PostgresConfig;
use crate::connect::Session;
use crate::dump;
use crate::keep::position::Known;
use crate::observe;
use crate::restore::{self, discard};
use crate::verify;

/// What PostgreSQL can do in this build.
pub const CAPABILITIES: Capabilities = Capabilities { kind: "postgres", verbs: &VERBS };

/// What looks remember of each other, so that a cheap one can be cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// The cluster's identifier, from the last full look that could read it.
    pub system_id: Option<u64>,
    /// The size of all databases in bytes, and when it was counted.
    pub bytes: Option<(u64, Timestamp)>,
    /// When a replication connection was last accepted.
    pub replication_at: Option<Timestamp>,
}

/// One instance. Verbs of one instance are run one at a time by its owner; looks may run beside them.
#[derive(Debug)]
pub struct Postgres {
    pub(crate) config: PostgresConfig,
    pub(crate) session: Mutex<Option<Session>>,
    pub(crate) remembered: StdMutex<Remembered>,
    /// The session of the keeper's looks.
    pub(crate) keeper: Mutex<Option<Session>>,
    /// Looks take turns.
    pub(crate) looking: Arc<Mutex<()>>,
    known: StdMutex<Known>,
}

impl Postgres {
    /// An instance with this configuration. Nothing is looked at yet.
    ///
    /// # Errors
    /// Where the configuration cannot be meant.
    pub fn new(config: PostgresConfig) -> Result<Self, Fault> {
        config.check().map_err(|invalid| {
            Fault::refused(ErrorKind::InvalidArgument, format!("instance {}: {invalid}", config.name))
                .hint("correct the component's resource and apply it again")
        })?;
        Ok(Self {
            config,
            session: Mutex::new(None),
            remembered: StdMutex::default(),
            keeper: Mutex::new(None),
            looking: Arc::default(),
            known: StdMutex::default(),
        })
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &PostgresConfig {
        &self.config
    }

    /// Where its permit lies.
    pub(crate) fn keeping(&self) -> Result<&Keeping, Fault> {
        self.config.keeping.as_ref().ok_or_else(|| {
            Fault::refused(ErrorKind::FailedPrecondition, format!("{} is not to be kept: no run folder is named", self.config.name))
                .hint("set runFolder in the agent's configuration")
        })
    }

    /// Where its permit and its data lie.
    pub(crate) fn kept(&self) -> Result<(Keeping, PathBuf), Fault> {
        Ok((self.keeping()?.clone(), self.config.data_directory.clone()))
    }

    /// What the keeper's looks remember.
    pub(crate) fn known<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        match self.known.lock() {
            Ok(mut known) => change(&mut known),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    pub(crate) fn recall(&self) -> Remembered {
        self.remembered.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |known| known.clone())
    }

    pub(crate) fn remember(&self, change: impl FnOnce(&mut Remembered)) {
        match self.remembered.lock() {
            Ok(mut known) => change(&mut known),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }
}

#[async_trait]
impl Engine for Postgres {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn observe(&self, depth: Depth) -> Observation {
        observe::observe(self, depth).await
    }

    async fn backup(&self, work: &Work, request: &BackupRequest) -> Result<BackupOutcome, Fault> {
        match &request.dump {
            Some(scope) => dump::dump(self, work, request, scope).await,
            None => backup::backup(self, work, request).await,
        }
    }

    async fn restore(&self, work: &Work, request: &RestoreRequest) -> Result<RestoreOutcome, Fault> {
        restore::restore(self, work, request).await
    }

    async fn discard(&self, _work: &Work, request: &DiscardRequest) -> Result<(), Fault> {
        discard::discard(self, request).await
    }

    fn keep(&self) -> Option<&dyn Keep> {
        self.config.keeping.as_ref().map(|_| self as &dyn Keep)
    }

    async fn verify(&self, work: &Work, request: &VerifyRequest) -> Result<VerifyOutcome, Fault> {
        verify::verify(self, work, request).await
    }
}
