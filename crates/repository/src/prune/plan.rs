//! What a prune marks and removes: pure, from what it saw and what the rules say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use muster_common::id::{PackId, PointId};
use muster_common::time::Timestamp;

use super::{PointFate, PruneReport, Seen};
use crate::retention::Decision;

/// What one run does, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mark_points: Vec<PointId>,
    pub(super) mark_packs: Vec<PackId>,
    pub(super) remove_points: Vec<PointId>,
    pub(super) remove_packs: Vec<PackId>,
}

/// Whether what is marked since then may be removed.
fn is_ripe(marked: Timestamp, now: Timestamp, grace: Duration) -> bool {
    now >= marked.plus(grace)
}

pub(super) fn plan(seen: &Seen, decisions: &BTreeMap<PointId, Decision>, grace: Duration) -> Plan {
    let goes = |point: &PointId| decisions.get(point).is_some_and(|decision| !decision.keeps());
    let ripe = |marked: Option<&Timestamp>| marked.is_some_and(|marked| is_ripe(*marked, seen.now, grace));
    let mut plan = Plan::default();
    // What points that stay need; what those need that go, but not yet.
    let (mut needed, mut still_needed, mut going) = (HashSet::new(), HashSet::new(), BTreeSet::new());
    for point in &seen.points {
        let marked = seen.marks.points.get(&point.point);
        if !goes(&point.point) {
            needed.extend(point.packs.iter().copied());
            continue;
        }
        if marked.is_none() {
            plan.mark_points.push(point.point);
        }
        if ripe(marked) {
            plan.remove_points.push(point.point);
        } else {
            still_needed.extend(point.packs.iter().copied());
        }
        going.extend(point.packs.iter().copied());
    }
    for (pack, found) in &seen.packs {
        if needed.contains(pack) {
            continue;
        }
        match seen.marks.packs.get(pack) {
            // A backup that runs names its packs in a point at last. One that is so old belongs to none.
            None if going.contains(pack) || is_ripe(found.modified, seen.now, grace) => plan.mark_packs.push(*pack),
            None => {}
            marked @ Some(_) if ripe(marked) && !still_needed.contains(pack) => plan.remove_packs.push(*pack),
            Some(_) => {}
        }
    }
    plan
}

/// What the plan says, before anything of it is done.
pub(super) fn report(seen: &Seen, decisions: &BTreeMap<PointId, Decision>, plan: &Plan, grace: Duration) -> PruneReport {
    let size = |pack: &PackId| seen.packs.get(pack).map_or(0, |pack| pack.size);
    let mut users: HashMap<PackId, u32> = HashMap::new();
    for pack in seen.points.iter().flat_map(|point| &point.packs) {
        *users.entry(*pack).or_default() += 1;
    }
    let marking: HashSet<PointId> = plan.mark_points.iter().copied().collect();
    let removing: HashSet<PointId> = plan.remove_points.iter().copied().collect();
    let kinds: HashMap<PointId, &str> = seen.candidates.iter().map(|candidate| (candidate.point, candidate.kind.as_str())).collect();
    let fate = |point: &crate::repository::PointListing| {
        let alone = point.packs.iter().filter(|pack| users.get(pack) == Some(&1));
        let marked = seen.marks.points.get(&point.point).copied();
        Some(PointFate {
            point: point.point,
            stored_at: point.stored_at,
            label: seen.labels.get(&point.point).cloned().unwrap_or_default(),
            kind: kinds.get(&point.point).map(|kind| (*kind).to_owned()).unwrap_or_default(),
            bytes_alone: alone.map(size).sum(),
            decision: decisions.get(&point.point)?.clone(),
            marked_at: marked.or(marking.contains(&point.point).then_some(seen.now)),
            removed: removing.contains(&point.point),
        })
    };
    let waiting: Vec<&PackId> =
        seen.packs.keys().filter(|pack| seen.marks.packs.get(*pack).is_some_and(|marked| !is_ripe(*marked, seen.now, grace))).collect();
    let points: Vec<PointFate> = seen.points.iter().rev().filter_map(fate).collect();
    let next_points = points.iter().filter(|fate| !fate.decision.keeps() && !fate.removed).filter_map(|fate| fate.marked_at);
    let next_packs = waiting.iter().filter_map(|pack| seen.marks.packs.get(*pack).copied());
    let marked_now = (!plan.mark_packs.is_empty()).then_some(seen.now);
    let unreadable = seen.marks.unreadable.iter().map(|damage| format!("a mark of an earlier prune cannot be read: {damage}"));
    PruneReport {
        at: seen.now,
        next_at: next_points.chain(next_packs).chain(marked_now).min().map(|marked| marked.plus(grace)),
        packs: seen.packs.len() as u64,
        bytes: seen.packs.values().map(|pack| pack.size).sum(),
        marked_packs: plan.mark_packs.len() as u64,
        marked_bytes: plan.mark_packs.iter().map(size).sum(),
        waiting_packs: waiting.len() as u64,
        waiting_bytes: waiting.into_iter().map(size).sum(),
        removed_packs: plan.remove_packs.len() as u64,
        removed_bytes: plan.remove_packs.iter().map(size).sum(),
        notes: unreadable.collect(),
        points,
    }
}

/// Tells what was removed instead of what was to be.
pub(super) fn tell_removed(report: &mut PruneReport, seen: &Seen, plan: &Plan, packs: &[PackId]) {
    report.removed_packs = packs.len() as u64;
    report.removed_bytes = packs.iter().filter_map(|pack| seen.packs.get(pack)).map(|pack| pack.size).sum();
    let kept = plan.remove_packs.len() - packs.len();
    if kept > 0 {
        report.notes.push(format!("{kept} packs stay: a point that was published meanwhile needs them"));
    }
}
