//! A pack's tables and its trailer.
//!
//! A pack is: frames end to end, the sealed frame table, the sealed digest table, a trailer of 32 bytes. The frame table has
//! a row of 34 bytes a frame, in the order of the frames; the digest table has 16 bytes a slot of each page frame, in the same order.

use std::ops::Range;

use muster_common::id::{ComponentId, KeyId, PackId};
use prost::Message;

use super::bytes::{Cursor, rows16};
use super::frame::{Codec, FrameHeader, FrameKind, MAX_PLAIN, MAX_SLOTS};
use super::message::TableHeader;
use super::object::{Envelope, ObjectKind, seal_object};
use super::subkeys::{DataKeys, FrameName, KeySet};
use super::{MIN_READER, Malformed, VERSION, check_reader, layout};

/// The length of a trailer.
pub(crate) const TRAILER: usize = 32;
const TRAILER_MAGIC: &[u8; 4] = b"MSTP";
const ROW: usize = 34;
/// The longest pack that is read; what is written is about half of it.
pub(crate) const MAX_PACK: u64 = 128 << 20;

/// A frame as its pack's table tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) header: FrameHeader,
    pub(crate) offset: u32,
    pub(crate) slots: u16,
}

impl Row {
    /// Where its bytes lie in the pack.
    pub(crate) fn range(&self) -> Range<u64> {
        let start = u64::from(self.offset);
        start..start + self.header.stored_len()
    }
}

/// Where the tables of a pack lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) frames: Range<u64>,
    pub(crate) digests: Range<u64>,
}

impl Trailer {
    /// `frame table offset u64, digest table offset u64, frame table length u32, digest table length u32, version u32, "MSTP"`.
    pub(crate) fn encode(&self) -> Result<[u8; TRAILER], Malformed> {
        let length = |range: &Range<u64>| u32::try_from(range.end - range.start).map_err(|_| Malformed::wrong("table too long"));
        let mut out = [0; TRAILER];
        let fields: [&[u8]; 6] = [
            &self.frames.start.to_le_bytes(),
            &self.digests.start.to_le_bytes(),
            &length(&self.frames)?.to_le_bytes(),
            &length(&self.digests)?.to_le_bytes(),
            &u32::from(VERSION).to_le_bytes(),
            TRAILER_MAGIC,
        ];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        Ok(out)
    }

    /// Reads the trailer of a pack of `size` bytes.
    pub(crate) fn decode(bytes: &[u8; TRAILER], size: u64) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        let (frames_at, digests_at) = (cursor.u64()?, cursor.u64()?);
        let (frames_len, digests_len) = (u64::from(cursor.u32()?), u64::from(cursor.u32()?));
        let (version, magic) = (cursor.u32()?, cursor.array::<4>()?);
        if &magic != TRAILER_MAGIC {
            return Err(Malformed::wrong("has no trailer"));
        }
        if version > u32::from(VERSION) {
            return Err(Malformed::Newer(version));
        }
        let dense = frames_at.checked_add(frames_len) == Some(digests_at)
            && digests_at.checked_add(digests_len).and_then(|end| end.checked_add(TRAILER as u64)) == Some(size);
        if version == 0 || !dense || size > MAX_PACK {
            return Err(Malformed::wrong("its trailer does not fit its length"));
        }
        Ok(Self { frames: frames_at..digests_at, digests: digests_at..digests_at + digests_len })
    }
}

/// A pack's frame table: its rows, and an order of them by name.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    by_name: Vec<u32>,
}

fn clear_header(domain: ComponentId, pack: PackId, keys: &[KeyId]) -> Vec<u8> {
    let keys = keys.iter().flat_map(|key| *key.as_bytes()).collect();
    TableHeader { min_reader: MIN_READER, domain: domain.as_bytes().to_vec(), pack: pack.as_bytes().to_vec(), keys }.encode_to_vec()
}

/// Seals the frame table of a pack whose frames are all under the key of `set`.
pub(crate) fn seal_table(set: &KeySet, salt: [u8; 32], domain: ComponentId, pack: PackId, rows: &[Row]) -> Result<Vec<u8>, Malformed> {
    let mut plain = Vec::with_capacity(rows.len() * ROW);
    for Row { header, offset, slots } in rows {
        plain.extend_from_slice(&header.name.0);
        plain.extend_from_slice(&offset.to_le_bytes());
        plain.extend_from_slice(&header.comp_len.to_le_bytes());
        plain.extend_from_slice(&header.plain_len.to_le_bytes());
        plain.extend_from_slice(&[header.kind.number(), header.codec.number()]);
        plain.extend_from_slice(&slots.to_le_bytes());
        plain.extend_from_slice(&0_u16.to_le_bytes());
    }
    let clear = clear_header(domain, pack, &[set.id]);
    seal_object(set, ObjectKind::FrameTable, salt, &layout::pack(domain, pack), &clear, &plain)
}

/// Seals the digest table of a pack.
pub(crate) fn seal_digests(
    set: &KeySet,
    salt: [u8; 32],
    domain: ComponentId,
    pack: PackId,
    digests: &[[u8; 16]],
) -> Result<Vec<u8>, Malformed> {
    let clear = clear_header(domain, pack, &[]);
    seal_object(set, ObjectKind::DigestTable, salt, &layout::pack(domain, pack), &clear, digests.as_flattened())
}

fn open_section(
    keys: &DataKeys,
    kind: ObjectKind,
    domain: ComponentId,
    pack: PackId,
    bytes: &[u8],
) -> Result<(TableHeader, Vec<u8>), Malformed> {
    let envelope = Envelope::parse(kind, bytes)?;
    let plain = envelope.open(keys, &layout::pack(domain, pack))?;
    let header = TableHeader::decode(envelope.clear).map_err(|error| Malformed::wrong(error.to_string()))?;
    check_reader(header.min_reader)?;
    if header.domain != domain.as_bytes() || header.pack != pack.as_bytes() {
        return Err(Malformed::wrong("its table names another pack"));
    }
    Ok((header, plain))
}

/// Opens the digest table of a pack.
pub(crate) fn open_digests(keys: &DataKeys, domain: ComponentId, pack: PackId, bytes: &[u8]) -> Result<Vec<[u8; 16]>, Malformed> {
    let (_, plain) = open_section(keys, ObjectKind::DigestTable, domain, pack, bytes)?;
    rows16(&plain)
}

impl Table {
    /// Opens and checks the frame table of a pack whose frames end at `frames_end`.
    pub(crate) fn open(keys: &DataKeys, domain: ComponentId, pack: PackId, frames_end: u64, bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, plain) = open_section(keys, ObjectKind::FrameTable, domain, pack, bytes)?;
        let ids: Vec<KeyId> = rows16(&header.keys)?.into_iter().map(KeyId::from_bytes).collect();
        let mut cursor = Cursor(&plain);
        let mut rows = Vec::with_capacity(plain.len() / ROW);
        let mut end = 0;
        while !cursor.0.is_empty() {
            let row = parse_row(&mut cursor, &ids)?;
            if row.range().start != end || row.range().end > frames_end {
                return Err(Malformed::wrong(format!("row {} of its table does not fit its frames", rows.len())));
            }
            end = row.range().end;
            rows.push(row);
        }
        if end != frames_end {
            return Err(Malformed::wrong("its table does not cover its frames"));
        }
        let mut by_name: Vec<u32> = (0..u32::try_from(rows.len()).unwrap_or(0)).collect();
        let name = |at: &u32| rows.get(*at as usize).map(|row| row.header.name);
        by_name.sort_unstable_by_key(name);
        Ok(Self { rows, by_name })
    }

    /// The row of the frame with this name.
    pub(crate) fn find(&self, name: FrameName) -> Option<&Row> {
        let row = |at: &u32| self.rows.get(*at as usize);
        let found = self.by_name.binary_search_by_key(&Some(name), |at| row(at).map(|row| row.header.name)).ok()?;
        self.by_name.get(found).and_then(row)
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.rows.len() * (size_of::<Row>() + 4) + 64
    }
}

fn parse_row(cursor: &mut Cursor<'_>, keys: &[KeyId]) -> Result<Row, Malformed> {
    let name = FrameName(cursor.array()?);
    let (offset, comp_len, plain_len) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let kind = FrameKind::from_number(cursor.u8()?)?;
    let codec = Codec::from_number(cursor.u8()?)?;
    let (slots, key) = (cursor.u16()?, cursor.u16()?);
    let key = *keys.get(usize::from(key)).ok_or_else(|| Malformed::wrong("a row names no key"))?;
    let fits = plain_len > 0 && plain_len as usize <= MAX_PLAIN && comp_len > 0 && comp_len <= plain_len;
    let raw = codec != Codec::Raw || comp_len == plain_len;
    let slots_fit = slots > 0 && usize::from(slots) <= MAX_SLOTS && (kind == FrameKind::Pages || slots == 1);
    if !fits || !raw || !slots_fit {
        return Err(Malformed::wrong("a row of its table is impossible"));
    }
    Ok(Row { header: FrameHeader { kind, codec, plain_len, comp_len, key, name }, offset, slots })
}
