//! The wall clock, read in one place. Pure code takes the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_common::time::Timestamp;

/// This machine's wall clock now. A clock before 1970 reads as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_reads_microseconds_of_this_century() {
        let now = super::now().0;
        assert!(now > 1_700_000_000_000_000 && now < 4_000_000_000_000_000, "{now}");
    }
}
