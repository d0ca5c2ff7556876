//! The structure: tables open, points open, maps lead to frames that exist.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use muster_common::id::{ComponentId, PackId, PointId};

use super::Check;
use super::data::BadFrames;
use crate::error::{Damage, Error};
use crate::format::frame::FrameKind;
use crate::format::layout;
use crate::format::subkeys::FrameName;
use crate::pack::Tables;
use crate::reading::{LeafAt, LeafPlace, Point, frame_kind};
use crate::repository::{AT_ONCE, PointListing};

/// Leaves that were found good, and the packs that they lean on: points share most of them.
type Good = HashMap<(PackId, FrameName), Vec<PackId>>;

/// What became of a leaf: the packs that it leans on, and what of it is hurt.
struct CheckedLeaf {
    packs: Vec<PackId>,
    hurt: Vec<Damage>,
}

impl Check<'_> {
    /// Opens the tables of every pack of the components whose keys are there. Gives the packs whose tables are whole.
    pub(super) async fn check_tables(&mut self) -> Result<Vec<(ComponentId, PackId)>, Error> {
        let with_keys = self.sizes.iter().filter_map(|((component, pack), size)| Some((*pack, *size, self.tables.get(component)?.clone())));
        let outcomes: Vec<_> = stream::iter(with_keys.collect::<Vec<_>>())
            .map(|(pack, size, tables)| async move { (tables.domain(), pack, check_pack(&tables, pack, size).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut whole = Vec::new();
        for (component, pack, outcome) in outcomes {
            match outcome {
                Ok(()) => whole.push((component, pack)),
                Err(error) => self.note_error(error, &self.points_of(component, pack))?,
            }
        }
        whole.sort_unstable();
        Ok(whole)
    }

    /// Reads every point of the components whose keys are there, and walks its maps.
    pub(super) async fn check_points(&mut self, bad: &BadFrames) -> Result<(), Error> {
        let mut good: HashMap<ComponentId, Good> = HashMap::new();
        for listing in self.points.clone() {
            let Some(tables) = self.tables.get(&listing.component).cloned() else {
                self.report.points_without_keys += 1;
                continue;
            };
            if listing.problem.is_some() {
                continue;
            }
            match self.repository.read_point(&tables.keys, listing.component, listing.point).await {
                Ok(point) => {
                    // The tables that this check has read already serve all points.
                    let point = Point { tables, ..point };
                    self.check_point(&point, &listing, bad, good.entry(listing.component).or_default()).await?;
                }
                // Prune removed it meanwhile.
                Err(Error::NoPoint { .. }) => {}
                Err(error) => self.note_error(error, &[(listing.component, listing.point)])?,
            }
        }
        Ok(())
    }

    async fn check_point(&mut self, point: &Point, listing: &PointListing, bad: &BadFrames, good: &mut Good) -> Result<(), Error> {
        let at = (listing.component, listing.point);
        let listed: HashSet<PackId> = listing.packs.iter().copied().collect();
        for first in (0..point.files.len()).step_by(1_000) {
            let mut new = Vec::new();
            for (number, file) in point.files.iter().enumerate().skip(first).take(1_000) {
                match point.leaves(file).await {
                    Ok(leaves) => {
                        for leaf in leaves {
                            match good.get(&key(&leaf)) {
                                Some(packs) => self.check_listed(packs, &listed, at),
                                None => new.push((number, leaf)),
                            }
                        }
                    }
                    Err(error) => self.note_error(error, &[at])?,
                }
            }
            let mut outcomes = stream::iter(new)
                .map(|(file, leaf)| async move { (leaf, check_leaf(point, file, leaf, bad).await) })
                .buffer_unordered(AT_ONCE);
            while let Some((leaf, outcome)) = outcomes.next().await {
                match outcome {
                    Ok(CheckedLeaf { packs, hurt }) => {
                        self.check_listed(&packs, &listed, at);
                        if hurt.is_empty() {
                            good.insert(key(&leaf), packs);
                        }
                        hurt.into_iter().for_each(|damage| self.note(damage, Some(at)));
                    }
                    Err(error) => self.note_error(error, &[at])?,
                }
            }
        }
        Ok(())
    }

    /// What a point leans on is in its clear list: prune goes by nothing else.
    fn check_listed(&mut self, packs: &[PackId], listed: &HashSet<PackId>, at: (ComponentId, PointId)) {
        for pack in packs.iter().filter(|pack| !listed.contains(*pack)) {
            let what = format!("needs pack {pack}, which its clear header does not name");
            self.note(Damage { object: layout::point(at.0, at.1), offset: None, what }, Some(at));
        }
    }
}

fn key(leaf: &LeafPlace) -> (PackId, FrameName) {
    match leaf.at {
        LeafAt::Frame { pack, name } | LeafAt::Leaf { pack, name, .. } => (pack, name),
    }
}

async fn check_pack(tables: &Tables, pack: PackId, size: u64) -> Result<(), Error> {
    let trailer = tables.trailer(pack, Some(size)).await?;
    let table = tables.read(pack, Some(size)).await?;
    let digests = tables.digests(pack, &trailer).await?.len();
    let slots: usize = table.rows.iter().filter(|row| row.header.kind == FrameKind::Pages).map(|row| usize::from(row.slots)).sum();
    if slots == digests {
        return Ok(());
    }
    let what = format!("its digest table has {digests} rows where {slots} are expected");
    Err(Damage { object: tables.path(pack), offset: Some(trailer.digests.start), what }.into())
}

/// Walks one leaf: an error where it cannot be read, else every frame of it that is missing, another one, or was found bad.
async fn check_leaf(point: &Point, number: usize, leaf: LeafPlace, bad: &BadFrames) -> Result<CheckedLeaf, Error> {
    let file = point.files.get(number).ok_or_else(|| Error::Defect("a file that the point does not have".into()))?;
    let mut checked = CheckedLeaf { packs: vec![key(&leaf).0], hurt: Vec::new() };
    for piece in point.pieces_of(file, leaf).await?.pieces {
        checked.packs.push(piece.pack);
        let row = match point.tables.row(piece.pack, piece.name).await {
            Ok(row) => row,
            Err(Error::Damaged(damage)) => {
                checked.hurt.push(damage);
                continue;
            }
            Err(other) => return Err(other),
        };
        let slots = u32::from(piece.slot) + u32::from(piece.rows) <= u32::from(row.slots);
        if row.header.kind != frame_kind(file.entry.kind) || piece.start + piece.length > row.header.plain_len || !slots {
            let (object, offset) = (point.tables.path(piece.pack), Some(u64::from(row.offset)));
            checked.hurt.push(Damage { object, offset, what: "is no frame as the map describes it".into() });
        }
        checked.hurt.extend(bad.get(&(piece.pack, piece.name)).cloned());
    }
    checked.packs.sort_unstable();
    checked.packs.dedup();
    Ok(checked)
}
