//! What a caller asks for, as it stands in the request: nothing is resolved yet.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::name::Name;
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::operation::moves::task::Approval;
use crate::operation::sites::task::{How, OnFailure};
use crate::schedule::lane::Lane;

/// A request for an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asks: `operator/ada`. Request ids are remembered per caller.
    pub caller: String,
    /// Repeated with the same id and digest it answers the same operation.
    pub request_id: Option<String>,
    /// A digest of the request's content without its request id, as text.
    pub digest: String,
    /// What caused it, for the record: `operator/ada`, `operation/<id>`.
    pub cause: String,
    /// The operation that it is a part of.
    pub parent: Option<muster_common::id::OperationId>,
    /// Fail when nothing moved for so long. `None`: 15 minutes.
    pub stall_limit: Option<Duration>,
    /// W3C trace context of the call. Empty: none.
    pub traceparent: String,
    /// The run of a schedule that asks for it. `None`: a person or an operation asks.
    pub run: Option<Run>,
    /// What is asked for.
    pub what: What,
}

/// A run of a schedule: its lane moves on in the transaction that accepts the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How far the lane must be, so that no run comes twice.
    pub before: Timestamp,
    /// The planned moment.
    pub planned: Timestamp,
    /// The lane after it, but for the operation.
    pub after: Lane,
}

/// What is asked for, by kind. It is journaled with the operation, so that it can be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Take a recovery point.
    Backup(AskedBackup),
    /// Bring one back.
    Restore(AskedRestore),
    /// Check a component's part of its repository.
    Check(AskedCheck),
    /// Remove what a restore in place kept aside.
    Discard {
        /// The restore: its id, or the first 6 or more digits of it.
        restore: String,
    },
    /// Prove a recovery point good.
    Verify(AskedVerify),
    /// Remove recovery points that the component's retention does not keep.
    Prune(AskedPrune),
    /// Hold a recovery point, or let it go.
    Hold(AskedHold),
    /// Run a hook by itself.
    Hook(AskedHook),
    /// Decide who may write.
    Move(AskedMove),
    /// Move every component away from a site.
    Site(AskedSite),
}

/// See `muster.v1.BackupRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBackup {
    /// The component.
    pub component: Name,
    /// The instance to read. `None`: a standby that is fit for it, else the writer.
    pub instance: Option<Name>,
    /// The caller's label, 200 bytes at most.
    pub label: String,
    /// zstd level, 1 to 19. 0: 1.
    pub compression_level: u32,
    /// Wait for the next regular checkpoint.
    pub slow_checkpoint: bool,
    /// Take a logical point of this scope. `None`: a physical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<Scope>,
}

/// See `muster.v1.DumpScope`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The databases. Empty: all.
    pub databases: Vec<String>,
    /// Patterns of schemas. Empty: all.
    pub schemas: Vec<String>,
    /// Patterns of tables. Empty: all.
    pub tables: Vec<String>,
}

/// See `muster.v1.RestoreRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedRestore {
    /// The component.
    pub component: Name,
    /// The instance whose agent does it.
    pub instance: Name,
    /// The point: its id, or the first 6 or more digits of it. Empty: the newest.
    pub point: String,
    /// Where to.
    pub place: Place,
    /// Only tell what it would do.
    pub dry_run: bool,
    /// The component's name, as consent that what is there now is replaced.
    pub consent: String,
    /// Where tablespaces go, by OID.
    pub tablespaces: BTreeMap<u32, String>,
    /// How long the old directory is kept. `None`: 24 hours.
    pub keep_old: Option<Duration>,
    /// Leave the restored server stopped.
    pub no_start: bool,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The instance's own place, which must be empty or absent.
    Empty,
    /// The instance's own place; what is there is kept aside.
    InPlace,
    /// Another folder on the same machine.
    Beside {
        /// An absolute path.
        directory: String,
        /// TCP port of the restored server. 0: it is left stopped.
        port: u16,
    },
    /// A new database of the running server, out of a logical point.
    Database {
        /// Its name.
        name: String,
        /// The database of the point. Empty: its only one.
        from: String,
    },
}

/// See `muster.v1.VerifyRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedVerify {
    /// The component.
    pub component: Name,
    /// The instance whose agent does it. `None`: where it disturbs least.
    pub instance: Option<Name>,
    /// The point: its id, or the first 6 or more digits of it. Empty: the newest.
    pub point: String,
}

/// See `muster.v1.CheckRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedCheck {
    /// The component.
    pub component: Name,
    /// The instance whose agent does it. `None`: any that is connected.
    pub instance: Option<Name>,
    /// See `muster.v1.CheckRequest`.
    pub read_data_part: u32,
    /// See `muster.v1.CheckRequest`.
    pub read_data_of: u32,
}

/// See `muster.v1.PruneRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedPrune {
    /// The component.
    pub component: Name,
    /// The instance whose agent does it. `None`: any that is connected.
    pub instance: Option<Name>,
    /// Only tell.
    pub dry_run: bool,
}

/// See `muster.v1.HoldRequest` and `muster.v1.ReleaseRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedHold {
    /// The component.
    pub component: Name,
    /// The point: its id, or the first 6 or more digits of it. Empty: the newest.
    pub point: String,
    /// For how many seconds. `None`: let it go.
    pub lasts_seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub holder: String,
}

/// See `muster.v1.RunHookRequest`; the instance was chosen by whoever read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedHook {
    /// The component that it is run for.
    pub component: Name,
    /// The instance, whose agent runs it.
    pub instance: Name,
    /// The hook.
    pub hook: Name,
}

/// See `muster.v1.SwitchoverRequest` and those beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedMove {
    /// The component.
    pub component: Name,
    /// What.
    pub what: Move,
    /// What is stated of machines that do not answer, and what may be lost.
    #[serde(default, skip_serializing_if = "Approval::is_empty")]
    pub approval: Approval,
}

/// See `muster.v1.SwitchoverSiteRequest` and `muster.v1.FailoverSiteRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedSite {
    /// The site that is left.
    pub site: Name,
    /// Where the writers go. `None`: to any other site.
    pub to_site: Option<Name>,
    /// How.
    pub how: How,
    /// What a component that failed does to the rest.
    pub on_failure: OnFailure,
    /// How many are moved at once. 0: 8.
    pub at_once: u32,
}

/// What decides who may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Keep what runs.
    Manage {
        /// Who writes.
        writer: Name,
    },
    /// Change the writer, planned.
    Switchover {
        /// The next one.
        to: Name,
        /// How long the stopped one waits before it asks to come back.
        stop_limit: Option<Duration>,
    },
    /// Change the writer because the old one is gone.
    Failover {
        /// The next one. `None`: whoever loses least.
        to: Option<Name>,
    },
    /// Stop an instance.
    Fence {
        /// Which. `None`: the writer.
        instance: Option<Name>,
    },
    /// Start the stopped writer again.
    Unfence {
        /// Which. `None`: the recorded writer.
        instance: Option<Name>,
        /// Its own agent asked.
        by_itself: bool,
    },
    /// Make it follow again.
    Rejoin {
        /// Which.
        instance: Name,
    },
}
