//! The rules, one world each: what holds, what is typed next, and what holds no more when the figure is good again.

use std::time::Duration;

use muster_wire::proto::v1::{Condition, InstanceRole, KeptDirectory};

use super::*;
use crate::findings::world::{Controller, Disk, Instance, OwnBackup, Point, Seen, Stored};

const NOW: Timestamp = Timestamp(1_764_000_000_000_000);

fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - i64::try_from(seconds).unwrap() * 1_000_000)
}

fn instance(site: &str, role: InstanceRole) -> Instance {
    Instance {
        name: format!("orders-db/{site}").parse().unwrap(),
        site: site.parse().unwrap(),
        agent: format!("{site}-db1").parse().unwrap(),
        superseded: false,
        seen: Some(Seen { role, version: "15.14".into(), system_id: Some(7), ..Seen::default() }),
        version_changed: None,
    }
}

fn agent(name: &str) -> Agent {
    Agent {
        name: name.parse().unwrap(),
        connected: true,
        last_heard: Some(NOW),
        clock_offset_ms: 3,
        problems: Vec::new(),
        certificate: Some((NOW.plus(Duration::from_secs(20 * 86_400)), Duration::from_secs(30 * 86_400))),
        refused: None,
    }
}

/// A world in which nothing is wrong.
fn good() -> World {
    let component = Component {
        name: "orders-db".parse().unwrap(),
        rpo: Some(Duration::from_secs(3_600)),
        rto: Some(Duration::from_secs(1_800)),
        backup_every: None,
        verify_every: None,
        declared: ago(86_400),
        paused: None,
        later_reign: None,
        missing: Vec::new(),
        has_repository: true,
        has_one_writer: true,
        stored: Stored {
            newest: Some(Point { id: "ab".repeat(16), finished: ago(600), damaged_pages: 0, system_id: Some(7) }),
            measured_rto: Some(Duration::from_secs(200)),
            waiting: Vec::new(),
            failed_backup: None,
            failed_verification: None,
            verified: Some(ago(86_400)),
        },
        instances: vec![instance("istanbul", InstanceRole::ReadWrite), instance("ankara", InstanceRole::Standby)],
    };
    World {
        now: NOW,
        controller: Controller {
            backup: None,
            audit: String::new(),
            behind: String::new(),
            disk: Some(Disk { path: "/var/lib/muster".into(), free: 50, total: 100 }),
            rotating_since: Some(ago(86_400)),
        },
        components: vec![component],
        agents: vec![agent("istanbul-db1"), agent("ankara-db1")],
        operators: vec![("ada".parse().unwrap(), NOW.plus(Duration::from_secs(60 * 86_400)))],
        operations: Vec::new(),
    }
}

/// What holds after a change of the good world, as `rule subject`.
fn after(change: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = good();
    change(&mut world);
    let judged = judge(&world);
    for ((rule, subject), held) in &judged {
        assert!(!held.evidence.is_empty() && !held.hint.is_empty(), "{rule} of {subject} says nothing: {held:?}");
        assert!(held.evidence.iter().all(|seen| !seen.is_empty()), "{rule}: {held:?}");
    }
    judged.keys().map(|(rule, subject)| format!("{rule} {subject}")).collect()
}

fn of_component(change: impl FnOnce(&mut Component)) -> Vec<String> {
    after(|world| change(&mut world.components[0]))
}

fn of_seen(change: impl FnOnce(&mut Seen)) -> Vec<String> {
    of_component(|component| change(component.instances[0].seen.as_mut().unwrap()))
}

fn failing(name: &str) -> Condition {
    Condition { name: name.into(), ok: false, blocking: true, message: format!("{name} is wrong"), hint: String::new() }
}

#[test]
fn nothing_holds_where_nothing_is_wrong() {
    assert_eq!(after(|_| {}), Vec::<String>::new());
}

#[test]
fn the_age_of_the_newest_point_is_told_before_and_after_the_objective_breaks() {
    let aged = |seconds| of_component(|component| component.stored.newest.as_mut().unwrap().finished = ago(seconds));
    assert!(aged(2_880).is_empty());
    assert_eq!(aged(2_881), ["RpoNear component/orders-db"]);
    assert_eq!(aged(3_601), ["RpoBroken component/orders-db"]);
    assert_eq!(of_component(|component| component.stored.newest = None), ["NoRecoveryPoint component/orders-db"]);
    let not_kept = of_component(|component| (component.stored.newest, component.has_repository, component.rpo) = (None, false, None));
    assert!(not_kept.is_empty(), "what nobody wants to keep needs no point: {not_kept:?}");
}

#[test]
fn restores_backups_and_damage_are_judged_against_what_is_stored() {
    assert_eq!(of_component(|c| c.stored.measured_rto = Some(Duration::from_secs(1_801))), ["RtoBroken component/orders-db"]);
    assert_eq!(of_component(|c| c.stored.measured_rto = None), ["RtoNotMeasured component/orders-db"]);
    let failed = |c: &mut Component| c.stored.failed_backup = Some(("cd".repeat(16).parse().unwrap(), ago(60), "the disk is full".into()));
    assert_eq!(of_component(failed), ["BackupFailed component/orders-db"]);
    assert_eq!(of_component(|c| c.missing.push(("ankara is behind".into(), "a look".into()))), ["NotReady component/orders-db"]);
    assert_eq!(of_component(|c| c.later_reign = Some(("a later one".into(), "its agent".into()))), ["LaterReign component/orders-db"]);
    assert_eq!(of_component(|c| c.stored.newest.as_mut().unwrap().damaged_pages = 2), ["DamagedPages component/orders-db"]);
}

#[test]
fn points_that_were_not_proved_good_are_told() {
    assert_eq!(of_component(|c| c.stored.verified = None), ["NeverVerified component/orders-db"]);
    assert!(of_component(|c| c.stored.verified = Some(ago(14 * 86_400))).is_empty());
    assert_eq!(of_component(|c| c.stored.verified = Some(ago(14 * 86_400 + 1))), ["VerificationOld component/orders-db"]);
    let found = |c: &mut Component| {
        c.stored.failed_verification = Some(("cd".repeat(16).parse().unwrap(), ago(60), "a row is missing from its index".into()));
    };
    assert_eq!(of_component(found), ["VerificationFailed component/orders-db"]);
}

#[test]
fn falling_behind_what_the_spec_expects_is_told_before_the_objective_breaks() {
    let every = Some(Duration::from_secs(1_000));
    let aged = |seconds| {
        of_component(|component| {
            component.backup_every = every;
            component.stored.newest.as_mut().unwrap().finished = ago(seconds);
        })
    };
    assert!(aged(1_100).is_empty());
    assert_eq!(aged(1_101), ["BackupLate component/orders-db"], "while the objective is an hour");
    let verified = |at| {
        of_component(|component| {
            component.verify_every = every;
            component.stored.verified = at;
        })
    };
    assert!(verified(Some(ago(1_100))).is_empty());
    assert_eq!(verified(Some(ago(1_101))), ["VerificationLate component/orders-db"]);
    let never = ["VerificationLate component/orders-db", "NeverVerified component/orders-db"];
    assert_eq!(verified(None), never, "declared a day ago, and never verified");
    let seldom = |component: &mut Component| {
        component.verify_every = Some(Duration::from_secs(60 * 86_400));
        component.stored.verified = Some(ago(30 * 86_400));
    };
    assert!(of_component(seldom).is_empty(), "the spec's word stands before the usual two weeks");
}

#[test]
fn a_run_that_waits_and_a_pause_are_told() {
    let waits = of_component(|component| component.stored.waiting = vec![("ab".into(), ago(700), "something stands against it".into())]);
    assert_eq!(waits, ["RunWaits component/orders-db"]);
    assert_eq!(
        of_component(|component| component.paused = Some((NOW.plus(Duration::from_secs(60)), "ada".into()))),
        ["Paused component/orders-db"]
    );
}

#[test]
fn one_writer_is_right_and_none_or_two_are_told_only_when_seen() {
    let roles = |a, b| of_component(|c| c.instances = vec![instance("istanbul", a), instance("ankara", b)]);
    use InstanceRole::{ReadWrite, Standby};
    assert_eq!(roles(ReadWrite, ReadWrite), ["TwoWriters component/orders-db"]);
    assert_eq!(roles(Standby, Standby), ["NoWriter component/orders-db"]);
    let unseen = |c: &mut Component| {
        c.instances = vec![instance("istanbul", Standby), Instance { seen: None, ..instance("ankara", Standby) }];
    };
    assert!(of_component(unseen).is_empty(), "somebody who is not seen may write");
    let folders = |c: &mut Component| {
        c.has_one_writer = false;
        c.instances = vec![instance("istanbul", ReadWrite), instance("ankara", ReadWrite)];
    };
    assert!(of_component(folders).is_empty());
}

#[test]
fn each_condition_has_its_rule_and_one_that_nobody_knows_is_told_all_the_same() {
    for (condition, rule) in [
        ("ServerReachable", "ServerUnreachable"),
        ("Answers", "ServerHangs"),
        ("Observable", "ServerHangs"),
        ("Startup", "ServerStarting"),
        ("Connections", "NoConnectionsLeft"),
        ("BackupRights", "RightsMissing"),
        ("ReplicationRights", "RightsMissing"),
        ("DataDirectory", "WrongFolder"),
        ("Version", "VersionNotServed"),
        ("Repository", "RepositoryUnusable"),
        ("DataKey", "KeyMissing"),
        ("Checksums", "NoChecksums"),
        ("Durability", "NotDurable"),
        ("DiskSpace", "DiskNearlyFull"),
        ("Archiver", "ArchiverFailing"),
        ("Slots", "SlotHoldsLog"),
        ("OfTomorrow", "ConditionFailed"),
    ] {
        assert_eq!(of_seen(|seen| seen.conditions = vec![failing(condition)]), [format!("{rule} instance/orders-db/istanbul")]);
        assert!(of_seen(|seen| seen.conditions = vec![Condition { ok: true, ..failing(condition) }]).is_empty(), "{condition}");
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_told_once_by_its_reason() {
    let conditions = |names: &[&str], role| {
        of_seen(|seen| {
            seen.role = role;
            seen.conditions = names.iter().map(|name| failing(name)).collect();
        })
    };
    let unknown = InstanceRole::Unknown;
    for (reason, rule) in [("Answers", "ServerHangs"), ("Startup", "ServerStarting"), ("Connections", "NoConnectionsLeft")] {
        let told = conditions(&["ServerReachable", reason], unknown);
        assert_eq!(told, ["NoWriter component/orders-db".to_owned(), format!("{rule} instance/orders-db/istanbul")]);
    }
    let down = conditions(&["ServerReachable"], InstanceRole::Down);
    assert_eq!(down, ["NoWriter component/orders-db", "ServerDown instance/orders-db/istanbul"]);
}

#[test]
fn another_cluster_or_version_behind_the_address_is_told_until_a_point_is_taken() {
    assert_eq!(of_seen(|seen| seen.system_id = Some(8)), ["ClusterReplaced instance/orders-db/istanbul"]);
    let upgraded = |since: u64| {
        of_component(|c| {
            c.instances[0].version_changed = Some(("14.9".into(), ago(since)));
        })
    };
    assert_eq!(upgraded(300), ["VersionChanged instance/orders-db/istanbul"]);
    assert!(upgraded(900).is_empty(), "a point was taken since");
    assert!(of_component(|c| c.instances[0].version_changed = Some(("15.13".into(), ago(300)))).is_empty(), "a minor version");
}

#[test]
fn lag_kept_directories_and_superseded_instances_are_told() {
    assert_eq!(of_seen(|seen| seen.lag_bytes = Some((256 << 20) + 1)), ["StandbyLagging instance/orders-db/istanbul"]);
    assert!(of_seen(|seen| seen.lag_bytes = Some(256 << 20)).is_empty());
    let kept = |seen: &mut Seen| seen.kept = vec![KeptDirectory { path: "/srv/pg.old".into(), bytes: 9, until: None }; 2];
    assert_eq!(of_seen(kept), ["KeptDirectory instance/orders-db/istanbul"]);
    assert_eq!(of_component(|c| c.instances[1].superseded = true), ["Superseded instance/orders-db/ankara"]);
}

#[test]
fn agents_are_judged_by_their_session_clock_certificate_and_what_was_refused() {
    let of_agent = |change: &dyn Fn(&mut Agent)| after(|world| change(&mut world.agents[1]));
    assert_eq!(of_agent(&|agent| agent.connected = false), ["AgentGone agent/ankara-db1"]);
    assert_eq!(of_agent(&|agent| agent.clock_offset_ms = -5_001), ["ClockOff agent/ankara-db1"]);
    assert_eq!(of_agent(&|agent| agent.problems = vec!["no such folder".into()]), ["AssignmentProblem agent/ankara-db1"]);
    assert_eq!(of_agent(&|agent| agent.refused = Some((ago(60), 3))), ["AgentRefused agent/ankara-db1"]);
    assert!(of_agent(&|agent| agent.refused = Some((ago(3_601), 3))).is_empty());
    let ends = |days: u64| {
        let until = NOW.plus(Duration::from_secs(days * 86_400));
        of_agent(&|agent| agent.certificate = Some((until, Duration::from_secs(30 * 86_400))))
    };
    assert_eq!((ends(5).len(), ends(4)), (0, vec!["CertificateEnding agent/ankara-db1".to_owned()]));
    assert_eq!(after(|world| drop(world.agents.remove(1))), ["AgentMissing agent/ankara-db1"]);
    assert!(after(|world| world.agents.push(Agent { connected: false, ..agent("spare") })).is_empty(), "it keeps nothing");
    assert_eq!(after(|world| world.operators[0].1 = ago(1)), ["CertificateEnding operator/ada"]);
}

#[test]
fn operations_and_the_controller_are_told() {
    let with = |stands| {
        after(|world| {
            let id = "ee".repeat(16).parse().unwrap();
            let (title, component, why) = ("backup of orders-db".into(), "orders-db".into(), "waits for agent x".into());
            world.operations = vec![Unfinished { id, title, component, created: ago(60), stands, why }];
        })
    };
    let subject = format!("operation/{}", "ee".repeat(16));
    assert!(with(Standing::GoesOn).is_empty());
    assert_eq!(with(Standing::Unknown), [format!("OperationUnknown {subject}")]);
    assert_eq!(with(Standing::Suspended), [format!("OperationSuspended {subject}")]);
    assert_eq!(with(Standing::Waits), [format!("OperationWaits {subject}")]);
    assert_eq!(after(|world| world.controller.behind = "an agent saw term 9".into()), ["ControllerBehind controller"]);
    assert_eq!(after(|world| world.controller.rotating_since = Some(ago(8 * 86_400))), ["RotationOpen controller"]);
    assert_eq!(after(|world| world.controller.disk.as_mut().unwrap().free = 9), ["ControllerDiskNearlyFull controller"]);
}

#[test]
fn what_no_agent_tells_of_is_blind() {
    let mut world = good();
    world.components[0].instances[0].seen = None;
    world.agents[0].connected = false;
    let blind: Vec<String> = blind(&world).iter().map(ToString::to_string).collect();
    assert_eq!(blind, ["component/orders-db", "instance/orders-db/istanbul", "agent/istanbul-db1"]);
}

#[test]
fn a_controller_whose_own_backup_is_old_or_whose_audit_log_was_changed_says_so() {
    let with = |taken: Option<u64>, problem: &str| {
        after(|world| {
            let taken = taken.map(|hours| ago(hours * 3_600));
            world.controller.backup = Some(OwnBackup { taken, problem: problem.into() });
        })
    };
    assert_eq!(with(Some(25), "").len() + with(Some(2), "the bucket is gone").len(), 0, "one failure is not old yet");
    for old in [with(Some(27), "the bucket is gone"), with(None, "")] {
        assert_eq!(old, ["ControllerBackupOld controller"]);
    }
    assert_eq!(after(|world| world.controller.audit = "entry 7: it is missing".into()), ["AuditLogBroken controller"]);
}
