//! The keys of one generation of a component: two secrets, and a subkey of them for each purpose.
//!
//! Each purpose has a context string of its own (BLAKE3 `derive_key`), listed here and in docs/formats.md only.

use std::fmt;
use std::sync::Arc;

use muster_common::id::{ComponentId, KeyId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Malformed;

/// The length of an AES-GCM tag.
pub(crate) const TAG: usize = 16;

pub(crate) const CONTEXT_NAME: &str = "muster repository v1: name of a frame";
pub(crate) const CONTEXT_DIGEST: &str = "muster repository v1: digest of a page";
pub(crate) const CONTEXT_LEAF: &str = "muster repository v1: digest of a leaf";
pub(crate) const CONTEXT_FRAME: &str = "muster repository v1: key of a frame";
pub(crate) const CONTEXT_NONCE: &str = "muster repository v1: nonce of a frame";
pub(crate) const CONTEXT_OBJECT: &str = "muster repository v1: key of an object";
pub(crate) const CONTEXT_WRAP_AGENT: &str = "muster repository v1: wrap to an agent";
pub(crate) const CONTEXT_WRAP_PASSPHRASE: &str = "muster repository v1: wrap to a passphrase";

/// 16 bytes of a keyed BLAKE3: what a frame is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FrameName(pub(crate) [u8; 16]);

/// 16 bytes of a keyed BLAKE3 over a page, or over the digests of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

impl fmt::Debug for FrameName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The subkeys of one generation.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct KeySet {
    #[zeroize(skip)]
    pub(crate) id: KeyId,
    #[zeroize(skip)]
    pub(crate) generation: u32,
    names: [u8; 32],
    digests: [u8; 32],
    leaves: [u8; 32],
    frames: [u8; 32],
    nonces: [u8; 32],
    objects: [u8; 32],
}

/// What a key object wraps: 32 bytes that names and digests come from (kept through rotations), 32 that seal data.
pub(crate) type Material = Zeroizing<[u8; 64]>;

impl KeySet {
    pub(crate) fn derive(id: KeyId, generation: u32, material: &Material) -> Self {
        let (names, data) = material.split_at(32);
        Self {
            id,
            generation,
            names: blake3::derive_key(CONTEXT_NAME, names),
            digests: blake3::derive_key(CONTEXT_DIGEST, names),
            leaves: blake3::derive_key(CONTEXT_LEAF, names),
            frames: blake3::derive_key(CONTEXT_FRAME, data),
            nonces: blake3::derive_key(CONTEXT_NONCE, data),
            objects: blake3::derive_key(CONTEXT_OBJECT, data),
        }
    }

    /// The digest of one page as it was read.
    pub(crate) fn page_digest(&self, page: &[u8]) -> Digest {
        Digest(half(blake3::keyed_hash(&self.digests, page)))
    }

    /// The digest of a leaf: over its pages' digests, or over its frames' names where it has no pages.
    pub(crate) fn leaf_digest(&self, rows: &[[u8; 16]]) -> Digest {
        Digest(half(blake3::keyed_hash(&self.leaves, rows.as_flattened())))
    }

    /// The name of a frame of `kind` over what names it.
    pub(crate) fn name(&self, kind: u8, over: &[u8]) -> FrameName {
        let mut hasher = blake3::Hasher::new_keyed(&self.names);
        hasher.update(&[kind]).update(over);
        FrameName(half(hasher.finalize()))
    }

    pub(crate) fn frame_key(&self, name: FrameName) -> Result<LessSafeKey, Malformed> {
        aes(blake3::keyed_hash(&self.frames, &name.0).as_bytes())
    }

    /// The nonce of a frame: other bytes or another header give another one.
    pub(crate) fn frame_nonce(&self, associated: &[u8], compressed: &[u8]) -> [u8; 12] {
        let mut hasher = blake3::Hasher::new_keyed(&self.nonces);
        hasher.update(associated).update(compressed);
        hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }

    pub(crate) fn object_key(&self, salt: &[u8; 32]) -> Result<LessSafeKey, Malformed> {
        aes(blake3::keyed_hash(&self.objects, salt).as_bytes())
    }
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// An AES-256-GCM key.
pub(crate) fn aes(key: &[u8; 32]) -> Result<LessSafeKey, Malformed> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| Malformed::wrong("no AES-256-GCM key"))
}

/// Seals `bytes` in place.
pub(crate) fn seal(key: &LessSafeKey, nonce: [u8; 12], associated: &[u8], bytes: &mut [u8]) -> Result<Tag, Malformed> {
    key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), bytes)
        .map_err(|_| Malformed::wrong("too long to be sealed"))
}

/// Opens `bytes` (with the tag behind them) in place.
pub(crate) fn open<'a>(key: &LessSafeKey, nonce: [u8; 12], associated: &[u8], bytes: &'a mut [u8]) -> Result<&'a mut [u8], Malformed> {
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated), bytes)
        .map_err(|_| Malformed::wrong("its seal does not open"))
}

/// The opened keys of a component. Cheap to clone; never shown.
#[derive(Clone)]
pub struct DataKeys {
    component: ComponentId,
    /// Newest generation first; never empty.
    sets: Arc<Vec<KeySet>>,
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKeys({})", self.component)
    }
}

impl DataKeys {
    /// `None` where `sets` is empty.
    pub(crate) fn new(component: ComponentId, mut sets: Vec<KeySet>) -> Option<Self> {
        sets.sort_by_key(|set| std::cmp::Reverse(set.generation));
        (!sets.is_empty()).then(|| Self { component, sets: Arc::new(sets) })
    }

    /// The component that they are of; its id is the deduplication domain too.
    #[must_use]
    pub fn component(&self) -> ComponentId {
        self.component
    }

    /// The newest generation among them. Whoever keeps it can refuse an older one later.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.sets.first().map_or(0, |set| set.generation)
    }

    /// The set that new data is sealed with.
    pub(crate) fn current(&self) -> Result<&KeySet, Malformed> {
        self.sets.first().ok_or_else(|| Malformed::wrong("no key"))
    }

    pub(crate) fn set(&self, id: KeyId) -> Result<&KeySet, Malformed> {
        self.sets.iter().find(|set| set.id == id).ok_or_else(|| Malformed::wrong(format!("is sealed with key {id}, which was not granted")))
    }
}
