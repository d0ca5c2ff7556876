//! Clear objects: the marks and holds of prune, which whoever has no key must be able to write and read.
//!
//! `"MSTC" ver kind flags(u16) body_len(u32)`, the body (protobuf), 32 bytes of BLAKE3 over a context string, the object's path
//! behind its length, and all that stands before. That finds damage; it proves nothing about who wrote it. `docs/formats.md`
//! says why nobody can do harm with one.

use super::bytes::Cursor;
use super::object::{ObjectKind, check_start};
use super::{Malformed, VERSION};

const MAGIC: &[u8; 4] = b"MSTC";
const CONTEXT: &str = "muster repository v1: clear object";
const SUM: usize = 32;
/// The longest clear object: a mark of 100,000 packs and points.
pub(crate) const MAX_CLEAR_OBJECT: u64 = 4 << 20;

/// `body` as the object of `kind` at `path`.
pub(crate) fn write(kind: ObjectKind, path: &str, body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let length = u32::try_from(body.len()).map_err(|_| Malformed::wrong("too long for a clear object"))?;
    let mut out = Vec::with_capacity(12 + body.len() + SUM);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind.number(), 0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    let sum = sum(path, &out);
    out.extend_from_slice(&sum);
    Ok(out)
}

/// The body of a clear object of `kind` at `path`, as it was written.
pub(crate) fn read<'a>(kind: ObjectKind, path: &str, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let mut cursor = Cursor(bytes);
    check_start(&mut cursor, MAGIC, kind)?;
    let length = cursor.u32()? as usize;
    let body = cursor.take(length)?;
    let told = cursor.array::<SUM>()?;
    cursor.end()?;
    let covered = bytes.get(..12 + length).unwrap_or_default();
    if sum(path, covered) == told { Ok(body) } else { Err(Malformed::wrong("its checksum is another one")) }
}

fn sum(path: &str, covered: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes()).update(covered);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clear_object_is_read_back_and_no_changed_byte_or_other_path_or_kind_passes() {
        let written = write(ObjectKind::Mark, "marks/a/b", b"body").unwrap();
        assert_eq!(read(ObjectKind::Mark, "marks/a/b", &written).unwrap(), b"body");
        assert!(read(ObjectKind::Mark, "marks/a/c", &written).is_err());
        assert!(read(ObjectKind::Hold, "marks/a/b", &written).is_err());
        for at in 0..written.len() {
            let mut changed = written.clone();
            changed[at] ^= 1;
            assert!(read(ObjectKind::Mark, "marks/a/b", &changed).is_err(), "byte {at}");
            assert!(read(ObjectKind::Mark, "marks/a/b", &written[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn bytes_that_nobody_wrote_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(ObjectKind::Hold, "holds/a", &bytes).is_err());
        }
    }
}
