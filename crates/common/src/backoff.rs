//! How long to wait before the next try: exponential, bounded, spread by jitter that the caller draws.

use std::time::Duration;

/// Doubles from `first` to `most`; cannot be built where that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// `None` where `first` is zero or more than `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Option<Self> {
        (!first.is_zero() && first <= most).then_some(Self { first, most })
    }

    /// The wait before try `attempt` (0 is the first retry). `unit` in 0.0..=1.0 was drawn at random: the wait lies
    /// between half the step and the whole ("equal jitter"), so that many who lost one server do not return as one.
    #[must_use]
    pub fn delay(&self, attempt: u32, unit: f64) -> Duration {
        let step = self.first.saturating_mul(2_u32.saturating_pow(attempt.min(31))).min(self.most);
        step.mul_f64(0.5 + unit.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_never_fall_under_half_a_step() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10)).unwrap();
        let wait = |attempt, unit| backoff.delay(attempt, unit).as_millis();
        assert_eq!([wait(0, 1.0), wait(1, 1.0), wait(2, 1.0), wait(9, 1.0), wait(u32::MAX, 1.0)], [1_000, 2_000, 4_000, 10_000, 10_000]);
        assert_eq!([wait(0, 0.0), wait(9, 0.0)], [500, 5_000]);
    }

    #[test]
    fn a_backoff_without_a_first_step_cannot_be_built() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::from_secs(1)), None);
        assert_eq!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)), None);
    }
}
