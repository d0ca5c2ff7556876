//! One file becomes frames, leaves and nodes. Each thread has a worker with buffers of its own.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use muster_common::id::PackId;

use super::assembly::Place;
use super::list::Root;
use super::{FileSummary, Shared};
use crate::counters::Counters;
use crate::entry::{FileEntry, FileKind};
use crate::error::Error;
use crate::format::Malformed;
use crate::format::frame::{FrameKind, MAX_PLAIN, Sealer, name_pages};
use crate::format::map::{Child, LEAF_EXTENTS, LEAF_PAGES, Leaf, LeafFrame, MAX_CHILDREN, Node, Run};
use crate::format::message::FrameRef;
use crate::format::subkeys::{Digest, FrameName, KeySet};
use crate::store::lock;

/// How much is read at once: four frames.
const READ: usize = 4 * MAX_PLAIN;

pub(super) struct Worker {
    sealer: Sealer,
    buffer: Vec<u8>,
    digests: Vec<[u8; 16]>,
}

/// A frame that is stored, by its name.
#[derive(Clone, Copy)]
struct Stored {
    name: FrameName,
    place: Place,
}

impl Stored {
    fn reference(&self) -> FrameRef {
        FrameRef { pack: self.place.index, name: self.name.0.to_vec() }
    }
}

fn defect(wrong: &Malformed) -> Error {
    Error::Defect(wrong.to_string())
}

impl Worker {
    pub(super) fn new(level: i32) -> Result<Self, Error> {
        let sealer = Sealer::new(level).map_err(|wrong| Error::Invalid(wrong.to_string()))?;
        Ok(Self { sealer, buffer: Vec::new(), digests: Vec::new() })
    }

    pub(super) fn write(
        &mut self,
        shared: &Shared,
        entry: &FileEntry,
        source: &mut dyn Read,
        counters: &Counters,
    ) -> Result<(Root, FileSummary), Error> {
        let set = shared.keys.current().map_err(|wrong| defect(&wrong))?;
        let mut summary = FileSummary::default();
        let mut map = MapBuilder::new(entry.kind);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ, 0);
        let mut read_all = || -> Result<Root, Error> {
            loop {
                shared.check()?;
                let filled =
                    fill(source, &mut buffer).map_err(|error| Error::Source { path: entry.path.to_string(), source: Arc::new(error) })?;
                for plain in buffer.get(..filled).unwrap_or_default().chunks(MAX_PLAIN) {
                    let stored = self.store_data(shared, set, entry.kind, plain, &mut summary, counters)?;
                    map.push(stored, plain.len(), &self.digests)?;
                    if map.leaf.is_full() {
                        let leaf = map.take_leaf(set)?;
                        self.store_leaf(shared, set, &mut map, &leaf, &mut summary, counters)?;
                    }
                }
                if filled < READ {
                    return self.finish(shared, set, &mut map, &mut summary, counters);
                }
            }
        };
        let root = read_all();
        self.buffer = buffer;
        Ok((root?, summary))
    }

    /// Leaves [`Self::digests`] with the rows of the leaf's digest that this frame gives.
    fn store_data(
        &mut self,
        shared: &Shared,
        set: &KeySet,
        kind: FileKind,
        plain: &[u8],
        summary: &mut FileSummary,
        counters: &Counters,
    ) -> Result<Stored, Error> {
        let (kind, name) = match kind {
            FileKind::Pages { block_size } => (FrameKind::Pages, name_pages(set, plain, block_size, &mut self.digests)),
            FileKind::Plain => {
                let name = set.name(FrameKind::Plain.number(), plain);
                self.digests.clear();
                self.digests.push(name.0);
                (FrameKind::Plain, name)
            }
        };
        let stored = self.store(shared, set, kind, name, plain, summary, counters)?;
        summary.size += plain.len() as u64;
        Counters::add(&counters.bytes_done, plain.len() as u64);
        Ok(stored)
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where a frame meets the pack; a struct would name the same eight things")]
    fn store(
        &mut self,
        shared: &Shared,
        set: &KeySet,
        kind: FrameKind,
        name: FrameName,
        plain: &[u8],
        summary: &mut FileSummary,
        counters: &Counters,
    ) -> Result<Stored, Error> {
        if let Some(place) = lock(&shared.assembly).find(name)? {
            summary.frames_known += 1;
            return Ok(Stored { name, place });
        }
        let sealed = self.sealer.seal(set, kind, name, plain).map_err(|wrong| defect(&wrong))?;
        let slots = if kind == FrameKind::Pages { self.digests.len() } else { 1 };
        let slots = u16::try_from(slots).map_err(|_| Error::Defect("too many slots".into()))?;
        let (place, added) = lock(&shared.assembly).append(&sealed, slots, &self.digests, &|| shared.check())?;
        if added {
            summary.frames_new += 1;
            summary.bytes_stored += sealed.stored.len() as u64;
            Counters::add(&counters.bytes_stored, sealed.stored.len() as u64);
        } else {
            summary.frames_known += 1;
        }
        Ok(Stored { name, place })
    }

    fn store_leaf(
        &mut self,
        shared: &Shared,
        set: &KeySet,
        map: &mut MapBuilder,
        leaf: &Leaf,
        summary: &mut FileSummary,
        counters: &Counters,
    ) -> Result<Stored, Error> {
        let plain = leaf.encode().map_err(|wrong| defect(&wrong))?;
        let stored = self.store(shared, set, FrameKind::Leaf, set.name(FrameKind::Leaf.number(), &plain), &plain, summary, counters)?;
        map.children.push(Branch { stored, bytes: leaf.bytes, digest: leaf.digest });
        Ok(stored)
    }

    /// The root of a file whose bytes are all stored.
    fn finish(
        &mut self,
        shared: &Shared,
        set: &KeySet,
        map: &mut MapBuilder,
        summary: &mut FileSummary,
        counters: &Counters,
    ) -> Result<Root, Error> {
        if map.children.is_empty() {
            match (map.leaf.runs.len(), map.leaf.last) {
                (0, _) => return Ok(Root::Empty),
                (1, Some(only)) => return Ok(Root::Frame(only.reference())),
                _ => {}
            }
        }
        if !map.leaf.runs.is_empty() {
            let leaf = map.take_leaf(set)?;
            self.store_leaf(shared, set, map, &leaf, summary, counters)?;
        }
        if let [only] = map.children.as_slice() {
            return Ok(Root::Leaf(only.stored.reference()));
        }
        let mut level = 1;
        loop {
            let mut above = Vec::new();
            for branches in map.children.chunks(MAX_CHILDREN) {
                let node = node(level, map.block_size, branches)?;
                let plain = node.encode().map_err(|wrong| defect(&wrong))?;
                let name = set.name(FrameKind::Node.number(), &plain);
                let stored = self.store(shared, set, FrameKind::Node, name, &plain, summary, counters)?;
                let rows: Vec<[u8; 16]> = branches.iter().map(|branch| branch.digest.0).collect();
                above.push(Branch { stored, bytes: branches.iter().map(|b| b.bytes).sum(), digest: set.leaf_digest(&rows) });
            }
            if let [root] = above.as_slice() {
                return Ok(Root::Node(root.stored.reference()));
            }
            map.children = above;
            level += 1;
        }
    }

    /// Stores a piece of the point's list of files.
    pub(super) fn store_list(&mut self, shared: &Shared, piece: &[u8]) -> Result<FrameRef, Error> {
        let set = shared.keys.current().map_err(|wrong| defect(&wrong))?;
        let name = set.name(FrameKind::List.number(), piece);
        let (mut summary, counters) = (FileSummary::default(), Counters::default());
        self.store(shared, set, FrameKind::List, name, piece, &mut summary, &counters).map(|stored| stored.reference())
    }
}

/// Reads until `buffer` is full or the source ends.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match source.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A leaf, or a node one level lower.
struct Branch {
    stored: Stored,
    bytes: u64,
    digest: Digest,
}

fn node(level: u8, block_size: u32, branches: &[Branch]) -> Result<Node, Error> {
    let mut packs = PackList::default();
    let child = |branch: &Branch| {
        let pack = packs.place(branch.stored.place.pack)?;
        Ok(Child { name: branch.stored.name, pack, bytes: branch.bytes, digest: branch.digest })
    };
    let children = branches.iter().map(child).collect::<Result<Vec<_>, Error>>()?;
    Ok(Node { level, block_size, packs: packs.ids, children })
}

/// The packs of one leaf or node, each once.
#[derive(Default)]
struct PackList {
    ids: Vec<PackId>,
    at: HashMap<PackId, u16>,
}

impl PackList {
    fn place(&mut self, id: PackId) -> Result<u16, Error> {
        if let Some(at) = self.at.get(&id) {
            return Ok(*at);
        }
        let at = u16::try_from(self.ids.len()).map_err(|_| Error::Defect("too many packs in a leaf".into()))?;
        self.ids.push(id);
        self.at.insert(id, at);
        Ok(at)
    }
}

/// The map of a file that is being written.
struct MapBuilder {
    block_size: u32,
    leaf: LeafBuilder,
    children: Vec<Branch>,
}

#[derive(Default)]
struct LeafBuilder {
    bytes: u64,
    packs: PackList,
    frames: Vec<LeafFrame>,
    at: HashMap<FrameName, u16>,
    runs: Vec<Run>,
    rows: Vec<[u8; 16]>,
    most_rows: usize,
    last: Option<Stored>,
}

impl LeafBuilder {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.most_rows
    }
}

impl MapBuilder {
    fn new(kind: FileKind) -> Self {
        let (block_size, most_rows) = match kind {
            FileKind::Pages { block_size } => (block_size, LEAF_PAGES),
            FileKind::Plain => (0, LEAF_EXTENTS),
        };
        Self { block_size, leaf: LeafBuilder { most_rows, ..LeafBuilder::default() }, children: Vec::new() }
    }

    fn push(&mut self, stored: Stored, length: usize, rows: &[[u8; 16]]) -> Result<(), Error> {
        let leaf = &mut self.leaf;
        let slots = u16::try_from(rows.len()).map_err(|_| Error::Defect("too many slots".into()))?;
        let frame = match leaf.at.get(&stored.name) {
            Some(at) => *at,
            None => {
                let at = u16::try_from(leaf.frames.len()).map_err(|_| Error::Defect("too many frames in a leaf".into()))?;
                let plain_len = u32::try_from(length).map_err(|_| Error::Defect("a frame too long".into()))?;
                let pack = leaf.packs.place(stored.place.pack)?;
                leaf.frames.push(LeafFrame { name: stored.name, pack, slots, plain_len });
                leaf.at.insert(stored.name, at);
                at
            }
        };
        leaf.runs.push(Run { count: slots, frame, slot: 0 });
        leaf.rows.extend_from_slice(rows);
        leaf.bytes += length as u64;
        leaf.last = Some(stored);
        Ok(())
    }

    fn take_leaf(&mut self, set: &KeySet) -> Result<Leaf, Error> {
        let most_rows = self.leaf.most_rows;
        let built = std::mem::replace(&mut self.leaf, LeafBuilder { most_rows, ..LeafBuilder::default() });
        let digest = set.leaf_digest(&built.rows);
        let leaf = Leaf {
            block_size: self.block_size,
            bytes: built.bytes,
            digest,
            packs: built.packs.ids,
            frames: built.frames,
            runs: built.runs,
        };
        leaf.pieces().map_err(|wrong| defect(&wrong))?;
        Ok(leaf)
    }
}
