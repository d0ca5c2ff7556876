//! The page as it is shown, word for word.

use muster_wire::proto::v1::{
    AgentStatus, Condition, Finding, KeptDirectory, Objectives, Observation, OperationKind, OperationState, Position, PostgresPosition,
    Progress, RecoveryPoint, Severity, VerificationStatus, position as of,
};

use super::*;

const NOW: Timestamp = Timestamp(1_764_000_000_000_000);

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_764_000_000 + seconds, nanos: 0 })
}

fn lasting(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn seen(role: InstanceRole, conditions: Vec<Condition>) -> Option<Observation> {
    let postgres = PostgresPosition { timeline: 1, lsn: 0x300_0148, ..PostgresPosition::default() };
    Some(Observation {
        role: role.into(),
        position: Some(Position { position: Some(of::Position::Postgres(postgres)) }),
        data_bytes: Some(1 << 30),
        conditions,
        ..Observation::default()
    })
}

fn broken() -> Finding {
    Finding {
        name: "RpoBroken".into(),
        severity: Severity::Critical.into(),
        subject: "component/orders-db".into(),
        since: at(-122),
        evidence: vec!["point 9c1e0a12 is 3m 2s old; the objective is 1m".into()],
        hint: "`muster backup orders-db`".into(),
        component: "orders-db".into(),
        cleared_at: None,
    }
}

fn backup_that_runs() -> muster_wire::proto::v1::Operation {
    muster_wire::proto::v1::Operation {
        id: "3f2a91c0".repeat(4),
        kind: OperationKind::Backup.into(),
        state: OperationState::Running.into(),
        component: "orders-db".into(),
        instance: "istanbul".into(),
        cause: "operator/ada".into(),
        created_at: at(-12),
        waiting_for: "agent istanbul-db1".into(),
        progress: Some(Progress { phase: "copying".into(), bytes_done: 1 << 29, bytes_total: 1 << 30, ..Progress::default() }),
        ..muster_wire::proto::v1::Operation::default()
    }
}

fn world() -> StatusPage {
    let istanbul = InstanceStatus {
        name: "istanbul".into(),
        site: "istanbul".into(),
        agent: "istanbul-db1".into(),
        connected: true,
        observation: seen(InstanceRole::ReadWrite, vec![]),
        age: lasting(1),
        kept: vec![KeptDirectory { path: "/srv/pg.old".into(), bytes: 1 << 30, until: at(3_600) }],
        ..InstanceStatus::default()
    };
    let refused = Condition {
        name: "ServerReachable".into(),
        blocking: true,
        message: "10.2.0.5:5432 refuses connections".into(),
        hint: "start it: pg_ctl start".into(),
        ..Condition::default()
    };
    let ankara = InstanceStatus {
        name: "ankara".into(),
        site: "ankara".into(),
        agent: "ankara-db1".into(),
        observation: seen(InstanceRole::Down, vec![refused]),
        age: lasting(75),
        superseded: true,
        ..InstanceStatus::default()
    };
    let orders = ComponentStatus {
        name: "orders-db".into(),
        priority: Priority::Critical.into(),
        objectives: Some(Objectives { rto: lasting(1_800), rpo: lasting(60) }),
        measured_rpo: lasting(182),
        measured_rto: lasting(11),
        verification: Some(VerificationStatus {
            operation_id: "77aa00bb".into(),
            point_id: "9c1e0a12ff".into(),
            at: at(-3_600),
            ok: true,
            ..VerificationStatus::default()
        }),
        epoch: 2,
        writer: "istanbul".into(),
        instances: vec![istanbul, ankara],
        newest_point: Some(RecoveryPoint { id: "9c1e0a12".repeat(4), finished_at: at(-182), ..RecoveryPoint::default() }),
        running: vec![backup_that_runs()],
        ..ComponentStatus::default()
    };
    StatusPage {
        pause: None,
        controller: Some(ControllerStatus {
            build: "0.1.0".into(),
            term: 3,
            store: "/var/lib/muster/store.db".into(),
            store_id: "0011aabb".repeat(4),
            started_at: at(-7_500),
            now: at(0),
            behind: String::new(),
            backed_up_at: at(-3_600),
            backup: "controller-x.sealed in /srv".into(),
            backup_problem: String::new(),
        }),
        components: vec![orders],
        agents: vec![AgentStatus {
            name: "istanbul-db1".into(),
            site: "istanbul".into(),
            connected: true,
            last_heard_at: at(-1),
            build: "0.1.0".into(),
            certificate_until: at(864_000),
            ..AgentStatus::default()
        }],
        findings: vec![broken()],
    }
}

#[test]
fn the_page_tells_first_who_speaks_then_each_component_then_the_agents() {
    assert_eq!(
        page(&world(), "127.0.0.1:7400", NOW),
        "controller 0.1.0 at 127.0.0.1:7400, term 3, up 2h 5m
  store /var/lib/muster/store.db (id 0011aabb)
  backed up 1h ago: controller-x.sealed in /srv

orders-db (CRITICAL)
  writer    istanbul, epoch 2
  RPO       3m 2s ! OVER the objective of 1m; newest point 9c1e0a12 of 2025-11-24 15:56:58Z
  RTO       11s at the last restore or verification (objective 30m)
  verified  1h ago, point 9c1e0a12
  INSTANCE  SITE      AGENT              ROLE        POSITION                 LAG  DATA     SEEN
  istanbul  istanbul  istanbul-db1       read-write  0/3000148 on timeline 1  -    1.0 GiB  1s ago
  ankara    ankara    ankara-db1 (AWAY)  DOWN        0/3000148 on timeline 1  -    1.0 GiB  1m 15s ago (OLD)
  istanbul: the old directory /srv/pg.old (1.0 GiB) is kept until 2025-11-24 17:00:00Z (in 1h)
  ankara: ! SUPERSEDED: it holds what the writer no longer has; it is never followed or promoted until it rejoins or is seeded anew
  ankara: BLOCKS ServerReachable: 10.2.0.5:5432 refuses connections
  ankara:   HINT: start it: pg_ctl start
  > backup 3f2a91c0 of orders-db/istanbul: running, started 12s ago by operator/ada
    copying: 50 %, 512.0 MiB of 1.0 GiB
    waits for agent istanbul-db1

AGENT         SITE      STATE      HEARD   BUILD  CLOCK   CERTIFICATE ENDS  CA
istanbul-db1  istanbul  connected  1s ago  0.1.0  +0.0 s  in 10d            -

! CRITICAL  RpoBroken of orders-db, since 2025-11-24 15:57:58Z (2m 2s ago)
    seen: point 9c1e0a12 is 3m 2s old; the objective is 1m
    HINT: `muster backup orders-db`
"
    );
}

#[test]
fn an_empty_world_tells_what_to_type_first() {
    let text = page(&StatusPage::default(), "127.0.0.1:7400", NOW);
    assert!(text.contains("no components are declared\nHINT: `muster apply -f FILE`"), "{text}");
    assert!(text.ends_with("no findings: nothing that a person should know\n"), "{text}");
    assert!(text.contains("no agents\nHINT: `muster token create --site SITE --agent NAME`"), "{text}");
}

#[test]
fn a_controller_that_is_behind_and_a_clock_that_is_off_are_shown() {
    let mut world = world();
    let controller = world.controller.as_mut().unwrap();
    controller.behind = "agent istanbul-db1 has seen term 9".into();
    let text = page(&world, "here", NOW.plus(Duration::from_secs(61)));
    assert!(text.contains("  ! BEHIND: agent istanbul-db1 has seen term 9\n"), "{text}");
    assert!(text.contains("  ! this machine's clock and the controller's are 1m 1s apart\n"), "{text}");
}

#[test]
fn the_last_page_tells_its_age_and_what_to_type_on_which_host() {
    let text = last(&world(), "", "10.1.0.9:7400, ankara.example.org:7400", NOW, NOW.plus(Duration::from_secs(240)));
    assert!(text.starts_with("THE CONTROLLER AT 10.1.0.9:7400, ankara.example.org:7400 CANNOT BE REACHED."), "{text}");
    assert!(text.contains("as of 2025-11-24 16:00:00Z (4m ago)") && text.ends_with("(all of this is 4m old)\n"), "{text}");
    assert!(text.contains("  on 10.1.0.9 or ankara.example.org: systemctl status muster-controller;"), "{text}");
    assert!(text.contains("orders-db (CRITICAL)") && text.contains("RpoBroken"), "{text}");
    let other = last(&world(), "other", "here:1", NOW, NOW);
    assert!(!other.contains("orders-db (CRITICAL)") && !other.contains("RpoBroken"), "{other}");
}

#[test]
fn a_component_without_points_or_restores_says_so() {
    let mut world = world();
    let component = world.components.first_mut().unwrap();
    component.measured_rpo = None;
    component.measured_rto = None;
    component.newest_point = None;
    component.verification = None;
    let text = one(component, NOW);
    assert!(text.contains("  RPO       no recovery point ! OVER the objective of 1m; HINT: `muster backup orders-db`\n"), "{text}");
    assert!(text.contains("  RTO       not measured: no restore and no verification was made yet (objective 30m)\n"), "{text}");
}

#[test]
fn a_verification_that_found_something_is_told_loudly() {
    let mut world = world();
    let component = world.components.first_mut().unwrap();
    let last = component.verification.as_mut().unwrap();
    (last.ok, last.problem, last.passed_at) = (false, "point 9c1e is not good".into(), at(-86_400));
    let text = one(component, NOW);
    let told = "  verified  ! FAILED 1h ago, point 9c1e0a12; passed 1d ago: point 9c1e is not good; `muster watch 77aa00bb` shows it\n";
    assert!(text.contains(told), "{text}");
    component.verification = None;
    assert!(one(component, NOW).contains("  verified  never; HINT: `muster verify orders-db`\n"));
}

#[test]
fn the_caller_is_told() {
    let ada = WhoAmIResponse { identity: "operator/ada".into(), role: "admin".into(), certificate_until: at(864_000) };
    assert_eq!(who(&ada, NOW), "operator/ada, role admin; the certificate ends in 10d\n");
}
