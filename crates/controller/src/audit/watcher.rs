//! Looks after the audit log: remembers its head in a file of the state folder, walks the chain, says what is wrong.
//!
//! The file is what finds a log that was cut or written anew together with its own ends: who can change a store on another machine cannot
//! change this one. What always holds: what the file says is never replaced by what contradicts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use muster_common::time::Timestamp;
use muster_service::{clock, files};
use serde::{Deserialize, Serialize};

use crate::audit::chain::{Ends, Known, Verdict};
use crate::store::{Store, audit};

/// How often the head is looked at.
pub const LOOK: Duration = Duration::from_secs(10);
/// How often the whole chain is walked.
const WALK: Duration = Duration::from_secs(24 * 3_600);
/// How often it is walked while something is wrong with it.
const WALK_BROKEN: Duration = Duration::from_secs(60);
/// How often the head is told in the log, where it moved.
const TOLD: Duration = Duration::from_secs(600);
const FILE: &str = "audit-head.json";
const MOST_BYTES: u64 = 4 << 10;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    store_id: String,
    number: u64,
    hash: String,
    at: Timestamp,
}

/// Whoever looks after the log. Clones are the same.
#[derive(Clone, Debug)]
pub struct Watcher {
    file: PathBuf,
    problem: Arc<ArcSwap<Option<String>>>,
}

/// What one who looks remembers from look to look.
#[derive(Debug, Default)]
pub struct Looked {
    walked: Option<Instant>,
    told: Option<Instant>,
}

impl Watcher {
    /// The watcher whose file is in this state folder.
    #[must_use]
    pub fn of(state_directory: &Path) -> Self {
        Self { file: state_directory.join(FILE), problem: Arc::default() }
    }

    /// What is wrong with the log, as it was found last. `None`: nothing.
    #[must_use]
    pub fn problem(&self) -> Arc<Option<String>> {
        self.problem.load_full()
    }

    /// Walks the whole chain and holds it against the file, and against what the caller knows.
    ///
    /// # Errors
    /// Where the store or the file cannot be read.
    pub async fn verify(&self, store: &Store, mut known: Vec<Known>) -> Result<Verdict> {
        known.extend(self.head(store).await?.map(|head| remembered(&head)));
        let mut read = store.read().await?;
        Ok(audit::verify(&mut read, known).await?)
    }

    /// One look: at the head each time, at the whole chain at first and each day.
    ///
    /// # Errors
    /// Where the store or the file cannot be read or written.
    pub async fn look(&self, store: &Store, looked: &mut Looked) -> Result<()> {
        let before = self.head(store).await?;
        let mut read = store.read().await?;
        let ends = audit::ends(&mut read).await?;
        let often = if self.problem().is_some() { WALK_BROKEN } else { WALK };
        let wrong = if looked.walked.is_none_or(|walked| walked.elapsed() > often) {
            looked.walked = Some(Instant::now());
            match audit::verify(&mut read, before.iter().map(remembered).collect()).await? {
                Verdict::Whole(_) => None,
                Verdict::Broken { number, why } => Some(format!("entry {number}: {why}")),
            }
        } else if let Some(why) = &*self.problem() {
            Some(why.clone())
        } else {
            match &before {
                None => None,
                Some(head) if head.number < ends.first => None,
                Some(head) if head.number > ends.last => Some(format!("entry {}: it is missing, and this machine saw it", head.number)),
                Some(head) => {
                    let there = audit::hash_of(&mut read, head.number).await?;
                    (there.as_ref() != Some(&head.hash)).then(|| format!("entry {}: this machine saw another one there", head.number))
                }
            }
        };
        drop(read);
        if let Some(why) = &wrong
            && self.problem().as_ref() != &wrong
        {
            tracing::error!(why, "the audit log is not as it was written");
        }
        let sound = wrong.is_none();
        self.problem.store(Arc::new(wrong));
        if sound && ends.last > 0 && before.is_none_or(|before| before.number != ends.last) {
            self.remember(store, &ends).await?;
            if looked.told.is_none_or(|told| told.elapsed() > TOLD) {
                looked.told = Some(Instant::now());
                tracing::info!(number = ends.last, hash = ends.head, "head of the audit log");
            }
        }
        Ok(())
    }

    async fn remember(&self, store: &Store, ends: &Ends) -> Result<()> {
        let head = Head { store_id: store.store_id().to_string(), number: ends.last, hash: ends.head.clone(), at: clock::now() };
        let text = serde_json::to_vec_pretty(&head).context("write as JSON")?;
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || files::write_atomically(&file, &text, 0o600)).await.context("write the head's file")??;
        Ok(())
    }

    /// What the file says of this store.
    async fn head(&self, store: &Store) -> Result<Option<Head>> {
        let file = self.file.clone();
        let text = match tokio::task::spawn_blocking(move || files::read_text(&file, MOST_BYTES)).await.context("read the head's file")? {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let head: Head = serde_json::from_str(&text).with_context(|| format!("read {}", self.file.display()))?;
        Ok(Some(head).filter(|head| head.store_id == store.store_id().to_string()))
    }
}

fn remembered(head: &Head) -> Known {
    let at = jiff::Timestamp::from_microsecond(head.at.0).map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
    Known { number: head.number, hash: head.hash.clone(), by: format!("the controller's machine ({FILE}, {at})") }
}

/// Puts the file aside: the store is brought back to an older moment, and what was seen after it is gone with reason.
///
/// # Errors
/// Where it cannot be renamed.
pub fn put_aside(state_directory: &Path) -> Result<()> {
    let (file, aside) = (state_directory.join(FILE), state_directory.join("audit-head.before-restore.json"));
    match std::fs::rename(&file, &aside) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("put {} aside", file.display())),
    }
}
