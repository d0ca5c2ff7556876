//! What strangers can cause is logged a few times a second at most: a log that anybody can fill is a full disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets so many lines through in each second, and counts the others.
#[derive(Debug)]
pub struct LogLimit {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    second: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl LogLimit {
    /// At most `per_second` lines a second.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, state: Mutex::new(State { second: None, logged: 0, left_out: 0 }) }
    }

    /// `Some` where the line may be logged now, with how many were left out since the last one that was.
    #[must_use]
    pub fn take(&self) -> Option<u64> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            state.second = Some(now);
            state.logged = 0;
        }
        if state.logged >= self.per_second {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.logged += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_second_pass_and_the_next_one_tells_how_many_were_left_out() {
        let limit = LogLimit::new(2);
        let start = Instant::now();
        let taken: Vec<_> = (0..5).map(|_| limit.take_at(start)).collect();
        assert_eq!(taken, [Some(0), Some(0), None, None, None]);
        assert_eq!(limit.take_at(start + Duration::from_secs(1)), Some(3));
        assert_eq!(limit.take_at(start + Duration::from_secs(1)), Some(0));
        assert_eq!(limit.take_at(start + Duration::from_secs(1)), None);
    }
}
