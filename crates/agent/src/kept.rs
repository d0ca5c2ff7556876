//! Directories that restores moved aside: a durable list of what may be removed, when, and of nothing else.
//!
//! What always holds: a directory is on the list before the restore's outcome is told, and leaves it after it is gone.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use muster_common::id::CommandId;
use muster_common::name::InstanceName;
use muster_common::time::Timestamp;
use muster_engine::request::KeptDirectory;
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError, Format};

const FORMAT: Format = Format { magic: "MUSTER-KEPT", version: 1 };

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The instance it belonged to.
    pub instance: InstanceName,
    /// The restore that moved it aside.
    pub command: CommandId,
    /// Where, how large, until when.
    pub directory: KeptDirectory,
}

/// The list and its file.
#[derive(Debug)]
pub struct KeptDirectories {
    path: PathBuf,
    entries: Mutex<Vec<Entry>>,
}

impl KeptDirectories {
    /// Reads the list.
    ///
    /// # Errors
    /// Where the file is damaged: what to remove is not guessed.
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let entries = durable::read_json(path, FORMAT)?.unwrap_or_default();
        Ok(Self { path: path.to_owned(), entries: Mutex::new(entries) })
    }

    /// Puts a directory on the list; one that is on it is replaced. Blocks for the disk.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn add(&self, entry: Entry) -> Result<(), DurableError> {
        self.change(|entries| {
            entries.retain(|other| other.directory.path != entry.directory.path);
            entries.push(entry);
        })
    }

    /// Takes a directory off the list. Blocks for the disk.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn remove(&self, path: &Path) -> Result<(), DurableError> {
        self.change(|entries| entries.retain(|entry| entry.directory.path != path))
    }

    /// What is kept of one instance.
    #[must_use]
    pub fn of(&self, instance: &InstanceName) -> Vec<KeptDirectory> {
        self.all().into_iter().filter(|entry| entry.instance == *instance).map(|entry| entry.directory).collect()
    }

    /// Whether a directory is kept for this instance.
    #[must_use]
    pub fn contains(&self, instance: &InstanceName, path: &Path) -> bool {
        self.all().iter().any(|entry| entry.instance == *instance && entry.directory.path == path)
    }

    /// What is to be removed by now.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<Entry> {
        self.all().into_iter().filter(|entry| entry.directory.until <= now).collect()
    }

    fn all(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Result<(), DurableError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = entries.clone();
        change(&mut next);
        if next != *entries {
            durable::write_json(&self.path, FORMAT, &next)?;
            *entries = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_survives_a_restart_and_is_due_at_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let instance: InstanceName = "orders-db/istanbul".parse().unwrap();
        let directory = KeptDirectory { path: "/srv/pg.old".into(), bytes: 5, until: Timestamp(100) };
        let entry = Entry { instance: instance.clone(), command: CommandId::from_bytes([1; 16]), directory };
        let kept = KeptDirectories::open(&path).unwrap();
        kept.add(entry.clone()).unwrap();
        kept.add(entry.clone()).unwrap();
        let kept = KeptDirectories::open(&path).unwrap();
        assert_eq!(kept.of(&instance), std::slice::from_ref(&entry.directory));
        assert!(kept.due(Timestamp(99)).is_empty());
        assert_eq!(kept.due(Timestamp(100)), [entry]);
        kept.remove(Path::new("/srv/pg.old")).unwrap();
        assert!(KeptDirectories::open(&path).unwrap().of(&instance).is_empty());
    }
}
