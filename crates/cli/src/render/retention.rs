//! What stays and what goes: the result of a prune, of a hold, and what is known of a point.

use muster_wire::proto::v1::{HoldResult, PointFate, PruneResult};

use super::amount::{bytes, counted, instant, instant_or_nothing, read_instant, short};
use super::table;

/// `stays: young enough`, `goes: no rule keeps it`, `held until …`.
#[must_use]
pub fn fate(fate: &PointFate) -> String {
    if let Some(until) = read_instant(fate.held_until.as_ref()) {
        return format!("held until {}", instant(until));
    }
    match (fate.stays, fate.marked_at.as_ref()) {
        (true, _) => String::new(),
        (false, Some(_)) => "marked to go".to_owned(),
        (false, None) => "would go".to_owned(),
    }
}

fn state(point: &PointFate, dry_run: bool) -> &'static str {
    match (point.stays, point.removed) {
        (true, _) => "stays",
        (false, true) if dry_run => "goes now",
        (false, true) => "removed",
        (false, false) => "goes",
    }
}

/// What a prune did or would do.
#[must_use]
pub fn prune(result: &PruneResult) -> String {
    let row = |point: &PointFate| {
        vec![
            short(&point.point_id).to_owned(),
            instant_or_nothing(point.stored_at.as_ref()),
            bytes(point.bytes_alone),
            state(point, result.dry_run).to_owned(),
            point.why.clone(),
        ]
    };
    let rows: Vec<_> = result.points.iter().map(row).collect();
    let mut text = table::table(&["POINT", "STORED", "ALONE", "", "WHY"], &rows, "  ");
    if result.more_points > 0 {
        text.push_str(&format!("  and {} that are not shown\n", counted(result.more_points, "point")));
    }
    let would = if result.dry_run { "would be " } else { "" };
    let lines = [
        (result.removed_packs, result.removed_bytes, format!("{would}removed")),
        (result.marked_packs, result.marked_bytes, format!("{would}marked")),
        (result.waiting_packs, result.waiting_bytes, "marked before and waiting".to_owned()),
    ];
    for (number, size, what) in lines.iter().filter(|(number, _, _)| *number > 0) {
        text.push_str(&format!("  {} of {} {what}\n", counted(*number, "pack"), bytes(*size)));
    }
    for note in &result.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    if let (Some(at), false) = (read_instant(result.next_at.as_ref()), result.dry_run) {
        text.push_str(&format!("  what is marked can go from {} on, by another prune\n", instant(at)));
    }
    text
}

/// What became of a hold.
#[must_use]
pub fn hold(result: &HoldResult) -> String {
    match read_instant(result.until.as_ref()) {
        Some(until) => format!("  {} is held until {}\n", short(&result.point_id), instant(until)),
        None if result.ended == 0 => format!("  nothing held {}\n", short(&result.point_id)),
        None => format!("  {} is held no more\n", short(&result.point_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prune_tells_each_point_with_its_reason_and_when_to_come_again() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let point = |id: &str, stays, why: &str| PointFate {
            point_id: id.repeat(4),
            stored_at: at(0),
            stays,
            why: why.into(),
            bytes_alone: 1 << 20,
            ..PointFate::default()
        };
        let result = PruneResult {
            points: vec![point("9c1e0a12", true, "the newest good one"), point("3f2a91c0", false, "no rule keeps it")],
            marked_packs: 2,
            marked_bytes: 1 << 20,
            next_at: at(172_800),
            ..PruneResult::default()
        };
        assert_eq!(
            prune(&result),
            "  POINT     STORED                ALONE           WHY\n  \
               9c1e0a12  1970-01-01 00:00:00Z  1.0 MiB  stays  the newest good one\n  \
               3f2a91c0  1970-01-01 00:00:00Z  1.0 MiB  goes   no rule keeps it\n  \
               2 packs of 1.0 MiB marked\n  \
               what is marked can go from 1970-01-03 00:00:00Z on, by another prune\n"
        );
    }
}
