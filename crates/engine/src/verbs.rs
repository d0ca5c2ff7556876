//! The verbs' trait. A verb that a kind does not have answers a typed "not available".
//!
//! Every verb may be run again with the same request after a crash at any point: it finds what it did, and finishes.

use async_trait::async_trait;
use muster_common::fault::Fault;

use crate::capability::Capabilities;
use crate::keep::Keep;
use crate::observation::{Depth, Observation};
use crate::request::{BackupOutcome, BackupRequest, DiscardRequest, RestoreOutcome, RestoreRequest, VerifyOutcome, VerifyRequest};
use crate::work::Work;

/// One instance of a component, behind the verbs.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// One look. What cannot be read becomes a condition; this never fails and never takes longer than 5 s.
    async fn observe(&self, depth: Depth) -> Observation;

    /// Takes a recovery point. `Ok` means that every byte of it is durable in the repository.
    async fn backup(&self, work: &Work, request: &BackupRequest) -> Result<BackupOutcome, Fault>;

    /// Brings a recovery point back, or tells what that would do (`dry_run`).
    async fn restore(&self, work: &Work, request: &RestoreRequest) -> Result<RestoreOutcome, Fault>;

    /// Removes what a restore in place kept aside. Done already is done.
    async fn discard(&self, work: &Work, request: &DiscardRequest) -> Result<(), Fault>;

    /// Proves a recovery point good in the work's scratch folder. What it finds wrong is a fault of kind
    /// [`muster_common::fault::ErrorKind::DataLoss`]. Nothing of it is left when it returns, and what runs is not touched.
    async fn verify(&self, work: &Work, request: &VerifyRequest) -> Result<VerifyOutcome, Fault>;

    /// The acts of a keeper: fence, promote and follow. `None` where the kind has none of them, or this instance is not to be kept.
    fn keep(&self) -> Option<&dyn Keep> {
        None
    }
}
