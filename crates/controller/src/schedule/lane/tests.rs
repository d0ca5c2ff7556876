//! What lanes decide, over days of a clock that tests move.

use muster_wire::proto::v1::ScheduleSpec;
use muster_wire::proto::v1::schedule_spec::When;

use super::*;

const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;

fn each(hours: i64) -> Timing {
    let when = Some(When::Every(prost_types::Duration { seconds: hours * 3_600, nanos: 0 }));
    Timing::read(&ScheduleSpec { when, ..ScheduleSpec::default() }).unwrap()
}

fn minutely() -> Timing {
    Timing::read(&ScheduleSpec { when: Some(When::Cron("* * * * *".into())), ..ScheduleSpec::default() }).unwrap()
}

fn lane(timing: &Timing, now: i64) -> Lane {
    Lane::begin(&"ab".repeat(16), &"docs".parse().unwrap(), timing, Timestamp(now))
}

/// Looks at a lane as the driver does, at these moments; gives the runs that were accepted, in hours, and the lane.
fn play(mut lane: Lane, timing: &Timing, missed: MissedRuns, moments: impl IntoIterator<Item = i64>) -> (Vec<i64>, Lane) {
    let mut runs = Vec::new();
    for now in moments {
        // Each decision that changes the lane is followed by another one; a lane that never rests would be a defect.
        for step in 0.. {
            assert!(step < 100, "it never rests");
            match lane.decide(timing, missed, false, Timestamp(now)) {
                Decision::Rest(until) => {
                    assert!(until.is_none_or(|until| until > Timestamp(now)), "a rest until the past");
                    break;
                }
                Decision::Paused => break,
                Decision::Begin(after) | Decision::LeaveOut(after) => lane = after,
                Decision::Start { planned, after } => {
                    runs.push(planned.0 / HOUR);
                    lane = after;
                }
            }
        }
    }
    (runs, lane)
}

#[test]
fn each_run_comes_once_at_its_time_and_none_at_the_start() {
    let timing = each(6);
    let minutes = (0..26 * 60).map(|minute| 5 * HOUR + minute * MINUTE);
    for missed in [MissedRuns::Skip, MissedRuns::Once, MissedRuns::All] {
        let (runs, lane) = play(lane(&timing, 5 * HOUR), &timing, missed, minutes.clone());
        assert_eq!((runs, lane.left_out.as_str(), lane.runs), (vec![6, 12, 18, 24, 30], "", 5), "{missed:?}");
    }
}

#[test]
fn what_was_missed_is_skipped_done_once_or_done_each_as_the_policy_says() {
    let timing = each(6);
    let back = 5 * HOUR + 37 * HOUR;
    for (missed, expected, left_out) in [
        (MissedRuns::Skip, vec![48], "6 runs, the last planned for 1970-01-02T12:00:00Z, were left out"),
        (MissedRuns::Once, vec![42, 48], ""),
        (MissedRuns::All, vec![6, 12, 18, 24, 30, 36, 42, 48], ""),
    ] {
        let (runs, lane) = play(lane(&timing, 5 * HOUR), &timing, missed, [5 * HOUR, back + HOUR, 48 * HOUR]);
        assert_eq!(runs, expected, "{missed:?}");
        assert!(lane.left_out.is_empty() || lane.left_out.starts_with(left_out), "{missed:?}: {}", lane.left_out);
    }
    let (_, after) = play(lane(&timing, 5 * HOUR), &timing, MissedRuns::Once, [5 * HOUR, back + HOUR]);
    assert_eq!(after.left_out, "6 runs, the last planned for 1970-01-02T12:00:00Z, were left out: the run after stands for them");
}

#[test]
fn a_run_that_is_a_little_late_is_not_missed() {
    let timing = each(6);
    for (late, runs) in [(9 * MINUTE, vec![6]), (11 * MINUTE, vec![])] {
        assert_eq!(play(lane(&timing, 5 * HOUR), &timing, MissedRuns::Skip, [5 * HOUR, 6 * HOUR + late]).0, runs);
    }
}

#[test]
fn not_more_than_the_newest_24_are_made_up_for() {
    let timing = minutely();
    let (runs, after) = play(lane(&timing, 0), &timing, MissedRuns::All, [0, 1_000 * HOUR]);
    assert_eq!(runs.len(), MOST_MADE_UP);
    assert!(after.left_out.is_empty() || after.left_out.contains("24 are made up for at most"), "{}", after.left_out);
    assert_eq!(after.done, Timestamp(1_000 * HOUR));
}

#[test]
fn a_clock_that_jumps_an_hour_back_or_forth_repeats_nothing_and_floods_nothing() {
    let timing = each(1);
    for missed in [MissedRuns::Skip, MissedRuns::Once] {
        // 10:05, then the clock is set to 09:05, and goes on from there; then to 13:05 instead of 12:05.
        let moments = [
            9 * HOUR + 5 * MINUTE,
            10 * HOUR + 5 * MINUTE,
            9 * HOUR + 5 * MINUTE,
            10 * HOUR + 6 * MINUTE,
            11 * HOUR + MINUTE,
            13 * HOUR + MINUTE,
        ];
        let (runs, lane) = play(lane(&timing, 9 * HOUR + MINUTE), &timing, missed, moments);
        assert_eq!(runs, [10, 11, 13], "{missed:?}");
        assert_eq!(lane.round, 0);
    }
    // Each minute, and an hour forth: one run, not sixty.
    let timing = minutely();
    let (runs, _) = play(lane(&timing, HOUR), &timing, MissedRuns::Once, [HOUR, 2 * HOUR]);
    assert_eq!(runs, [2]);
}

#[test]
fn a_clock_that_was_days_ahead_does_not_silence_a_schedule_when_it_is_set_right() {
    let timing = each(6);
    let (runs, lane) = play(lane(&timing, 5 * HOUR), &timing, MissedRuns::Once, [6 * HOUR, 900 * HOUR, 7 * HOUR, 12 * HOUR]);
    assert_eq!(runs, [6, 900, 12]);
    assert_eq!(lane.round, 1);
    // What ran in the first round has another key in the second.
    assert_ne!(lane.run_key(Timestamp(0)), Lane { round: 0, ..lane.clone() }.run_key(Timestamp(0)));
}

#[test]
fn one_run_waits_at_most_and_a_newer_one_takes_its_place() {
    let timing = each(6);
    let began = lane(&timing, 5 * HOUR);
    let Decision::Start { planned, .. } = began.decide(&timing, MissedRuns::Skip, false, Timestamp(6 * HOUR)) else { panic!("no run") };
    let waiting = began.waits(planned, "busy".into());
    // It was in time and waits: it is not missed, however long that takes.
    match waiting.decide(&timing, MissedRuns::Skip, false, Timestamp(11 * HOUR)) {
        Decision::Start { planned, after } => assert_eq!((planned.0, after.waiting), (6 * HOUR, None)),
        other => panic!("{other:?}"),
    }
    match waiting.decide(&timing, MissedRuns::Skip, false, Timestamp(12 * HOUR)) {
        Decision::Start { planned, after } => {
            assert_eq!(planned.0, 12 * HOUR);
            assert_eq!(after.left_out, "1 run, planned for 1970-01-01T06:00:00Z, was left out: their time had passed");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_starts_while_it_is_paused_and_what_was_planned_then_counts_as_missed() {
    let timing = each(6);
    let began = lane(&timing, 5 * HOUR);
    assert_eq!(began.decide(&timing, MissedRuns::Once, true, Timestamp(7 * HOUR)), Decision::Paused);
    assert!(matches!(began.decide(&timing, MissedRuns::Once, false, Timestamp(8 * HOUR)), Decision::Start { .. }));
    assert!(matches!(began.decide(&timing, MissedRuns::Skip, false, Timestamp(8 * HOUR)), Decision::LeaveOut(_)));
}

#[test]
fn times_that_are_declared_anew_begin_at_the_present() {
    let (six, four) = (each(6), each(4));
    let (_, before) = play(lane(&six, 5 * HOUR), &six, MissedRuns::Once, [6 * HOUR]);
    let (runs, _) = play(before, &four, MissedRuns::Once, [11 * HOUR, 12 * HOUR]);
    assert_eq!(runs, [12], "not 08:00, which was never planned");
}

#[test]
fn jitter_is_the_same_each_time_and_another_for_each_component() {
    let when = Some(When::Every(prost_types::Duration { seconds: 6 * 3_600, nanos: 0 }));
    let jitter = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let timing = Timing::read(&ScheduleSpec { when, jitter, ..ScheduleSpec::default() }).unwrap();
    let docs = lane(&timing, 5 * HOUR);
    let orders = Lane { component: "orders-db".parse().unwrap(), ..docs.clone() };
    let delay = docs.delay(&timing);
    assert!(delay < Duration::from_secs(3_600) && delay != orders.delay(&timing) && delay == docs.delay(&timing));
    let at = Timestamp(6 * HOUR).plus(delay);
    assert_eq!(docs.next_start(&timing, Timestamp(6 * HOUR)), Some(at));
    assert_eq!(docs.decide(&timing, MissedRuns::Once, false, Timestamp(at.0 - 1)), Decision::Rest(Some(at)));
    assert!(
        matches!(docs.decide(&timing, MissedRuns::Once, false, at), Decision::Start { planned: Timestamp(planned), .. } if planned == 6 * HOUR)
    );
}
