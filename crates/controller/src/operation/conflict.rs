//! What may overlap: one exhaustive table.
//!
//! What always holds: whoever is refused is told the holder and how to end it. An operation whose outcome is not known blocks only what
//! would repeat its effect.

use muster_common::fault::{ErrorKind, Fault};

use crate::operation::asked::Place;
use crate::operation::kind::Phase;
use crate::operation::moves::task::Task as Move;
use crate::operation::state::{State, Task};

/// What an operation holds while it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Reads an instance.
    Backup,
    /// Writes where an instance lives, which moves a writer back in time.
    RestoreHere,
    /// Writes beside an instance.
    RestoreBeside,
    /// Only asks an agent for a plan.
    Plan,
    /// Reads a repository.
    Check,
    /// Removes an old directory.
    Discard,
    /// Restores to an agent's scratch, and touches nothing else.
    Verify,
    /// Removes what no rule keeps from a component's part of its repository.
    Prune,
    /// Writes a hold.
    Hold,
    /// Runs a hook by itself.
    Hook,
    /// Does as a move says, which holds what is needed.
    Order,
    /// Decides who may write, in peace.
    Move,
    /// Decides it because something is lost: it waits for nobody who works on what is lost.
    Emergency,
    /// Moves a site, by operations that hold what they need.
    Site,
}

impl Claim {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Backup,
        Self::RestoreHere,
        Self::RestoreBeside,
        Self::Plan,
        Self::Check,
        Self::Discard,
        Self::Verify,
        Self::Prune,
        Self::Hold,
        Self::Hook,
        Self::Order,
        Self::Move,
        Self::Emergency,
        Self::Site,
    ];
}

/// Whether two may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// They may.
    Free,
    /// Not on one instance.
    NotOnOneInstance,
    /// Not in one shard, which is a component as long as none has several.
    NotInOneShard,
}

/// What an operation holds.
#[must_use]
pub fn claim(task: &Task) -> Claim {
    match task {
        Task::Backup(_) => Claim::Backup,
        Task::Restore(restore) if restore.dry_run => Claim::Plan,
        Task::Restore(restore) => match restore.place {
            Place::InPlace | Place::Empty => Claim::RestoreHere,
            Place::Beside { .. } | Place::Database { .. } => Claim::RestoreBeside,
        },
        Task::Check(_) => Claim::Check,
        Task::Discard(_) => Claim::Discard,
        Task::Verify(_) => Claim::Verify,
        Task::Prune(prune) if prune.dry_run => Claim::Plan,
        Task::Prune(_) => Claim::Prune,
        Task::Hold(_) => Claim::Hold,
        Task::Hook(_) => Claim::Hook,
        Task::Order(_) => Claim::Order,
        Task::Move(Move::Failover { .. } | Move::Fence { .. }) => Claim::Emergency,
        Task::Move(Move::Manage { .. } | Move::Switchover { .. } | Move::Unfence { .. } | Move::Rejoin { .. }) => Claim::Move,
        Task::Site(_) => Claim::Site,
    }
}

/// The table. It reads the same both ways.
#[must_use]
pub const fn overlap(new: Claim, held: Claim) -> Overlap {
    use Claim::{Backup, Check, Discard, Emergency, Hold, Hook, Move, Order, Plan, Prune, RestoreBeside, RestoreHere, Site, Verify};
    match (new, held) {
        // What a site's move does its components' operations hold; one site is left once at a time.
        (Site, Site) => Overlap::NotOnOneInstance,
        (Site, _) | (_, Site) => Overlap::Free,
        // A part of a move: what it needs, the move holds.
        (
            Order,
            Backup | RestoreHere | RestoreBeside | Plan | Check | Discard | Verify | Prune | Hold | Hook | Order | Move | Emergency,
        )
        | (Backup | RestoreHere | RestoreBeside | Plan | Check | Discard | Verify | Prune | Hold | Hook | Move | Emergency, Order) => {
            Overlap::Free
        }
        // One decides who may write, and nobody brings data back meanwhile.
        (Move | Emergency, Move | Emergency | RestoreHere | Backup) | (RestoreHere | Backup, Move | Emergency) => Overlap::NotInOneShard,
        (Move | Emergency, Plan | Check | Verify | Hold | Hook | Prune | Discard | RestoreBeside)
        | (Plan | Check | Verify | Hold | Hook | Prune | Discard | RestoreBeside, Move | Emergency) => Overlap::Free,
        // Asking, checking and verifying lock nothing.
        (Plan | Check | Verify | Hold, Backup | RestoreHere | RestoreBeside | Plan | Check | Discard | Verify | Prune | Hold | Hook)
        | (Backup | RestoreHere | RestoreBeside | Discard | Prune | Hook, Plan | Check | Verify | Hold) => Overlap::Free,
        // What a hook does beside a verb is for whoever declared it to know; two at once are not what anybody meant.
        (Hook, Backup | RestoreHere | RestoreBeside | Discard | Prune) | (Backup | RestoreHere | RestoreBeside | Discard | Prune, Hook) => {
            Overlap::Free
        }
        (Hook, Hook) => Overlap::NotOnOneInstance,
        // A prune is safe beside whatever reads and writes the repository; two would do the same work twice.
        (Prune, Backup | RestoreHere | RestoreBeside | Discard) | (Backup | RestoreHere | RestoreBeside | Discard, Prune) => Overlap::Free,
        (Prune, Prune) => Overlap::NotInOneShard,
        // A writer goes back in time once at a time.
        (RestoreHere, RestoreHere) => Overlap::NotInOneShard,
        // Backup and restore of one instance exclude each other, and themselves.
        (Backup, Backup | RestoreHere | RestoreBeside) | (RestoreHere | RestoreBeside, Backup) => Overlap::NotOnOneInstance,
        (RestoreHere, RestoreBeside) | (RestoreBeside, RestoreHere | RestoreBeside) => Overlap::NotOnOneInstance,
        // Reading does not mind an old directory that goes; what moves directories does.
        (Discard, Backup) | (Backup, Discard) => Overlap::Free,
        (Discard, RestoreHere | RestoreBeside | Discard) | (RestoreHere | RestoreBeside, Discard) => Overlap::NotOnOneInstance,
    }
}

/// Whether `new` would do again what an operation with an unknown outcome may have done.
const fn repeats(new: Claim, held: Claim) -> bool {
    matches!(
        (new, held),
        (Claim::Backup, Claim::Backup)
            | (Claim::Discard, Claim::Discard)
            | (Claim::Hook, Claim::Hook)
            | (Claim::RestoreHere | Claim::RestoreBeside, Claim::RestoreHere | Claim::RestoreBeside)
            | (Claim::Move | Claim::Emergency, Claim::Move | Claim::Emergency)
    )
}

/// Refuses `new` where one of the unfinished operations holds what it needs.
///
/// # Errors
/// With the holder and how to end it.
pub fn admit<'a>(new: &State, unfinished: impl IntoIterator<Item = &'a State>) -> Result<(), Fault> {
    let wanted = claim(&new.task);
    match unfinished.into_iter().find(|held| stands_against(new, wanted, held)) {
        Some(holder) => Err(refusal(new, holder)),
        None => Ok(()),
    }
}

fn stands_against(new: &State, wanted: Claim, held: &State) -> bool {
    let has = claim(&held.task);
    if goes_before(wanted, has, held) {
        return false;
    }
    let overlaps = match overlap(wanted, has) {
        Overlap::Free => false,
        Overlap::NotOnOneInstance => new.target == held.target,
        Overlap::NotInOneShard => new.target.component == held.target.component,
    };
    let counts = match held.phase {
        Phase::Unknown => repeats(wanted, has),
        Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Suspended => true,
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => false,
    };
    overlaps && counts
}

/// Whether `new` does not wait for `held`: what is lost must not hold up who replaces it, and a move that is past its point of no return
/// and goes no further is gone on from by a failover.
fn goes_before(wanted: Claim, has: Claim, held: &State) -> bool {
    match (wanted, has) {
        (Claim::Emergency, Claim::Backup | Claim::RestoreHere) => true,
        (Claim::Emergency, Claim::Move | Claim::Emergency) => held.has_moved(),
        (
            Claim::Emergency,
            Claim::RestoreBeside
            | Claim::Plan
            | Claim::Check
            | Claim::Discard
            | Claim::Verify
            | Claim::Prune
            | Claim::Hold
            | Claim::Hook
            | Claim::Order
            | Claim::Site,
        )
        | (
            Claim::Backup
            | Claim::RestoreHere
            | Claim::RestoreBeside
            | Claim::Plan
            | Claim::Check
            | Claim::Discard
            | Claim::Verify
            | Claim::Prune
            | Claim::Hold
            | Claim::Hook
            | Claim::Order
            | Claim::Move
            | Claim::Site,
            _,
        ) => false,
    }
}

fn refusal(new: &State, holder: &State) -> Fault {
    let id = holder.id;
    let hint = match holder.phase {
        Phase::Unknown | Phase::Suspended => {
            format!("it goes on when agent {} is asked; or end it by a word: muster resolve {id}", holder.agent)
        }
        Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Succeeded | Phase::Failed | Phase::Cancelled => {
            format!("wait for it: muster wait {id}; or stop it: muster cancel {id}")
        }
    };
    Fault::refused(ErrorKind::Conflict, format!("{}: operation {id} stands against it", new.title()))
        .evidence(format!("{id} is to {}, {}, asked for by {}", holder.title(), holder.phase.name(), holder.cause))
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_the_same_both_ways() {
        for new in Claim::ALL {
            for held in Claim::ALL {
                assert_eq!(overlap(new, held), overlap(held, new), "{new:?} and {held:?}");
                assert_eq!(repeats(new, held), repeats(held, new), "{new:?} and {held:?}");
            }
        }
    }

    #[test]
    fn what_only_asks_or_checks_locks_nothing() {
        for claim in Claim::ALL {
            assert_eq!(overlap(Claim::Plan, claim), Overlap::Free);
            assert_eq!(overlap(Claim::Check, claim), Overlap::Free);
            assert_eq!(overlap(Claim::Verify, claim), Overlap::Free);
        }
    }

    #[test]
    fn what_would_repeat_an_effect_is_always_something_that_may_not_overlap() {
        for new in Claim::ALL {
            for held in Claim::ALL {
                assert!(!repeats(new, held) || overlap(new, held) != Overlap::Free, "{new:?} and {held:?}");
            }
        }
    }
}
