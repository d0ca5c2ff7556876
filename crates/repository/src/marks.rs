//! The marks of prune, and how a writer keeps clear of them.
//!
//! What always holds: whoever publishes a point knows all marks that are older than half the grace time, and needs nothing that they
//! name. A mark is as old as the grace time before anything that it names is removed, and stays for as long as one of these is there.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use muster_common::id::{ComponentId, MarkId, PackId, PointId};
use muster_common::time::Timestamp;
use prost::Message;

use crate::error::{Damage, Error, StoreErrorKind};
use crate::format::bytes::rows16;
use crate::format::clear::{self, MAX_CLEAR_OBJECT};
use crate::format::message::Mark;
use crate::format::object::ObjectKind;
use crate::format::{MIN_READER, Malformed, check_reader, layout};
use crate::keys::{DataKeys, random};
use crate::reading::PointSummary;
use crate::repository::{AT_ONCE, Repository};
use crate::store::Listed;

/// The most ids in one mark.
const MAX_IDS: usize = 100_000;

/// One mark.
#[derive(Clone, Debug)]
pub(crate) struct MarkObject {
    pub(crate) path: String,
    pub(crate) packs: Vec<PackId>,
    pub(crate) points: Vec<PointId>,
}

/// All marks of a component, as they were loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// The store's time before they were loaded: none that is older is missing.
    pub(crate) loaded: Timestamp,
    /// Since when a pack is marked.
    pub(crate) packs: BTreeMap<PackId, Timestamp>,
    /// Since when a point is marked.
    pub(crate) points: BTreeMap<PointId, Timestamp>,
    pub(crate) objects: Vec<MarkObject>,
    /// What may be a mark and cannot be read.
    pub(crate) unreadable: Vec<Damage>,
}

/// Whether a point that the store took at `stored_at` may lean on what was marked after its writer had loaded the marks.
pub(crate) fn is_late(loaded: Timestamp, stored_at: Timestamp, grace: Duration) -> bool {
    stored_at > loaded.plus(grace / 2)
}

impl Repository {
    /// Loads a component's marks. Writes a probe, by which the store tells its time.
    pub(crate) async fn load_marks(&self, component: ComponentId) -> Result<Marks, Error> {
        let loaded = self.store().now().await?;
        self.read_marks(component, loaded).await
    }

    /// The same, where the store's time was asked before.
    pub(crate) async fn read_marks(&self, component: ComponentId, loaded: Timestamp) -> Result<Marks, Error> {
        let listed = self.store().list(&layout::marks_of(component)).await?;
        let read = stream::iter(listed).map(|listed| self.read_mark(component, listed)).buffered(AT_ONCE);
        let mut marks = Marks { loaded, ..Marks::default() };
        for (modified, outcome) in read.try_collect::<Vec<_>>().await?.into_iter().flatten() {
            match outcome {
                Ok(mark) => marks.add(mark, modified),
                Err(damage) => marks.unreadable.push(damage),
            }
        }
        Ok(marks)
    }

    /// `None`: prune removed it since it was listed, after all that it named.
    async fn read_mark(&self, component: ComponentId, listed: Listed) -> Result<Option<(Timestamp, Result<MarkObject, Damage>)>, Error> {
        let bytes = match self.store().get(&listed.path, MAX_CLEAR_OBJECT).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind == StoreErrorKind::Wrong => {
                return Ok(Some((listed.modified, Err(Damage { object: listed.path, offset: None, what: error.reason }))));
            }
            Err(error) => return Err(error.into()),
        };
        let parse = || {
            let mark = Mark::decode(clear::read(ObjectKind::Mark, &listed.path, &bytes)?);
            let mark = mark.map_err(|error| Malformed::wrong(error.to_string()))?;
            check_reader(mark.min_reader)?;
            if mark.repository != self.pin().id.as_bytes() || mark.component != component.as_bytes() {
                return Err(Malformed::wrong("it is of another repository or component"));
            }
            Ok(MarkObject {
                path: listed.path.clone(),
                packs: rows16(&mark.packs)?.into_iter().map(PackId::from_bytes).collect(),
                points: rows16(&mark.points)?.into_iter().map(PointId::from_bytes).collect(),
            })
        };
        let parsed = parse().map_err(|wrong| Damage { object: listed.path.clone(), offset: None, what: wrong.to_string() });
        Ok(Some((listed.modified, parsed)))
    }

    /// Marks points and packs, in as many objects as it takes.
    pub(crate) async fn mark(&self, component: ComponentId, points: &[PointId], packs: &[PackId]) -> Result<(), Error> {
        let mut points = points.chunks(MAX_IDS);
        let mut packs = packs.chunks(MAX_IDS);
        loop {
            let (some_points, some_packs) = (points.next().unwrap_or_default(), packs.next().unwrap_or_default());
            if some_points.is_empty() && some_packs.is_empty() {
                return Ok(());
            }
            let mark = Mark {
                min_reader: MIN_READER,
                repository: self.pin().id.as_bytes().to_vec(),
                component: component.as_bytes().to_vec(),
                packs: some_packs.iter().flat_map(|id| *id.as_bytes()).collect(),
                points: some_points.iter().flat_map(|id| *id.as_bytes()).collect(),
            };
            let path = layout::mark(component, MarkId::from_bytes(random()?));
            let bytes = clear::write(ObjectKind::Mark, &path, &mark.encode_to_vec()).map_err(|wrong| Error::Defect(wrong.to_string()))?;
            self.store().put_new(&path, bytes.into()).await?;
        }
    }

    /// Before a point is published: the time to be written into it as that of its marks. `begun` is what its writer knew when it chose
    /// what to lean on. Loading them once more lets a backup last longer than half the grace time.
    pub(crate) async fn settle_marks(
        &self,
        (component, point): (ComponentId, PointId),
        begun: &Marks,
        needed: &[(PackId, u64)],
    ) -> Result<Timestamp, Error> {
        let now = self.load_marks(component).await?;
        let marked = needed.iter().filter(|(pack, _)| now.packs.contains_key(pack)).count();
        if marked == 0 && now.unreadable.is_empty() {
            return Ok(now.loaded);
        }
        if is_late(begun.loaded, now.loaded, self.grace()) {
            let took = muster_common::duration::show(now.loaded.since(begun.loaded));
            let grace = muster_common::duration::show(self.grace());
            let why = match now.unreadable.first() {
                Some(damage) if marked == 0 => {
                    format!("{damage}, and after {took}, with a grace time of {grace}, it cannot be done without")
                }
                Some(_) | None => format!("it took {took}, and meanwhile prune marked {marked} of its packs (grace time {grace})"),
            };
            return Err(Error::TooLate { component, point, why });
        }
        Ok(begun.loaded)
    }

    /// After a point was published: whether it counts. Only then may it be told of.
    pub(crate) async fn acknowledge(
        &self,
        (component, point): (ComponentId, PointId),
        loaded: Timestamp,
        needed: &[(PackId, u64)],
    ) -> Result<Timestamp, Error> {
        let stored_at = self.store().look(&layout::point(component, point)).await?.modified;
        if is_late(loaded, stored_at, self.grace()) {
            let (late, grace) = (muster_common::duration::show(stored_at.since(loaded)), muster_common::duration::show(self.grace()));
            let why = format!("it was published {late} after its writer had looked at the marks of prune (grace time {grace})");
            return Err(Error::TooLate { component, point, why });
        }
        self.check_needed(component, needed).await?;
        Ok(stored_at)
    }

    /// A point that an earlier run of its writer published and may not have told of: what it is, where it counts.
    ///
    /// # Errors
    /// [`Error::TooLate`]; [`Error::Damaged`] where a pack of it is gone; what a store can do.
    pub async fn published(&self, keys: &DataKeys, component: ComponentId, point: PointId) -> Result<Option<PointSummary>, Error> {
        let Some(listing) = self.listing(component, point).await? else { return Ok(None) };
        let summary = self.point_summary(keys, component, point).await?;
        let sizes = self.pack_sizes(component).await?;
        let needed: Vec<(PackId, u64)> = listing.packs.iter().map(|pack| (*pack, sizes.get(pack).copied().unwrap_or(0))).collect();
        self.acknowledge((component, point), listing.marks_loaded.unwrap_or(listing.stored_at), &needed).await?;
        Ok(Some(summary))
    }

    /// Every pack that a point needs is there, with the length that it was read or written with.
    pub(crate) async fn check_needed(&self, component: ComponentId, needed: &[(PackId, u64)]) -> Result<(), Error> {
        let sizes = self.pack_sizes(component).await?;
        for (pack, size) in needed {
            let found = sizes.get(pack);
            if found != Some(size) {
                let what = format!("{found:?} bytes where {size} were there; the point does not count");
                return Err(Damage { object: layout::pack(component, *pack), offset: None, what }.into());
            }
        }
        Ok(())
    }
}

impl Marks {
    fn add(&mut self, mark: MarkObject, modified: Timestamp) {
        for pack in &mark.packs {
            let since = self.packs.entry(*pack).or_insert(modified);
            *since = modified.min(*since);
        }
        for point in &mark.points {
            let since = self.points.entry(*point).or_insert(modified);
            *since = modified.min(*since);
        }
        self.objects.push(mark);
    }

    /// Whether a new point may lean on this pack.
    pub(crate) fn allows(&self, pack: PackId) -> bool {
        self.unreadable.is_empty() && !self.packs.contains_key(&pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::message::Hold;

    /// Written by the first build that knew marks and holds; every later build reads them.
    #[test]
    fn the_golden_mark_and_hold_are_written_so_and_read_back() {
        let mark = Mark {
            min_reader: 1,
            repository: vec![1; 16],
            component: vec![2; 16],
            packs: [[3; 16], [4; 16]].concat(),
            points: vec![5; 16],
        };
        let path = layout::mark(ComponentId::from_bytes([2; 16]), MarkId::from_bytes([6; 16]));
        let golden = include_bytes!("../golden/v1.mark");
        assert_eq!(clear::write(ObjectKind::Mark, &path, &mark.encode_to_vec()).unwrap(), golden);
        assert_eq!(Mark::decode(clear::read(ObjectKind::Mark, &path, golden).unwrap()), Ok(mark));
        let hold = Hold {
            min_reader: 1,
            repository: vec![1; 16],
            component: vec![2; 16],
            point: vec![5; 16],
            until: 1_800_000_000_000_000,
            holder: "ada".into(),
            reason: "the auditors look at it".into(),
        };
        let path = layout::hold(ComponentId::from_bytes([2; 16]), muster_common::id::HoldId::from_bytes([7; 16]), 3);
        let golden = include_bytes!("../golden/v1.hold");
        assert_eq!(clear::write(ObjectKind::Hold, &path, &hold.encode_to_vec()).unwrap(), golden);
        assert_eq!(Hold::decode(clear::read(ObjectKind::Hold, &path, golden).unwrap()), Ok(hold));
    }
}
