//! Prune: in two runs at least, without locks, whole packs only. The first marks what may go; one that comes a grace time later
//! removes what is still not needed. Which points go is told by rules; which packs go follows from the points' clear lists.
//!
//! What always holds:
//! - Nothing is removed that a listed point needs, and no point that stays by rule, by hold, or because it is the newest good one.
//! - What is removed was marked for the grace time by the store's clock, and points and holds were listed after that.
//! - Where it cannot know what is needed (a point, a hold, a clock that makes no sense), it removes nothing and says why.
//! - It can be killed anywhere: the next run goes on.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use muster_common::id::{ComponentId, PackId, PointId};
use muster_common::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Damage, Error};
use crate::format::layout;
use crate::holds::Hold;
use crate::keys::DataKeys;
use crate::marks::Marks;
use crate::repository::{AT_ONCE, PointListing, Repository};
use crate::retention::{Candidate, Decision, Rules, decide};
use crate::store::probe::PROBES;

/// How far the store's clock and this machine's may be apart.
const MAX_CLOCK_OFF: Duration = Duration::from_secs(3600);

/// What to prune, and how.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// Which points stay. Needs the component's keys; nothing said: all of them.
    pub rules: Rules,
    /// Only tell what would be done. Writes nothing.
    pub dry_run: bool,
    /// Stops it.
    pub cancel: CancellationToken,
}

/// What becomes of one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointFate {
    /// The point.
    pub point: PointId,
    /// When the store took it.
    pub stored_at: Timestamp,
    /// Its label and kind, where the keys were there.
    pub label: String,
    /// See `label`.
    pub kind: String,
    /// Bytes of the packs that no other point needs.
    pub bytes_alone: u64,
    /// Whether it stays, and why.
    pub decision: Decision,
    /// Since when it is marked, by this run or an earlier one.
    pub marked_at: Option<Timestamp>,
    /// Whether this run removed it.
    pub removed: bool,
}

/// What a prune found and did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The store's time when it began.
    pub at: Timestamp,
    /// The points, newest first.
    pub points: Vec<PointFate>,
    /// Packs that were there.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that it marked.
    pub marked_packs: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Packs that were marked before, and not long enough.
    pub waiting_packs: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Packs that it removed.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// From when on a further run can remove something that is marked.
    pub next_at: Option<Timestamp>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Everything that is decided from, listed after [`Seen::now`].
struct Seen {
    now: Timestamp,
    marks: Marks,
    points: Vec<PointListing>,
    holds: Vec<Hold>,
    packs: BTreeMap<PackId, PackSeen>,
    candidates: Vec<Candidate>,
    labels: BTreeMap<PointId, String>,
}

/// A pack as it was listed.
#[derive(Clone, Copy, Debug)]
struct PackSeen {
    size: u64,
    modified: Timestamp,
}

impl Repository {
    /// Prunes one component. `removed` counts objects that are gone. Without keys no point goes, only packs that none needs.
    ///
    /// # Errors
    /// [`Error::PruneStopped`] where it cannot know what is needed; what a store can do; [`Error::Cancelled`].
    pub async fn prune(
        &self,
        component: ComponentId,
        keys: Option<&DataKeys>,
        options: &PruneOptions,
        removed: &AtomicU64,
    ) -> Result<PruneReport, Error> {
        if keys.is_none() && !options.rules.keep_everything() {
            let what = "points are removed by rules only where the component's key proves them to be what they say";
            return Err(Error::Invalid(what.into()));
        }
        if let Some(keys) = keys
            && keys.component() != component
        {
            return Err(Error::Invalid(format!("the keys are of component {}, not of {component}", keys.component())));
        }
        tokio::select! {
            report = self.prune_component(component, keys, options, removed) => report,
            () = options.cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    async fn prune_component(
        &self,
        component: ComponentId,
        keys: Option<&DataKeys>,
        options: &PruneOptions,
        removed: &AtomicU64,
    ) -> Result<PruneReport, Error> {
        let seen = self.see(component, keys, options.dry_run).await?;
        let decisions = decide(&seen.candidates, &options.rules, seen.now);
        let plan = plan::plan(&seen, &decisions, self.grace());
        let mut report = plan::report(&seen, &decisions, &plan, self.grace());
        if options.dry_run {
            return Ok(report);
        }
        self.mark(component, &plan.mark_points, &plan.mark_packs).await?;
        let points = plan.remove_points.iter().map(|point| layout::point(component, *point)).collect();
        self.remove_all(points, removed).await?;
        // Points that were published meanwhile lean on nothing that is old enough to go; looking again costs little.
        let needed: HashSet<PackId> = self.readable_points(component).await?.into_iter().flat_map(|point| point.packs).collect();
        let packs: Vec<PackId> = plan.remove_packs.iter().copied().filter(|pack| !needed.contains(pack)).collect();
        let paths = packs.iter().map(|pack| layout::pack(component, *pack)).collect();
        self.remove_all(paths, removed).await?;
        plan::tell_removed(&mut report, &seen, &plan, &packs);
        self.sweep(component, &seen, removed).await?;
        Ok(report)
    }

    /// Looks at everything, in the order that makes it safe: time, marks, then what may be needed.
    async fn see(&self, component: ComponentId, keys: Option<&DataKeys>, dry_run: bool) -> Result<Seen, Error> {
        let here = self.store().here();
        let now = if dry_run { here } else { self.store().now().await? };
        let stopped = |why: String, hint: &'static str| Error::PruneStopped { component, why, hint };
        let off = now.since(here).max(here.since(now));
        if off > MAX_CLOCK_OFF {
            let off = muster_common::duration::show(off);
            return Err(stopped(
                format!("the store's clock and this machine's are {off} apart, and ages are told by them"),
                "set the clocks, then prune again",
            ));
        }
        let marks = self.read_marks(component, now).await?;
        let points = self.readable_points(component).await?;
        let holds = self.holds(component).await.map_err(|error| match error {
            Error::Damaged(damage) => stopped(
                format!("nobody knows what this holds: {damage}"),
                "where it is damaged, remove that object by hand; where a newer Muster wrote it, prune with that one",
            ),
            Error::Newer { object, .. } => stopped(format!("{object} was written by a newer Muster"), "upgrade this side"),
            other => other,
        })?;
        let listed = self.store().list(&layout::packs_of(component)).await?;
        let packs: BTreeMap<PackId, PackSeen> = listed
            .into_iter()
            .filter_map(|listed| Some((layout::parse_pack(&listed.path)?.1, PackSeen { size: listed.size, modified: listed.modified })))
            .collect();
        let newest = packs.values().map(|pack| pack.modified).chain(points.iter().map(|point| point.stored_at)).max();
        if let Some(newest) = newest
            && newest > now.plus(MAX_CLOCK_OFF)
        {
            let ahead = muster_common::duration::show(newest.since(now));
            return Err(stopped(format!("something was written {ahead} after now: the store's clock went back"), "set the store's clock"));
        }
        let grace = self.grace();
        if let Some(old) = points.iter().find(|point| point.marks_loaded.is_none() && now.since(point.stored_at) <= grace) {
            let why = format!("point {} was written by a Muster that knows nothing of prune", old.point);
            return Err(stopped(why, "upgrade every agent of the component, then prune when one grace time has passed"));
        }
        let mut seen = Seen { now, marks, points, holds, packs, candidates: Vec::new(), labels: BTreeMap::new() };
        self.add_candidates(keys, &mut seen).await?;
        Ok(seen)
    }

    /// All points of a component, each of which tells what it needs.
    async fn readable_points(&self, component: ComponentId) -> Result<Vec<PointListing>, Error> {
        let points = self.list_points(Some(component)).await?;
        match points.iter().find_map(|point| point.problem.as_ref()) {
            None => Ok(points),
            Some(damage) => Err(unreadable_point(component, damage)),
        }
    }

    async fn add_candidates(&self, keys: Option<&DataKeys>, seen: &mut Seen) -> Result<(), Error> {
        let grace = self.grace();
        let summaries: Vec<_> = match keys {
            None => seen.points.iter().map(|_| None).collect(),
            Some(keys) => {
                let ids: Vec<_> = seen.points.iter().map(|point| (point.component, point.point)).collect();
                let opened = stream::iter(ids)
                    .map(|(component, point)| async move { (component, self.point_summary(keys, component, point).await) })
                    .buffered(AT_ONCE);
                let opened: Vec<_> = opened.collect().await;
                opened.into_iter().map(|(component, outcome)| proved(component, outcome)).collect::<Result<_, _>>()?
            }
        };
        for (point, summary) in seen.points.iter().zip(summaries) {
            let hold = seen.holds.iter().filter(|hold| hold.point == point.point && hold.stands(seen.now)).max_by_key(|hold| hold.until);
            if let Some(summary) = &summary {
                seen.labels.insert(point.point, summary.details.label.clone());
            }
            seen.candidates.push(Candidate {
                point: point.point,
                kind: summary.as_ref().map(|summary| summary.details.kind.clone()).unwrap_or_default(),
                stored_at: point.stored_at,
                late: point.is_late(grace),
                damaged: summary.as_ref().is_some_and(|summary| !summary.details.damaged.is_empty()),
                hurt: point.packs.iter().any(|pack| !seen.packs.contains_key(pack)),
                held: hold.map(|hold| (hold.until, format!("{} ({})", hold.reason, hold.holder))),
            });
        }
        Ok(())
    }

    async fn remove_all(&self, paths: Vec<String>, removed: &AtomicU64) -> Result<(), Error> {
        let remove = |path: String| async move {
            self.store().remove(&path).await?;
            removed.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>(())
        };
        stream::iter(paths).map(remove).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Collects marks of which all is gone, holds that ended a grace time ago, and what probes left.
    async fn sweep(&self, component: ComponentId, seen: &Seen, removed: &AtomicU64) -> Result<(), Error> {
        let points = self.store().list(&layout::points_of(component)).await?;
        let points: HashSet<PointId> = points.into_iter().filter_map(|listed| Some(layout::parse_point(&listed.path)?.1)).collect();
        let packs = self.pack_sizes(component).await?;
        let done = seen.marks.objects.iter().filter(|mark| {
            !mark.packs.iter().any(|pack| packs.contains_key(pack)) && !mark.points.iter().any(|point| points.contains(point))
        });
        let done = done.map(|mark| mark.path.clone()).collect();
        self.remove_all(done, removed).await?;
        for hold in seen.holds.iter().filter(|hold| !hold.stands(seen.now) && seen.now.since(hold.stored_at.max(hold.until)) > self.grace())
        {
            // The last word goes last: an earlier one must not count again.
            for n in 1..=hold.words {
                self.remove_all(vec![layout::hold(component, hold.id, n)], removed).await?;
            }
        }
        let probes = self.store().list(PROBES).await?.into_iter().filter(|listed| seen.now.since(listed.modified) > self.grace());
        self.remove_all(probes.map(|listed| listed.path).collect(), removed).await
    }
}

/// A point that its key does not open may need anything.
fn proved<T>(component: ComponentId, outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(summary) => Ok(Some(summary)),
        Err(Error::Damaged(damage)) => Err(unreadable_point(component, &damage)),
        Err(Error::Newer { object, needed, .. }) => {
            Err(Error::PruneStopped { component, why: format!("{object} needs a reader of version {needed}"), hint: "upgrade this side" })
        }
        Err(Error::NoPoint { point, .. }) => Err(Error::PruneStopped {
            component,
            why: format!("point {point} went away meanwhile: another prune runs"),
            hint: "prune again when the other one has ended",
        }),
        Err(other) => Err(other),
    }
}

fn unreadable_point(component: ComponentId, damage: &Damage) -> Error {
    let hint = "bring that object back from a copy; where nobody can, and nobody needs that point, remove the object by hand";
    Error::PruneStopped { component, why: format!("nobody knows what this point needs: {damage}"), hint }
}
