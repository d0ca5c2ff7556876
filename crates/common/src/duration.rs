//! Durations as people write them: `90s`, `30m`, `1h30m`, `7d`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration; expected for example 45s, 30m, 1h30m or 7d")]
pub struct InvalidDuration {
    text: String,
}

/// Reads `ms`, `s`, `m`, `h`, `d` behind whole numbers, each unit once at most, largest first; and the proto form `1.5s`.
///
/// # Errors
/// Where the text is anything else, or more than 64 bits of milliseconds.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    parse_parts(text).or_else(|| parse_seconds(text)).ok_or_else(|| InvalidDuration { text: text.chars().take(40).collect() })
}

fn parse_parts(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut total: u64 = 0;
    let mut allowed = UNITS.as_slice();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = rest.get(..letters)?;
        rest = rest.get(letters..)?;
        let at = allowed.iter().position(|(name, _)| *name == unit)?;
        let (_, milliseconds) = allowed.get(at)?;
        total = total.checked_add(number.checked_mul(*milliseconds)?)?;
        allowed = allowed.get(at + 1..)?;
    }
    Some(Duration::from_millis(total))
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Shows a duration in its two largest units: `1h 30m`, `2.4s`, `350ms`.
#[must_use]
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit} {small}{small_unit}"),
    };
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..=9 => format!("{:.1}s", duration.as_secs_f64()),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..=86_399 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, milliseconds) in
            [("45s", 45_000), ("30m", 1_800_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("250ms", 250), ("1.5s", 1_500), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "m", "30m1h", "1h1h", "-5s", "1 h", "99999999999999999999d", "NaNs", "infs"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_two_units_at_most() {
        for (milliseconds, text) in
            [(350, "350ms"), (2_400, "2.4s"), (59_000, "59s"), (61_000, "1m 1s"), (5_400_000, "1h 30m"), (172_800_000, "2d")]
        {
            assert_eq!(show(Duration::from_millis(milliseconds)), text);
        }
    }
}
