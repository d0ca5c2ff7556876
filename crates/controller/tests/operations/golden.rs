//! The journaled form, version 1: what a released controller wrote is read by every later one, and goes on.

use std::path::Path;

use muster_common::counter::{Epoch, EventNumber};
use muster_common::fault::{Effect, ErrorKind};
use muster_common::id::PointId;
use muster_common::position::{Fork, Lsn, PostgresPosition};
use muster_controller::operation::done::{
    BackupDone, CheckDone, Done, Kept, Outcome, Plan, Position, RestoreDone, VerifyCheck, VerifyDone,
};
use muster_controller::operation::event::Event;
use muster_controller::operation::journal;
use muster_controller::operation::state::{Awaited, State, VERSION};
use muster_controller::store::operations::{self, Record};
use muster_wire::proto::v1::OperationState;

use crate::agent::Agent;
use crate::life::{after, at, failed, fresh, issued, suspended, tasks};
use crate::sim::{Controller, ISTANBUL, name};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/journal-v1.jsonl");
/// What came to version 1 with verifications; an older build refuses such an operation by its kind.
const VERIFYING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/journal-v1-verify.jsonl");

fn position() -> Position {
    Position::Postgres(PostgresPosition {
        system_id: 7_000_000_000_000_000_007,
        timeline: 2,
        history: vec![Fork { timeline: 1, at: Lsn(0x16_B374_D848) }],
        lsn: Lsn(0x17_0000_0028),
    })
}

fn backed_up() -> Outcome {
    Outcome::Done(Done::Backup(BackupDone {
        point: PointId::from_bytes([0x22; 16]),
        started: at(210),
        finished: at(290),
        position: Some(position()),
        bytes_total: 1 << 40,
        bytes_stored: 1 << 30,
        files: 12_345,
        damage: vec!["base/5/16384 block 7".into()],
        damaged_pages: 1,
        notes: Vec::new(),
    }))
}

fn restored() -> Outcome {
    Outcome::Done(Done::Restore(RestoreDone {
        plan: Plan {
            bytes: 9,
            files: 8,
            predicted_us: 7_000_000,
            free_bytes: 6,
            replaces: vec!["/srv/pg: 3 GiB".into()],
            notes: vec!["wal_level stays".into()],
        },
        directory: "/srv/pg".into(),
        kept: Some(Kept { path: "/srv/pg.old".into(), bytes: 5, until: at(900) }),
        position: Some(Position::Files { count: 4, newest: Some(at(100)) }),
        phase_seconds: [("fetch".to_owned(), 1.5)].into(),
    }))
}

fn checked() -> Outcome {
    Outcome::Done(Done::Check(CheckDone {
        points: 3,
        packs: 2,
        bytes: 1,
        problems: vec!["pack 00: torn".into()],
        problem_count: 1,
        store_notes: vec!["no checksums".into()],
    }))
}

/// A state of every phase, kind, step, outcome and position that version 1 has.
fn states() -> Vec<State> {
    let [backup, restore, check, discard, _] = tasks();
    let stopped = || Event::CancelAsked { by: "operator/bob".into(), reason: "wrong one".into() };
    let wait = || Event::WaitStarted(Awaited::Agent(name("istanbul-db1")));
    let moved = || Event::ReignMoved { from: Epoch(3), to: Epoch(4), superseded: vec![name("ankara")] };
    let word = |succeeded| Event::Resolved { by: "operator/ada".into(), succeeded, word: "I looked".into() };
    let taken_on = || vec![wait(), Event::WaitEnded, issued(), Event::TakenOn];
    let on = |more: Vec<Event>| taken_on().into_iter().chain(more).collect::<Vec<_>>();
    [
        (&backup, vec![]),
        (&backup, vec![wait()]),
        (&backup, vec![issued()]),
        (&backup, on(vec![])),
        (&backup, on(vec![stopped()])),
        (&backup, on(vec![Event::Stood])),
        (&backup, on(vec![suspended()])),
        (&backup, on(vec![Event::Reported(backed_up())])),
        (&backup, on(vec![stopped(), Event::Reported(failed(ErrorKind::Cancelled, Effect::None))])),
        (&restore, on(vec![])),
        (&restore, on(vec![moved(), Event::Reported(restored())])),
        (&restore, on(vec![Event::Reported(failed(ErrorKind::Unavailable, Effect::Done))])),
        (&restore, on(vec![Event::Lost, word(false)])),
        (&restore, on(vec![Event::Lost, moved(), word(true)])),
        (&check, on(vec![Event::Reported(checked())])),
        (&discard, on(vec![Event::Reported(Outcome::Done(Done::Discard { path: "/srv/pg.old".into() }))])),
        (&discard, vec![stopped(), Event::Dropped]),
    ]
    .into_iter()
    .map(|(task, events)| after(fresh(task.clone()), &events))
    .collect()
}

/// What came to version 1 with verifications.
fn verifying() -> Vec<State> {
    let [_, _, _, _, verify] = tasks();
    let check = |passed| VerifyCheck { name: "amcheck".into(), passed, detail: "264 relations".into(), seconds: 0.5 };
    let verified = Outcome::Done(Done::Verify(VerifyDone {
        phase_seconds: [("fetch".to_owned(), 1.5)].into(),
        bytes: 9,
        files: 8,
        position: Some(position()),
        checks: vec![check(true), check(false)],
        notes: vec!["a note".into()],
    }));
    let on = |event| vec![issued(), Event::TakenOn, event];
    [vec![], on(Event::Reported(verified)), on(Event::Reported(failed(ErrorKind::DataLoss, Effect::None)))]
        .into_iter()
        .map(|events| after(fresh(verify.clone()), &events))
        .collect()
}

fn record(state: &State, text: &str) -> Record {
    Record {
        id: state.id,
        number: 0,
        kind: state.task.kind().name().into(),
        phase: state.phase.name().into(),
        ended: state.phase.ended(),
        component: "orders-db".into(),
        instance: "istanbul".into(),
        repository: "primary".into(),
        cause: state.cause.clone(),
        parent: String::new(),
        created: state.created,
        finished: state.finished,
        state_version: 1,
        journal: text.into(),
        last_event: EventNumber(0),
    }
}

#[test]
fn the_journal_of_version_1_is_read_back_and_written_as_it_was() {
    assert_eq!(VERSION, 1, "a new version gets a golden file of its own, and this one is still read");
    is_golden(FILE, &states());
}

#[test]
fn verifications_in_the_journal_of_version_1_are_read_back_and_written_as_they_were() {
    is_golden(VERIFYING, &verifying());
}

fn is_golden(file: &str, states: &[State]) {
    let written: Vec<_> = states.iter().map(|state| serde_json::to_string(state).unwrap()).collect();
    if !Path::new(file).exists() {
        std::fs::write(file, format!("{}\n", written.join("\n"))).unwrap();
        panic!("{file} was written: look at it and commit it");
    }
    let golden = std::fs::read_to_string(file).unwrap();
    let golden: Vec<_> = golden.lines().collect();
    assert_eq!(golden.len(), states.len());
    for ((line, state), written) in golden.iter().zip(states).zip(written) {
        assert_eq!(journal::decode(&record(state, line)).unwrap(), *state);
        assert_eq!(*line, written);
    }
}

#[test]
fn a_journal_of_a_newer_version_or_a_damaged_one_is_refused_with_its_operation() {
    let state = states().remove(0);
    let newer = Record { state_version: 2, ..record(&state, "{}") };
    let refused = journal::decode(&newer).unwrap_err().to_string();
    assert!(refused.contains(&state.id.to_string()) && refused.contains("version 2"), "{refused}");
    assert!(journal::decode(&record(&state, "{\"id\":")).is_err());
}

#[tokio::test]
async fn an_operation_that_version_1_left_unfinished_is_driven_to_its_end() {
    let golden = std::fs::read_to_string(FILE).unwrap();
    let pending: State = serde_json::from_str(golden.lines().next().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let mut write = controller.store.write().await.unwrap();
    let text = golden.lines().next().unwrap();
    operations::insert(write.connection(), &mut record(&pending, text)).await.unwrap();
    write.commit().await.unwrap();
    controller.stop().await;
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    let _session = agent.connect(&controller);
    let ended = controller.ends(&pending.id.to_string()).await;
    assert_eq!(ended.state(), OperationState::Succeeded, "{ended:?}");
    assert_eq!(agent.disk().effects, [pending.command_id().to_string()]);
}
