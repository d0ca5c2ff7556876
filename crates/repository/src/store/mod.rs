//! Where objects lie: a folder or a bucket behind one set of verbs. It knows nothing of what the objects hold.
//!
//! What always holds: an object is written whole or not at all, and never over another one. A store that does not answer is
//! asked again, with growing waits, for as long as the caller's patience; meanwhile [`Trouble`] says so.

mod folder;
#[cfg(test)]
pub(crate) mod memory;
pub mod probe;
mod s3;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use muster_common::backoff::Backoff;
use muster_common::time::Timestamp;
use tokio::sync::OnceCell;

use crate::error::{Error, StoreError, StoreErrorKind};
use crate::location::Location;

/// How long a store that does not answer is asked again, unless the caller says otherwise. Under ten seconds it bounds each
/// request too.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may take: a pack at 200 KB a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a store may be silent that has got a request whole.
const SILENCE: Duration = Duration::from_secs(30);
/// The slowest way to a store that is still one, for one of several requests on their way: bytes a second.
const SLOWEST: u64 = 256 << 10;

/// The store does not answer, and somebody waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, by this machine's clock.
    pub since: Timestamp,
    /// What it said last.
    pub what: String,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) size: u64,
    /// By the store's clock.
    pub(crate) modified: Timestamp,
}

#[derive(Debug)]
enum Backend {
    Folder(folder::Folder),
    S3(Box<s3::Bucket>),
    #[cfg(test)]
    Memory(memory::Memory),
}

/// A store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    backend: Arc<Backend>,
    at: Arc<str>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    /// Whether the store looks at the checksums of what it gets; unknown before [`Store::learn_checksums`].
    checks_bodies: Arc<OnceCell<bool>>,
    patience: Duration,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This machine's wall clock.
pub(crate) fn wall_clock() -> Timestamp {
    timestamp(SystemTime::now())
}

pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    let micros = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    Timestamp(micros)
}

impl Store {
    pub(crate) fn open(location: &Location) -> Result<Self, Error> {
        let at = location.to_string();
        let backend = match location {
            Location::Folder { path } => Backend::Folder(folder::Folder::new(path.clone())),
            Location::S3(s3) => Backend::S3(Box::new(s3::Bucket::open(s3, &at)?)),
        };
        Ok(Self { backend: Arc::new(backend), at: at.into(), trouble: Arc::default(), checks_bodies: Arc::default(), patience: PATIENCE })
    }

    /// A store in memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory(memory: memory::Memory) -> Self {
        let backend = Arc::new(Backend::Memory(memory));
        Self { backend, at: "memory".into(), trouble: Arc::default(), checks_bodies: Arc::default(), patience: PATIENCE }
    }

    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        lock(&self.trouble).clone()
    }

    /// From now on nothing is written where there is no `config`: a disk that was unmounted is not filled underneath.
    pub(crate) fn require_config(&self) {
        match &*self.backend {
            Backend::Folder(folder) => folder.require_config(),
            Backend::S3(_) => {}
            #[cfg(test)]
            Backend::Memory(_) => {}
        }
    }

    /// Writes a new object. That it exists already is success only where it has the same bytes (a reply was lost).
    pub(crate) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        muster_failpoint::hit("repository.put")
            .map_err(|injected| self.error(StoreErrorKind::Wrong, "write", path, injected.to_string()))?;
        let written = self
            .retry_within(self.silence(bytes.len()), "write", path, || async {
                match &*self.backend {
                    Backend::Folder(folder) => folder.put_new(path, bytes.clone()).await,
                    Backend::S3(bucket) => bucket.put_new(path, bytes.clone()).await,
                    #[cfg(test)]
                    Backend::Memory(memory) => memory.put_new(path, bytes.clone()).await,
                }
            })
            .await;
        match written {
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {
                let there = self.get(path, bytes.len() as u64).await;
                if there.is_ok_and(|there| there == bytes) { Ok(()) } else { Err(error) }
            }
            Ok(()) if self.checks_bodies.get() == Some(&false) => {
                if self.get(path, bytes.len() as u64).await? == bytes {
                    return Ok(());
                }
                Err(self.error(StoreErrorKind::Wrong, "write", path, "other bytes came back than were sent".into()))
            }
            other => other,
        }
    }

    /// Finds out once whether the store refuses a body that was changed on its way. Where it does not, each object is read back.
    pub(crate) async fn learn_checksums(&self) -> Result<bool, StoreError> {
        self.checks_bodies
            .get_or_try_init(|| async {
                match &*self.backend {
                    // What is written to a folder is fsynced; nothing checks it on its way, and nothing is on its way.
                    Backend::Folder(_) => Ok(true),
                    Backend::S3(bucket) => self.try_corrupted(bucket).await,
                    #[cfg(test)]
                    Backend::Memory(_) => Ok(true),
                }
            })
            .await
            .copied()
    }

    async fn try_corrupted(&self, bucket: &s3::Bucket) -> Result<bool, StoreError> {
        let path = probe::new_path();
        let refused = self.retry("probe", &path, || bucket.put_corrupted(&path, Bytes::from_static(&[7; 64]))).await?;
        match self.size(&path).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(refused),
            Err(error) => Err(error),
            Ok(_) => self.remove(&path).await.map(|()| false),
        }
    }

    /// Writes without comparing what is there: for a probe.
    async fn put_once(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.retry_within(self.silence(bytes.len()), "probe", path, || async {
            match &*self.backend {
                Backend::Folder(folder) => folder.put_new(path, bytes.clone()).await,
                Backend::S3(bucket) => bucket.put_new(path, bytes.clone()).await,
                #[cfg(test)]
                Backend::Memory(memory) => memory.put_new(path, bytes.clone()).await,
            }
        })
        .await
    }

    /// A whole object of at most `max` bytes.
    pub(crate) async fn get(&self, path: &str, max: u64) -> Result<Bytes, StoreError> {
        let size = self.size(path).await?;
        if size > max {
            return Err(self.error(StoreErrorKind::Wrong, "read", path, format!("it has {size} bytes where at most {max} are expected")));
        }
        if size == 0 { Ok(Bytes::new()) } else { self.get_range(path, 0..size).await }
    }

    /// Exactly these bytes of an object; fewer are an error.
    pub(crate) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self
            .retry("read", path, || async {
                match &*self.backend {
                    Backend::Folder(folder) => folder.get_range(path, range.clone()).await,
                    Backend::S3(bucket) => bucket.get_range(path, range.clone()).await,
                    #[cfg(test)]
                    Backend::Memory(memory) => memory.get_range(path, range.clone()).await,
                }
            })
            .await?;
        if bytes.len() as u64 == range.end.saturating_sub(range.start) {
            Ok(bytes)
        } else {
            let reason = format!("{} bytes came for {}..{}", bytes.len(), range.start, range.end);
            Err(self.error(StoreErrorKind::Wrong, "read", path, reason))
        }
    }

    /// An object's size in bytes.
    pub(crate) async fn size(&self, path: &str) -> Result<u64, StoreError> {
        self.look(path).await.map(|listed| listed.size)
    }

    /// An object's size and when the store took it.
    pub(crate) async fn look(&self, path: &str) -> Result<Listed, StoreError> {
        self.retry_within(self.silence(0), "look at", path, || async {
            match &*self.backend {
                Backend::Folder(folder) => folder.look(path).await,
                Backend::S3(bucket) => bucket.look(path).await,
                #[cfg(test)]
                Backend::Memory(memory) => memory.look(path).await,
            }
        })
        .await
    }

    /// What the store's clock says now: the time of an object that is written for it.
    pub(crate) async fn now(&self) -> Result<Timestamp, StoreError> {
        let path = probe::new_path();
        match self.put_once(&path, Bytes::from_static(b"what time is it?")).await {
            // The name is random: it is our own, and its reply was lost.
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
            other => other?,
        }
        let written = self.look(&path).await?;
        // Who may not remove leaves a few bytes, which the next prune collects.
        if let Err(error) = self.remove(&path).await {
            tracing::debug!("a probe stays: {error}");
        }
        Ok(written.modified)
    }

    /// What this machine's clock says now.
    pub(crate) fn here(&self) -> Timestamp {
        match &*self.backend {
            Backend::Folder(_) | Backend::S3(_) => wall_clock(),
            #[cfg(test)]
            Backend::Memory(memory) => memory.clock(),
        }
    }

    /// All objects under `prefix` (a folder), in no order.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.retry("list", prefix, || async {
            match &*self.backend {
                Backend::Folder(folder) => folder.list(prefix).await,
                Backend::S3(bucket) => bucket.list(prefix).await,
                #[cfg(test)]
                Backend::Memory(memory) => memory.list(prefix).await,
            }
        })
        .await
    }

    /// Removes what killed processes left half-written in a folder a day ago or longer. A bucket keeps nothing half.
    pub(crate) async fn remove_leftovers(&self) {
        match &*self.backend {
            Backend::Folder(folder) => {
                if let Err(Failed(_, reason)) = folder.remove_leftovers().await {
                    tracing::warn!(store = %self.at, "remove what killed processes left: {reason}");
                }
            }
            Backend::S3(_) => {}
            #[cfg(test)]
            Backend::Memory(_) => {}
        }
    }

    /// Removes an object: a probe's, or what prune may remove. One that is gone already counts as removed.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), StoreError> {
        muster_failpoint::hit("repository.remove")
            .map_err(|injected| self.error(StoreErrorKind::Wrong, "remove", path, injected.to_string()))?;
        let removed = self
            .retry("remove", path, || async {
                match &*self.backend {
                    Backend::Folder(folder) => folder.remove(path).await,
                    Backend::S3(bucket) => bucket.remove(path).await,
                    #[cfg(test)]
                    Backend::Memory(memory) => memory.remove(path).await,
                }
            })
            .await;
        match removed {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn error(&self, kind: StoreErrorKind, doing: &'static str, path: &str, reason: String) -> StoreError {
        StoreError { kind, doing, path: path.to_owned(), at: self.at.to_string(), reason }
    }

    async fn retry<T, W>(&self, doing: &'static str, path: &str, attempt: impl Fn() -> W) -> Result<T, StoreError>
    where
        W: Future<Output = Result<T, Failed>>,
    {
        self.retry_within(REQUEST_TIMEOUT, doing, path, attempt).await
    }

    /// The same where it is known how long one request may take.
    async fn retry_within<T, W>(&self, bound: Duration, doing: &'static str, path: &str, attempt: impl Fn() -> W) -> Result<T, StoreError>
    where
        W: Future<Output = Result<T, Failed>>,
    {
        let started = Instant::now();
        let bound = if self.patience < Duration::from_secs(10) { self.patience } else { bound };
        let mut tries = 0;
        loop {
            let outcome = match muster_failpoint::hit("repository.request") {
                Ok(()) => tokio::time::timeout(bound, attempt()).await,
                Err(injected) => Ok(Err(Failed(StoreErrorKind::Unavailable, injected.to_string()))),
            };
            let outcome = outcome.unwrap_or_else(|_| Err(Failed(StoreErrorKind::Unavailable, format!("no answer within {bound:?}"))));
            let Failed(kind, reason) = match outcome {
                Ok(done) => {
                    *lock(&self.trouble) = None;
                    return Ok(done);
                }
                Err(failed) => failed,
            };
            let wait = wait(tries);
            if kind != StoreErrorKind::Unavailable || started.elapsed() + wait > self.patience {
                return Err(self.error(kind, doing, path, reason));
            }
            self.note_trouble(format!("{doing} {path}: {reason}"));
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    /// How long a request with a body of so many bytes may be without an answer. A disk that is slow is not silent.
    fn silence(&self, bytes: usize) -> Duration {
        let sending = Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX) / SLOWEST);
        match &*self.backend {
            Backend::S3(_) => SILENCE.saturating_add(sending).min(REQUEST_TIMEOUT),
            Backend::Folder(_) => REQUEST_TIMEOUT,
            #[cfg(test)]
            Backend::Memory(_) => REQUEST_TIMEOUT,
        }
    }

    fn note_trouble(&self, what: String) {
        let mut trouble = lock(&self.trouble);
        let since = trouble.as_ref().map_or_else(wall_clock, |trouble| trouble.since);
        if trouble.is_none() {
            tracing::warn!(store = %self.at, "the store does not answer, trying again: {what}");
        }
        *trouble = Some(Trouble { since, what });
    }
}

fn wait(tries: u32) -> Duration {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10)).map_or(Duration::from_secs(1), |b| b.delay(tries, rand::random()))
}

/// What a backend says; the path is added above it.
#[derive(Debug)]
struct Failed(StoreErrorKind, String);
