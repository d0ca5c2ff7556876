//! All that rules look at, as data: what is declared, stored and seen at one moment.

use std::time::Duration;

use muster_common::id::OperationId;
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use muster_wire::proto::v1::{Condition, InstanceRole, KeptDirectory};

/// One moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The controller's clock.
    pub now: Timestamp,
    /// The controller itself.
    pub controller: Controller,
    /// What is declared.
    pub components: Vec<Component>,
    /// Agents that have joined and are not revoked.
    pub agents: Vec<Agent>,
    /// Operators that are not revoked, with the end of their newest certificate.
    pub operators: Vec<(Name, Timestamp)>,
    /// Operations that have not ended.
    pub operations: Vec<Unfinished>,
}

/// The controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Why it is behind its agents. Empty: it is not.
    pub behind: String,
    /// The file system below its state. `None`: not known.
    pub disk: Option<Disk>,
    /// How its own backup stands. `None`: none is configured.
    pub backup: Option<OwnBackup>,
    /// What is wrong with the audit log. Empty: nothing is known to be.
    pub audit: String,
    /// Since when the CA is being replaced. `None`: it is not.
    pub rotating_since: Option<Timestamp>,
}

/// The controller's own backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnBackup {
    /// When the last good one was taken.
    pub taken: Option<Timestamp>,
    /// Why the last attempt failed. Empty: it did not.
    pub problem: String,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where.
    pub path: String,
    /// Free bytes.
    pub free: u64,
    /// Of so many.
    pub total: u64,
}

/// A component.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Its name.
    pub name: Name,
    /// How much of the past may be lost.
    pub rpo: Option<Duration>,
    /// How long until it must work again.
    pub rto: Option<Duration>,
    /// A recovery point is expected at least so often.
    pub backup_every: Option<Duration>,
    /// A verification that passes is expected at least so often.
    pub verify_every: Option<Duration>,
    /// When it was declared first.
    pub declared: Timestamp,
    /// That its automation and schedules are off: until when, and who switched them off and why.
    pub paused: Option<(Timestamp, String)>,
    /// Why a later reign that its keepers report is not believed yet, and what would lift that.
    pub later_reign: Option<(String, String)>,
    /// What a move of it lacks now: what was seen, and what would lift it.
    pub missing: Vec<(String, String)>,
    /// Whether its points go anywhere.
    pub has_repository: bool,
    /// Whether one instance alone may take writes.
    pub has_one_writer: bool,
    /// What is stored of it.
    pub stored: Stored,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// What the store knows of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The newest recovery point.
    pub newest: Option<Point>,
    /// How long the last complete restore took.
    pub measured_rto: Option<Duration>,
    /// The last verification that found something, where none passed since: its operation, when, what.
    pub failed_verification: Option<(OperationId, Timestamp, String)>,
    /// When a verification last passed.
    pub verified: Option<Timestamp>,
    /// Runs of schedules that wait to be accepted: the schedule's id, the planned moment, why.
    pub waiting: Vec<(String, Timestamp, String)>,
    /// The last backup that ended, where it failed: its operation, when, why.
    pub failed_backup: Option<(OperationId, Timestamp, String)>,
}

/// A recovery point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Its id.
    pub id: String,
    /// When it was finished.
    pub finished: Timestamp,
    /// Pages that were damaged in it.
    pub damaged_pages: u64,
    /// The PostgreSQL cluster that it is of.
    pub system_id: Option<u64>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name.
    pub name: InstanceName,
    /// Its site.
    pub site: Name,
    /// The agent that keeps it.
    pub agent: Name,
    /// Whether it holds what the writer no longer has.
    pub superseded: bool,
    /// What its agent sees now. `None`: nobody sees it.
    pub seen: Option<Seen>,
    /// The version before the present one, and since when that is present.
    pub version_changed: Option<(String, Timestamp)>,
}

/// What an agent sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// What the instance does.
    pub role: InstanceRole,
    /// The server's version.
    pub version: String,
    /// The PostgreSQL cluster that it serves.
    pub system_id: Option<u64>,
    /// Bytes behind its upstream.
    pub lag_bytes: Option<u64>,
    /// What should hold.
    pub conditions: Vec<Condition>,
    /// Directories that restores keep aside.
    pub kept: Vec<KeptDirectory>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name.
    pub name: Name,
    /// Whether it has a session.
    pub connected: bool,
    /// When it was last heard.
    pub last_heard: Option<Timestamp>,
    /// Milliseconds that its clock is ahead.
    pub clock_offset_ms: i64,
    /// What it could not do with its assignment.
    pub problems: Vec<String>,
    /// The end of its certificate, and how long such a certificate lives.
    pub certificate: Option<(Timestamp, Duration)>,
    /// When it last spoke for what is not its own, and how often in all.
    pub refused: Option<(Timestamp, u64)>,
}

/// An operation that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its id.
    pub id: OperationId,
    /// `backup of orders-db/istanbul`.
    pub title: String,
    /// Its component. Empty: none.
    pub component: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// Where it stands.
    pub stands: Standing,
    /// Why, in words.
    pub why: String,
}

/// Where an unfinished operation stands, as far as rules look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    GoesOn,
    /// It waits for something.
    Waits,
    /// Its outcome is not known.
    Unknown,
    /// Its agent must be asked first.
    Suspended,
}
