//! Whether this store is behind its agents: restored from an older copy, or doubled. Pure judgement.
//!
//! An agent remembers the highest term and the highest command sequence that it ever saw. A store that does not know of them lost a part of
//! its history: it takes a higher term, and does nothing of what it had begun before each agent was asked.

use muster_common::counter::Term;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::StoreId;
use muster_common::name::Name;
use muster_wire::convert::optional_id_from_proto;
use muster_wire::proto::agent::v1::Hello;

use crate::store::commands::Memory;

/// No honest agent has seen so much more than a store that was restored: a forged Hello must not use numbers up. A term is a start.
const MOST_TERMS_AHEAD: u64 = 1_000_000;
/// See [`MOST_TERMS_AHEAD`].
const MOST_SEQUENCES_AHEAD: u64 = 1 << 32;

/// What an agent's Hello says of the controllers that it has served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembers {
    /// The highest term and sequence.
    pub memory: Memory,
    /// The store whose commands it took on last.
    pub store: Option<StoreId>,
}

/// Reads it. `term` and `sequence` are the highest that this store gave out.
///
/// # Errors
/// Where a number is beyond any that a controller can have given out.
pub fn read(hello: &Hello, term: Term, sequence: u64) -> Result<Remembers, Fault> {
    let ahead = |theirs: u64, ours: u64, most: u64| theirs.saturating_sub(ours) > most;
    if ahead(hello.highest_term, term.0, MOST_TERMS_AHEAD) || ahead(hello.highest_sequence, sequence, MOST_SEQUENCES_AHEAD) {
        return Err(Fault::refused(ErrorKind::InvalidArgument, "the agent's hello names terms or sequences that no controller gave out")
            .evidence(format!("term {}, sequence {}", hello.highest_term, hello.highest_sequence))
            .hint("reinstall the agent with an empty state directory and a new token"));
    }
    Ok(Remembers {
        memory: Memory { term: Term(hello.highest_term), sequence: hello.highest_sequence },
        store: optional_id_from_proto(&hello.store_id, "hello.store_id")?,
    })
}

/// What this store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub store: StoreId,
    /// Its term now.
    pub term: Term,
    /// What it knows that this agent can remember.
    pub memory: Memory,
    /// Whether this is the agent's first Hello since this process began its term: nobody can have told it that term yet.
    pub first_meeting: bool,
}

/// Why the store is behind, in words. `None`: it is not.
#[must_use]
pub fn judge(agent: &Name, remembers: &Remembers, known: &Known) -> Option<String> {
    let seen = &remembers.memory;
    let told = if known.first_meeting { seen.term >= known.term } else { seen.term > known.term };
    if told {
        return Some(format!("agent {agent} has served term {} and this controller rules in term {}", seen.term, known.term));
    }
    // Sequences of another store tell nothing of this one's; its terms were judged above.
    let same = remembers.store.is_none_or(|store| store == known.store);
    (same && seen.sequence > known.memory.sequence)
        .then(|| format!("agent {agent} has taken on command {} and this store knows of {} at most", seen.sequence, known.memory.sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembers(term: u64, sequence: u64, store: u8) -> Remembers {
        Remembers { memory: Memory { term: Term(term), sequence }, store: Some(StoreId::from_bytes([store; 16])) }
    }

    fn known(term: u64, sequence: u64, first_meeting: bool) -> Known {
        let memory = Memory { term: Term(term), sequence };
        Known { store: StoreId::from_bytes([1; 16]), term: Term(term), memory, first_meeting }
    }

    #[test]
    fn a_store_is_behind_where_an_agent_remembers_more() {
        let agent = "ankara-db1".parse().unwrap();
        for (seen, ours, behind) in [
            (remembers(4, 7, 1), known(5, 7, true), false),
            // The term has just begun: who was told it before was told by another.
            (remembers(5, 7, 1), known(5, 7, true), true),
            (remembers(5, 7, 1), known(5, 7, false), false),
            (remembers(6, 7, 1), known(5, 7, false), true),
            (remembers(4, 8, 1), known(5, 7, true), true),
            // A rebuilt controller has a store of its own: only the terms count.
            (remembers(4, 900, 2), known(5, 7, true), false),
            (remembers(9, 900, 2), known(5, 7, true), true),
        ] {
            assert_eq!(judge(&agent, &seen, &ours).is_some(), behind, "{seen:?} {ours:?}");
        }
    }

    #[test]
    fn numbers_that_no_controller_gave_out_are_refused() {
        for hello in [
            Hello { highest_term: u64::MAX, ..Hello::default() },
            Hello { highest_sequence: MOST_SEQUENCES_AHEAD + 8, ..Hello::default() },
            Hello { store_id: "x".into(), ..Hello::default() },
        ] {
            assert_eq!(read(&hello, Term(5), 7).unwrap_err().kind, ErrorKind::InvalidArgument);
        }
        assert_eq!(read(&Hello::default(), Term(5), 7).unwrap().memory, Memory::default());
    }
}
