//! Checking a repository: structure each time, data by rotation. It changes nothing.
//!
//! Structure: key objects are signed, every point opens and lists all packs that it leans on, every table opens, every map
//! leads to frames that exist. Data: each frame of a share of the packs is read, authenticated and named anew.

mod data;
mod structure;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use muster_common::id::{ComponentId, PackId, PointId};
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::error::{Damage, Error, StoreErrorKind};
use crate::format::layout;
use crate::keys::DataKeys;
use crate::pack::Tables;
use crate::repository::{PointListing, Repository};

/// The most problems that a report tells.
const MAX_PROBLEMS: usize = 10_000;

/// How to check.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Read the data of part `n` of `m`, 1 ≤ n ≤ m: with n = 1 to m, all of it.
    pub read_data: Option<(u32, u32)>,
    /// Only this component; all of them otherwise.
    pub component: Option<ComponentId>,
    /// Stops it.
    pub cancel: CancellationToken,
}

/// Something that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which object, where in it, and what.
    pub damage: Damage,
    /// The points that it hurts, as far as is known: nobody has the keys of all components.
    pub points: Vec<(ComponentId, PointId)>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Points looked at.
    pub points: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that no point needs: left by backups that did not end.
    pub unneeded_packs: u64,
    /// Their bytes.
    pub unneeded_bytes: u64,
    /// Frames that were read and verified.
    pub frames_read: u64,
    /// Points of which only the clear header was checked, because no keys of their component were given.
    pub points_without_keys: u64,
    /// What is wrong, up to 10,000.
    pub problems: Vec<Problem>,
    /// Whether there were more.
    pub more_problems: bool,
}

/// What is known while a check runs.
struct Check<'a> {
    repository: &'a Repository,
    tables: BTreeMap<ComponentId, Tables>,
    sizes: BTreeMap<(ComponentId, PackId), u64>,
    points: Vec<PointListing>,
    report: CheckReport,
    found: BTreeMap<Damage, BTreeSet<(ComponentId, PointId)>>,
    options: CheckOptions,
    /// `bytes_total` and `bytes_done` count sealed bytes read.
    counters: Arc<Counters>,
}

impl Repository {
    /// Checks the repository; with the keys of a component, its points and packs too. `counters` count sealed bytes of data.
    ///
    /// # Errors
    /// What a store can do, [`Error::Invalid`], [`Error::Cancelled`]. What is damaged is in the report.
    pub async fn check(&self, keys: &[DataKeys], options: CheckOptions, counters: &Arc<Counters>) -> Result<CheckReport, Error> {
        if let Some((n, m)) = options.read_data
            && !(1..=m).contains(&n)
        {
            return Err(Error::Invalid(format!("part {n}/{m} of the data; expected n/m with 1 <= n <= m")));
        }
        let tables = keys.iter().map(|keys| (keys.component(), Tables::new(self.clone(), keys.clone(), None)));
        let mut check = Check {
            repository: self,
            tables: tables.collect(),
            sizes: BTreeMap::new(),
            points: Vec::new(),
            report: CheckReport::default(),
            found: BTreeMap::new(),
            options,
            counters: counters.clone(),
        };
        let cancel = check.options.cancel.clone();
        tokio::select! {
            done = check.run() => done?,
            () = cancel.cancelled() => return Err(Error::Cancelled),
        }
        Ok(check.into_report())
    }
}

impl Check<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let (_, refused) = self.repository.granted().await?;
        for damage in refused {
            self.note(damage, None);
        }
        // Points first: what is written meanwhile only adds packs. What prune removes meanwhile is forgotten at the end.
        self.points = self.repository.list_points(self.options.component).await?;
        let prefix = self.options.component.map_or_else(|| layout::PACKS.to_owned(), layout::packs_of);
        for listed in self.repository.store().list(&prefix).await? {
            if let Some(pack) = layout::parse_pack(&listed.path) {
                self.sizes.insert(pack, listed.size);
            }
        }
        self.report.points = self.points.len() as u64;
        self.report.packs = self.sizes.len() as u64;
        self.report.bytes = self.sizes.values().sum();
        self.check_listed_packs();
        let whole = self.check_tables().await?;
        let bad_frames = self.check_data(&whole).await?;
        self.check_points(&bad_frames).await?;
        self.forget_removed().await
    }

    /// What prune removed while this ran is no damage: problems stay where one of their points is still there, or, where they have none,
    /// their object.
    async fn forget_removed(&mut self) -> Result<(), Error> {
        if self.found.is_empty() {
            return Ok(());
        }
        let store = self.repository.store();
        let points = store.list(&self.options.component.map_or_else(|| layout::POINTS.to_owned(), layout::points_of)).await?;
        let points: BTreeSet<_> = points.into_iter().filter_map(|listed| layout::parse_point(&listed.path)).collect();
        let packs = store.list(&self.options.component.map_or_else(|| layout::PACKS.to_owned(), layout::packs_of)).await?;
        let packs: BTreeSet<_> = packs.into_iter().filter_map(|listed| layout::parse_pack(&listed.path)).collect();
        self.found.retain(|damage, hurt| match layout::parse_pack(&damage.object) {
            Some(pack) if hurt.is_empty() => packs.contains(&pack),
            Some(_) => hurt.iter().any(|point| points.contains(point)),
            None => layout::parse_point(&damage.object).is_none_or(|point| points.contains(&point)),
        });
        Ok(())
    }

    /// Every pack that a point's clear header names is there; needs no key.
    fn check_listed_packs(&mut self) {
        let mut needed = BTreeSet::new();
        for point in std::mem::take(&mut self.points) {
            let at = (point.component, point.point);
            if let Some(problem) = &point.problem {
                self.note(problem.clone(), Some(at));
            }
            for pack in &point.packs {
                needed.insert((point.component, *pack));
                if !self.sizes.contains_key(&(point.component, *pack)) {
                    let object = layout::pack(point.component, *pack);
                    self.note(Damage { object, offset: None, what: "is missing".into() }, Some(at));
                }
            }
            self.points.push(point);
        }
        for (pack, size) in &self.sizes {
            if !needed.contains(pack) {
                self.report.unneeded_packs += 1;
                self.report.unneeded_bytes += size;
            }
        }
    }

    fn note(&mut self, damage: Damage, point: Option<(ComponentId, PointId)>) {
        self.repository.distrust(&damage);
        if self.found.len() >= MAX_PROBLEMS && !self.found.contains_key(&damage) {
            self.report.more_problems = true;
            return;
        }
        self.found.entry(damage).or_default().extend(point);
    }

    /// Damage becomes a problem; anything else ends the check.
    fn note_error(&mut self, error: Error, points: &[(ComponentId, PointId)]) -> Result<(), Error> {
        let damage = match error {
            Error::Damaged(damage) => damage,
            Error::Store(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Wrong) => {
                Damage { object: error.path, offset: None, what: error.reason }
            }
            Error::Newer { object, needed, .. } => Damage { object, offset: None, what: format!("needs a reader of version {needed}") },
            other => return Err(other),
        };
        if points.is_empty() {
            self.note(damage, None);
            return Ok(());
        }
        for point in points {
            self.note(damage.clone(), Some(*point));
        }
        Ok(())
    }

    /// The points that name a pack in their clear headers.
    fn points_of(&self, component: ComponentId, pack: PackId) -> Vec<(ComponentId, PointId)> {
        let named = self.points.iter().filter(|point| point.component == component && point.packs.contains(&pack));
        named.map(|point| (point.component, point.point)).collect()
    }

    fn into_report(self) -> CheckReport {
        let problems = self.found.into_iter().map(|(damage, points)| Problem { damage, points: points.into_iter().collect() });
        CheckReport { problems: problems.collect(), ..self.report }
    }
}
