//! Signed objects: `config` and the key objects.
//!
//! `"MSTS" ver kind flags(u16) body_len(u32)`, the body (protobuf), an Ed25519 signature of 64 bytes. Signed are a context
//! string, the object's path behind its length, and all that stands before the signature: an object that was moved is refused.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use super::bytes::Cursor;
use super::object::{ObjectKind, check_start};
use super::{Malformed, VERSION};

const MAGIC: &[u8; 4] = b"MSTS";
const CONTEXT: &[u8] = b"muster repository v1: signed object\0";
const SIGNATURE: usize = 64;
/// The longest signed object: thousands of wraps.
pub(crate) const MAX_SIGNED: u64 = 4 << 20;

/// Signs `body` as the object of `kind` at `path`.
pub(crate) fn sign(key: &Ed25519KeyPair, kind: ObjectKind, path: &str, body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let length = u32::try_from(body.len()).map_err(|_| Malformed::wrong("too long to be signed"))?;
    let mut out = Vec::with_capacity(12 + body.len() + SIGNATURE);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind.number(), 0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    let signature = key.sign(&message(path, &out));
    out.extend_from_slice(signature.as_ref());
    Ok(out)
}

/// The body of a signed object, **not yet proved**: `config` holds the key that it is signed with.
pub(crate) fn body_unproved(kind: ObjectKind, bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor(bytes);
    check_start(&mut cursor, MAGIC, kind)?;
    let length = cursor.u32()? as usize;
    let body = cursor.take(length)?;
    cursor.take(SIGNATURE)?;
    cursor.end()?;
    Ok(body)
}

/// The body of a signed object, proved by `public_key`.
pub(crate) fn verify<'a>(public_key: &[u8; 32], kind: ObjectKind, path: &str, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let body = body_unproved(kind, bytes)?;
    let (signed, signature) = bytes.split_at_checked(12 + body.len()).ok_or_else(|| Malformed::wrong("ends early"))?;
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(&message(path, signed), signature)
        .map_err(|_| Malformed::wrong("is not signed by this repository's key"))?;
    Ok(body)
}

fn message(path: &str, signed: &[u8]) -> Vec<u8> {
    [CONTEXT, &(path.len() as u64).to_le_bytes(), path.as_bytes(), signed].concat()
}
