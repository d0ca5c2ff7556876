//! The pure life of an operation: tables of (state, news) and (state, world), and any history at all.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::{OperationId, PointId};
use muster_common::time::Timestamp;
use muster_controller::operation::asked::Place;
use muster_controller::operation::done::{Done, Outcome, RestoreDone};
use muster_controller::operation::event::Event;
use muster_controller::operation::kind::Phase;
use muster_controller::operation::kinds::{backup, check, discard, restore, verify};
use muster_controller::operation::life::{self, Action, GRACE, News, REMEMBERED, Told, World};
use muster_controller::operation::state::{State, Task, Work};
use proptest::prelude::*;

use crate::sim::name;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

pub fn fresh(task: Task) -> State {
    State {
        id: OperationId::from_bytes([0x11; 16]),
        task,
        target: "orders-db/istanbul".parse().unwrap(),
        agent: name("istanbul-db1"),
        repository: Some(name("primary")),
        epoch: Epoch(3),
        cause: "operator/ada".into(),
        parent: None,
        created: at(100),
        stall_limit_ms: 60_000,
        traceparent: String::new(),
        asked: None,
        hooks: Default::default(),
        ran: Vec::new(),
        moving: Default::default(),
        phase: Phase::Pending,
        steps: Vec::new(),
        cancel: None,
        finished: None,
        fault: None,
        done: None,
    }
}

pub fn tasks() -> [Task; 5] {
    [
        Task::Backup(backup::Task {
            point: PointId::from_bytes([0x22; 16]),
            label: "nightly".into(),
            compression_level: 3,
            fast_checkpoint: true,
            dump: None,
        }),
        Task::Restore(restore::Task {
            point: PointId::from_bytes([0x22; 16]),
            place: Place::InPlace,
            dry_run: false,
            tablespaces: BTreeMap::from([(16_400, "/srv/ts".to_owned())]),
            keep_old_s: 86_400,
            start: true,
            consent: true,
            next_epoch: Epoch(4),
        }),
        Task::Check(check::Task { read_data_part: 0, read_data_of: 1 }),
        Task::Discard(discard::Task { restore: OperationId::from_bytes([0x33; 16]), path: "/srv/pg.old".into() }),
        Task::Verify(verify::Task {
            point: PointId::from_bytes([0x22; 16]),
            assertions: vec![verify::Assertion {
                name: "orders".into(),
                database: "shop".into(),
                sql: "select count(*) > 0 from orders".into(),
                expect: "t".into(),
            }],
            statement_timeout_ms: 60_000,
        }),
    ]
}

pub fn after(state: State, events: &[Event]) -> State {
    events.iter().fold(state, |state, event| life::apply(state, event, at(200)))
}

pub fn issued() -> Event {
    Event::Issued { epoch: Epoch(3) }
}

fn stopped() -> Event {
    Event::CancelAsked { by: "operator/bob".into(), reason: String::new() }
}

pub fn suspended() -> Event {
    Event::Suspended { why: "a copy".into() }
}

pub fn done() -> Outcome {
    let restored = RestoreDone {
        plan: Default::default(),
        directory: "/srv/pg".into(),
        kept: None,
        position: None,
        phase_seconds: BTreeMap::from([("fetch".to_owned(), 1.5)]),
    };
    Outcome::Done(Done::Restore(restored))
}

pub fn failed(kind: ErrorKind, effect: Effect) -> Outcome {
    Outcome::Fault(Fault::failed(kind, "the disk is full").effect(effect).hint("make room"))
}

/// A restore after some events.
fn restore_after(events: &[Event]) -> State {
    let [_, restore, ..] = tasks();
    after(fresh(restore), events)
}

#[test]
fn what_news_means_in_each_state() {
    let outcome = || News::Outcome(Box::new(done()), Vec::new());
    let reported = || Event::Reported(done());
    let table: Vec<(&str, Vec<Event>, News, Vec<Event>)> = vec![
        // Running.
        ("first word", vec![issued()], News::TakenOn, vec![Event::TakenOn]),
        ("told twice", vec![issued(), Event::TakenOn], News::TakenOn, vec![]),
        ("outcome before anything else", vec![issued()], outcome(), vec![reported()]),
        ("outcome", vec![issued(), Event::TakenOn], outcome(), vec![reported()]),
        ("not there yet: it is on its way", vec![issued()], News::Unheard, vec![]),
        ("it was there", vec![issued(), Event::TakenOn], News::Unheard, vec![Event::Lost]),
        // Cancelling.
        ("stopped before it came", vec![issued(), stopped()], News::Unheard, vec![Event::Unheard]),
        ("stopped, and forgotten", vec![issued(), Event::TakenOn, stopped()], News::Unheard, vec![Event::Lost]),
        ("stopped too late", vec![issued(), Event::TakenOn, stopped()], outcome(), vec![reported()]),
        // Unknown.
        ("it is there after all", vec![issued(), Event::Stood], News::TakenOn, vec![Event::Found, Event::TakenOn]),
        ("it is still there", vec![issued(), Event::TakenOn, Event::Stood], News::TakenOn, vec![Event::Found]),
        ("it never came, and hours later it is not sent", vec![issued(), Event::Stood], News::Unheard, vec![Event::Unheard]),
        ("still forgotten", vec![issued(), Event::TakenOn, Event::Lost], News::Unheard, vec![]),
        ("it comes to light", vec![issued(), Event::TakenOn, Event::Lost], outcome(), vec![reported()]),
        // Suspended.
        ("nobody knows it: on", vec![suspended()], News::Unheard, vec![Event::Released]),
        ("it ran in the lost future", vec![suspended()], News::TakenOn, vec![issued(), Event::Released, Event::TakenOn]),
        ("it ended in the lost future", vec![suspended()], outcome(), vec![issued(), reported()]),
        ("issued, never came", vec![issued(), suspended()], News::Unheard, vec![Event::Released]),
        ("taken on, forgotten", vec![issued(), Event::TakenOn, suspended()], News::Unheard, vec![Event::Lost]),
        ("taken on, there", vec![issued(), Event::TakenOn, suspended()], News::TakenOn, vec![Event::Released]),
        ("stopped meanwhile", vec![suspended(), stopped()], News::Unheard, vec![Event::Dropped]),
        // Ended.
        ("ended: taken on", vec![issued(), reported()], News::TakenOn, vec![]),
        ("ended: unheard", vec![issued(), reported()], News::Unheard, vec![]),
        ("ended: outcome", vec![issued(), reported()], outcome(), vec![]),
        // A driver that did not know that its command had gone out.
        ("pending, and it is there", vec![], News::TakenOn, vec![issued(), Event::TakenOn]),
        ("pending, and it has ended", vec![], outcome(), vec![issued(), reported()]),
        ("pending, nobody knows", vec![], News::Unheard, vec![]),
    ];
    for (what, history, news, expected) in table {
        assert_eq!(life::receive(&restore_after(&history), news, at(300)), expected, "{what}");
    }
}

#[test]
fn what_was_accepted_longer_ago_than_agents_remember_is_not_begun_by_a_restored_controller() {
    let late = at(100).plus(REMEMBERED).plus(Duration::from_secs(1));
    let events = life::receive(&restore_after(&[suspended()]), News::Unheard, late);
    assert!(matches!(events.as_slice(), [Event::GaveUp(fault)] if fault.effect == Effect::Unknown), "{events:?}");
}

#[test]
fn what_is_to_be_done_in_each_state() {
    let told = |command, ask, cancel| Told { command, ask, cancel };
    let none = told(false, false, false);
    let sends = |state: &State, connected: bool, told: Told| -> Vec<&'static str> {
        let world = World { connected, moved: at(200), told };
        let actions = life::decide(state, &world, at(201));
        assert!(state.phase.ended() || matches!(actions.last(), Some(Action::Wait { .. } | Action::Record(_))), "{actions:?}");
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Send => Some("send"),
                Action::Ask => Some("ask"),
                Action::Cancel => Some("cancel"),
                Action::Record(Event::Issued { .. }) => Some("issue"),
                Action::Record(Event::WaitStarted(_)) => Some("wait"),
                Action::Record(Event::WaitEnded) => Some("come"),
                Action::Record(_) => Some("other"),
                Action::Wait { .. } => None,
            })
            .collect()
    };
    let wait = Event::WaitStarted(muster_controller::operation::state::Awaited::Agent(name("istanbul-db1")));
    let taken_on = || vec![issued(), Event::TakenOn];
    let table: Vec<(Vec<Event>, bool, Told, Vec<&str>)> = vec![
        (vec![], false, none, vec!["wait"]),
        (vec![wait.clone()], false, none, vec![]),
        (vec![wait], true, none, vec!["come"]),
        (vec![], true, none, vec!["issue"]),
        (vec![issued()], false, none, vec![]),
        (vec![issued()], true, none, vec!["send"]),
        (vec![issued()], true, told(true, false, false), vec![]),
        // After a new session began: is it still there?
        (taken_on(), true, none, vec!["ask"]),
        (taken_on(), true, told(true, false, false), vec![]),
        (taken_on(), true, told(false, true, false), vec![]),
        (vec![issued(), stopped()], true, none, vec!["cancel", "ask"]),
        (vec![issued(), stopped()], true, told(false, true, true), vec![]),
        (vec![issued(), stopped()], false, none, vec![]),
        (vec![issued(), Event::Stood], true, none, vec!["ask"]),
        (vec![issued(), Event::Stood], true, told(false, true, false), vec![]),
        (vec![suspended()], true, none, vec!["ask"]),
        (vec![suspended()], false, none, vec![]),
        (vec![issued(), Event::Reported(done())], true, none, vec![]),
    ];
    for (history, connected, told, expected) in table {
        let state = restore_after(&history);
        assert_eq!(sends(&state, connected, told), expected, "{history:?} connected {connected} {told:?}");
    }
}

#[test]
fn what_stands_still_is_unknown_after_the_limit_and_a_grace_and_what_never_began_fails() {
    let world = World { connected: true, moved: at(200), told: Told::default() };
    let limit = Duration::from_secs(60);
    for history in [vec![issued()], vec![issued(), Event::TakenOn], vec![issued(), stopped()]] {
        let state = restore_after(&history);
        let just_before = at(200).plus(limit).plus(GRACE - Duration::from_micros(1));
        assert!(!life::decide(&state, &world, just_before).contains(&Action::Record(Event::Stood)));
        assert_eq!(life::decide(&state, &world, at(200).plus(limit).plus(GRACE)), [Action::Record(Event::Stood)]);
    }
    let away = World { connected: false, ..world };
    let actions = life::decide(&restore_after(&[]), &away, at(200).plus(limit));
    assert!(matches!(actions.as_slice(), [Action::Record(Event::GaveUp(fault))] if fault.effect == Effect::None), "{actions:?}");
}

#[test]
fn how_an_outcome_ends_each_kind() {
    for task in tasks() {
        let kind = task.kind();
        let running = after(fresh(task), &[issued(), Event::TakenOn]);
        for (outcome, phase) in [
            (failed(ErrorKind::Cancelled, Effect::None), Phase::Cancelled),
            // Somebody asked, and it was done all the same: that is no cancel.
            (failed(ErrorKind::Cancelled, Effect::Done), Phase::Failed),
            (failed(ErrorKind::Stalled, Effect::Unknown), Phase::Failed),
        ] {
            let ended = after(running.clone(), &[Event::Reported(outcome)]);
            assert_eq!((ended.phase, ended.finished), (phase, Some(at(200))), "{kind:?}");
            assert!(ended.fault.is_some() && ended.done.is_none());
        }
        let foreign = after(running, &[Event::Reported(done())]);
        let expected = if kind.name() == "restore" { Phase::Succeeded } else { Phase::Failed };
        assert_eq!(foreign.phase, expected, "an outcome of another kind is a defect: {kind:?}");
    }
}

#[test]
fn the_commands_id_follows_from_the_operation_and_its_kind() {
    let ids: std::collections::BTreeSet<_> = tasks().into_iter().map(|task| fresh(task).command_id()).collect();
    assert_eq!(ids.len(), tasks().len());
    let [backup, ..] = tasks();
    // Changing this derivation would let a newer controller run what an older one has run.
    assert_eq!(fresh(backup).command_id().to_string(), "b2ba8cb2cc412147f8bfcf00f22688f9");
}

#[derive(Clone, Debug)]
enum Happens {
    News(News),
    Cancel,
    Resolve(bool),
    Suspend,
    Session(bool),
    Time(u16),
    Decide,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::News(News::Unheard)),
        Just(Happens::News(News::TakenOn)),
        Just(Happens::News(News::Outcome(Box::new(done()), Vec::new()))),
        Just(Happens::News(News::Outcome(Box::new(failed(ErrorKind::Cancelled, Effect::None)), Vec::new()))),
        Just(Happens::Cancel),
        any::<bool>().prop_map(Happens::Resolve),
        Just(Happens::Suspend),
        any::<bool>().prop_map(Happens::Session),
        any::<u16>().prop_map(Happens::Time),
        Just(Happens::Decide),
        Just(Happens::Decide),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_in_whatever_order_an_operation_issues_once_ends_once_and_stays_small(history in prop::collection::vec(happens(), 0..60)) {
        let mut state = restore_after(&[]);
        let mut now = at(200);
        let mut connected = false;
        let mut issues = 0;
        for what in history {
            let before = state.clone();
            let events = match what {
                Happens::News(news) => life::receive(&state, news, now),
                Happens::Cancel => life::cancel(&state, "operator/bob", "").unwrap_or_default(),
                Happens::Resolve(succeeded) => life::resolve(&state, "operator/bob", succeeded, "seen").unwrap_or_default(),
                Happens::Suspend if !state.phase.ended() => vec![suspended()],
                Happens::Suspend => vec![],
                Happens::Session(there) => { connected = there; vec![] }
                Happens::Time(seconds) => { now = now.plus(Duration::from_secs(u64::from(seconds))); vec![] }
                Happens::Decide => {
                    let world = World { connected, moved: at(200), told: Told::default() };
                    let actions = life::decide(&state, &world, now);
                    let suspended_sends = state.phase == Phase::Suspended && actions.iter().any(|action| matches!(action, Action::Send | Action::Cancel));
                    prop_assert!(!suspended_sends, "nothing is issued before the agent was asked");
                    prop_assert!(connected || !actions.iter().any(|action| matches!(action, Action::Send | Action::Ask | Action::Cancel)));
                    actions.into_iter().filter_map(|action| match action { Action::Record(event) => Some(event), _ => None }).collect()
                }
            };
            issues += events.iter().filter(|event| matches!(event, Event::Issued { .. })).count();
            state = events.iter().fold(state, |state, event| life::apply(state, event, now));
            prop_assert!(!before.phase.ended() || before == state, "an end is final");
            prop_assert_eq!(state.phase.ended(), state.finished.is_some());
            prop_assert!(state.steps.len() <= 100);
            let commands = state.steps.iter().filter(|step| matches!(step.work, Work::Command { .. })).count();
            prop_assert!(commands <= 1 && issues <= 1 && commands == issues);
        }
    }
}
