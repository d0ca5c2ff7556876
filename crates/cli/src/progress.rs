//! How fast a task goes and how long it still takes, from what its agent told. Pure: instants are the agent's.

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::proto::v1::Progress;

use crate::render::amount::{bytes, counted, read_instant, rounded};

/// The rate is taken over what was told within this time.
const WINDOW: Duration = Duration::from_secs(20);
/// And over so many tellings at most.
const MOST: usize = 64;

/// The tellings of one phase.
#[derive(Debug, Default)]
pub struct Meter {
    phase: String,
    told: VecDeque<(i64, u64)>,
}

/// What a meter reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Bytes a second.
    pub rate: f64,
    /// How long it still takes, where the whole is known.
    pub left: Option<Duration>,
}

impl Meter {
    /// Takes one more telling. A new phase, or bytes that went back, begin anew.
    pub fn hear(&mut self, progress: &Progress) {
        let Some(at) = read_instant(progress.at.as_ref()) else {
            return;
        };
        let back = self.told.back().is_some_and(|(before, done)| at.0 < *before || progress.bytes_done < *done);
        if progress.phase != self.phase || back {
            self.phase.clone_from(&progress.phase);
            self.told.clear();
        }
        self.told.push_back((at.0, progress.bytes_done));
        let window = i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX);
        while self.told.len() > MOST || self.told.front().is_some_and(|(first, _)| at.0 - first > window) && self.told.len() > 2 {
            self.told.pop_front();
        }
    }

    /// How fast it went lately. `None` before two tellings, or while no byte moved.
    #[must_use]
    pub fn read(&self, progress: &Progress) -> Option<Speed> {
        let ((first, from), (last, to)) = (self.told.front()?, self.told.back()?);
        let seconds = (last - first) as f64 / 1e6;
        let moved = to.saturating_sub(*from);
        if seconds <= 0.0 || moved == 0 {
            return None;
        }
        let rate = moved as f64 / seconds;
        let left = progress.bytes_total.checked_sub(progress.bytes_done).filter(|_| progress.bytes_total > 0);
        let left = left.and_then(|left| Duration::try_from_secs_f64(left as f64 / rate).ok());
        Some(Speed { rate, left })
    }
}

/// Progress in a line: `copying: 40 %, 412.0 MiB of 1.0 GiB, 98.0 MiB/s, 6s left, 120.0 MiB stored, 1,234 of 2,000 files`.
#[must_use]
pub fn told(progress: &Progress, speed: Option<Speed>) -> String {
    let mut parts = Vec::new();
    if progress.bytes_total > 0 {
        parts.push(format!("{} %", percent(progress)));
        parts.push(format!("{} of {}", bytes(progress.bytes_done), bytes(progress.bytes_total)));
    } else if progress.bytes_done > 0 {
        parts.push(bytes(progress.bytes_done));
    }
    if let Some(speed) = speed {
        parts.push(format!("{}/s", bytes(speed.rate as u64)));
        if let Some(left) = speed.left {
            parts.push(format!("{} left", rounded(left + Duration::from_millis(999))));
        }
    }
    if progress.bytes_stored > 0 {
        parts.push(format!("{} stored", bytes(progress.bytes_stored)));
    }
    if progress.files_total > 0 {
        parts.push(format!("{} of {}", crate::render::amount::count(progress.files_done), counted(progress.files_total, "file")));
    } else if progress.files_done > 0 {
        parts.push(counted(progress.files_done, "file"));
    }
    match (progress.phase.as_str(), parts.is_empty()) {
        ("", _) => parts.join(", "),
        (phase, true) => phase.to_owned(),
        (phase, false) => format!("{phase}: {}", parts.join(", ")),
    }
}

/// Whole percents; 100 only where all is done.
#[must_use]
pub fn percent(progress: &Progress) -> u64 {
    let (done, total) = (u128::from(progress.bytes_done), u128::from(progress.bytes_total));
    if total == 0 {
        return 0;
    }
    u64::try_from((done * 100 / total).min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, phase: &str, done: u64) -> Progress {
        Progress {
            phase: phase.into(),
            bytes_done: done,
            bytes_total: 1_000 << 20,
            at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Progress::default()
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_tells_how_long_it_takes() {
        let mut meter = Meter::default();
        // Slow at first: forgotten after the window.
        for second in 0..30 {
            meter.hear(&at(second, "copying", second as u64));
        }
        for second in 30..60 {
            meter.hear(&at(second, "copying", (second as u64 - 29) * (10 << 20)));
        }
        let now = at(59, "copying", 300 << 20);
        let speed = meter.read(&now).unwrap();
        assert_eq!(speed, Speed { rate: (10_u64 << 20) as f64, left: Some(Duration::from_secs(70)) });
        assert_eq!(told(&now, Some(speed)), "copying: 30 %, 300.0 MiB of 1000.0 MiB, 10.0 MiB/s, 1m 10s left");
        assert!(meter.told.len() <= MOST);
    }

    #[test]
    fn a_new_phase_and_a_repeated_one_begin_anew() {
        let mut meter = Meter::default();
        meter.hear(&at(0, "copying", 10));
        meter.hear(&at(1, "copying", 20));
        assert!(meter.read(&at(1, "copying", 20)).is_some());
        meter.hear(&at(2, "syncing", 20));
        assert_eq!(meter.read(&at(2, "syncing", 20)), None);
        meter.hear(&at(3, "syncing", 5));
        assert_eq!(meter.read(&at(3, "syncing", 5)), None);
    }

    #[test]
    fn what_stands_still_has_no_rate() {
        let mut meter = Meter::default();
        meter.hear(&at(0, "waiting", 10));
        meter.hear(&at(9, "waiting", 10));
        assert_eq!(meter.read(&at(9, "waiting", 10)), None);
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        assert_eq!(told(&Progress { phase: "waits for the repository".into(), ..Progress::default() }, None), "waits for the repository");
        let files = Progress { phase: "reading".into(), files_done: 1, bytes_done: 512, ..Progress::default() };
        assert_eq!(told(&files, None), "reading: 512 B, 1 file");
        assert_eq!(percent(&Progress { bytes_done: 999, bytes_total: 1_000, ..Progress::default() }), 99);
        assert_eq!(percent(&Progress { bytes_done: u64::MAX, bytes_total: u64::MAX, ..Progress::default() }), 100);
    }
}
