//! File maps: leaves and inner nodes. Both are stored as frames and found by name.
//!
//! A leaf covers 4,096 pages of one file (or 128 frames of a file without pages): the packs that it needs, its frames, then
//! runs (count, frame, slot) in the order of the file, and the digest over all its page digests.

use muster_common::id::PackId;

use super::bytes::Cursor;
use super::frame::{MAX_PLAIN, MAX_SLOTS};
use super::subkeys::{Digest, FrameName};
use super::{Malformed, VERSION};

/// The most pages in a leaf.
pub(crate) const LEAF_PAGES: usize = 4_096;
/// The most whole frames in a leaf of a file without pages, as this build writes it.
pub(crate) const LEAF_EXTENTS: usize = 128;
/// The most children of an inner node.
pub(crate) const MAX_CHILDREN: usize = 4_096;

/// A frame of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafFrame {
    pub(crate) name: FrameName,
    /// Its place in the leaf's packs.
    pub(crate) pack: u16,
    pub(crate) slots: u16,
    pub(crate) plain_len: u32,
}

/// `count` slots of a frame, from `slot` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) count: u16,
    pub(crate) frame: u16,
    pub(crate) slot: u16,
}

/// A leaf. `block_size` 0: the file has no pages, each run is one whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) block_size: u32,
    /// Plain bytes of the file that it covers.
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
    pub(crate) packs: Vec<PackId>,
    pub(crate) frames: Vec<LeafFrame>,
    pub(crate) runs: Vec<Run>,
}

/// A piece of a file: `length` bytes of a frame's plain bytes, from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) pack: PackId,
    pub(crate) name: FrameName,
    pub(crate) start: u32,
    pub(crate) length: u32,
    /// Rows of the leaf's digest that it gives, and the first of them.
    pub(crate) rows: u16,
    pub(crate) first_row: u16,
    /// The first slot.
    pub(crate) slot: u16,
}

impl Leaf {
    /// `ver u8, 0 u8, packs u16, frames u16, runs u16, block_size u32, bytes u64, digest 16`, then the tables.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(36 + self.packs.len() * 16 + self.frames.len() * 24 + self.runs.len() * 6);
        out.extend_from_slice(&[VERSION, 0]);
        for count in [self.packs.len(), self.frames.len(), self.runs.len()] {
            out.extend_from_slice(&u16::try_from(count).map_err(|_| Malformed::wrong("leaf too long"))?.to_le_bytes());
        }
        out.extend_from_slice(&self.block_size.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.digest.0);
        for pack in &self.packs {
            out.extend_from_slice(pack.as_bytes());
        }
        for frame in &self.frames {
            out.extend_from_slice(&frame.name.0);
            out.extend_from_slice(&frame.pack.to_le_bytes());
            out.extend_from_slice(&frame.slots.to_le_bytes());
            out.extend_from_slice(&frame.plain_len.to_le_bytes());
        }
        for run in &self.runs {
            for field in [run.count, run.frame, run.slot] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        Ok(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        check_version(&mut cursor)?;
        let (packs, frames, runs) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
        let (block_size, bytes, digest) = (cursor.u32()?, cursor.u64()?, Digest(cursor.array()?));
        if block_size != 0 && !(block_size.is_power_of_two() && (1_024..=32_768).contains(&block_size)) {
            return Err(Malformed::wrong(format!("leaf of block size {block_size}")));
        }
        if [packs, frames, runs].iter().any(|count| usize::from(*count) > LEAF_PAGES) {
            return Err(Malformed::wrong("leaf too long"));
        }
        let packs = (0..packs).map(|_| cursor.array().map(PackId::from_bytes)).collect::<Result<Vec<_>, _>>()?;
        let frames = (0..frames).map(|_| parse_frame(&mut cursor, packs.len())).collect::<Result<Vec<_>, _>>()?;
        let runs = (0..runs)
            .map(|_| Ok(Run { count: cursor.u16()?, frame: cursor.u16()?, slot: cursor.u16()? }))
            .collect::<Result<Vec<_>, Malformed>>()?;
        cursor.end()?;
        let leaf = Self { block_size, bytes, digest, packs, frames, runs };
        leaf.pieces()?;
        Ok(leaf)
    }

    /// Its pieces in the order of the file; refuses a leaf whose runs and lengths do not agree.
    pub(crate) fn pieces(&self) -> Result<Vec<Piece>, Malformed> {
        let wrong = || Malformed::wrong("a leaf's runs do not fit its frames");
        let mut pieces = Vec::with_capacity(self.runs.len());
        let (mut bytes, mut rows) = (0_u64, 0_usize);
        for (at, run) in self.runs.iter().enumerate() {
            let frame = self.frames.get(usize::from(run.frame)).ok_or_else(wrong)?;
            let pack = *self.packs.get(usize::from(frame.pack)).ok_or_else(wrong)?;
            if run.count == 0 || u32::from(run.slot) + u32::from(run.count) > u32::from(frame.slots) {
                return Err(wrong());
            }
            let (start, end) = if self.block_size == 0 {
                (0, frame.plain_len)
            } else {
                let end = (u32::from(run.slot) + u32::from(run.count)) * self.block_size;
                (u32::from(run.slot) * self.block_size, end.min(frame.plain_len))
            };
            let length = end.checked_sub(start).filter(|length| *length > 0).ok_or_else(wrong)?;
            // Only the last page of a file may be short.
            if self.block_size != 0 && length != u32::from(run.count) * self.block_size && at + 1 != self.runs.len() {
                return Err(wrong());
            }
            let first_row = u16::try_from(rows).map_err(|_| wrong())?;
            pieces.push(Piece { pack, name: frame.name, start, length, rows: run.count, first_row, slot: run.slot });
            bytes += u64::from(length);
            rows += usize::from(run.count);
        }
        if bytes != self.bytes || rows > LEAF_PAGES || rows == 0 {
            return Err(wrong());
        }
        Ok(pieces)
    }

    /// How many rows its digest is over.
    pub(crate) fn rows(&self) -> usize {
        self.runs.iter().map(|run| usize::from(run.count)).sum()
    }
}

fn parse_frame(cursor: &mut Cursor<'_>, packs: usize) -> Result<LeafFrame, Malformed> {
    let frame = LeafFrame { name: FrameName(cursor.array()?), pack: cursor.u16()?, slots: cursor.u16()?, plain_len: cursor.u32()? };
    let slots_fit = (1..=MAX_SLOTS).contains(&usize::from(frame.slots));
    if usize::from(frame.pack) >= packs || !slots_fit || frame.plain_len == 0 || frame.plain_len as usize > MAX_PLAIN {
        return Err(Malformed::wrong("a frame of a leaf is impossible"));
    }
    Ok(frame)
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    match (cursor.u8()?, cursor.u8()?) {
        (VERSION, 0) => Ok(()),
        (version, 0) if version > VERSION => Err(Malformed::Newer(u32::from(version))),
        _ => Err(Malformed::wrong("is no map")),
    }
}

/// A child of an inner node: a leaf, or a node one level lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) name: FrameName,
    /// Its place in the node's packs.
    pub(crate) pack: u16,
    pub(crate) bytes: u64,
    /// A leaf's own digest; of a node, over its children's digests.
    pub(crate) digest: Digest,
}

/// An inner node. Level 1 holds leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) level: u8,
    pub(crate) block_size: u32,
    pub(crate) packs: Vec<PackId>,
    pub(crate) children: Vec<Child>,
}

impl Node {
    /// The most levels: 4,096³ leaves are more than any file has.
    const MAX_LEVEL: u8 = 3;

    /// `ver u8, 0 u8, level u8, 0 u8, packs u16, children u16, block_size u32`, the packs, then rows of 44 bytes
    /// (name 16, pack u16, 0 u16, bytes u64, digest 16).
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(12 + self.packs.len() * 16 + self.children.len() * 44);
        out.extend_from_slice(&[VERSION, 0, self.level, 0]);
        for count in [self.packs.len(), self.children.len()] {
            out.extend_from_slice(&u16::try_from(count).map_err(|_| Malformed::wrong("node too long"))?.to_le_bytes());
        }
        out.extend_from_slice(&self.block_size.to_le_bytes());
        for pack in &self.packs {
            out.extend_from_slice(pack.as_bytes());
        }
        for child in &self.children {
            out.extend_from_slice(&child.name.0);
            out.extend_from_slice(&child.pack.to_le_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&child.bytes.to_le_bytes());
            out.extend_from_slice(&child.digest.0);
        }
        Ok(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        check_version(&mut cursor)?;
        let (level, zero) = (cursor.u8()?, cursor.u8()?);
        let (packs, children, block_size) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let counts = [packs, children].iter().all(|count| (1..=MAX_CHILDREN).contains(&usize::from(*count)));
        if zero != 0 || !(1..=Self::MAX_LEVEL).contains(&level) || !counts {
            return Err(Malformed::wrong("an inner node is impossible"));
        }
        let packs = (0..packs).map(|_| cursor.array().map(PackId::from_bytes)).collect::<Result<Vec<_>, _>>()?;
        let children = (0..children).map(|_| parse_child(&mut cursor, packs.len())).collect::<Result<Vec<_>, _>>()?;
        cursor.end()?;
        Ok(Self { level, block_size, packs, children })
    }
}

fn parse_child(cursor: &mut Cursor<'_>, packs: usize) -> Result<Child, Malformed> {
    let (name, pack, zero) = (FrameName(cursor.array()?), cursor.u16()?, cursor.u16()?);
    let (bytes, digest) = (cursor.u64()?, Digest(cursor.array()?));
    if usize::from(pack) >= packs || zero != 0 || bytes == 0 {
        return Err(Malformed::wrong("a child of an inner node is impossible"));
    }
    Ok(Child { name, pack, bytes, digest })
}
