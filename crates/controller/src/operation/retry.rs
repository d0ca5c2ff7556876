//! Asking again for what an operation was asked for. Pure.
//!
//! What always holds: consent is never kept: whoever retries a restore in place consents anew; a restore brings the same point back and
//! a verification proves the same one, also where the newest was asked for and another one is newer by now.

use muster_common::fault::{ErrorKind, Fault};

use crate::operation::asked::{AskedHold, AskedRestore, AskedVerify, What};
use crate::operation::kind::Phase;
use crate::operation::state::{State, Task};

/// What of a request is journaled.
#[must_use]
pub fn kept(what: &What, task: &Task) -> What {
    let chosen = match task {
        Task::Restore(chosen) => chosen.point.to_string(),
        Task::Verify(chosen) => chosen.point.to_string(),
        Task::Hold(chosen) => chosen.point.to_string(),
        Task::Backup(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Prune(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => String::new(),
    };
    match what {
        What::Restore(asked) => What::Restore(AskedRestore { point: chosen, consent: String::new(), ..asked.clone() }),
        What::Verify(asked) => What::Verify(AskedVerify { point: chosen, ..asked.clone() }),
        What::Hold(asked) => What::Hold(AskedHold { point: chosen, ..asked.clone() }),
        What::Backup(_) | What::Check(_) | What::Discard { .. } | What::Prune(_) | What::Hook(_) | What::Move(_) | What::Site(_) => {
            what.clone()
        }
    }
}

/// What to ask for again.
///
/// # Errors
/// Where the operation has succeeded, has not ended, or its request was not kept.
pub fn again(old: &State, consent: &str) -> Result<What, Fault> {
    let id = old.id;
    let refused = |what: String, hint: String| Err(Fault::refused(ErrorKind::FailedPrecondition, what).hint(hint));
    match old.phase {
        Phase::Failed | Phase::Cancelled => {}
        Phase::Succeeded => {
            return refused(
                format!("operation {id} has succeeded"),
                "there is nothing to retry; ask for a new one by its own command".into(),
            );
        }
        Phase::Unknown => {
            return refused(
                format!("what became of operation {id} is not known"),
                format!("when its agent is back it is asked; or end it by your word first: muster resolve {id}"),
            );
        }
        Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Suspended => {
            return refused(
                format!("operation {id} has not ended"),
                format!("wait for it: muster wait {id}; or stop it: muster cancel {id}"),
            );
        }
    }
    match &old.asked {
        Some(What::Move(_) | What::Site(_)) => refused(
            format!("operation {id} decides who may write"),
            "look who writes first: `muster status`; then ask by its own command".into(),
        ),
        Some(What::Restore(asked)) => Ok(What::Restore(AskedRestore { consent: consent.to_owned(), ..asked.clone() })),
        Some(
            what @ (What::Backup(_)
            | What::Check(_)
            | What::Discard { .. }
            | What::Verify(_)
            | What::Prune(_)
            | What::Hold(_)
            | What::Hook(_)),
        ) => Ok(what.clone()),
        None => refused(
            format!("operation {id} was accepted by an older version, which did not keep what was asked for"),
            "ask for it by its own command".into(),
        ),
    }
}

/// The cause of the new one: who retries, and what.
#[must_use]
pub fn cause(by: &str, old: &State) -> String {
    format!("{by}, retry of operation/{}", old.id)
}
