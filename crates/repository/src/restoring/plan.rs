//! What to read: the pieces of about 1 GiB of files, merged into ranges of packs, each frame read once a window.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use muster_common::id::PackId;
use muster_common::time::Timestamp;

use super::Extract;
use super::worker::Shared;
use crate::entry::FileKind;
use crate::error::{Damage, Error};
use crate::format::subkeys::{Digest, FrameName};
use crate::format::table::Row;
use crate::reading::{LeafPieces, LeafPlace, Point, frame_kind};

/// Plain bytes of a window.
const WINDOW_BYTES: u64 = 1 << 30;
/// The most pieces of a window.
const WINDOW_PIECES: usize = 16_384;
/// The most files of more than one piece in a window: each is open until it is whole.
const WINDOW_OPEN: usize = 256;
/// The longest ranged read.
const MAX_RANGE: u64 = 8 << 20;
/// Bytes between two frames that are read and thrown away rather than asked for by another request.
const MAX_GAP: u64 = 128 << 10;

/// A file on its way to the destination.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) file: usize,
    pub(super) destination: PathBuf,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) mtime: Timestamp,
    pub(super) kind: FileKind,
    pub(super) open: Mutex<Option<Arc<std::fs::File>>>,
    /// Bytes that are not written yet.
    pub(super) missing: AtomicU64,
    pub(super) hurt: AtomicBool,
}

/// What has to be known of a file on its way.
pub(super) fn file_state(point: &Point, job: Extract) -> Result<FileState, Error> {
    let file = point.files.get(job.file).ok_or_else(|| Error::Defect("a file that the point does not have".into()))?;
    Ok(FileState {
        file: job.file,
        destination: job.destination,
        size: file.size,
        mode: file.entry.mode,
        mtime: file.entry.mtime,
        kind: file.entry.kind,
        open: Mutex::new(None),
        missing: AtomicU64::new(file.size),
        hurt: AtomicBool::new(false),
    })
}

/// A leaf whose digest is computed as its pieces come.
pub(super) struct LeafState {
    pub(super) rows: Mutex<Vec<[u8; 16]>>,
    pub(super) missing: AtomicUsize,
    pub(super) digest: Digest,
    /// The first pack that it leans on, for messages.
    pub(super) pack: PackId,
}

/// Where a piece of a frame goes.
pub(super) struct Target {
    pub(super) file: Arc<FileState>,
    pub(super) offset: u64,
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) leaf: Option<Arc<LeafState>>,
    pub(super) first_row: u16,
    pub(super) rows: u16,
    pub(super) slot: u16,
}

/// A frame of a range, and where it goes.
pub(super) struct FrameWork {
    pub(super) row: Row,
    pub(super) targets: Vec<Target>,
}

/// One ranged read.
pub(super) struct Unit {
    pub(super) pack: PackId,
    pub(super) range: Range<u64>,
    pub(super) frames: Vec<FrameWork>,
}

impl Unit {
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<FileState>> {
        self.frames.iter().flat_map(|frame| &frame.targets).map(|target| &target.file)
    }
}

/// The leaves of a file, each with its place in it unknown until the ones before it are.
pub(super) async fn leaves(point: &Point, state: &FileState) -> Result<Vec<LeafPlace>, Error> {
    let file = point.files.get(state.file).ok_or_else(|| Error::Defect("a file that the point does not have".into()))?;
    point.leaves(file).await
}

/// The pieces of a leaf.
pub(super) async fn pieces(point: &Point, state: &FileState, leaf: LeafPlace) -> Result<LeafPieces, Error> {
    let file = point.files.get(state.file).ok_or_else(|| Error::Defect("a file that the point does not have".into()))?;
    point.pieces_of(file, leaf).await
}

/// What is planned together.
#[derive(Default)]
pub(super) struct Window {
    frames: HashMap<(PackId, FrameName), Vec<Target>>,
    order: Vec<(PackId, FrameName)>,
    bytes: u64,
    pieces: usize,
    open: usize,
}

impl Window {
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= WINDOW_BYTES || self.pieces >= WINDOW_PIECES || self.open >= WINDOW_OPEN
    }

    /// Adds a leaf that begins at `offset` of its file.
    pub(super) fn add(&mut self, state: &Arc<FileState>, mut offset: u64, leaf: LeafPieces) {
        let leaf_state = leaf.digest.zip(leaf.pieces.first()).map(|((rows, digest), piece)| {
            Arc::new(LeafState { rows: Mutex::new(vec![[0; 16]; rows]), missing: AtomicUsize::new(rows), digest, pack: piece.pack })
        });
        if leaf.pieces.len() > 1 {
            self.open += 1;
        }
        for piece in leaf.pieces {
            let target = Target {
                file: state.clone(),
                offset,
                start: piece.start,
                length: piece.length,
                leaf: leaf_state.clone(),
                first_row: piece.first_row,
                rows: piece.rows,
                slot: piece.slot,
            };
            let key = (piece.pack, piece.name);
            let targets = self.frames.entry(key).or_default();
            if targets.is_empty() {
                self.order.push(key);
            }
            targets.push(target);
            offset += u64::from(piece.length);
            self.bytes += u64::from(piece.length);
            self.pieces += 1;
        }
    }

    /// The ranged reads that bring all of it, in the order in which the files first lean on the packs.
    pub(super) async fn units(self, point: &Point, shared: &Shared) -> Result<Vec<Unit>, Error> {
        let Self { mut frames, order, .. } = self;
        let mut packs: Vec<(PackId, Vec<FrameWork>)> = Vec::new();
        let mut at: HashMap<PackId, usize> = HashMap::new();
        for (pack, name) in order {
            let Some(targets) = frames.remove(&(pack, name)) else { continue };
            let row = match find(point, pack, name, &targets).await {
                Ok(row) => row,
                Err(error) => {
                    shared.hurt(targets.iter().map(|target| &target.file), error)?;
                    continue;
                }
            };
            let place = *at.entry(pack).or_insert_with(|| {
                packs.push((pack, Vec::new()));
                packs.len() - 1
            });
            if let Some((_, frames)) = packs.get_mut(place) {
                frames.push(FrameWork { row, targets });
            }
        }
        Ok(packs.into_iter().flat_map(|(pack, frames)| merge(pack, frames)).collect())
    }
}

/// The row of a frame, if it is what its targets expect.
async fn find(point: &Point, pack: PackId, name: FrameName, targets: &[Target]) -> Result<Row, Error> {
    let row = point.tables.row(pack, name).await?;
    let fits = |target: &Target| {
        let slots = u32::from(target.slot) + u32::from(target.rows) <= u32::from(row.slots);
        row.header.kind == frame_kind(target.file.kind) && target.start + target.length <= row.header.plain_len && slots
    };
    if targets.iter().all(fits) {
        return Ok(row);
    }
    let what = "is no frame as the map describes it".to_owned();
    Err(Damage { object: point.tables.path(pack), offset: Some(u64::from(row.offset)), what }.into())
}

/// Frames of one pack that lie near each other are read together.
fn merge(pack: PackId, mut frames: Vec<FrameWork>) -> Vec<Unit> {
    frames.sort_by_key(|frame| frame.row.offset);
    let mut units: Vec<Unit> = Vec::new();
    for frame in frames {
        let range = frame.row.range();
        let near = |unit: &&mut Unit| range.start <= unit.range.end + MAX_GAP && range.end - unit.range.start <= MAX_RANGE;
        match units.last_mut().filter(near) {
            Some(unit) => {
                unit.range.end = range.end;
                unit.frames.push(frame);
            }
            None => units.push(Unit { pack, range, frames: vec![frame] }),
        }
    }
    units
}
