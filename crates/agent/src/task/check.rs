//! The check of a component's part of its repository. The repository does it; this tells what it found.

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::work::Work;

use crate::task::command::CheckOutcome;

/// Checks structure, and of the data the given part.
///
/// # Errors
/// Where the repository cannot be read at all.
pub async fn check(work: &Work, _part: u32, _of: u32) -> Result<CheckOutcome, Fault> {
    let _open = work.repository()?;
    Err(Fault::refused(ErrorKind::NotAvailable, "check the repository: not in this build").hint("use a newer agent"))
}
