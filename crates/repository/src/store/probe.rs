//! What a store can do, tried out when a repository is registered.

use std::time::Duration;

use bytes::Bytes;

use super::{Store, wall_clock};
use crate::error::{Error, StoreErrorKind};
use crate::repository::Repository;

/// Where probes write. Nothing else does, and no listing of ours looks there.
pub(crate) const PROBES: &str = "probe";
/// How far the store's clock may be off.
const CLOCK: Duration = Duration::from_secs(5);

/// What was tried and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// What works, in words.
    pub able: Vec<String>,
    /// What a backup needs and does not work, in words. Empty: the store can be used.
    pub missing: Vec<String>,
    /// What works, but weaker than it should, in words.
    pub weak: Vec<String>,
}

pub(super) fn new_path() -> String {
    format!("{PROBES}/{:032x}", rand::random::<u128>())
}

impl Repository {
    /// Tries out what a backup, a restore and a prune need, on an object that is removed again.
    ///
    /// # Errors
    /// Where the store cannot be reached or refuses us altogether. What it cannot do is in the report.
    pub async fn probe(&self) -> Result<ProbeReport, Error> {
        let (store, path) = (self.store(), new_path());
        let mut report = ProbeReport::default();
        let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
        match store.put_once(&path, bytes.clone()).await {
            Ok(()) => report.able.push("write an object".into()),
            Err(error) if error.kind == StoreErrorKind::Unsupported => {
                report.missing.push(format!("write a new object: {}", error.reason));
                return Ok(report);
            }
            Err(error) => return Err(error.into()),
        }
        probe_create(store, &path, &mut report).await?;
        probe_read(store, &path, &bytes, &mut report).await?;
        probe_list(store, &path, bytes.len() as u64, &mut report).await?;
        if store.learn_checksums().await? {
            report.able.push("refuse a body that was changed on its way".into());
        } else {
            report.weak.push("it takes a body that was changed on its way: each object is read back, which doubles the traffic".into());
        }
        match store.remove(&path).await {
            Ok(()) => report.able.push("remove an object".into()),
            Err(error) => report.weak.push(format!("remove an object: {} (backups work, prune will not)", error.reason)),
        }
        Ok(report)
    }
}

async fn probe_create(store: &Store, path: &str, report: &mut ProbeReport) -> Result<(), Error> {
    let other = Bytes::from_static(b"other");
    match store.put_once(path, other).await {
        Err(error) if error.kind == StoreErrorKind::AlreadyExists => report.able.push("refuse to write over an object".into()),
        Ok(()) => report.missing.push("refuse to write over an object (If-None-Match: *): it was overwritten".into()),
        Err(error) => report.missing.push(format!("refuse to write over an object in the known way: {}", error.reason)),
    }
    Ok(())
}

async fn probe_read(store: &Store, path: &str, bytes: &Bytes, report: &mut ProbeReport) -> Result<(), Error> {
    match store.get(path, 1024).await {
        Ok(read) if read == *bytes => report.able.push("read an object".into()),
        Ok(_) => report.missing.push("give back the bytes that were written".into()),
        Err(error) if error.kind == StoreErrorKind::Unavailable => return Err(error.into()),
        Err(error) => report.missing.push(format!("read an object: {}", error.reason)),
    }
    match store.get_range(path, 100..110).await {
        Ok(read) if Some(&read[..]) == bytes.get(100..110) => report.able.push("read a part of an object".into()),
        Ok(_) => report.missing.push("read a part of an object: other bytes came".into()),
        Err(error) if error.kind == StoreErrorKind::Unavailable => return Err(error.into()),
        Err(error) => report.missing.push(format!("read a part of an object: {}", error.reason)),
    }
    Ok(())
}

async fn probe_list(store: &Store, path: &str, size: u64, report: &mut ProbeReport) -> Result<(), Error> {
    let listed = store.list(PROBES).await?;
    let Some(found) = listed.iter().find(|listed| listed.path == path && listed.size == size) else {
        report.missing.push("list an object at once after it was written, with its size".into());
        return Ok(());
    };
    report.able.push("list objects".into());
    let now = wall_clock();
    let off = now.since(found.modified).max(found.modified.since(now));
    if off > CLOCK {
        report.weak.push(format!("its clock is off by {} from this machine's", muster_common::duration::show(off)));
    }
    Ok(())
}
