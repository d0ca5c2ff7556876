//! Operations as they are shown, word for word.

use muster_wire::proto::v1::{
    DiscardResult, ErrorKind, Fault, Position, PostgresPosition, Progress, RestorePlan, StepKind, position as of,
};

use super::*;

const NOW: Timestamp = Timestamp(1_764_000_000_000_000);

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_764_000_000 + seconds, nanos: 0 })
}

fn operation(kind: OperationKind, state: OperationState) -> Operation {
    Operation {
        id: "3f2a91c0".repeat(4),
        kind: kind.into(),
        state: state.into(),
        component: "orders-db".into(),
        instance: "istanbul".into(),
        repository: "primary".into(),
        cause: "operator/ada".into(),
        created_at: at(-72),
        finished_at: if state == OperationState::Running { None } else { at(-60) },
        ..Operation::default()
    }
}

fn reached() -> Option<Position> {
    Some(Position {
        position: Some(of::Position::Postgres(PostgresPosition { timeline: 1, lsn: 0x300_0148, ..PostgresPosition::default() })),
    })
}

#[test]
fn a_backup_tells_its_point_what_it_reaches_and_what_it_added() {
    let mut backup = operation(OperationKind::Backup, OperationState::Succeeded);
    backup.result = Some(operation::Result::Backup(BackupResult {
        point_id: "9c1e0a12".repeat(4),
        finished_at: at(-61),
        position: reached(),
        bytes_total: 1 << 30,
        bytes_stored: 325_255_168,
        files: 1_234,
        ..BackupResult::default()
    }));
    assert_eq!(
        outcome(&backup, NOW),
        "backup 3f2a91c0 of orders-db/istanbul: succeeded in 12s\n  \
         point     9c1e0a12, reaches 2025-11-24 15:58:59Z\n  \
         position  0/3000148 on timeline 1\n  \
         restores  1.0 GiB in 1,234 files\n  \
         stored    310.2 MiB more in repository primary\n"
    );
}

#[test]
fn damaged_pages_are_never_silent() {
    let mut backup = operation(OperationKind::Backup, OperationState::Succeeded);
    let damage = (0..30).map(|block| format!("base/5/16384 block {block}: checksum")).collect();
    backup.result = Some(operation::Result::Backup(BackupResult { damaged_pages: 1_500, damage, ..BackupResult::default() }));
    let text = outcome(&backup, NOW);
    assert!(text.contains("  WARNING: 1,500 pages in the database had wrong checksums, and are in the point as they are:\n"), "{text}");
    assert!(text.contains("    base/5/16384 block 19: checksum\n    … and 1,480 more"), "{text}");
}

#[test]
fn a_failure_tells_why_and_what_to_do_next() {
    let mut backup = operation(OperationKind::Backup, OperationState::Failed);
    backup.fault = Some(Fault {
        kind: ErrorKind::Unavailable.into(),
        effect: muster_wire::proto::v1::Effect::None.into(),
        message: "write pack: the bucket does not answer".into(),
        evidence: vec!["PUT https://s3.local: timed out (4s ago)".into()],
        hint: "look at the bucket, then `muster backup orders-db`".into(),
    });
    assert_eq!(
        outcome(&backup, NOW),
        "backup 3f2a91c0 of orders-db/istanbul: failed in 12s\n  \
         write pack: the bucket does not answer\n  \
         seen: PUT https://s3.local: timed out (4s ago)\n  \
         effect: nothing was changed\n  \
         HINT: look at the bucket, then `muster backup orders-db`\n"
    );
}

#[test]
fn a_dry_run_shows_the_plan_and_what_it_would_replace() {
    let mut restore = operation(OperationKind::Restore, OperationState::Succeeded);
    restore.dry_run = true;
    restore.result = Some(operation::Result::Restore(RestoreResult {
        point_id: "9c1e0a12".repeat(4),
        directory: "/srv/pg".into(),
        plan: Some(RestorePlan {
            bytes: 1 << 30,
            files: 1_234,
            predicted: Some(prost_types::Duration { seconds: 9, nanos: 0 }),
            free_bytes: 20 << 30,
            replaces: vec!["the running server at /srv/pg (1.1 GiB), moved aside for 1d".into()],
            notes: vec!["ankara is superseded by it".into()],
        }),
        ..RestoreResult::default()
    }));
    assert_eq!(
        outcome(&restore, NOW),
        "dry run of restore 3f2a91c0 of orders-db/istanbul: succeeded in 12s\n  \
         point       9c1e0a12\n  \
         writes      1.0 GiB in 1,234 files to /srv/pg\n  \
         takes       about 9s\n  \
         free there  20.0 GiB\n  \
         REPLACES: the running server at /srv/pg (1.1 GiB), moved aside for 1d\n  \
         note: ankara is superseded by it\n"
    );
}

#[test]
fn a_restore_tells_what_it_kept_and_how_to_remove_it() {
    let mut restore = operation(OperationKind::Restore, OperationState::Succeeded);
    restore.result = Some(operation::Result::Restore(RestoreResult {
        point_id: "9c1e0a12".repeat(4),
        directory: "/srv/pg".into(),
        position: reached(),
        kept: Some(KeptDirectory { path: "/srv/pg.old".into(), bytes: 1 << 30, until: at(86_400) }),
        phase_seconds: [("extract".to_owned(), 6.25), ("start".to_owned(), 1.0)].into(),
        ..RestoreResult::default()
    }));
    assert_eq!(
        outcome(&restore, NOW),
        "restore 3f2a91c0 of orders-db/istanbul: succeeded in 12s\n  \
         point      9c1e0a12\n  \
         directory  /srv/pg\n  \
         position   0/3000148 on timeline 1\n  \
         the old directory /srv/pg.old (1.0 GiB) is kept until 2025-11-25 16:00:00Z (in 1d)\n  \
         HINT: `muster discard 3f2a91c0` removes it now\n  \
         extract took 6.2 s\n  \
         start took 1.0 s\n"
    );
}

#[test]
fn checks_and_discards_tell_what_they_found() {
    let mut check = operation(OperationKind::Check, OperationState::Succeeded);
    check.result = Some(operation::Result::Check(CheckResult { points: 1, packs: 20, bytes: 1 << 20, ..CheckResult::default() }));
    assert!(outcome(&check, NOW).ends_with("  read 1 point, 20 packs, 1.0 MiB\n  no problems\n"));
    check.result = Some(operation::Result::Check(CheckResult {
        problem_count: 1,
        problems: vec!["pack ab: frame at 9".into()],
        ..CheckResult::default()
    }));
    assert!(outcome(&check, NOW).contains("  WARNING: 1 problem:\n    pack ab: frame at 9\n  HINT: "));
    let mut discard = operation(OperationKind::Discard, OperationState::Succeeded);
    discard.result = Some(operation::Result::Discard(DiscardResult { path: "/srv/pg.old".into() }));
    assert!(outcome(&discard, NOW).ends_with("  /srv/pg.old is removed\n"));
}

#[test]
fn an_unknown_outcome_says_how_it_is_ended() {
    let mut backup = operation(OperationKind::Backup, OperationState::Unknown);
    backup.finished_at = None;
    backup.waiting_for = "agent istanbul-db1".into();
    let text = outcome(&backup, NOW);
    assert!(
        text.starts_with("backup 3f2a91c0 of orders-db/istanbul: outcome unknown for 1m 12s\n  waits for agent istanbul-db1\n"),
        "{text}"
    );
    assert!(text.contains("`muster resolve 3f2a91c0 --succeeded|--failed --word"), "{text}");
}

#[test]
fn operations_are_listed_and_shown_whole() {
    let mut running = operation(OperationKind::Backup, OperationState::Running);
    running.progress = Some(Progress::default());
    running.epoch = 3;
    running.steps = vec![Step {
        name: "backup".into(),
        kind: StepKind::Command.into(),
        state: StepState::Started.into(),
        started_at: at(-70),
        agent: "istanbul-db1".into(),
        ..Step::default()
    }];
    assert_eq!(
        list(std::slice::from_ref(&running), NOW),
        "ID        KIND    OF                  STATE    STARTED     TOOK    BY\n\
         3f2a91c0  backup  orders-db/istanbul  running  1m 12s ago  1m 12s  operator/ada\n"
    );
    assert_eq!(
        whole(&running, NOW),
        format!(
            "backup 3f2a91c0 of orders-db/istanbul: running for 1m 12s\n  `muster watch 3f2a91c0` follows it, `muster cancel 3f2a91c0` stops it\n  \
             id       {}\n  by       operator/ada\n  started  2025-11-24 15:58:48Z (1m 12s ago)\n  epoch    3\n  \
             STEP    STATE    AGENT         STARTED     WHY\n  backup  started  istanbul-db1  1m 10s ago\n",
            "3f2a91c0".repeat(4)
        )
    );
    assert_eq!(list(&[], NOW), "no operations\n");
}

#[test]
fn a_transition_is_a_line_with_the_time_of_day() {
    let told = OperationEvent {
        number: 4,
        at: at(0),
        text: "sent to istanbul-db1".into(),
        operation: Some(operation(OperationKind::Backup, OperationState::Running)),
    };
    assert_eq!(event(&told), "16:00:00 backup 3f2a91c0: sent to istanbul-db1");
}
