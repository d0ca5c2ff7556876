//! When the controller backs itself up, and what became of it the last time.
//!
//! What always holds: what is told of was read back; the last one is remembered in a file of the state folder, over restarts; a failure is
//! told with its reason until one succeeds, and tried again after a quarter of an hour.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use muster_common::time::Timestamp;
use muster_repository::keys::KdfCost;
use muster_repository::location::Location;
use muster_service::{clock, files};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::own_backup::take::{self, Taken};
use crate::store::Connection;

/// How often it is looked whether one is due.
pub const LOOK: Duration = Duration::from_secs(30);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;
const FILE: &str = "backup.json";
const MOST_BYTES: u64 = 64 << 10;

/// Where and when the controller backs itself up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where backups go.
    pub location: Location,
    /// The file of the passphrase that seals them.
    pub passphrase_file: PathBuf,
    /// When each night, after midnight UTC.
    pub at: Duration,
    /// How many are kept in a folder. A bucket's own rules remove old ones there.
    pub keep: usize,
}

/// What is remembered of the last ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When the last good one was taken.
    pub at: Option<Timestamp>,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: String,
    /// Why the last attempt failed. Empty: it did not.
    pub problem: String,
    /// When that was.
    pub failed: Option<Timestamp>,
}

/// Whoever backs the controller up. Clones are the same.
#[derive(Clone, Debug)]
pub struct Keeper {
    plan: Option<Plan>,
    authority_folder: PathBuf,
    file: PathBuf,
    kept: Arc<ArcSwap<Kept>>,
}

impl Keeper {
    /// What the configuration says, and what is remembered.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let file = config.state_directory.join(FILE);
        let kept = match files::read_text(&file, MOST_BYTES) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
            Err(_) => Kept::default(),
        };
        let kept = Arc::new(ArcSwap::from_pointee(kept));
        Self { plan: config.backup.clone(), authority_folder: config.authority_folder(), file, kept }
    }

    /// Where and when; `None`: nobody asked for backups.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What is remembered.
    #[must_use]
    pub fn kept(&self) -> Arc<Kept> {
        self.kept.load_full()
    }

    /// Whether one should be taken now.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.plan.as_ref().is_some_and(|plan| is_due(plan.at, &self.kept.load(), now))
    }

    /// Takes one, and remembers what became of it.
    ///
    /// # Errors
    /// Where it fails; that is remembered too.
    pub async fn take(&self, reading: Connection) -> Result<Taken> {
        let plan = self.plan.as_ref().context("the configuration says no place for backups: `backup`")?;
        let now = clock::now();
        let before = self.kept.load_full();
        let taken = self.take_into(plan, reading, now).await;
        let kept = match &taken {
            Ok(taken) => {
                Kept { at: Some(now), name: taken.name.clone(), place: plan.location.to_string(), problem: String::new(), failed: None }
            }
            Err(error) => Kept { problem: format!("{error:#}"), failed: Some(now), ..(*before).clone() },
        };
        let text = serde_json::to_vec_pretty(&kept).context("write as JSON")?;
        self.kept.store(Arc::new(kept));
        files::write_atomically(&self.file, &text, 0o600)?;
        taken
    }

    async fn take_into(&self, plan: &Plan, reading: Connection, now: Timestamp) -> Result<Taken> {
        let passphrase = take::passphrase(&plan.passphrase_file)?;
        let taken = take::take(reading, &self.authority_folder, &plan.location, passphrase, KdfCost::STANDARD, now).await?;
        match &plan.location {
            Location::Folder { path } => sweep(path, &taken.name, plan.keep)?,
            Location::S3(_) => {}
        }
        Ok(taken)
    }
}

/// Removes the oldest backups of the same store beyond `keep`; the newest is never one of them.
fn sweep(folder: &Path, newest: &str, keep: usize) -> Result<()> {
    let Some(prefix) = newest.get(.."controller-00000000-".len()) else { return Ok(()) };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry.with_context(|| format!("list {}", folder.display()))?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix) && name.ends_with(".sealed") && *name != newest) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let many = names.len().saturating_sub(keep.saturating_sub(1));
    for name in names.into_iter().take(many) {
        std::fs::remove_file(folder.join(&name)).with_context(|| format!("remove the old backup {name}"))?;
    }
    Ok(())
}

/// Due where the last good one is from before the last time that one should have been taken, unless an attempt failed just now.
fn is_due(at: Duration, kept: &Kept, now: Timestamp) -> bool {
    if kept.failed.is_some_and(|failed| failed.0 <= now.0 && now.since(failed) < AGAIN) {
        return false;
    }
    let offset = i64::try_from(at.as_micros()).unwrap_or(0);
    let today = now.0.div_euclid(DAY).saturating_mul(DAY).saturating_add(offset);
    let last = if today <= now.0 { today } else { today.saturating_sub(DAY) };
    // One from the future is of a clock that was wrong: it does not keep others away.
    kept.at.is_none_or(|taken| taken.0 < last || taken.0 > now.0.saturating_add(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64, hours: i64) -> Timestamp {
        Timestamp(days * DAY + hours * 3_600_000_000)
    }

    #[test]
    fn one_is_due_each_night_and_again_a_while_after_a_failure() {
        let night = Duration::from_secs(2 * 3_600);
        let taken = |time| Kept { at: Some(time), ..Kept::default() };
        assert!(is_due(night, &Kept::default(), at(9, 12)), "there is none");
        assert!(!is_due(night, &taken(at(9, 2)), at(9, 12)));
        assert!(!is_due(night, &taken(at(9, 2)), at(10, 1)));
        assert!(is_due(night, &taken(at(9, 2)), at(10, 2)));
        assert!(is_due(night, &taken(at(9, 1)), at(9, 3)), "one by hand before the time does not count for it");
        assert!(is_due(night, &taken(at(99, 1)), at(9, 3)), "a clock that was wrong");
        let failed = Kept { failed: Some(at(10, 3)), problem: "full".into(), ..taken(at(9, 2)) };
        assert!(!is_due(night, &failed, at(10, 3)));
        assert!(is_due(night, &failed, at(10, 4)));
    }

    #[test]
    fn old_ones_of_the_same_store_go_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "controller-aaaaaaaa-1.sealed",
            "controller-aaaaaaaa-2.sealed",
            "controller-aaaaaaaa-3.sealed",
            "controller-bbbbbbbb-0.sealed",
        ];
        names.iter().for_each(|name| std::fs::write(folder.path().join(name), "x").unwrap());
        sweep(folder.path(), names[2], 2).unwrap();
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [false, true, true, true]);
        sweep(folder.path(), names[2], 0).unwrap();
        assert!(folder.path().join(names[2]).exists());
    }
}
