//! Instants, ages, counts and sizes as people read them.

use std::time::Duration;

use muster_common::duration::show;
use muster_common::position::Lsn;
use muster_common::size::Size;
use muster_common::time::Timestamp;
use muster_wire::convert::{duration_from_proto, timestamp_from_proto};
use muster_wire::proto::v1::{self, position};

/// What stands where nothing is known.
pub const NOTHING: &str = "-";

/// `2026-11-23 17:05:12Z`.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => NOTHING.to_owned(),
    }
}

/// An instant as it came; `None` where it is absent or none.
#[must_use]
pub fn read_instant(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| timestamp_from_proto(at, "instant").ok())
}

/// A duration as it came; `None` where it is absent or none.
#[must_use]
pub fn read_duration(duration: Option<&prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| duration_from_proto(duration, "duration").ok())
}

/// The instant, or `-`.
#[must_use]
pub fn instant_or_nothing(at: Option<&prost_types::Timestamp>) -> String {
    read_instant(at).map_or_else(|| NOTHING.to_owned(), instant)
}

/// `3m 2s ago`, `in 23h 59m`, or `-`.
#[must_use]
pub fn age(at: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    match read_instant(at) {
        None => NOTHING.to_owned(),
        Some(at) if at > now => format!("in {}", show(at.since(now))),
        Some(at) => format!("{} ago", rounded(now.since(at))),
    }
}

/// A duration that is told in whole seconds at least: an age needs no more.
#[must_use]
pub fn rounded(duration: Duration) -> String {
    show(Duration::from_secs(duration.as_secs())).replace("0ms", "0s").replace(".0s", "s")
}

/// A duration that may be absent, or `-`.
#[must_use]
pub fn duration_or_nothing(duration: Option<&prost_types::Duration>) -> String {
    read_duration(duration).map_or_else(|| NOTHING.to_owned(), rounded)
}

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 page`, `1,234 pages`.
#[must_use]
pub fn counted(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", count(number))
}

/// Bytes in binary units.
#[must_use]
pub fn bytes(number: u64) -> String {
    Size(number).to_string()
}

/// The first digits of an id: as many as tell ids apart among people, and enough for every command that takes an id.
#[must_use]
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `16/B374D848 on timeline 1`, `12 files, newest 2026-…`, or `-`.
#[must_use]
pub fn position(position: Option<&v1::Position>) -> String {
    match position.and_then(|position| position.position.as_ref()) {
        None => NOTHING.to_owned(),
        Some(position::Position::Postgres(postgres)) => format!("{} on timeline {}", Lsn(postgres.lsn), postgres.timeline),
        Some(position::Position::Files(files)) => {
            let newest = read_instant(files.newest.as_ref()).map_or_else(String::new, |at| format!(", newest of {}", instant(at)));
            format!("{}{newest}", counted(files.count, "file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_in_utc_and_ages_in_two_units() {
        let now = Timestamp(1_764_000_000_000_000);
        let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
        assert_eq!(instant(now), "2025-11-24 16:00:00Z");
        assert_eq!(age(at(1_763_999_818).as_ref(), now), "3m 2s ago");
        assert_eq!(age(at(1_763_999_995).as_ref(), now), "5s ago");
        assert_eq!(age(at(1_764_000_000).as_ref(), now), "0s ago");
        assert_eq!(age(at(1_764_086_400).as_ref(), now), "in 1d");
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn counts_are_grouped() {
        let told = [0, 7, 999, 1_000, 1_234_567, u64::MAX].map(count);
        assert_eq!(told, ["0", "7", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]);
        assert_eq!([counted(1, "page"), counted(0, "page")], ["1 page", "0 pages"]);
    }

    #[test]
    fn a_position_is_told_as_its_engine_writes_it() {
        let postgres = v1::PostgresPosition { timeline: 2, lsn: 0x16_B374_D848, ..v1::PostgresPosition::default() };
        let told = v1::Position { position: Some(position::Position::Postgres(postgres)) };
        assert_eq!(position(Some(&told)), "16/B374D848 on timeline 2");
        assert_eq!(position(None), "-");
    }
}
