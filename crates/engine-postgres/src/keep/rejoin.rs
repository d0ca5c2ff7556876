//! A rejoin makes what left the writer's line able to follow it again. This build restores instead.
use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{Rejoined, Upstream};
use muster_engine::work::Work;

use crate::engine::Postgres;

/// Rejoins.
///
/// # Errors
/// Not yet.
pub async fn rejoin(instance: &Postgres, _work: &Work, _upstream: &Upstream) -> Result<Rejoined, Fault> {
    Err(Fault::refused(ErrorKind::NotAvailable, format!("{}: not available in this version", instance.config.name)).hint("restore it"))
}
