//! What a keeper may ask of the server that it keeps: look, and the acts of `muster_failover::instance::Act`, one method each.
//!
//! Nothing here decides. Whoever calls holds the control file, asks `muster-failover` what is to be done, and calls in that order.
//! Every method may be called again after a crash at any point of it: it finds what it did, and finishes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_failover::look::Look;
use muster_failover::permit::Permit;
use muster_failover::position::Position;
use serde::{Deserialize, Serialize};

use crate::observation::Condition;
use crate::work::Work;

/// Where a kept instance has its permit, and what holds its lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// The folder of the permits. It has to be on tmpfs or ramfs: a boot empties it.
    pub run_folder: PathBuf,
    /// The component.
    pub component: Name,
    /// The instance.
    pub instance: Name,
    /// The program and first arguments of the process that holds a stopped server's lock; the data directory is added. It outlives
    /// the agent: `muster-agent hold`.
    pub holder: Vec<String>,
}

/// Whom a follower follows. It holds no secret: a password lies in a file on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The writer's host, or the folder of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The role to replicate as.
    pub user: String,
    /// A password file in libpq's format, on this machine.
    #[serde(default)]
    pub pass_file: Option<PathBuf>,
    /// The physical slot on the writer that keeps the log for this follower.
    #[serde(default)]
    pub slot: Option<String>,
    /// What the follower calls itself there; synchronous replication names it so.
    pub application_name: String,
    /// More parameters of the connection, as libpq names them: `sslmode`, `sslrootcert`. No password.
    #[serde(default)]
    pub more: BTreeMap<String, String>,
}

/// What a permit carries besides the right to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Governed {
    /// Whom it follows. A follower's permit needs one; a writer's has none.
    #[serde(default)]
    pub upstream: Option<Upstream>,
    /// Whose confirmation a writer waits for. `None`: left to the server's own configuration.
    #[serde(default)]
    pub synchronous_standby_names: Option<String>,
}

/// How long a stop waits before it does something harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For an orderly stop: sessions end, a checkpoint is written, followers get the rest of the log.
    pub fast: Duration,
    /// For one without a checkpoint. After it every process is killed.
    pub immediate: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { fast: Duration::from_secs(60), immediate: Duration::from_secs(5) }
    }
}

/// What a rejoin came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejoined {
    /// Where the two lines part; `None` where the instance held nothing that the writer has not.
    pub fork: Option<Position>,
    /// Bytes of log after the fork that only this instance held.
    pub bytes: u64,
    /// How far the instance had been; of a first copy, how far the writer was.
    pub was: Position,
    /// Whether data were rewound; else it can follow as it is.
    pub rewound: bool,
    /// Where the log after the fork is kept, on this machine, until somebody removes it.
    #[serde(default)]
    pub kept: Option<PathBuf>,
}

/// A server that is kept: it runs under a permit or not at all.
#[async_trait]
pub trait Keep: Send + Sync {
    /// One look, within 5 s. What cannot be told is not guessed: [`muster_failover::look::Server::Unclear`], no position.
    ///
    /// # Errors
    /// Where the data directory cannot be read at all.
    async fn look(&self) -> Result<Look, Fault>;

    /// Whether it may be taken over as it is: another manager stands beside it, the run folder is no tmpfs, its configuration cannot be
    /// written. Changes nothing. Asked before the control file says anything else than *unmanaged*.
    ///
    /// # Errors
    /// What stands against it, with a hint.
    async fn may_take_over(&self) -> Result<(), Fault>;

    /// Takes over what runs, without a restart or an interruption: permit, include line, reload, mark.
    ///
    /// # Errors
    /// As [`Keep::may_take_over`], or where the server did not take it.
    async fn take_over(&self, permit: &Permit, governed: &Governed) -> Result<(), Fault>;

    /// Whether the data carry Muster's mark: with it, no control file means a lost one, not an unmanaged server.
    ///
    /// # Errors
    /// Where the mark cannot be read, or is another instance's.
    async fn is_marked(&self) -> Result<bool, Fault>;

    /// `Act::RemovePermit`. Gone already is gone.
    ///
    /// # Errors
    /// Where it cannot be removed.
    async fn remove_permit(&self) -> Result<(), Fault>;

    /// `Act::Stop`: stops the server, proves every process of it gone, takes its lock, looks once more.
    ///
    /// # Errors
    /// Where a process stays, or the lock cannot be held.
    async fn fence(&self, patience: Patience) -> Result<(), Fault>;

    /// `Act::GivePermit`: writes the permit and lets the lock go; where the server runs, it reads its configuration again, unless it is
    /// a standby that is given a writer's permit, which [`Keep::promote`] does after.
    ///
    /// # Errors
    /// Where the permit cannot be written, or the server does not go by it.
    async fn give_permit(&self, permit: &Permit, governed: &Governed) -> Result<(), Fault>;

    /// `Act::Start`: starts the server under its permit, and waits until it answers.
    ///
    /// # Errors
    /// Where there is no permit, the data are half-made, or the server does not come up: with the end of its log.
    async fn start(&self) -> Result<(), Fault>;

    /// `Act::Promote`: makes the standby that runs a writer, has it read its permit, and reads back that it goes by it.
    ///
    /// # Errors
    /// Where it did not become one, or goes by other settings.
    async fn promote(&self) -> Result<(), Fault>;

    /// `Act::Follow`: the data start as a standby from now on; one that runs as a follower changes to this upstream. The permit of one
    /// that is stopped is given after.
    ///
    /// # Errors
    /// Where the server runs and writes, or the data cannot be changed.
    async fn follow(&self, upstream: &Upstream) -> Result<(), Fault>;

    /// Makes what was measured to have left the writer's line able to follow it again; an empty data directory gets a first copy. The server
    /// is stopped and fenced before and after. Until it is finished the data do not start. The same call goes on after a crash.
    ///
    /// # Errors
    /// Where it cannot be rewound: the hint says how it gets a first copy.
    async fn rejoin(&self, work: &Work, upstream: &Upstream) -> Result<Rejoined, Fault>;

    /// On the writer: the slots `wanted` are there, and other slots of Muster's that nobody uses are gone.
    ///
    /// # Errors
    /// Where the server refuses.
    async fn slots(&self, wanted: &BTreeSet<String>) -> Result<(), Fault>;

    /// Looks for governed settings that something else decides (`ALTER SYSTEM`, a line after the include line, the command line), ends
    /// that where it can, and tells what it found as conditions.
    ///
    /// # Errors
    /// Where the configuration cannot be read.
    async fn govern(&self) -> Result<Vec<Condition>, Fault>;
}
