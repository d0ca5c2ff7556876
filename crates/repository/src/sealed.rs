//! Bytes sealed as a whole with a passphrase: Argon2id, then AES-256-GCM. For what is no backup of a component, as the controller's own state.
//!
//! `MUSTSEAL`, version (1 byte), memory in KiB, passes, lanes (4 bytes each, big endian), salt (32 bytes), ciphertext, tag (16 bytes). All that
//! stands before the ciphertext is authenticated with it. A salt is used once, so that the key seals once and its nonce is zero.

use argon2::{Algorithm, Argon2, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::format::subkeys::{aes, open, seal};
use crate::keys::KdfCost;
use crate::secret::Secret;

const MAGIC: &[u8; 8] = b"MUSTSEAL";
const VERSION: u8 = 1;
const HEAD: usize = 8 + 1 + 12 + 32;
const TAG: usize = 16;
const CONTEXT: &str = "muster 2026-11 sealed bytes, key from a passphrase";

/// Why bytes could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// They do not begin as sealed bytes do, or are too short.
    #[error("these are no sealed bytes of version {VERSION}")]
    NotSealed,
    /// Another passphrase, or one bit is not as it was.
    #[error("the passphrase is another, or the bytes were changed")]
    Refused,
    /// What the cryptography said.
    #[error("seal: {0}")]
    Failed(String),
}

/// Seals; what is given is overwritten by the ciphertext.
///
/// # Errors
/// Where there is no randomness or the cost is none.
pub fn seal_with_passphrase(passphrase: &Secret, cost: KdfCost, mut plain: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let mut head = MAGIC.to_vec();
    head.push(VERSION);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        head.extend_from_slice(&number.to_be_bytes());
    }
    let mut salt = [0; 32];
    SystemRandom::new().fill(&mut salt).map_err(|_| SealError::Failed("the operating system gives no randomness".into()))?;
    head.extend_from_slice(&salt);
    let key = derive(passphrase, cost, &salt)?;
    let failed = |error: crate::format::Malformed| SealError::Failed(error.to_string());
    let tag = seal(&aes(&key).map_err(failed)?, [0; 12], &head, &mut plain).map_err(failed)?;
    let mut sealed = head;
    sealed.append(&mut plain);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens.
///
/// # Errors
/// See [`SealError`].
pub fn open_with_passphrase(passphrase: &Secret, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (head, body) = sealed.split_at_checked(HEAD).filter(|(_, body)| body.len() >= TAG).ok_or(SealError::NotSealed)?;
    let rest = head.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&[VERSION])).ok_or(SealError::NotSealed)?;
    let number = |place: usize| {
        let bytes = rest.get(place..place + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).ok_or(SealError::NotSealed)?;
        Ok::<u32, SealError>(u32::from_be_bytes(bytes))
    };
    let cost = KdfCost { memory_kib: number(0)?, passes: number(4)?, lanes: number(8)? };
    let salt = rest.get(12..).ok_or(SealError::NotSealed)?;
    let key = derive(passphrase, cost, salt)?;
    let key = aes(&key).map_err(|error| SealError::Failed(error.to_string()))?;
    let mut plain = Zeroizing::new(body.to_vec());
    let length = open(&key, [0; 12], head, &mut plain).map_err(|_| SealError::Refused)?.len();
    plain.truncate(length);
    Ok(plain)
}

fn derive(passphrase: &Secret, cost: KdfCost, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let cost = cost.check().map_err(|error| SealError::Failed(error.to_string()))?;
    let failed = |error: argon2::Error| SealError::Failed(format!("argon2: {error}"));
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(failed)?;
    let mut stretched = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, &mut *stretched)
        .map_err(failed)?;
    Ok(Zeroizing::new(blake3::derive_key(CONTEXT, &*stretched)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_by_its_passphrase_and_by_no_other() {
        let (right, wrong) = (Secret::new("correct horse"), Secret::new("correct horsf"));
        let sealed = seal_with_passphrase(&right, KdfCost::WEAK, b"the state".to_vec()).unwrap();
        assert_eq!(&**open_with_passphrase(&right, &sealed).unwrap(), b"the state");
        assert_eq!(open_with_passphrase(&wrong, &sealed), Err(SealError::Refused));
        let again = seal_with_passphrase(&right, KdfCost::WEAK, b"the state".to_vec()).unwrap();
        assert_ne!(sealed, again);
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let passphrase = Secret::new("x");
        let sealed = seal_with_passphrase(&passphrase, KdfCost::WEAK, b"ab".to_vec()).unwrap();
        for place in 0..sealed.len() {
            // A changed cost is a longer derivation: only its smallest digits are tried.
            if (9..20).contains(&place) {
                continue;
            }
            let mut other = sealed.clone();
            other[place] ^= 1;
            assert!(open_with_passphrase(&passphrase, &other).is_err(), "byte {place}");
            assert!(open_with_passphrase(&passphrase, &sealed[..place]).is_err(), "cut at {place}");
        }
    }
}
