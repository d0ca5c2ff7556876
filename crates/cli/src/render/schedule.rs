//! Schedules: a line for each component, and below it why something did not run.

use muster_common::time::Timestamp;
use muster_wire::proto::v1::schedule_spec::{When, Work};
use muster_wire::proto::v1::{ScheduleSpec, ScheduleStatus};

use super::amount::{NOTHING, age, instant_or_nothing, read_duration, rounded, short};
use super::{operation, pause, table};

/// A table, with a word on whatever did not run.
#[must_use]
pub fn list(schedules: &[ScheduleStatus], now: Timestamp) -> String {
    if schedules.is_empty() {
        return "nothing is scheduled\nHINT: declare it: kind Schedule, then `muster apply -f FILE`; docs/guides/schedules.md\n".to_owned();
    }
    let rows: Vec<_> = schedules.iter().map(|schedule| row(schedule, now)).collect();
    let mut text = table::table(&["SCHEDULE", "COMPONENT", "DOES", "WHEN", "NEXT", "LAST", "OPERATION"], &rows, "");
    for schedule in schedules {
        text.push_str(&notes(schedule, now));
    }
    text
}

fn row(schedule: &ScheduleStatus, now: Timestamp) -> Vec<String> {
    let next = match &schedule.next_at {
        None => "never".to_owned(),
        Some(_) if schedule.pause.is_some() => "PAUSED".to_owned(),
        Some(at) => format!("{} ({})", instant_or_nothing(Some(at)), age(Some(at), now)),
    };
    let last =
        schedule.last.as_ref().map_or_else(|| NOTHING.to_owned(), |last| format!("{} {}", short(&last.id), operation::state(last.state())));
    vec![
        schedule.schedule.clone(),
        schedule.component.clone(),
        schedule.verb.clone(),
        schedule.timing.clone(),
        next,
        schedule.last_planned_at.as_ref().map_or_else(|| NOTHING.to_owned(), |at| age(Some(at), now)),
        last,
    ]
}

fn notes(schedule: &ScheduleStatus, now: Timestamp) -> String {
    let name = format!("{} of {}", schedule.schedule, schedule.component);
    let mut text = String::new();
    if let Some(paused) = &schedule.pause {
        text.push_str(&format!("{name}:{}", pause::loud(paused, now).trim_start_matches(' ').replacen('!', " !", 1)));
    }
    if !schedule.waiting_for.is_empty() {
        text.push_str(&format!(
            "{name}: ! the run of {} WAITS: {}\n",
            instant_or_nothing(schedule.waiting_planned_at.as_ref()),
            schedule.waiting_for
        ));
    }
    if !schedule.left_out.is_empty() {
        text.push_str(&format!("{name}: {}\n", schedule.left_out));
    }
    if let Some(fault) = schedule.last.as_ref().and_then(|last| last.fault.as_ref()) {
        text.push_str(&format!("{name}: the last run: {}\n", fault.message));
    }
    text
}

/// A declared schedule in a few words.
#[must_use]
pub fn about(spec: &ScheduleSpec) -> String {
    let verb = match &spec.work {
        None => "",
        Some(Work::Backup(_)) => "backup",
        Some(Work::Check(_)) => "check",
        Some(Work::Verify(_)) => "verify",
        Some(Work::Prune(_)) => "prune",
    };
    let when = match &spec.when {
        None => String::new(),
        Some(When::Cron(cron)) => format!("{cron} {}", if spec.zone.is_empty() { "UTC" } else { &spec.zone }),
        Some(When::Every(every)) => format!("each {}", read_duration(Some(every)).map_or_else(|| NOTHING.to_owned(), rounded)),
    };
    format!("{verb} of {}, {when}", spec.components.join(", "))
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{Operation, OperationState, Pause, ScheduledBackup};

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn nightly() -> ScheduleStatus {
        ScheduleStatus {
            schedule: "nightly".into(),
            component: "orders-db".into(),
            verb: "backup".into(),
            timing: "0 2 * * * UTC".into(),
            next_at: at(93_600),
            last_planned_at: at(7_200),
            last: Some(Operation { id: "3f2a91c0".repeat(4), state: OperationState::Succeeded.into(), ..Operation::default() }),
            ..ScheduleStatus::default()
        }
    }

    #[test]
    fn a_schedule_tells_its_next_run_its_last_one_and_that_ones_operation() {
        assert_eq!(
            list(&[nightly()], Timestamp(10_800_000_000)),
            "SCHEDULE  COMPONENT  DOES    WHEN           NEXT                                LAST    OPERATION\n\
             nightly   orders-db  backup  0 2 * * * UTC  1970-01-02 02:00:00Z (in 23h)  1h ago  3f2a91c0 succeeded\n"
                .replace("NEXT                                LAST", "NEXT                           LAST")
        );
    }

    #[test]
    fn what_did_not_run_is_told_with_the_reason() {
        let pause = Pause {
            component: "orders-db".into(),
            until: at(14_400),
            by: "operator/ada".into(),
            reason: "disks".into(),
            ..Pause::default()
        };
        let waits = ScheduleStatus {
            waiting_planned_at: at(7_200),
            waiting_for: "operation 77 stands against it".into(),
            left_out: "3 runs were left out".into(),
            pause: Some(pause),
            ..nightly()
        };
        let text = list(&[waits], Timestamp(10_800_000_000));
        for expected in [
            "  PAUSED  ",
            "nightly of orders-db: ! PAUSED by operator/ada until 1970-01-01 04:00:00Z (in 1h): disks",
            "nightly of orders-db: ! the run of 1970-01-01 02:00:00Z WAITS: operation 77 stands against it\n",
            "nightly of orders-db: 3 runs were left out\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
    }

    #[test]
    fn a_declared_schedule_is_told_in_a_few_words() {
        let spec = ScheduleSpec {
            components: vec!["docs".into(), "orders-db".into()],
            when: Some(When::Every(prost_types::Duration { seconds: 21_600, nanos: 0 })),
            work: Some(Work::Backup(ScheduledBackup::default())),
            ..ScheduleSpec::default()
        };
        assert_eq!(about(&spec), "backup of docs, orders-db, each 6h");
    }
}
