//! When a schedule's runs are planned: by cron in a zone, or every so often. Pure.
//!
//! What always holds: planned moments follow from the declaration alone, not from when the controller started or what ran before; so
//! that whoever computes them gets the same ones. Around a change of the clocks (croner): a moment that the night in spring leaves out is
//! planned at the end of the gap; one that the night in autumn has twice is planned the first time only.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use muster_common::time::Timestamp;
use muster_wire::convert::duration_from_proto;
use muster_wire::proto::v1::ScheduleSpec;
use muster_wire::proto::v1::schedule_spec::When;

/// More often than this nothing is planned.
const SHORTEST: Duration = Duration::from_secs(10);
/// Less often than this nothing is planned by `every`.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// The longest jitter.
const MOST_JITTER: Duration = Duration::from_secs(86_400);
/// The longest cron expression, in bytes.
const MOST_CRON: usize = 200;
/// How far back the newest planned moment is looked for, the near past first: each look steps forward from there.
const LOOK_BACK: [Duration; 4] =
    [Duration::from_secs(7_200), Duration::from_secs(2 * 86_400), Duration::from_secs(62 * 86_400), Duration::from_secs(9 * 366 * 86_400)];

/// When runs are planned.
#[derive(Clone, Debug)]
pub struct Timing {
    rule: Rule,
    /// The longest time that runs start later.
    pub jitter: Duration,
    text: String,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron { cron: Box<Cron>, zone: TimeZone },
    Every(Duration),
}

/// What is wrong with a declared time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The field of the spec.
    pub field: &'static str,
    /// Why.
    pub reason: String,
}

fn wrong<T>(field: &'static str, reason: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { field, reason: reason.into() })
}

impl Timing {
    /// Reads it from a declaration.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(spec: &ScheduleSpec) -> Result<Self, Wrong> {
        let jitter = match &spec.jitter {
            None => Duration::ZERO,
            Some(jitter) => duration_from_proto(jitter, "jitter").or_else(|fault| wrong("jitter", fault.message))?,
        };
        if jitter > MOST_JITTER {
            return wrong("jitter", "expected 24h at most");
        }
        match &spec.when {
            None => wrong("cron", "missing; expected cron or every, for example `cron: \"0 2 * * *\"` or `every: 6h`"),
            Some(When::Cron(text)) => {
                let timing = Self { rule: cron(text, &spec.zone)?, jitter, text: text.clone() };
                let zone = if spec.zone.is_empty() { "UTC" } else { &spec.zone };
                let text = format!("{} {zone}", text.trim());
                // 2000 was a leap year: what never comes after it never comes.
                match timing.after(Timestamp(951_782_400_000_000)) {
                    Some(_) => Ok(Self { text, ..timing }),
                    None => wrong("cron", "that moment never comes"),
                }
            }
            Some(When::Every(every)) => {
                let every = duration_from_proto(every, "every").or_else(|fault| wrong("every", fault.message))?;
                if !(SHORTEST..=LONGEST).contains(&every) {
                    return wrong("every", "expected 10s to 366d");
                }
                if !spec.zone.is_empty() {
                    return wrong("zone", "only with cron; `every` counts from 1970-01-01T00:00Z");
                }
                if jitter >= every {
                    return wrong("jitter", "expected less than `every`");
                }
                Ok(Self { rule: Rule::Every(every), jitter, text: format!("each {}", muster_common::duration::show(every)) })
            }
        }
    }

    /// `0 2 * * * UTC`, `each 6h`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first planned moment after this one. `None`: there is none.
    #[must_use]
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(every) => {
                let step = i64::try_from(every.as_micros()).ok().filter(|step| *step > 0)?;
                at.0.div_euclid(step).checked_add(1)?.checked_mul(step).map(Timestamp)
            }
            Rule::Cron { cron, zone } => {
                let from = jiff::Timestamp::from_microsecond(at.0).ok()?.to_zoned(zone.clone());
                let next = cron.find_next_occurrence(&from, false).ok()?;
                let next = Timestamp(next.timestamp().as_microsecond());
                // A library that answers with the past must not make this stand still.
                (next > at).then_some(next)
            }
        }
    }

    /// The newest planned moment that is after `from` and not after `to`. `None`: there is none.
    #[must_use]
    pub fn newest(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let back = |time: Duration| Timestamp(to.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)));
        let starts = LOOK_BACK.into_iter().map(back).map(|start| start.max(from));
        let first = starts.filter_map(|start| self.after(start)).find(|first| *first <= to)?;
        std::iter::successors(Some(first), |at| self.after(*at).filter(|next| *next <= to)).last()
    }
}

fn cron(text: &str, zone: &str) -> Result<Rule, Wrong> {
    if text.len() > MOST_CRON || text.split_whitespace().count() != 5 {
        return wrong("cron", "expected five fields: minute, hour, day of the month, month, day of the week");
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).or_else(|error| wrong("cron", format!("{text:?}: {error}")))?;
    let zone = match zone {
        "" | "UTC" => TimeZone::UTC,
        name => TimeZone::get(name).or_else(|_| {
            wrong(
                "zone",
                format!("{:?} is no zone that this machine knows; expected for example Europe/Istanbul", name.get(..60).unwrap_or(name)),
            )
        })?,
    };
    Ok(Rule::Cron { cron: Box::new(cron), zone })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn of(cron: &str, zone: &str) -> Timing {
        let spec = ScheduleSpec { when: Some(When::Cron(cron.into())), zone: zone.into(), ..ScheduleSpec::default() };
        Timing::read(&spec).unwrap()
    }

    fn every(seconds: i64) -> Timing {
        let when = Some(When::Every(prost_types::Duration { seconds, nanos: 0 }));
        Timing::read(&ScheduleSpec { when, ..ScheduleSpec::default() }).unwrap()
    }

    fn planned(timing: &Timing, from: &str, to: &str) -> Vec<String> {
        let to = at(to);
        let all = std::iter::successors(timing.after(at(from)), |at| timing.after(*at)).take_while(|at| *at <= to);
        all.map(|at| jiff::Timestamp::from_microsecond(at.0).unwrap().to_string()).collect()
    }

    #[test]
    fn every_so_often_counts_from_1970_in_utc() {
        let six = every(6 * 3_600);
        assert_eq!(
            planned(&six, "2026-11-23T05:59:00Z", "2026-11-23T18:00:00Z"),
            ["2026-11-23T06:00:00Z", "2026-11-23T12:00:00Z", "2026-11-23T18:00:00Z"]
        );
        assert_eq!(six.after(at("2026-11-23T06:00:00Z")), Some(at("2026-11-23T12:00:00Z")));
        assert_eq!(six.after(Timestamp(-1)), Some(Timestamp(0)));
        assert_eq!(six.after(Timestamp(i64::MAX)), None);
    }

    #[test]
    fn a_daily_run_is_planned_at_its_hour_in_its_zone() {
        assert_eq!(planned(&of("0 2 * * *", ""), "2026-01-01T02:00:00Z", "2026-01-03T01:59:00Z"), ["2026-01-02T02:00:00Z"]);
        assert_eq!(planned(&of("0 2 * * *", "Europe/Istanbul"), "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), ["2026-01-01T23:00:00Z"]);
    }

    #[test]
    fn in_the_night_that_leaves_out_an_hour_a_run_of_it_is_planned_once_at_the_end_of_the_gap() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00, which is 01:00Z.
        let nightly = of("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            planned(&nightly, "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn in_the_night_that_has_an_hour_twice_a_run_of_it_is_planned_the_first_time_only() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00; 02:30 is 00:30Z and again 01:30Z.
        let nightly = of("30 2 * * *", "Europe/Berlin");
        assert_eq!(planned(&nightly, "2026-10-24T03:00:00Z", "2026-10-26T12:00:00Z"), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let quarters = of("*/15 * * * *", "Europe/Berlin");
        let hours = planned(&quarters, "2026-10-24T23:59:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(hours.len(), 13, "{hours:?}");
    }

    #[test]
    fn the_same_moments_are_planned_wherever_the_look_begins() {
        for (cron, zone, from, to) in [
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ("0 */2 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z"),
            ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z"),
            ("15 3 * * 0", "UTC", "2026-03-28T12:00:00Z", "2026-04-08T12:00:00Z"),
        ] {
            let timing = of(cron, zone);
            let (from, to) = (at(from), at(to));
            let all: Vec<_> = std::iter::successors(timing.after(from), |at| timing.after(*at)).take_while(|at| *at <= to).collect();
            let mut look = from;
            while look < to {
                let expected = all.iter().copied().find(|planned| *planned > look);
                if let Some(expected) = expected {
                    assert_eq!(timing.after(look), Some(expected), "{cron} {zone} after {look:?}");
                }
                let newest = all.iter().copied().rfind(|planned| *planned <= look);
                assert_eq!(timing.newest(from, look), newest, "{cron} {zone} up to {look:?}");
                look = look.plus(Duration::from_secs(1_790));
            }
        }
    }

    #[test]
    fn the_newest_planned_moment_is_found_however_long_ago_the_last_one_was() {
        let each_minute = of("* * * * *", "UTC");
        let (long_ago, now) = (at("2000-01-01T00:00:00Z"), at("2026-11-23T12:00:30Z"));
        assert_eq!(each_minute.newest(long_ago, now), Some(at("2026-11-23T12:00:00Z")));
        assert_eq!(of("0 0 29 2 *", "UTC").newest(long_ago, now), Some(at("2024-02-29T00:00:00Z")));
        assert_eq!(each_minute.newest(now, now), None);
        assert_eq!(every(3_600).newest(long_ago, now), Some(at("2026-11-23T12:00:00Z")));
    }
}
