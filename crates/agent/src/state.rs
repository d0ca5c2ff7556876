//! The state directory: who may use it, and what lies where in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_repository::secret::AgentSecret;
use muster_service::files::{self, FileError};
use rustix::fs::{FlockOperation, flock};

use crate::durable::{self, DurableError, Format};

const SECRET: Format = Format { magic: "MUSTER-ENCRYPTION-KEY", version: 1 };

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A durable file.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// Another agent runs.
    #[error("another agent runs with the state directory {}; HINT: stop it, or give this one a `stateDirectory` of its own", .0.display())]
    InUse(PathBuf),
    /// The lock.
    #[error("lock {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No random bytes.
    #[error("draw a key: {0}")]
    Random(String),
}

/// A state directory that this process alone uses, for as long as this lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory where it is absent, and locks it.
    ///
    /// # Errors
    /// Where another process has it, or it cannot be made.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        files::create_private_folder(path)?;
        files::remove_temporaries(path)?;
        let lock = path.join("lock");
        let failed = |source| StateError::Lock { path: lock.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(path.to_owned())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Where something lies.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The key that data keys are wrapped to; drawn at the first start.
    ///
    /// # Errors
    /// Where it cannot be read or kept. It is never drawn again where one stands.
    pub fn encryption_key(&self) -> Result<AgentSecret, StateError> {
        let path = self.join("encryption.key");
        if let Some(body) = durable::read(&path, SECRET)? {
            let bytes: [u8; 32] =
                body.try_into().map_err(|_| DurableError::Damaged { path, why: "it does not hold 32 bytes".to_owned() })?;
            return Ok(AgentSecret::from_bytes(bytes));
        }
        let secret = AgentSecret::generate(rand::random());
        files::create_atomically(&path, &durable::encode(SECRET, secret.to_bytes().as_slice()), 0o600)?;
        Ok(secret)
    }
}

/// The machine's boot, 32 hexadecimal digits; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().replace('-', "")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_directory_has_one_process_and_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let state = StateDirectory::open(&path).unwrap();
        assert!(matches!(StateDirectory::open(&path), Err(StateError::InUse(_))));
        let public = state.encryption_key().unwrap().public();
        assert_eq!(std::fs::metadata(state.join("encryption.key")).unwrap().permissions().mode() & 0o777, 0o600);
        drop(state);
        let state = StateDirectory::open(&path).unwrap();
        assert_eq!(state.encryption_key().unwrap().public(), public);
        std::fs::write(state.join("encryption.key"), "damaged").unwrap();
        assert!(state.encryption_key().is_err(), "a damaged key is not replaced: it may still be wanted");
    }

    #[test]
    fn the_boot_has_an_id() {
        assert!(boot_id().parse::<muster_common::id::BootId>().is_ok(), "{}", boot_id());
    }
}
