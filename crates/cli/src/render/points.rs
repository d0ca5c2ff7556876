//! Recovery points.

use muster_common::time::Timestamp;
use muster_wire::proto::v1::RecoveryPoint;

use super::amount::{age, bytes, count, instant_or_nothing, position, short};
use super::{retention, table};

/// A table, newest first, and what to type with it.
#[must_use]
pub fn list(component: &str, points: &[RecoveryPoint], now: Timestamp) -> String {
    let Some(newest) = points.first() else {
        return format!("{component} has no recovery points\nHINT: `muster backup {component}` takes one\n");
    };
    let row = |point: &RecoveryPoint| {
        let damage = if point.damaged_pages > 0 { format!("{} damaged pages", count(point.damaged_pages)) } else { String::new() };
        let fate = point.fate.as_ref().map(retention::fate).unwrap_or_default();
        let label = [point.label.clone(), damage, fate].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        vec![
            short(&point.id).to_owned(),
            instant_or_nothing(point.finished_at.as_ref()),
            age(point.finished_at.as_ref(), now),
            position(point.position.as_ref()),
            bytes(point.bytes_total),
            bytes(point.bytes_stored),
            point.instance.clone(),
            point.repository.clone(),
            label,
        ]
    };
    let rows: Vec<_> = points.iter().map(row).collect();
    let headings = ["POINT", "REACHES", "AGE", "POSITION", "RESTORES", "ADDED", "FROM", "REPOSITORY", "LABEL"];
    let table = table::table(&headings, &rows, "");
    format!("{table}\n`muster restore {component} --point {} --dry-run` tells what a restore would do\n", short(&newest.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_listed_with_what_they_reach_and_what_to_type() {
        let now = Timestamp(1_764_000_000_000_000);
        let point = RecoveryPoint {
            id: "9c1e0a12".repeat(4),
            component: "orders-db".into(),
            instance: "istanbul".into(),
            repository: "primary".into(),
            label: "before the migration".into(),
            finished_at: Some(prost_types::Timestamp { seconds: 1_763_999_818, nanos: 0 }),
            bytes_total: 1 << 30,
            bytes_stored: 1 << 20,
            damaged_pages: 3,
            ..RecoveryPoint::default()
        };
        assert_eq!(
            list("orders-db", &[point], now),
            "POINT     REACHES               AGE        POSITION  RESTORES  ADDED    FROM      REPOSITORY  LABEL\n\
             9c1e0a12  2025-11-24 15:56:58Z  3m 2s ago  -         1.0 GiB   1.0 MiB  istanbul  primary     before the migration; 3 damaged pages\n\
             \n\
             `muster restore orders-db --point 9c1e0a12 --dry-run` tells what a restore would do\n"
        );
    }

    #[test]
    fn no_points_are_told_with_how_to_take_one() {
        assert!(list("orders-db", &[], Timestamp(0)).ends_with("HINT: `muster backup orders-db` takes one\n"));
    }
}
