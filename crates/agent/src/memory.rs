//! What an agent must never forget besides its tasks: the highest term, the epochs, who is revoked. One durable file.
//!
//! What always holds: no number in it ever goes back, whichever controller says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_common::counter::{Epoch, Term};
use muster_common::id::{ComponentId, ReignId, StoreId};
use muster_common::name::InstanceName;
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError, Format};

const FORMAT: Format = Format { magic: "MUSTER-AGENT-MEMORY", version: 1 };

/// How many revoked serial numbers are remembered; the oldest are forgotten first (their certificates have ended long before).
pub const MAX_REVOKED: usize = 10_000;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The highest term ever seen.
    pub highest_term: Term,
    /// The store whose commands were taken on last.
    pub store: Option<StoreId>,
    /// The highest sequence ever taken on.
    pub highest_sequence: u64,
    /// The epochs of instances.
    pub epochs: Vec<KnownEpoch>,
    /// Tombstones up to this issue were dropped.
    pub dropped_until: Timestamp,
    /// Serial numbers of revoked certificates, oldest first.
    pub revoked: Vec<String>,
    /// The highest generation of each component's data key that was ever opened.
    #[serde(default)]
    pub key_generations: BTreeMap<ComponentId, u32>,
}

/// The epoch of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEpoch {
    /// The instance.
    pub instance: InstanceName,
    /// Its epoch.
    pub epoch: Epoch,
    /// The reign, where it was told.
    pub reign: Option<ReignId>,
}

impl Remembered {
    /// The epoch of an instance; 0 where none is known.
    #[must_use]
    pub fn epoch(&self, instance: &InstanceName) -> Epoch {
        self.epochs.iter().find(|known| known.instance == *instance).map_or(Epoch(0), |known| known.epoch)
    }

    /// Learns an epoch. A lower one changes nothing; the same one may bring the reign's id.
    pub fn learn_epoch(&mut self, instance: &InstanceName, epoch: Epoch, reign: Option<ReignId>) {
        if epoch == Epoch(0) {
            return;
        }
        match self.epochs.iter_mut().find(|known| known.instance == *instance) {
            None => self.epochs.push(KnownEpoch { instance: instance.clone(), epoch, reign }),
            Some(known) if known.epoch < epoch => {
                known.epoch = epoch;
                known.reign = reign;
            }
            Some(known) if known.epoch == epoch && reign.is_some() => known.reign = reign,
            Some(_) => {}
        }
    }

    /// Learns a term. A lower one changes nothing.
    pub fn learn_term(&mut self, term: Term) {
        self.highest_term = self.highest_term.max(term);
    }

    /// Learns who is revoked. Nobody is ever taken back.
    pub fn learn_revoked(&mut self, serials: &[String]) {
        for serial in serials {
            if !self.revoked.contains(serial) {
                self.revoked.push(serial.clone());
            }
        }
        let over = self.revoked.len().saturating_sub(MAX_REVOKED);
        self.revoked.drain(..over);
    }
}

/// The memory and its file.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    remembered: Mutex<Remembered>,
}

impl Memory {
    /// Reads the memory, empty where there is none yet.
    ///
    /// # Errors
    /// Where the file is damaged: an agent that forgot would take on what it must refuse.
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let remembered = durable::read_json(path, FORMAT)?.unwrap_or_default();
        Ok(Self { path: path.to_owned(), remembered: Mutex::new(remembered) })
    }

    /// What is remembered now.
    #[must_use]
    pub fn get(&self) -> Remembered {
        self.lock().clone()
    }

    /// Changes the memory: durable when it returns, unchanged where it fails. Blocks for the disk where something changed.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn change(&self, change: impl FnOnce(&mut Remembered)) -> Result<(), DurableError> {
        let mut remembered = self.lock();
        let mut next = remembered.clone();
        change(&mut next);
        if next != *remembered {
            durable::write_json(&self.path, FORMAT, &next)?;
            *remembered = next;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_epochs_never_go_back_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let memory = Memory::open(&path).unwrap();
        let instance: InstanceName = "orders-db/istanbul".parse().unwrap();
        let reign = ReignId::from_bytes([7; 16]);
        for (term, epoch) in [(5, 3), (4, 2), (5, 0)] {
            memory
                .change(|remembered| {
                    remembered.learn_term(Term(term));
                    remembered.learn_epoch(&instance, Epoch(epoch), (epoch == 3).then_some(reign));
                })
                .unwrap();
        }
        let remembered = Memory::open(&path).unwrap().get();
        assert_eq!(remembered.highest_term, Term(5));
        assert_eq!(remembered.epochs, [KnownEpoch { instance, epoch: Epoch(3), reign: Some(reign) }]);
    }

    #[test]
    fn revocations_are_kept_once_and_bounded() {
        let mut remembered = Remembered::default();
        remembered.learn_revoked(&["aa".into(), "bb".into(), "aa".into()]);
        assert_eq!(remembered.revoked, ["aa", "bb"]);
        let many: Vec<String> = (0..MAX_REVOKED).map(|n| format!("{n:x}")).collect();
        remembered.learn_revoked(&many);
        assert_eq!(remembered.revoked.len(), MAX_REVOKED);
        assert_eq!(remembered.revoked.last(), many.last());
    }
}
