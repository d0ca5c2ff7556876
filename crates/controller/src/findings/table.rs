//! The table of the rules: a line each. `docs/guides/findings.md` has the same one, and a test compares the two.

use std::time::Duration;

use muster_wire::proto::v1::Severity::{self, Critical, Info, Warning};

use crate::findings::rule::{About, Needs, Rule};

/// A line of the table; `damping` is how many seconds it must hold, and be gone.
const fn line(
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

/// Figures that only grow, and facts of the store: there is nothing to damp.
const AT_ONCE: (u64, u64) = (0, 0);
/// What an agent sees may flicker.
const SEEN: (u64, u64) = (10, 20);

/// As many lines as rules: the last one's number tells.
const RULES: usize = Rule::RotationOpen as usize + 1;

/// The table, in the order of the enum.
pub const TABLE: [About; RULES] = [
    line(
        Rule::NoRecoveryPoint,
        "NoRecoveryPoint",
        Critical,
        (60, 0),
        Needs::Nothing,
        "A component that has a repository or an RPO objective has no recovery point.",
        "`muster backup NAME`",
    ),
    line(
        Rule::RpoBroken,
        "RpoBroken",
        Critical,
        AT_ONCE,
        Needs::Nothing,
        "The newest recovery point is older than the component's RPO objective.",
        "`muster backup NAME`",
    ),
    line(
        Rule::RpoNear,
        "RpoNear",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "The newest recovery point is older than four fifths of the RPO objective.",
        "`muster backup NAME`",
    ),
    line(
        Rule::BackupFailed,
        "BackupFailed",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "The component's last backup that ended has failed.",
        "`muster logs OP`, then `muster backup NAME`",
    ),
    line(
        Rule::BackupLate,
        "BackupLate",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "The newest recovery point is older than the component's spec expects (`expects.backupEvery`), and a tenth of that.",
        "`muster schedules --component NAME` tells why none was taken; `muster backup NAME`",
    ),
    line(
        Rule::VerificationLate,
        "VerificationLate",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "No verification has passed for longer than the component's spec expects (`expects.verifyEvery`), and a tenth of that.",
        "`muster verify NAME`",
    ),
    line(
        Rule::RunWaits,
        "RunWaits",
        Warning,
        (600, 0),
        Needs::Nothing,
        "A run of a schedule has waited to be accepted for ten minutes.",
        "`muster schedules --component NAME` tells what stands in its way",
    ),
    line(
        Rule::Paused,
        "Paused",
        Info,
        AT_ONCE,
        Needs::Nothing,
        "Automation and schedules are switched off for a component, or for all.",
        "`muster resume NAME`, or `muster resume --all`",
    ),
    line(
        Rule::DamagedPages,
        "DamagedPages",
        Critical,
        AT_ONCE,
        Needs::Nothing,
        "The newest recovery point has pages that were damaged in the database already.",
        "`muster describe component NAME`; restore an older point beside and compare: `muster points NAME`",
    ),
    line(
        Rule::RtoNotMeasured,
        "RtoNotMeasured",
        Info,
        AT_ONCE,
        Needs::Nothing,
        "A component with an RTO objective was never restored as a whole or verified: nobody knows how long it takes.",
        "`muster verify NAME`",
    ),
    line(
        Rule::RtoBroken,
        "RtoBroken",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "The last complete restore took longer than the RTO objective.",
        "`muster history NAME`; give the restore a faster disk or network, or correct the objective",
    ),
    line(
        Rule::VerificationFailed,
        "VerificationFailed",
        Critical,
        AT_ONCE,
        Needs::Nothing,
        "The component's last verification found that its recovery point is not good.",
        "`muster logs OP`, then `muster backup NAME` and `muster verify NAME`",
    ),
    line(
        Rule::NeverVerified,
        "NeverVerified",
        Info,
        AT_ONCE,
        Needs::Nothing,
        "A component has recovery points, and none was ever proved good.",
        "`muster verify NAME`",
    ),
    line(
        Rule::VerificationOld,
        "VerificationOld",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "No recovery point of the component was proved good for more than 14 days.",
        "`muster verify NAME`",
    ),
    line(
        Rule::NoWriter,
        "NoWriter",
        Critical,
        (15, 15),
        Needs::Sight,
        "Every instance of a component is seen, and none takes writes.",
        "start one: `muster status NAME` tells what stands in its way",
    ),
    line(
        Rule::TwoWriters,
        "TwoWriters",
        Critical,
        (15, 15),
        Needs::Sight,
        "More than one instance of a PostgreSQL component takes writes.",
        "stop the one that clients must not use at once; then compare: `muster describe component NAME`",
    ),
    line(
        Rule::ServerDown,
        "ServerDown",
        Critical,
        SEEN,
        Needs::Sight,
        "The server does not run.",
        "start the server; its log tells why it stopped",
    ),
    line(
        Rule::ServerHangs,
        "ServerHangs",
        Critical,
        SEEN,
        Needs::Sight,
        "The server takes connections and does not answer within 5 s.",
        "look at the machine's load and at the server's log",
    ),
    line(
        Rule::ServerStarting,
        "ServerStarting",
        Warning,
        (30, 20),
        Needs::Sight,
        "The server starts, stops or recovers and lets nobody in yet.",
        "wait; the server's log tells how far it is",
    ),
    line(
        Rule::NoConnectionsLeft,
        "NoConnectionsLeft",
        Critical,
        SEEN,
        Needs::Sight,
        "The server has no connection left for the agent.",
        "end sessions that idle, or raise max_connections; `ALTER ROLE … CONNECTION LIMIT` where the role's own limit is reached",
    ),
    line(
        Rule::ServerUnreachable,
        "ServerUnreachable",
        Critical,
        SEEN,
        Needs::Sight,
        "The server runs, or may run, and the agent cannot speak to it.",
        "`muster describe component NAME` tells what the server answered",
    ),
    line(
        Rule::ClusterReplaced,
        "ClusterReplaced",
        Critical,
        SEEN,
        Needs::Sight,
        "The server serves another cluster (system identifier) than the one that the newest recovery point is of.",
        "if that was meant: `muster backup NAME`; if not, restore: `muster restore NAME --in-place`",
    ),
    line(
        Rule::VersionChanged,
        "VersionChanged",
        Warning,
        SEEN,
        Needs::Sight,
        "The server's major version changed and no recovery point was taken since: the points there are need the old programs.",
        "`muster backup NAME`",
    ),
    line(
        Rule::RightsMissing,
        "RightsMissing",
        Critical,
        SEEN,
        Needs::Sight,
        "The agent's role lacks rights or settings that backups need.",
        "`muster describe component NAME` has the SQL that grants them",
    ),
    line(
        Rule::WrongFolder,
        "WrongFolder",
        Critical,
        SEEN,
        Needs::Sight,
        "The declared folder is not the server's, is missing or cannot be read.",
        "correct the instance's folder or address: `muster get component NAME -o yaml`, then `muster apply`",
    ),
    line(
        Rule::VersionNotServed,
        "VersionNotServed",
        Critical,
        SEEN,
        Needs::Sight,
        "The server's version is one that Muster does not serve.",
        "upgrade the cluster",
    ),
    line(
        Rule::RepositoryUnusable,
        "RepositoryUnusable",
        Critical,
        SEEN,
        Needs::Sight,
        "The agent cannot use the component's repository: it does not answer, is another one, or lacks the proof that its recovery key was kept.",
        "`muster describe component NAME`; on the agent's machine: `muster repo check`",
    ),
    line(
        Rule::KeyMissing,
        "KeyMissing",
        Critical,
        SEEN,
        Needs::Sight,
        "The agent has no key for the component in its repository.",
        "`muster repo grant NAME`",
    ),
    line(
        Rule::NoChecksums,
        "NoChecksums",
        Info,
        SEEN,
        Needs::Sight,
        "The cluster has no page checksums: damage by the disk is not noticed.",
        "stop the server and run `pg_checksums --enable`",
    ),
    line(
        Rule::NotDurable,
        "NotDurable",
        Warning,
        SEEN,
        Needs::Sight,
        "fsync or full_page_writes is off: a crash of the machine damages the cluster.",
        "`ALTER SYSTEM SET fsync = on`",
    ),
    line(
        Rule::DiskNearlyFull,
        "DiskNearlyFull",
        Warning,
        SEEN,
        Needs::Sight,
        "Less than a twentieth of the file system below the data is free.",
        "free space or enlarge the file system; `muster discard OP` removes what a restore kept aside",
    ),
    line(
        Rule::ArchiverFailing,
        "ArchiverFailing",
        Warning,
        SEEN,
        Needs::Sight,
        "The server's own archive_command fails: pg_wal grows until it succeeds.",
        "look at the server's log for what archive_command said",
    ),
    line(
        Rule::SlotHoldsLog,
        "SlotHoldsLog",
        Warning,
        SEEN,
        Needs::Sight,
        "A replication slot is lost, about to be, or unused without a bound on the log that it holds.",
        "`SELECT pg_drop_replication_slot('…')` if nobody needs it; set max_slot_wal_keep_size",
    ),
    line(
        Rule::ConditionFailed,
        "ConditionFailed",
        Warning,
        SEEN,
        Needs::Sight,
        "Something else about the instance is not as it should be.",
        "`muster describe component NAME`",
    ),
    line(
        Rule::Superseded,
        "Superseded",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "The instance holds what the writer no longer has, since a restore of the writer.",
        "never promote it; seed it anew: `muster restore NAME --instance INSTANCE --in-place`",
    ),
    line(
        Rule::StandbyLagging,
        "StandbyLagging",
        Warning,
        (60, 30),
        Needs::Sight,
        "A standby is more than 256 MiB behind its upstream.",
        "look at the network and at the standby's load",
    ),
    line(
        Rule::KeptDirectory,
        "KeptDirectory",
        Info,
        AT_ONCE,
        Needs::Sight,
        "A restore in place keeps the old directory aside; it takes space until its time is over.",
        "`muster discard OP` once the restored data is good",
    ),
    line(
        Rule::AgentMissing,
        "AgentMissing",
        Warning,
        (60, 0),
        Needs::Nothing,
        "A declared instance names an agent that has never joined.",
        "`muster token create --site SITE --agent AGENT`",
    ),
    line(
        Rule::AgentGone,
        "AgentGone",
        Critical,
        (30, 10),
        Needs::Nothing,
        "An agent that keeps an instance has no session: its databases go on, nobody backs them up.",
        "on its machine: `systemctl status muster-agent`, `journalctl -u muster-agent -n 50`",
    ),
    line(
        Rule::AgentRefused,
        "AgentRefused",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "An agent spoke for what is not its own within the last hour.",
        "see who uses its certificate; if it is stolen: `muster agents revoke AGENT`",
    ),
    line(
        Rule::AssignmentProblem,
        "AssignmentProblem",
        Warning,
        SEEN,
        Needs::Sight,
        "An agent cannot do all that it was assigned.",
        "correct the resource and `muster apply -f FILE`",
    ),
    line(
        Rule::ClockOff,
        "ClockOff",
        Warning,
        (10, 30),
        Needs::Sight,
        "An agent's clock is more than 5 s from the controller's.",
        "start chrony or ntpd on that machine",
    ),
    line(
        Rule::CertificateEnding,
        "CertificateEnding",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "A certificate ends soon: an agent's with a sixth of its life left (it renews itself at a third gone), an operator's within ten days.",
        "an agent: see why it cannot renew, `journalctl -u muster-agent`; an operator: `muster operator add NAME --role ROLE`",
    ),
    line(
        Rule::OperationUnknown,
        "OperationUnknown",
        Critical,
        (10, 0),
        Needs::Nothing,
        "The outcome of an operation is not known.",
        "`muster logs OP`; when you know what became of it: `muster resolve OP`",
    ),
    line(
        Rule::OperationSuspended,
        "OperationSuspended",
        Warning,
        (30, 0),
        Needs::Nothing,
        "An operation waits until its agent told what became of it, because the controller may be behind.",
        "start its agent; `muster agents`",
    ),
    line(
        Rule::OperationWaits,
        "OperationWaits",
        Warning,
        (300, 0),
        Needs::Nothing,
        "An operation has waited for five minutes.",
        "`muster describe component NAME` tells whether its agent is connected; `muster cancel OP`",
    ),
    line(
        Rule::ControllerBehind,
        "ControllerBehind",
        Critical,
        AT_ONCE,
        Needs::Nothing,
        "The controller found that it is behind its agents: it was restored from an older copy, or runs twice.",
        "let every agent connect (`muster agents`); make sure that no second controller runs",
    ),
    line(
        Rule::ControllerDiskNearlyFull,
        "ControllerDiskNearlyFull",
        Warning,
        SEEN,
        Needs::Nothing,
        "Less than a tenth, and less than 10 GiB, of the file system below the controller's state is free.",
        "free space on the controller's machine before it can accept nothing more",
    ),
    line(
        Rule::RotationOpen,
        "RotationOpen",
        Warning,
        AT_ONCE,
        Needs::Nothing,
        "The CA has been replaced for more than 7 days, and the old one is not retired.",
        "`muster ca status` tells who still needs the old one; then `muster ca retire`",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_its_own_line_and_name() {
        for (at, about) in TABLE.iter().enumerate() {
            assert_eq!(about.rule as usize, at, "{about:?}");
            assert_eq!(format!("{:?}", about.rule), about.name);
            assert_eq!(about.rule.about(), about);
            assert_eq!(Rule::named(about.name), Some(about.rule));
            assert!(!about.remedy.is_empty() && about.condition.ends_with('.'), "{about:?}");
        }
        assert_eq!(TABLE.iter().map(|about| about.name).collect::<BTreeSet<_>>().len(), TABLE.len());
    }

    #[test]
    fn the_guide_has_the_same_table() {
        let guide = include_str!("../../../../docs/guides/findings.md");
        let rows: Vec<String> = TABLE.iter().map(row).collect();
        let missing: Vec<_> = rows.iter().filter(|row| !guide.contains(row.as_str())).collect();
        assert!(missing.is_empty(), "docs/guides/findings.md lacks:\n{}", missing.iter().map(|row| format!("{row}\n")).collect::<String>());
        let told = guide.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(told, TABLE.len(), "docs/guides/findings.md has lines of rules that are gone");
    }

    fn row(about: &About) -> String {
        let severity = about.severity.as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase();
        let damping = format!("{} s / {} s", about.raise_after.as_secs(), about.clear_after.as_secs());
        format!("| `{}` | {severity} | {} | {damping} | {} |", about.name, about.condition, about.remedy)
    }
}
