//! Which points stay, and why: a pure decision over what is there.
//!
//! What always holds: of each kind of backup the newest good point stays, and everything that is not older than it. Only good points
//! count, and age is told by the store's clock alone, so that nobody who can write into a repository has others removed by it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::id::PointId;
use muster_common::time::Timestamp;

/// What a component's owner wants to keep. Whatever one of the rules keeps stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Points that are younger.
    pub keep_within: Option<Duration>,
    /// So many of the newest good points of each kind of backup.
    pub keep_last: Option<u32>,
}

impl Rules {
    /// Whether they would ever remove anything.
    #[must_use]
    pub const fn keep_everything(&self) -> bool {
        self.keep_within.is_none() && self.keep_last.is_none()
    }
}

/// A point, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub point: PointId,
    /// What kind of backup. A dump does not supersede a backup of files.
    pub kind: String,
    /// When the store took it, by the store's clock.
    pub stored_at: Timestamp,
    /// Published too late: never acknowledged, and parts of it may be gone.
    pub late: bool,
    /// Something of its source was damaged when it was taken.
    pub damaged: bool,
    /// Something that it needs is not there.
    pub hurt: bool,
    /// Held until then, and why.
    pub held: Option<(Timestamp, String)>,
}

impl Candidate {
    const fn is_good(&self) -> bool {
        !self.late && !self.damaged && !self.hurt
    }
}

/// What becomes of a point, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep(Keep),
    /// It may go.
    Remove(Remove),
}

/// Why a point stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing was said about what may go.
    NoRules,
    /// It is held until then.
    Held(Timestamp, String),
    /// It is the newest good one of its kind.
    Newest,
    /// No good point of its kind is newer.
    NotSuperseded,
    /// The store's clock says that it comes from the future.
    Future,
    /// It is young enough.
    Within,
    /// It is the nth of the newest good ones.
    Last(u32),
}

/// Why a point may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remove {
    /// No rule keeps it.
    NoRuleKeepsIt,
    /// It was never acknowledged.
    NeverAcknowledged,
}

impl Decision {
    /// Whether it stays.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        matches!(self, Self::Keep(_))
    }

    /// Why, in words; instants are left to the caller.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Keep(Keep::NoRules) => "no rule says what may go".into(),
            Self::Keep(Keep::Held(_, reason)) => format!("held: {reason}"),
            Self::Keep(Keep::Newest) => "the newest good one".into(),
            Self::Keep(Keep::NotSuperseded) => "no good one is newer".into(),
            Self::Keep(Keep::Future) => "its time lies in the future".into(),
            Self::Keep(Keep::Within) => "young enough".into(),
            Self::Keep(Keep::Last(n)) => format!("number {n} of the newest"),
            Self::Remove(Remove::NoRuleKeepsIt) => "no rule keeps it".into(),
            Self::Remove(Remove::NeverAcknowledged) => "it was published too late and never acknowledged".into(),
        }
    }
}

/// What becomes of each point at `now`, by the store's clock.
#[must_use]
pub fn decide(points: &[Candidate], rules: &Rules, now: Timestamp) -> BTreeMap<PointId, Decision> {
    let mut kinds: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for point in points {
        kinds.entry(&point.kind).or_default().push(point);
    }
    kinds.into_values().flat_map(|points| of_one_kind(points, rules, now)).collect()
}

fn of_one_kind(mut points: Vec<&Candidate>, rules: &Rules, now: Timestamp) -> Vec<(PointId, Decision)> {
    // Newest first.
    points.sort_by_key(|point| std::cmp::Reverse((point.stored_at, point.point)));
    let (mut superseded, mut good) = (false, 0);
    let decide = |point: &&Candidate| {
        let future = point.stored_at > now;
        let counts = point.is_good() && !future;
        let newest = counts && !superseded;
        let was_superseded = superseded;
        superseded |= counts;
        good += u32::from(counts);
        let age = now.since(point.stored_at);
        let decision = match &point.held {
            Some((until, reason)) if *until > now => Decision::Keep(Keep::Held(*until, reason.clone())),
            Some(_) | None if rules.keep_everything() => Decision::Keep(Keep::NoRules),
            Some(_) | None if newest => Decision::Keep(Keep::Newest),
            Some(_) | None if future => Decision::Keep(Keep::Future),
            Some(_) | None if !was_superseded => Decision::Keep(Keep::NotSuperseded),
            Some(_) | None if point.late => Decision::Remove(Remove::NeverAcknowledged),
            Some(_) | None if rules.keep_within.is_some_and(|within| age <= within) => Decision::Keep(Keep::Within),
            Some(_) | None if counts && rules.keep_last.is_some_and(|last| good <= last) => Decision::Keep(Keep::Last(good)),
            Some(_) | None => Decision::Remove(Remove::NoRuleKeepsIt),
        };
        (point.point, decision)
    };
    points.iter().map(decide).collect()
}

#[cfg(test)]
mod tests;
