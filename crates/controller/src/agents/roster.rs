//! What is known of each agent while it is connected: when it was heard, its clock, what it could not do with its assignment.
//!
//! In memory: what must outlast a restart (the last time heard, refused calls) is written to the store by the session now and then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::agents::hello;

/// The most problems that are kept of an agent.
const MOST_PROBLEMS: usize = 50;

/// The longest of them, in characters.
const MOST_PROBLEM: usize = 500;

/// One agent, as its sessions showed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// When it was last heard, by our clock.
    pub last_heard: Timestamp,
    /// How far its clock is ahead of ours, in milliseconds.
    pub clock_offset_ms: i64,
    /// The revision of the assignment that it has in force. 0: none.
    pub applied: u64,
    /// What it could not do with its assignment.
    pub assignment_problems: Vec<String>,
    /// Refused calls that are not in the store yet.
    pub refused: u64,
}

impl Live {
    /// What is wrong with it, in words.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        hello::clock_problem(self.clock_offset_ms).into_iter().chain(self.assignment_problems.iter().cloned()).collect()
    }
}

/// All agents that were heard since the start. Clones are the same roster.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    agents: Arc<Mutex<BTreeMap<Name, Live>>>,
}

impl Roster {
    /// What is known of an agent. `None`: it was not heard since the start.
    #[must_use]
    pub fn of(&self, agent: &Name) -> Option<Live> {
        self.lock().get(agent).cloned()
    }

    /// Something came from the agent.
    pub fn heard(&self, agent: &Name, now: Timestamp) {
        self.with(agent, |live| live.last_heard = now);
    }

    /// The agent's clock, as it was when it sent what arrived `now`.
    pub fn clock(&self, agent: &Name, theirs: Timestamp, now: Timestamp) {
        self.with(agent, |live| live.clock_offset_ms = hello::clock_offset_ms(theirs, now));
    }

    /// An assignment is in force there.
    pub fn applied(&self, agent: &Name, revision: u64, mut problems: Vec<String>) {
        problems.truncate(MOST_PROBLEMS);
        for problem in &mut problems {
            *problem = problem.chars().take(MOST_PROBLEM).collect();
        }
        self.with(agent, |live| {
            live.applied = revision;
            live.assignment_problems = problems;
        });
    }

    /// The agent spoke for what is not its own; gives how often since the last [`Roster::take_refused`].
    pub fn refused(&self, agent: &Name) -> u64 {
        let mut count = 0;
        self.with(agent, |live| {
            live.refused = live.refused.saturating_add(1);
            count = live.refused;
        });
        count
    }

    /// Hands out what has to be added to the store.
    pub fn take_refused(&self, agent: &Name) -> u64 {
        let mut taken = 0;
        self.with(agent, |live| taken = std::mem::take(&mut live.refused));
        taken
    }

    /// The agents that were heard since `since`, with when, and what has to be added to the store of each: it is handed out once.
    #[must_use]
    pub fn take_heard(&self, since: Timestamp) -> Vec<(Name, Timestamp, u64)> {
        let mut agents = self.lock();
        let heard = agents.iter_mut().filter(|(_, live)| live.last_heard >= since || live.refused > 0);
        heard.map(|(agent, live)| (agent.clone(), live.last_heard, std::mem::take(&mut live.refused))).collect()
    }

    fn with(&self, agent: &Name, change: impl FnOnce(&mut Live)) {
        change(self.lock().entry(agent.clone()).or_default());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Live>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_and_a_failed_assignment_are_problems() {
        let roster = Roster::default();
        let agent: Name = "a".parse().unwrap();
        roster.clock(&agent, Timestamp(60_000_000), Timestamp(0));
        roster.applied(&agent, 3, vec!["docs/istanbul: /srv is missing".into()]);
        let live = roster.of(&agent).unwrap();
        assert_eq!((live.clock_offset_ms, live.applied, live.problems().len()), (60_000, 3, 2));
    }

    #[test]
    fn refused_calls_are_handed_out_once() {
        let roster = Roster::default();
        let agent: Name = "a".parse().unwrap();
        assert_eq!([roster.refused(&agent), roster.refused(&agent)], [1, 2]);
        assert_eq!([roster.take_refused(&agent), roster.take_refused(&agent)], [2, 0]);
    }
}
