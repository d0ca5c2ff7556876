//! What will be lost or replaced, told before it happens.

use std::time::Duration;

use muster_common::time::Timestamp;
use muster_wire::proto::v1::{ComponentStatus, RecoveryPoint};

use super::amount::{age, bytes, duration_or_nothing, instant_or_nothing, position, rounded, short};
use super::{status, table};

/// How long an old directory is kept where nothing else is asked for (`RestoreRequest.keep_old`).
const KEPT: Duration = Duration::from_secs(86_400);

/// A point in words.
#[must_use]
pub fn point(point: &RecoveryPoint, now: Timestamp) -> String {
    let at = point.finished_at.as_ref();
    format!("{} of {} ({}), {}", short(&point.id), instant_or_nothing(at), age(at, now), position(point.position.as_ref()))
}

/// What a restore in place replaces, and whom it leaves behind.
#[must_use]
pub fn in_place(component: &ComponentStatus, instance: &str, point: &str, keep_old: Option<Duration>, now: Timestamp) -> String {
    let found = component.instances.iter().find(|known| known.name == instance);
    let seen = found.and_then(|found| found.observation.as_ref());
    let present = match seen {
        None => "never seen by an agent".to_owned(),
        Some(seen) => format!(
            "{}, {}, {}, seen {} ago",
            status::role(seen.role()),
            position(seen.position.as_ref()),
            seen.data_bytes.map_or_else(|| "size unknown".to_owned(), bytes),
            duration_or_nothing(found.and_then(|found| found.age.as_ref()))
        ),
    };
    let mut rows = vec![
        ("now", present),
        ("back to", format!("point {point}")),
        ("LOST", "everything that was written after that point; clients are cut off".to_owned()),
        ("kept", format!("the present directory, aside, for {}; `muster discard` removes it earlier", rounded(keep_old.unwrap_or(KEPT)))),
    ];
    if component.writer == instance {
        let others: Vec<&str> = component.instances.iter().map(|known| known.name.as_str()).filter(|name| *name != instance).collect();
        let followers = if others.is_empty() { String::new() } else { format!("; superseded until seeded anew: {}", others.join(", ")) };
        rows.push(("epoch", format!("it is the writer: epoch {} begins{followers}", component.epoch + 1)));
    }
    if let Some(running) = component.running.first() {
        rows.push(("runs", format!("{}, started {}", super::operation::title(running), age(running.created_at.as_ref(), now))));
    }
    format!("Restore {}/{instance} in place:\n{}", component.name, table::labelled(&rows, "  "))
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{InstanceRole, InstanceStatus, Observation};

    use super::*;

    #[test]
    fn a_restore_in_place_tells_what_is_lost_what_is_kept_and_who_is_left_behind() {
        let istanbul = InstanceStatus {
            name: "istanbul".into(),
            observation: Some(Observation { role: InstanceRole::ReadWrite.into(), data_bytes: Some(1 << 30), ..Observation::default() }),
            age: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..InstanceStatus::default()
        };
        let ankara = InstanceStatus { name: "ankara".into(), ..InstanceStatus::default() };
        let component = ComponentStatus {
            name: "orders-db".into(),
            writer: "istanbul".into(),
            epoch: 1,
            instances: vec![istanbul, ankara],
            ..ComponentStatus::default()
        };
        let now = Timestamp(1_764_000_000_000_000);
        let back = RecoveryPoint {
            id: "9c1e0a12".repeat(4),
            finished_at: Some(prost_types::Timestamp { seconds: 1_763_999_818, nanos: 0 }),
            ..RecoveryPoint::default()
        };
        assert_eq!(
            in_place(&component, "istanbul", &point(&back, now), None, now),
            "Restore orders-db/istanbul in place:\n  \
             now      read-write, -, 1.0 GiB, seen 1s ago\n  \
             back to  point 9c1e0a12 of 2025-11-24 15:56:58Z (3m 2s ago), -\n  \
             LOST     everything that was written after that point; clients are cut off\n  \
             kept     the present directory, aside, for 1d; `muster discard` removes it earlier\n  \
             epoch    it is the writer: epoch 2 begins; superseded until seeded anew: ankara\n"
        );
    }
}
