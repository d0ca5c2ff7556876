//! The rules by name: how bad, when they hold, what to do, how long they must hold before they are raised and be gone before they are
//! cleared. `judge` decides whether they hold; `docs/guides/findings.md` has the same table, and a test compares the two.
//!
//! What always holds: a name is told to machines and never changes its meaning.

use std::fmt;
use std::time::Duration;

use muster_wire::proto::v1::Severity;

use crate::findings::table::TABLE;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A component that has a repository or an RPO objective has no recovery point.
    NoRecoveryPoint,
    /// The newest recovery point is older than the component's RPO objective.
    RpoBroken,
    /// The newest recovery point is older than four fifths of the RPO objective.
    RpoNear,
    /// The component's last backup that ended has failed.
    BackupFailed,
    /// The newest recovery point is older than the component's spec expects, and a tenth of that.
    BackupLate,
    /// No verification has passed for longer than the component's spec expects, and a tenth of that.
    VerificationLate,
    /// A run of a schedule has waited to be accepted for ten minutes.
    RunWaits,
    /// Automation and schedules are switched off for a component, or for all.
    Paused,
    /// Keepers report a later reign than this controller knows, and it is not believed yet.
    LaterReign,
    /// A planned move of a kept component would be refused now, or a name that follows it points elsewhere.
    NotReady,
    /// The newest recovery point has pages that were damaged in the database already.
    DamagedPages,
    /// A component with an RTO objective was never restored as a whole or verified: nobody knows how long it takes.
    RtoNotMeasured,
    /// The last complete restore took longer than the RTO objective.
    RtoBroken,
    /// The component's last verification found that its recovery point is not good.
    VerificationFailed,
    /// A component has recovery points, and none was ever proved good.
    NeverVerified,
    /// No recovery point of the component was proved good for more than 14 days.
    VerificationOld,
    /// Every instance of a component is seen, and none takes writes.
    NoWriter,
    /// More than one instance of a PostgreSQL component takes writes.
    TwoWriters,
    /// The server does not run.
    ServerDown,
    /// The server takes connections and does not answer within 5 s.
    ServerHangs,
    /// The server starts, stops or recovers and lets nobody in yet.
    ServerStarting,
    /// The server has no connection left for the agent.
    NoConnectionsLeft,
    /// The server runs, or may run, and the agent cannot speak to it.
    ServerUnreachable,
    /// The server serves another cluster (system identifier) than the one that the newest recovery point is of.
    ClusterReplaced,
    /// The server's major version changed and no recovery point was taken since: the points there are need the old programs.
    VersionChanged,
    /// The agent's role lacks rights or settings that backups need.
    RightsMissing,
    /// The declared folder is not the server's, is missing or cannot be read.
    WrongFolder,
    /// The server's version is one that Muster does not serve.
    VersionNotServed,
    /// The agent cannot use the component's repository: it does not answer, is another one, or lacks the proof that its recovery key was kept.
    RepositoryUnusable,
    /// The agent has no key for the component in its repository.
    KeyMissing,
    /// The cluster has no page checksums: damage by the disk is not noticed.
    NoChecksums,
    /// fsync or full_page_writes is off: a crash of the machine damages the cluster.
    NotDurable,
    /// Less than a twentieth of the file system below the data is free.
    DiskNearlyFull,
    /// The server's own archive_command fails: pg_wal grows until it succeeds.
    ArchiverFailing,
    /// A replication slot is lost, about to be, or unused without a bound on the log that it holds.
    SlotHoldsLog,
    /// Something else about the instance is not as it should be.
    ConditionFailed,
    /// The instance holds what the writer no longer has, since a restore of the writer or a failover.
    Superseded,
    /// A standby is more than 256 MiB behind its upstream.
    StandbyLagging,
    /// A restore in place keeps the old directory aside; it takes space until its time is over.
    KeptDirectory,
    /// A declared instance names an agent that has never joined.
    AgentMissing,
    /// An agent that keeps an instance has no session: its databases go on, nobody backs them up.
    AgentGone,
    /// An agent spoke for what is not its own within the last hour.
    AgentRefused,
    /// An agent cannot do all that it was assigned.
    AssignmentProblem,
    /// An agent's clock is more than 5 s from the controller's.
    ClockOff,
    /// A certificate ends soon: an agent's with a sixth of its life left (it renews itself at a third gone), an operator's within ten days.
    CertificateEnding,
    /// The outcome of an operation is not known.
    OperationUnknown,
    /// An operation waits until its agent told what became of it, because the controller may be behind.
    OperationSuspended,
    /// An operation has waited for five minutes.
    OperationWaits,
    /// The controller found that it is behind its agents: it was restored from an older copy, or runs twice.
    ControllerBehind,
    /// Less than a tenth, and less than 10 GiB, of the file system below the controller's state is free.
    ControllerDiskNearlyFull,
    /// The CA has been replaced for more than 7 days, and the old one is not retired.
    RotationOpen,
    /// The last good backup of the controller itself is older than 26 hours, or there is none and one is configured.
    ControllerBackupOld,
    /// The audit log is not as it was written: entries were changed, removed or put in.
    AuditLogBroken,
}

/// What must be seen before a rule can be said to hold no longer: what nobody sees keeps its findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The store alone, or this process: it is always seen.
    Nothing,
    /// The subject: an instance whose agent tells of it, all instances of a component, a connected agent.
    Sight,
}

/// All about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The rule.
    pub rule: Rule,
    /// CamelCase and stable.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// It must hold for so long before it is raised.
    pub raise_after: Duration,
    /// It must be gone for so long before it is cleared.
    pub clear_after: Duration,
    /// What must be seen to clear it.
    pub needs: Needs,
    /// When it holds.
    pub condition: &'static str,
    /// What to do, where the evidence has nothing better.
    pub remedy: &'static str,
}

/// A line of the table; `damping` is how many seconds it must hold, and be gone.
pub(super) const fn line(
    rule: Rule,
    name: &'static str,
    severity: Severity,
    damping: (u64, u64),
    needs: Needs,
    condition: &'static str,
    remedy: &'static str,
) -> About {
    let (raise_after, clear_after) = (Duration::from_secs(damping.0), Duration::from_secs(damping.1));
    About { rule, name, severity, raise_after, clear_after, needs, condition, remedy }
}

impl Rule {
    /// All of them, in the order of the guide.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|about| about.rule)
    }

    /// The rule of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|about| about.name == name).map(|about| about.rule)
    }

    /// All about it.
    #[must_use]
    pub fn about(self) -> &'static About {
        // Every rule has its line: a test holds that. Another one's line is better than none.
        let [first, ..] = &TABLE;
        TABLE.iter().find(|about| about.rule == self).unwrap_or(first)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.about().name)
    }
}
