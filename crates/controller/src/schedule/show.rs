//! Schedules as they are shown. Pure.

use muster_common::time::Timestamp;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::v1::schedule_spec::Work;
use muster_wire::proto::v1::{Operation, ScheduleSpec, ScheduleStatus};

use crate::schedule::lane::Lane;
use crate::schedule::pause::Pause;
use crate::schedule::timing::Timing;

/// What a schedule does, in one word.
#[must_use]
pub const fn verb(spec: &ScheduleSpec) -> &'static str {
    match &spec.work {
        Some(Work::Backup(_)) => "backup",
        Some(Work::Check(_)) => "check",
        Some(Work::Verify(_)) => "verify",
        Some(Work::Prune(_)) => "prune",
        None => "",
    }
}

/// A schedule for one component. `lane`: absent until the schedule was taken; `pause`: what holds now.
#[must_use]
pub fn status(
    (schedule, spec): (&str, &ScheduleSpec),
    component: &str,
    lane: Option<&Lane>,
    last: Option<Operation>,
    pause: Option<&Pause>,
    now: Timestamp,
) -> ScheduleStatus {
    let timing = Timing::read(spec);
    let next = timing.as_ref().ok().and_then(|timing| match lane {
        Some(lane) => lane.next_start(timing, now),
        None => timing.after(now),
    });
    ScheduleStatus {
        schedule: schedule.to_owned(),
        component: component.to_owned(),
        verb: verb(spec).to_owned(),
        timing: match &timing {
            Ok(timing) => timing.text().to_owned(),
            Err(wrong) => format!("cannot be read: {}: {}", wrong.field, wrong.reason),
        },
        next_at: next.map(timestamp_to_proto),
        last_planned_at: lane.and_then(|lane| lane.last).map(|last| timestamp_to_proto(last.planned)),
        last,
        waiting_planned_at: lane.and_then(|lane| lane.waiting.as_ref()).map(|waiting| timestamp_to_proto(waiting.planned)),
        waiting_for: lane.and_then(|lane| lane.waiting.as_ref()).map(|waiting| waiting.why.clone()).unwrap_or_default(),
        left_out: lane.map(|lane| lane.left_out.clone()).unwrap_or_default(),
        pause: pause.map(Pause::to_proto),
    }
}
