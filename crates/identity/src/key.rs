//! P-256 key pairs and their files.
//!
//! What always holds: a key file is readable by its owner alone, and no key reaches a log, an error or `Debug`.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use muster_service::files;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};

use crate::fingerprint::Fingerprint;

/// The mode of a key's file.
pub const KEY_MODE: u32 = 0o600;

/// The longest key file, in bytes.
const MAX_BYTES: u64 = 16 << 10;

/// A private P-256 key with its public half.
pub struct KeyPair {
    pub(crate) inner: rcgen::KeyPair,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// Others than its owner may read it.
    #[error("key file {} has mode {mode:03o}: others may read it; expected 600 (chmod 600, and think of the key as known)", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no P-256 key in PKCS#8 PEM. The text is not shown.
    #[error("{what} is no P-256 private key in PEM: {source}")]
    Invalid {
        /// Where it came from.
        what: String,
        /// What the parser said.
        #[source]
        source: rcgen::Error,
    },
    /// The system gave no randomness.
    #[error("generate a key: {0}")]
    Generate(#[source] rcgen::Error),
}

impl KeyPair {
    /// A new one.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|inner| Self { inner }).map_err(KeyError::Generate)
    }

    /// Reads PEM (`PRIVATE KEY`, PKCS#8). `what` names its origin in errors.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn from_pem(pem: &str, what: &str) -> Result<Self, KeyError> {
        rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
            .map(|inner| Self { inner })
            .map_err(|source| KeyError::Invalid { what: what.to_owned(), source })
    }

    /// The secret as PEM, for a file of mode 0600 or an operator's file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.inner.serialize_pem()
    }

    /// Reads a key file and refuses one that others may read.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = files::read_text(path, MAX_BYTES)?;
        let metadata = std::fs::metadata(path).map_err(|source| files::FileError { act: "look at", path: path.to_owned(), source })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable { path: path.to_owned(), mode });
        }
        Self::from_pem(&text, &path.display().to_string())
    }

    /// Writes a new key file, durably, and refuses to replace one.
    ///
    /// # Errors
    /// Where the file exists or cannot be written.
    pub fn create_file(&self, path: &Path) -> Result<(), KeyError> {
        Ok(files::create_atomically(path, self.to_pem().as_bytes(), KEY_MODE)?)
    }

    /// Of its public half (SHA-256 of the SubjectPublicKeyInfo).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.inner.subject_public_key_info())
    }

    /// Its public half: the uncompressed point, 65 bytes (SEC 1, 2.3.3).
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.inner.public_key_raw()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_in_a_private_file_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = KeyPair::generate().unwrap();
        key.create_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyPair::load(&path).unwrap().fingerprint(), key.fingerprint());
        assert!(matches!(key.create_file(&path), Err(KeyError::File(_))), "a key is never replaced");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        KeyPair::generate().unwrap().create_file(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(KeyPair::load(&path).unwrap_err().to_string().contains("mode 640"));
    }

    #[test]
    fn neither_debug_nor_errors_show_a_key() {
        let key = KeyPair::generate().unwrap();
        assert!(!format!("{key:?}").contains("PRIVATE"));
        let broken = key.to_pem().replace("MIG", "NIG");
        let error = KeyPair::from_pem(&broken, "here").unwrap_err();
        assert!(!format!("{error:?} {error}").contains(broken.lines().nth(1).unwrap()));
    }

    #[test]
    fn a_key_of_another_curve_is_refused() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(KeyPair::from_pem(&other.serialize_pem(), "here").is_err());
    }
}
