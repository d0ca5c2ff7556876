//! Whether a task still moves. Pure: time is an argument.
//!
//! Movement is a counter that grew within a try, or a phase that was not seen before. What stands in parentheses behind a
//! phase does not count: `waiting for the repository (7th try)` is no movement, however often it is tried.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_engine::work::Progress;

/// How many phases are told apart. A verb has a handful.
const MAX_PHASES: usize = 100;

/// Watches one task.
#[derive(Clone, Debug)]
pub struct Stall {
    limit: Duration,
    moved_at: Duration,
    best: [u64; 3],
    phases: BTreeSet<String>,
}

impl Stall {
    /// A watch that begins at `now` (since any fixed instant).
    #[must_use]
    pub fn new(limit: Duration, now: Duration) -> Self {
        Self { limit, moved_at: now, best: [0; 3], phases: BTreeSet::new() }
    }

    /// Another try begins: its counters start anew. That alone is no movement.
    pub fn next_try(&mut self) {
        self.best = [0; 3];
    }

    /// Something moved that tells no figures.
    pub fn moved(&mut self, now: Duration) {
        self.moved_at = now;
    }

    /// Takes what is told at `now`.
    pub fn hear(&mut self, progress: &Progress, now: Duration) {
        let counters = [progress.bytes_done, progress.files_done, progress.bytes_stored];
        let mut moved = false;
        for (best, counter) in self.best.iter_mut().zip(counters) {
            moved |= counter > *best;
            *best = (*best).max(counter);
        }
        let phase = progress.phase.split(" (").next().unwrap_or_default();
        if self.phases.len() < MAX_PHASES && !self.phases.contains(phase) {
            self.phases.insert(phase.to_owned());
            moved = true;
        }
        if moved {
            self.moved_at = now;
        }
    }

    /// For how long nothing moved, where that is over the limit.
    #[must_use]
    pub fn stalled(&self, now: Duration) -> Option<Duration> {
        let still = now.saturating_sub(self.moved_at);
        (still > self.limit).then_some(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn told(phase: &str, bytes_done: u64) -> Progress {
        Progress { phase: phase.to_owned(), bytes_done, ..Progress::default() }
    }

    #[test]
    fn bytes_that_move_keep_the_limit_away() {
        let mut stall = Stall::new(s(10), s(0));
        for second in 1..100 {
            stall.hear(&told("reading", second), s(second));
            assert_eq!(stall.stalled(s(second)), None);
        }
        assert_eq!(stall.stalled(s(109)), None);
        assert_eq!(stall.stalled(s(110)), Some(s(11)));
    }

    #[test]
    fn waiting_is_no_movement_however_often_it_is_tried() {
        let mut stall = Stall::new(s(10), s(0));
        for second in 1..=12 {
            stall.next_try();
            stall.hear(&told("reading", 0), s(second));
            stall.hear(&told(&format!("waiting for the repository ({second}th try)"), 0), s(second));
        }
        assert_eq!(stall.stalled(s(12)), Some(s(11)));
    }

    #[test]
    fn a_try_that_gets_somewhere_is_movement() {
        let mut stall = Stall::new(s(10), s(0));
        stall.hear(&told("reading", 500), s(1));
        stall.next_try();
        stall.hear(&told("reading", 100), s(9));
        assert_eq!(stall.stalled(s(19)), None);
    }
}
