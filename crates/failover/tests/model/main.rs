//! The model of who may write: the crate's own functions in every interleaving of a bounded world.
//!
//! Each scenario is a world with a few faults; all of its states are visited, breadth first, and their number is printed. Each mutation
//! takes one rule away and must lead to harm: what does not is a rule that this model does not need, and is named as such below.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

mod checker;
mod controller;
mod faults;
mod keeper;
mod mutation;
mod world;

use std::time::Instant;

use stateright::{Checker, Model};

use crate::checker::Bounded;
use crate::mutation::Mutation;
use crate::world::Budget;

fn world(budget: Budget) -> Bounded {
    Bounded { instances: 2, budget, late: 3, peers: false, outdated: false, mutation: None }
}

/// Visits every state and finds no harm.
fn holds(title: &str, model: Bounded) {
    let began = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "{title}: {} states, {} transitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    if let Some(path) = checker.discovery("nothing that must never be") {
        let last = path.last_state().clone();
        for event in path.into_actions() {
            eprintln!("  {event:?}");
        }
        panic!("{title}: {:?}", last.harm);
    }
    checker.assert_properties();
}

/// Whether harm is found without the rule.
fn harms(mutation: Mutation, model: Bounded) -> bool {
    let began = Instant::now();
    let model = Bounded { mutation: Some(mutation), ..model };
    let checker = model.checker().threads(2).spawn_bfs().join();
    let found = checker.discovery("nothing that must never be");
    let told = found.as_ref().map(|path| (path.last_state().harm, path.clone().into_actions().len()));
    eprintln!("{mutation:?}: {} states, {:.1} s: {told:?}", checker.unique_state_count(), began.elapsed().as_secs_f64());
    found.is_some()
}

#[test]
fn a_switchover_goes_there_or_back() {
    holds("switchover", world(Budget { moves: 1, backs: 1, writes: 1, ..Budget::default() }));
}

#[test]
fn a_switchover_survives_an_agent_that_dies_between_any_two_acts() {
    holds("crash", world(Budget { moves: 1, backs: 1, crashes: 1, ..Budget::default() }));
}

#[test]
fn a_failover_by_word_leaves_one_writer_when_the_dead_machine_comes_back() {
    holds("word", world(Budget { moves: 1, words: 1, writes: 1, ..Budget::default() }));
}

#[test]
fn a_move_survives_a_machine_that_is_started_again() {
    holds("reboot", world(Budget { moves: 1, reboots: 1, writes: 1, ..Budget::default() }));
}

#[test]
fn a_move_survives_servers_that_end_and_start_by_themselves() {
    holds("restart", world(Budget { moves: 1, restarts: 1, ..Budget::default() }));
}

#[test]
fn a_lost_candidate_is_replaced_by_another_move() {
    holds("two moves", world(Budget { moves: 2, ..Budget::default() }));
}

#[test]
fn a_disk_that_was_set_back_takes_no_writes() {
    holds("rollback", Bounded { late: 2, ..world(Budget { moves: 1, rollbacks: 1, writes: 1, ..Budget::default() }) });
}

#[test]
fn a_doubled_controller_makes_no_second_writer() {
    holds("doubled", Bounded { late: 1, ..world(Budget { moves: 1, copies: 1, words: 1, ..Budget::default() }) });
}

#[test]
fn agents_alone_confirm_a_start() {
    holds("peers", Bounded { late: 2, peers: true, ..world(Budget { moves: 1, words: 1, ..Budget::default() }) });
}

#[test]
fn of_three_the_third_is_no_second_writer() {
    holds("three", Bounded { late: 1, instances: 3, ..world(Budget { moves: 1, words: 1, ..Budget::default() }) });
}

/// Each rule that is taken away, and a world that is small and shows the harm.
#[test]
fn each_rule_that_is_taken_away_leads_to_harm() {
    let word = world(Budget { moves: 1, words: 1, writes: 1, ..Budget::default() });
    let mut blind = Vec::new();
    let small = |budget| Bounded { late: 2, ..world(budget) };
    for (mutation, model) in [
        (Mutation::ReceiptOfAnyMove, small(Budget { moves: 3, ..Budget::default() })),
        (Mutation::StartUnasked, word),
        (Mutation::StartBehind, small(Budget { rollbacks: 1, writes: 1, ..Budget::default() })),
        (Mutation::CandidateVouches, Bounded { peers: true, ..word }),
        (Mutation::NoRecheck, small(Budget { moves: 1, writes: 1, ..Budget::default() })),
        (Mutation::LastCandidateOnly, small(Budget { moves: 2, ..Budget::default() })),
        (Mutation::AnyoneSigns, small(Budget { moves: 2, ..Budget::default() })),
        (Mutation::NobodyIsEverybody, Bounded { outdated: true, ..word }),
        (Mutation::GrantOutlivesBoot, Bounded { late: 1, ..world(Budget { moves: 2, words: 2, crashes: 1, ..Budget::default() }) }),
        (Mutation::NoLock, small(Budget { moves: 1, restarts: 1, ..Budget::default() })),
        (Mutation::WordAboutServer, small(Budget { moves: 1, words: 1, restarts: 1, ..Budget::default() })),
        (Mutation::PermitBeforeRecord, small(Budget { moves: 1, crashes: 1, ..Budget::default() })),
        (Mutation::ConfirmUnheard, Bounded { late: 1, ..world(Budget { moves: 1, copies: 1, words: 1, ..Budget::default() }) }),
        (Mutation::SignRunning, small(Budget { moves: 1, ..Budget::default() })),
    ] {
        if !harms(mutation, model) {
            blind.push(mutation);
        }
    }
    assert!(blind.is_empty(), "nothing goes wrong without {blind:?}: the model does not see what they prevent");
}

/// Some rules have another one behind them: alone, each can be taken away in manual without harm. They are named here so that nobody
/// takes the second away because the first "holds anyway".
#[test]
fn a_second_rule_stands_behind_some() {
    let small = |budget| Bounded { late: 2, ..world(budget) };
    let one_late = |budget| Bounded { late: 1, ..world(budget) };
    for (mutation, behind, model) in [
        (Mutation::LimitStarts, "the receipt stops it again", small(Budget { moves: 1, writes: 1, ..Budget::default() })),
        (Mutation::RemoveBeforeRecord, "the inbox takes the stop up again", small(Budget { moves: 1, crashes: 1, ..Budget::default() })),
        (
            Mutation::MoveBehind,
            "the candidate compares its position with the receipts",
            small(Budget { moves: 1, writes: 1, ..Budget::default() }),
        ),
        (
            Mutation::ResumeUnchecked,
            "a grant is checked anew, a start asks anew",
            small(Budget { moves: 1, backs: 1, crashes: 1, ..Budget::default() }),
        ),
        (Mutation::NoAdopting, "a start asks every other agent", one_late(Budget { moves: 1, copies: 1, words: 1, ..Budget::default() })),
        (
            Mutation::LowerTermObeyed,
            "a line that does not descend is refused",
            one_late(Budget { moves: 1, copies: 1, words: 1, ..Budget::default() }),
        ),
        (Mutation::BootEndsPledges, "a nonce ends with the boot", small(Budget { moves: 1, reboots: 1, ..Budget::default() })),
    ] {
        assert!(!harms(mutation, model), "harm without {mutation:?}: it was thought that {behind}");
    }
}
