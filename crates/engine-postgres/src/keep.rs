//! PostgreSQL carries a keeper's acts out, a file an act. Nothing here decides; `muster-failover` did.
//!
//! What always holds: nothing starts without its permit; a fence returns only when no process is left and the lock is held; data that
//! are half-made are never startable. Every act may be done again.

use std::collections::BTreeSet;
use std::path::Path;

use async_trait::async_trait;
use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{Governed, Keep, Keeping, Patience, Rejoined, Upstream};
use muster_engine::observation::Condition;
use muster_engine::work::Work;
use muster_failover::look::Look;
use muster_failover::permit::Permit;

use crate::engine::Postgres;
use crate::restore::off_runtime;

pub mod conf;
pub mod fence;
pub mod follow;
pub mod give;
pub mod govern;
pub mod incomplete;
pub mod lock;
pub mod look;
pub mod managers;
pub mod mark;
pub mod permit;
pub mod position;
pub mod processes;
pub mod promote;
pub mod rejoin;
pub mod server;
pub mod slots;
pub mod start;
pub mod take_over;
pub mod upstream;
pub mod wal_end;

/// A failure of the file system as a fault.
#[must_use]
pub fn io(doing: &str, path: impl AsRef<Path>, error: &std::io::Error) -> Fault {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        _ => ErrorKind::FailedPrecondition,
    };
    Fault::failed(kind, format!("{doing} {}: {error}", path.as_ref().display()))
        .hint("see that the agent runs as the owner of the server's data and of the run folder, and that there is space")
}

/// Passes a failpoint.
fn hit(name: &'static str) -> Result<(), Fault> {
    muster_failpoint::hit(name).map_err(|injected| Fault::failed(ErrorKind::Internal, injected.to_string()))
}

#[async_trait]
impl Keep for Postgres {
    async fn look(&self) -> Result<Look, Fault> {
        look::look(self).await
    }

    async fn may_take_over(&self) -> Result<(), Fault> {
        take_over::may(self).await
    }

    async fn take_over(&self, permit: &Permit, governed: &Governed) -> Result<(), Fault> {
        take_over::take_over(self, permit, governed).await
    }

    async fn is_marked(&self) -> Result<bool, Fault> {
        let (keeping, data) = self.kept()?;
        off_runtime(move || mark::is(&keeping, &data)).await
    }

    async fn remove_permit(&self) -> Result<(), Fault> {
        let keeping: Keeping = self.keeping()?.clone();
        off_runtime(move || permit::remove(&keeping)).await
    }

    async fn fence(&self, patience: Patience) -> Result<(), Fault> {
        fence::fence(self, patience).await
    }

    async fn give_permit(&self, permit: &Permit, governed: &Governed) -> Result<(), Fault> {
        give::give(self, permit, governed).await
    }

    async fn start(&self) -> Result<(), Fault> {
        start::start(self).await
    }

    async fn promote(&self) -> Result<(), Fault> {
        promote::promote(self).await
    }

    async fn follow(&self, upstream: &Upstream) -> Result<(), Fault> {
        follow::follow(self, upstream).await
    }

    async fn rejoin(&self, work: &Work, upstream: &Upstream) -> Result<Rejoined, Fault> {
        rejoin::rejoin(self, work, upstream).await
    }

    async fn slots(&self, wanted: &BTreeSet<String>) -> Result<(), Fault> {
        slots::slots(self, wanted).await
    }

    async fn govern(&self) -> Result<Vec<Condition>, Fault> {
        govern::govern(self).await
    }
}
