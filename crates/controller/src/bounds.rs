//! How much the controller keeps of what has passed: the settings, and the task that forgets what is beyond.
//!
//! What always holds: what is beyond a bound is gone some seconds later, the oldest first, a few thousand rows in a transaction, so that a bound
//! that was lowered holds nobody up; what has not ended is never forgotten.

use std::time::Duration;

use muster_common::time::Timestamp;
use muster_service::clock;
use serde::{Deserialize, Deserializer};

use crate::api::Api;
use crate::store::error::StoreError;
use crate::store::{Store, audit, events, history, operations};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest time that can be set.
const LONGEST: Duration = Duration::from_secs(3_660 * 86_400);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events of operations, which watches resume from.
    pub events: u64,
    /// Entries of the history besides operations: findings, changes of roles.
    pub history: u64,
    /// Operations that ended are forgotten where more than these were accepted since …
    pub operations: u64,
    /// … and they are older than this.
    pub operations_for: Duration,
    /// Entries of the audit log …
    pub audit: u64,
    /// … none older than this.
    pub audit_for: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            events: 100_000,
            history: 100_000,
            operations: 50_000,
            operations_for: DAY.saturating_mul(90),
            audit: 200_000,
            audit_for: DAY.saturating_mul(400),
        }
    }
}

/// The form of the file: `keep`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RawBounds {
    events: Option<u64>,
    history: Option<u64>,
    operations: Option<u64>,
    #[serde(alias = "operations_for", deserialize_with = "span")]
    operations_for: Option<Duration>,
    audit: Option<u64>,
    #[serde(alias = "audit_for", deserialize_with = "span")]
    audit_for: Option<Duration>,
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    muster_common::duration::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

impl RawBounds {
    /// What was set, and the usual where nothing was; what is wrong is told.
    pub(crate) fn judged(&self, wrong: &mut Vec<String>) -> Bounds {
        let usual = Bounds::default();
        let mut rows = |field: &str, given: Option<u64>, usual: u64, most: u64| {
            let rows = given.unwrap_or(usual);
            if !(1_000..=most).contains(&rows) {
                wrong.push(format!("keep.{field}: {rows}; expected 1000 to {most}"));
            }
            rows
        };
        let bounds = Bounds {
            events: rows("events", self.events, usual.events, 10_000_000),
            history: rows("history", self.history, usual.history, 10_000_000),
            operations: rows("operations", self.operations, usual.operations, 1_000_000),
            operations_for: self.operations_for.unwrap_or(usual.operations_for),
            audit: rows("audit", self.audit, usual.audit, 10_000_000),
            audit_for: self.audit_for.unwrap_or(usual.audit_for),
        };
        for (field, time) in [("operationsFor", bounds.operations_for), ("auditFor", bounds.audit_for)] {
            if !(DAY..=LONGEST).contains(&time) {
                wrong.push(format!("keep.{field}: expected 1d to 3660d"));
            }
        }
        bounds
    }
}

/// Forgets what is beyond the bounds.
///
/// # Errors
/// The store's; what was forgotten before stays so.
pub async fn hold(store: &Store, bounds: &Bounds, now: Timestamp) -> Result<(), StoreError> {
    let before = |time: Duration| Timestamp(now.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)));
    // Looked at first, so that nothing is written where there is nothing to forget.
    let mut read = store.read().await?;
    let beyond = events::beyond(&mut read, bounds.events).await? || history::beyond(&mut read, bounds.history).await?;
    drop(read);
    let mut more = beyond;
    while more {
        let mut write = store.write().await?;
        more = events::forget(write.connection(), bounds.events).await?;
        more |= history::forget(write.connection(), bounds.history).await?;
        write.commit().await?;
    }
    loop {
        let mut write = store.write().await?;
        let mut gone = operations::prune(write.connection(), bounds.operations, before(bounds.operations_for)).await?;
        let keep = audit::Keep { rows: bounds.audit, since: before(bounds.audit_for) };
        match audit::forget(write.connection(), keep, now).await {
            Ok(forgotten) => gone += usize::try_from(forgotten).unwrap_or(usize::MAX),
            // Somebody took entries out: that is found and told by who walks the log, and must not keep the rest from being bounded.
            Err(error @ StoreError::Corrupt { .. }) => tracing::debug!(%error, "the audit log is left as it is"),
            Err(error) => return Err(error),
        }
        if gone == 0 {
            return Ok(());
        }
        write.commit().await?;
    }
}

/// Holds the bounds for as long as the controller runs.
pub async fn run(api: Api) {
    let token = api.agents.gate.token().clone();
    loop {
        if let Err(error) = hold(&api.agents.store, &api.config.keep, clock::now()).await {
            tracing::warn!(%error, "forget what is beyond the bounds; it is tried again");
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
