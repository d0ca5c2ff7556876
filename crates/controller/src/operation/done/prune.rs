//! What came of a prune or a hold, as it is journaled.

use muster_common::fault::Fault;
use muster_common::id::PointId;
use muster_common::time::Timestamp;
use muster_wire::convert::{id_from_proto, timestamp_from_proto, timestamp_to_proto};
use muster_wire::proto::v1;
use serde::{Deserialize, Serialize};

/// Points and notes that are kept of an outcome.
const MOST: usize = 1_000;

/// See `muster.v1.PruneResult`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneDone {
    /// Whether it only told.
    pub dry_run: bool,
    /// What becomes of each point, newest first.
    pub points: Vec<(PointId, Told)>,
    /// Points that are not told of.
    pub more_points: u64,
    /// Points removed.
    pub removed_points: u64,
    /// Packs removed.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs marked.
    pub marked_packs: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Packs that wait.
    pub waiting_packs: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// From when on something that is marked can go.
    pub next_at: Option<Timestamp>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// See `muster.v1.PointFate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When the store took it.
    pub stored_at: Option<Timestamp>,
    /// Whether it stays.
    pub stays: bool,
    /// Why.
    pub why: String,
    /// Bytes that no other point needs.
    pub bytes_alone: u64,
    /// Since when it is marked.
    pub marked_at: Option<Timestamp>,
    /// Until when it is held.
    pub held_until: Option<Timestamp>,
    /// Whether it is gone, or would go now.
    pub removed: bool,
}

/// See `muster.v1.HoldResult`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDone {
    /// Until when the point is held. `None`: it was let go.
    pub until: Option<Timestamp>,
    /// How many holds ended.
    pub ended: u64,
}

/// What is known of a point from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is gone.
    Gone(PointId),
    /// What was told of it.
    Told(PointId, Told),
}

fn instant(at: Option<&prost_types::Timestamp>, field: &str) -> Result<Option<Timestamp>, Fault> {
    at.map(|at| timestamp_from_proto(at, field)).transpose()
}

impl Told {
    fn from_proto(fate: &v1::PointFate) -> Result<(PointId, Self), Fault> {
        let told = Self {
            stored_at: instant(fate.stored_at.as_ref(), "prune.points.stored_at")?,
            stays: fate.stays,
            why: fate.why.chars().take(600).collect(),
            bytes_alone: fate.bytes_alone,
            marked_at: instant(fate.marked_at.as_ref(), "prune.points.marked_at")?,
            held_until: instant(fate.held_until.as_ref(), "prune.points.held_until")?,
            removed: fate.removed,
        };
        Ok((id_from_proto(&fate.point_id, "prune.points.point_id")?, told))
    }

    /// As it is sent.
    #[must_use]
    pub fn to_proto(&self, point: PointId) -> v1::PointFate {
        v1::PointFate {
            point_id: point.to_string(),
            stored_at: self.stored_at.map(timestamp_to_proto),
            stays: self.stays,
            why: self.why.clone(),
            bytes_alone: self.bytes_alone,
            marked_at: self.marked_at.map(timestamp_to_proto),
            held_until: self.held_until.map(timestamp_to_proto),
            removed: self.removed,
        }
    }
}

impl PruneDone {
    /// # Errors
    /// Where an id or an instant is none.
    pub(super) fn from_proto(done: &v1::PruneResult) -> Result<Self, Fault> {
        let beyond = done.points.len().saturating_sub(MOST) as u64;
        Ok(Self {
            dry_run: done.dry_run,
            points: done.points.iter().take(MOST).map(Told::from_proto).collect::<Result<_, _>>()?,
            more_points: done.more_points.saturating_add(beyond),
            removed_points: done.removed_points,
            removed_packs: done.removed_packs,
            removed_bytes: done.removed_bytes,
            marked_packs: done.marked_packs,
            marked_bytes: done.marked_bytes,
            waiting_packs: done.waiting_packs,
            waiting_bytes: done.waiting_bytes,
            next_at: instant(done.next_at.as_ref(), "prune.next_at")?,
            notes: done.notes.iter().take(MOST).cloned().collect(),
        })
    }

    pub(super) fn to_proto(&self) -> v1::PruneResult {
        v1::PruneResult {
            dry_run: self.dry_run,
            points: self.points.iter().map(|(point, told)| told.to_proto(*point)).collect(),
            more_points: self.more_points,
            removed_points: self.removed_points,
            removed_packs: self.removed_packs,
            removed_bytes: self.removed_bytes,
            marked_packs: self.marked_packs,
            marked_bytes: self.marked_bytes,
            waiting_packs: self.waiting_packs,
            waiting_bytes: self.waiting_bytes,
            next_at: self.next_at.map(timestamp_to_proto),
            notes: self.notes.clone(),
        }
    }
}

impl HoldDone {
    /// # Errors
    /// Where an instant is none.
    pub(super) fn from_proto(done: &v1::HoldResult) -> Result<Self, Fault> {
        Ok(Self { until: instant(done.until.as_ref(), "hold.until")?, ended: done.ended })
    }

    pub(super) fn to_proto(&self, point: Option<PointId>) -> v1::HoldResult {
        v1::HoldResult {
            point_id: point.map(|point| point.to_string()).unwrap_or_default(),
            until: self.until.map(timestamp_to_proto),
            ended: self.ended,
        }
    }
}
