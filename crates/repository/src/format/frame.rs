//! Frames: up to 256 KiB of plain bytes, compressed, sealed under a key of their own and named by their content.
//!
//! A frame's header is never stored beside it: the pack's table holds its fields, and they are its associated data.
//! What lies in the pack is nonce (12 bytes), ciphertext (`comp_len` bytes), tag (16 bytes).

use muster_common::id::KeyId;

use super::subkeys::{DataKeys, FrameName, KeySet, TAG, open, seal};
use super::{Malformed, VERSION};

/// The most plain bytes in a frame.
pub(crate) const MAX_PLAIN: usize = 262_144;
/// The most slots in a frame: 1 KiB pages.
pub(crate) const MAX_SLOTS: usize = 256;
const NONCE: usize = 12;
/// What a stored frame is longer than its compressed bytes.
pub(crate) const OVERHEAD: usize = NONCE + TAG;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FrameKind {
    /// Pages; named over the digests of its slots.
    Pages,
    /// A piece of any other file.
    Plain,
    /// A leaf of a file map.
    Leaf,
    /// An inner node of a file map.
    Node,
    /// A piece of a point's list of files.
    List,
}

impl FrameKind {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Pages => 1,
            Self::Plain => 2,
            Self::Leaf => 3,
            Self::Node => 4,
            Self::List => 5,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<Self, Malformed> {
        Ok(match number {
            1 => Self::Pages,
            2 => Self::Plain,
            3 => Self::Leaf,
            4 => Self::Node,
            5 => Self::List,
            other => return Err(Malformed::wrong(format!("frame kind {other}"))),
        })
    }
}

/// How the plain bytes were packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Not at all.
    Raw,
    /// One zstd frame (RFC 8878).
    Zstd,
}

impl Codec {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            other => Err(Malformed::wrong(format!("codec {other}"))),
        }
    }
}

/// All that is authenticated with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) codec: Codec,
    pub(crate) plain_len: u32,
    pub(crate) comp_len: u32,
    pub(crate) key: KeyId,
    pub(crate) name: FrameName,
}

impl FrameHeader {
    /// `"MSTF" ver kind codec 0 plain_len comp_len key_id name`, 48 bytes.
    pub(crate) fn associated(&self) -> [u8; 48] {
        let mut out = [0; 48];
        let fields: [&[u8]; 5] = [
            &[b'M', b'S', b'T', b'F', VERSION, self.kind.number(), self.codec.number(), 0],
            &self.plain_len.to_le_bytes(),
            &self.comp_len.to_le_bytes(),
            self.key.as_bytes(),
            &self.name.0,
        ];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// How many bytes it takes in a pack.
    pub(crate) fn stored_len(&self) -> u64 {
        u64::from(self.comp_len) + OVERHEAD as u64
    }
}

/// How many slots `plain_len` bytes of pages of `block_size` fill.
pub(crate) fn slots_of(plain_len: usize, block_size: u32) -> usize {
    plain_len.div_ceil(block_size as usize)
}

/// Digests each page of `plain` and gives the frame's name.
pub(crate) fn name_pages(set: &KeySet, plain: &[u8], block_size: u32, digests: &mut Vec<[u8; 16]>) -> FrameName {
    digests.clear();
    digests.extend(plain.chunks(block_size as usize).map(|page| set.page_digest(page).0));
    set.name(FrameKind::Pages.number(), digests.as_flattened())
}

/// The block size of a page frame, as far as its digests need it: `slots` pages in `plain_len` bytes, the last maybe short.
pub(crate) fn block_size_of(plain_len: usize, slots: usize) -> Result<u32, Malformed> {
    if slots == 1 {
        return u32::try_from(plain_len).map_err(|_| Malformed::wrong("frame too long"));
    }
    (10..=15)
        .map(|power| 1_u32 << power)
        .find(|block_size| slots_of(plain_len, *block_size) == slots)
        .ok_or_else(|| Malformed::wrong(format!("{plain_len} bytes are no {slots} pages")))
}

/// Compresses and seals frames, one at a time, in buffers of its own.
pub(crate) struct Sealer {
    compressor: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
}

/// A sealed frame: what goes into the pack.
pub(crate) struct Sealed<'a> {
    pub(crate) header: FrameHeader,
    pub(crate) stored: &'a [u8],
}

impl Sealer {
    pub(crate) fn new(level: i32) -> Result<Self, Malformed> {
        let compressor = zstd::bulk::Compressor::new(level).map_err(|error| Malformed::wrong(format!("zstd level {level}: {error}")))?;
        Ok(Self { compressor, out: vec![0; zstd::zstd_safe::compress_bound(MAX_PLAIN) + OVERHEAD] })
    }

    /// Seals `plain` as a frame of `kind` that is named `name`.
    pub(crate) fn seal(&mut self, set: &KeySet, kind: FrameKind, name: FrameName, plain: &[u8]) -> Result<Sealed<'_>, Malformed> {
        let plain_len = u32::try_from(plain.len()).ok().filter(|_| plain.len() <= MAX_PLAIN && !plain.is_empty());
        let plain_len = plain_len.ok_or_else(|| Malformed::wrong(format!("a frame of {} bytes", plain.len())))?;
        let room = self.out.get_mut(NONCE..).unwrap_or_default();
        let shrunk = self.compressor.compress_to_buffer(plain, room).ok().filter(|length| *length < plain.len());
        let codec = if shrunk.is_some() { Codec::Zstd } else { Codec::Raw };
        let length = shrunk.unwrap_or(plain.len());
        let short = || Malformed::wrong("frame buffer too short");
        let body = room.get_mut(..length).ok_or_else(short)?;
        if codec == Codec::Raw {
            body.copy_from_slice(plain);
        }
        let comp_len = u32::try_from(length).map_err(|_| short())?;
        let header = FrameHeader { kind, codec, plain_len, comp_len, key: set.id, name };
        let associated = header.associated();
        let nonce = set.frame_nonce(&associated, body);
        let tag = seal(&set.frame_key(name)?, nonce, &associated, body)?;
        room.get_mut(length..length + TAG).ok_or_else(short)?.copy_from_slice(tag.as_ref());
        self.out.get_mut(..NONCE).ok_or_else(short)?.copy_from_slice(&nonce);
        let stored = self.out.get(..length + OVERHEAD).ok_or_else(short)?;
        Ok(Sealed { header, stored })
    }
}

/// Opens frames, one at a time, in buffers of its own. What it gives was authenticated **and** named anew.
pub(crate) struct Opener {
    decompressor: zstd::bulk::Decompressor<'static>,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    digests: Vec<[u8; 16]>,
}

/// An opened frame.
pub(crate) struct Opened<'a> {
    pub(crate) plain: &'a [u8],
    /// Of each slot; empty where the frame holds no pages.
    pub(crate) digests: &'a [[u8; 16]],
}

impl Opener {
    pub(crate) fn new() -> Result<Self, Malformed> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(|error| Malformed::wrong(format!("zstd: {error}")))?;
        Ok(Self { decompressor, sealed: Vec::new(), plain: Vec::with_capacity(MAX_PLAIN), digests: Vec::new() })
    }

    /// Opens `stored`, which the pack's table describes as `header` with `slots`.
    pub(crate) fn open(&mut self, keys: &DataKeys, header: &FrameHeader, slots: u16, stored: &[u8]) -> Result<Opened<'_>, Malformed> {
        let set = keys.set(header.key)?;
        if stored.len() as u64 != header.stored_len() || header.plain_len as usize > MAX_PLAIN {
            return Err(Malformed::wrong("its lengths do not agree"));
        }
        let (nonce, sealed) = stored.split_first_chunk::<NONCE>().ok_or_else(|| Malformed::wrong("ends early"))?;
        self.sealed.clear();
        self.sealed.extend_from_slice(sealed);
        let body = open(&set.frame_key(header.name)?, *nonce, &header.associated(), &mut self.sealed)?;
        self.plain.clear();
        match header.codec {
            Codec::Raw => self.plain.extend_from_slice(body),
            Codec::Zstd => {
                // zstd writes into the buffer's capacity and never makes it grow: a bomb is an error.
                let plain = self.decompressor.decompress_to_buffer(&*body, &mut self.plain);
                plain.map_err(|error| Malformed::wrong(format!("zstd: {error}")))?;
            }
        }
        if self.plain.len() != header.plain_len as usize {
            return Err(Malformed::wrong("its plain length is another one"));
        }
        self.digests.clear();
        let name = if header.kind == FrameKind::Pages {
            let block_size = block_size_of(self.plain.len(), usize::from(slots))?;
            name_pages(set, &self.plain, block_size, &mut self.digests)
        } else {
            set.name(header.kind.number(), &self.plain)
        };
        if name != header.name {
            return Err(Malformed::wrong("its content does not have its name"));
        }
        Ok(Opened { plain: &self.plain, digests: &self.digests })
    }
}
