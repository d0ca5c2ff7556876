//! How many refusals are recorded: each caller may fill the log with so many, and strangers all together with fewer. Pure but for its lock.
//!
//! What always holds: what was left out is counted, and told with the next one of the same caller that is recorded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refusals of one caller with a certificate that are recorded at once, and one more for each of these times.
const KNOWN: (u32, Duration) = (100, Duration::from_secs(6));
/// The same of all callers without one.
const STRANGERS: (u32, Duration) = (20, Duration::from_secs(300));
/// Callers that are told apart; those beyond share one measure.
const MOST_CALLERS: usize = 1_000;

/// The measures.
#[derive(Debug, Default)]
pub struct Limit {
    callers: Mutex<HashMap<String, Measure>>,
}

#[derive(Debug)]
struct Measure {
    left: u32,
    filled: Instant,
    left_out: u64,
}

impl Limit {
    /// `Some` where a refusal of this caller is to be recorded, with how many were left out since the last one. `None` names no caller.
    pub fn take(&self, caller: Option<&str>) -> Option<u64> {
        self.take_at(caller, Instant::now())
    }

    fn take_at(&self, caller: Option<&str>, now: Instant) -> Option<u64> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let (most, each) = if caller.is_some() { KNOWN } else { STRANGERS };
        let mut key = caller.unwrap_or("");
        if callers.len() >= MOST_CALLERS && !callers.contains_key(key) {
            key = "others";
        }
        let measure = callers.entry(key.to_owned()).or_insert(Measure { left: most, filled: now, left_out: 0 });
        let passed = now.duration_since(measure.filled);
        let more = u32::try_from(passed.as_micros() / each.as_micros()).unwrap_or(u32::MAX);
        if more > 0 {
            measure.left = measure.left.saturating_add(more).min(most);
            measure.filled += each.saturating_mul(more.min(1_000_000));
            if measure.left == most {
                measure.filled = now;
            }
        }
        if measure.left == 0 {
            measure.left_out = measure.left_out.saturating_add(1);
            return None;
        }
        measure.left -= 1;
        Some(std::mem::take(&mut measure.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_fills_its_own_measure_and_no_others_and_what_was_left_out_is_told() {
        let (limit, start) = (Limit::default(), Instant::now());
        let recorded = (0..1_000).filter(|_| limit.take_at(Some("operator/eve"), start).is_some()).count();
        assert_eq!(recorded, 100);
        assert_eq!(limit.take_at(Some("operator/ada"), start), Some(0));
        assert_eq!(limit.take_at(Some("operator/eve"), start + Duration::from_secs(6)), Some(900));
        assert_eq!(limit.take_at(Some("operator/eve"), start + Duration::from_secs(7)), None);
        let day = start + Duration::from_secs(86_400);
        let strangers = (0..288).filter(|n| limit.take_at(None, start + Duration::from_secs(n * 300)).is_some()).count();
        assert_eq!(strangers, 288);
        assert_eq!((0..1_000).filter(|_| limit.take_at(None, day).is_some()).count(), 20);
    }

    #[test]
    fn callers_beyond_the_bound_share_a_measure() {
        let (limit, start) = (Limit::default(), Instant::now());
        for n in 0..MOST_CALLERS {
            assert_eq!(limit.take_at(Some(&n.to_string()), start), Some(0));
        }
        let more = (0..500).filter(|n| limit.take_at(Some(&format!("more {n}")), start).is_some()).count();
        assert_eq!((more, limit.callers.lock().unwrap().len()), (100, MOST_CALLERS + 1));
    }
}
