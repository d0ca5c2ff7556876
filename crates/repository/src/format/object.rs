//! Sealed objects: points, and the tables inside packs.
//!
//! `"MSTO" ver kind flags(u16) key_id(16) salt(32) clear_len(u32)`, the clear header, ciphertext, tag. The associated data is
//! all that stands before the ciphertext, and the object's path behind it: an object that was moved does not open.
//! The salt is random and makes the key; the nonce is zero.

use muster_common::id::KeyId;

use super::bytes::Cursor;
use super::subkeys::{DataKeys, KeySet, TAG, open, seal};
use super::{Malformed, VERSION};

const MAGIC: &[u8; 4] = b"MSTO";
const PREFIX: usize = 60;
/// The most bytes in one seal.
pub(crate) const MAX_SEAL: usize = 64 << 20;
/// The most bytes in a clear header: a million packs.
pub(crate) const MAX_CLEAR: usize = 16 << 20;

/// What a sealed, signed or clear object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Config,
    Key,
    FrameTable,
    DigestTable,
    Point,
    Mark,
    Hold,
}

impl ObjectKind {
    /// 6 sealed WAL, 7 a stream: reserved.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Config => 1,
            Self::Key => 2,
            Self::FrameTable => 3,
            Self::DigestTable => 4,
            Self::Point => 5,
            Self::Mark => 8,
            Self::Hold => 9,
        }
    }
}

/// An object whose clear header can be read; nothing of it is authenticated before [`Envelope::open`].
pub(crate) struct Envelope<'a> {
    key: KeyId,
    salt: [u8; 32],
    pub(crate) clear: &'a [u8],
    before: &'a [u8],
    sealed: &'a [u8],
}

/// Seals `plain` as the object at `path`.
pub(crate) fn seal_object(
    set: &KeySet,
    kind: ObjectKind,
    salt: [u8; 32],
    path: &str,
    clear: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, Malformed> {
    if plain.len() > MAX_SEAL || clear.len() > MAX_CLEAR {
        return Err(Malformed::wrong(format!("{} bytes behind a header of {} are more than one seal takes", plain.len(), clear.len())));
    }
    let clear_len = u32::try_from(clear.len()).map_err(|_| Malformed::wrong("header too long"))?;
    let mut out = Vec::with_capacity(PREFIX + clear.len() + plain.len() + TAG);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind.number(), 0, 0]);
    out.extend_from_slice(set.id.as_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&clear_len.to_le_bytes());
    out.extend_from_slice(clear);
    let associated = [out.as_slice(), path.as_bytes()].concat();
    let start = out.len();
    out.extend_from_slice(plain);
    let body = out.get_mut(start..).unwrap_or_default();
    let tag = seal(&set.object_key(&salt)?, [0; 12], &associated, body)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

impl<'a> Envelope<'a> {
    /// Splits an object of `kind` into its parts.
    pub(crate) fn parse(kind: ObjectKind, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        check_start(&mut cursor, MAGIC, kind)?;
        let (key, salt, clear_len) = (KeyId::from_bytes(cursor.array()?), cursor.array()?, cursor.u32()? as usize);
        if clear_len > MAX_CLEAR {
            return Err(Malformed::wrong("its header is too long"));
        }
        let clear = cursor.take(clear_len)?;
        let (before, sealed) = bytes.split_at_checked(PREFIX + clear_len).ok_or_else(|| Malformed::wrong("ends early"))?;
        if sealed.len() < TAG || sealed.len() > MAX_SEAL + TAG {
            return Err(Malformed::wrong("its sealed part is too short or too long"));
        }
        Ok(Self { key, salt, clear, before, sealed })
    }

    /// The sealed part, opened; proves the clear header and the path too.
    pub(crate) fn open(&self, keys: &DataKeys, path: &str) -> Result<Vec<u8>, Malformed> {
        let key = keys.set(self.key)?.object_key(&self.salt)?;
        let associated = [self.before, path.as_bytes()].concat();
        let mut plain = self.sealed.to_vec();
        open(&key, [0; 12], &associated, &mut plain)?;
        plain.truncate(self.sealed.len() - TAG);
        Ok(plain)
    }
}

/// Magic, version, kind and flags, which open every object that is no pack.
pub(crate) fn check_start(cursor: &mut Cursor<'_>, magic: &[u8; 4], kind: ObjectKind) -> Result<(), Malformed> {
    if &cursor.array::<4>()? != magic {
        return Err(Malformed::wrong("is no object of a repository"));
    }
    let version = cursor.u8()?;
    if version > VERSION {
        return Err(Malformed::Newer(u32::from(version)));
    }
    let (found, flags) = (cursor.u8()?, cursor.u16()?);
    if version == 0 || found != kind.number() || flags != 0 {
        return Err(Malformed::wrong(format!("is version {version}, kind {found}, flags {flags}; expected kind {}", kind.number())));
    }
    Ok(())
}
