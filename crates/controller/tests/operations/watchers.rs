//! Watchers: exact, bounded, never in the way.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_controller::bounds::{self, Bounds};
use muster_controller::operation::news::AgentNews;
use muster_controller::operation::watch::WatchUpdate;
use muster_controller::store::sql::query;
use muster_wire::proto::agent::v1::TaskProgress;
use muster_wire::proto::v1::{OperationState, Progress};

use crate::agent::*;
use crate::sim::*;

type Updates = BoxStream<'static, Result<WatchUpdate, Fault>>;

async fn next(updates: &mut Updates) -> Option<WatchUpdate> {
    tokio::time::timeout(Duration::from_secs(20), updates.next()).await.expect("an update comes").map(Result::unwrap)
}

/// Slow: an operation that is under way, its command, and its agent.
async fn under_way() -> (tempfile::TempDir, Controller, Agent, Session, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { slow: true, ..Manner::default() });
    let session = agent.connect(&controller);
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let command = until("it is taken on", async || agent.disk().tasks.keys().next().cloned()).await;
    // Accepted, issued, taken on.
    until("that is journaled", async || (controller.operation(&accepted.id).await.last_event == 3).then_some(())).await;
    (folder, controller, agent, session, accepted.id, command)
}

async fn tell_progress(controller: &Controller, agent: &Agent, command: &str, bytes: u64) {
    let progress = Some(Progress { phase: "copy".into(), bytes_done: bytes, ..Progress::default() });
    controller.operations.hear(&agent.name, AgentNews::Progress(TaskProgress { command_id: command.into(), progress })).await.unwrap();
}

#[tokio::test]
async fn a_watcher_sees_every_transition_once_in_order_and_the_last_one_always() {
    let (_folder, controller, agent, _session, id, command) = under_way().await;
    let mut updates = controller.operations.watch(Some(&id), EventNumber(0)).await.unwrap();
    agent.finish(&controller.operations, &command).await;
    let mut numbers = Vec::new();
    let mut last = None;
    while let Some(update) = next(&mut updates).await {
        if let WatchUpdate::Event(event) = update {
            numbers.push(event.number);
            assert!(!event.text.is_empty());
            last = event.operation;
        }
    }
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let last = last.unwrap();
    assert_eq!((last.state(), last.last_event), (OperationState::Succeeded, *numbers.last().unwrap()));
    // Resumed anywhere it gets the rest; after the last one nothing but the end.
    for after in 0..=numbers.len() as u64 {
        let mut rest = controller.operations.watch(Some(&id), EventNumber(after)).await.unwrap();
        let mut count = 0;
        while next(&mut rest).await.is_some() {
            count += 1;
        }
        assert_eq!(count, numbers.len() as u64 - after);
    }
}

#[tokio::test]
async fn a_slow_watcher_gets_the_newest_progress_and_slows_nobody() {
    let (_folder, controller, agent, _session, id, command) = under_way().await;
    let mut updates = controller.operations.watch(Some(&id), EventNumber(0)).await.unwrap();
    // It takes its first update and then nothing, while a lot happens.
    assert!(matches!(next(&mut updates).await, Some(WatchUpdate::Event(_))));
    let start = Instant::now();
    for bytes in 0..10_000 {
        tell_progress(&controller, &agent, &command, bytes).await;
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let mut seen = Vec::new();
    loop {
        match next(&mut updates).await {
            Some(WatchUpdate::Progress(update)) => {
                seen.push(update.progress.unwrap().bytes_done);
                break;
            }
            Some(WatchUpdate::Event(_)) => {}
            None => panic!("it has not ended"),
        }
    }
    assert_eq!(seen, [9_999], "one, the newest; the others were never kept");
    assert_eq!(controller.operation(&id).await.progress.unwrap().bytes_done, 9_999);
    let before = controller.operation(&id).await.last_event;
    agent.finish(&controller.operations, &command).await;
    let ended = controller.ends(&id).await;
    assert_eq!(ended.last_event, before + 1, "progress is never journaled");
    let mut last = None;
    while let Some(update) = next(&mut updates).await {
        last = Some(update);
    }
    assert!(matches!(last, Some(WatchUpdate::Event(event)) if event.operation.as_ref().unwrap().state() == OperationState::Succeeded));
}

#[tokio::test]
async fn watchers_that_vanish_leave_the_work_alone() {
    let (_folder, controller, agent, _session, id, command) = under_way().await;
    for take in 0..100_usize {
        let mut updates = controller.operations.watch(if take % 2 == 0 { Some(id.as_str()) } else { None }, EventNumber(0)).await.unwrap();
        for _ in 0..take % 3 {
            assert!(next(&mut updates).await.is_some());
        }
    }
    agent.finish(&controller.operations, &command).await;
    assert_eq!(controller.ends(&id).await.state(), OperationState::Succeeded);
}

#[tokio::test]
async fn a_watcher_of_all_sees_all_operations_densely() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let mut updates = controller.operations.watch(None, EventNumber(0)).await.unwrap();
    let agent = Agent::new(ISTANBUL);
    let _session = agent.connect(&controller);
    let mut ended = 0;
    for _ in 0..30 {
        let accepted = controller.operations.start(asked(check())).await.unwrap();
        controller.ends(&accepted.id).await;
    }
    let mut expected = 1;
    while ended < 30 {
        if let Some(WatchUpdate::Event(event)) = next(&mut updates).await {
            assert_eq!(event.number, expected);
            expected += 1;
            ended += usize::from(event.operation.unwrap().state() == OperationState::Succeeded);
        }
    }
}

#[tokio::test]
async fn events_that_are_gone_or_never_were_are_out_of_range_and_the_oldest_is_named() {
    let (_folder, controller, agent, _session, id, command) = under_way().await;
    agent.finish(&controller.operations, &command).await;
    controller.ends(&id).await;
    let never = controller.operations.watch(None, EventNumber(1_000)).await.err().unwrap();
    assert_eq!(never.kind, ErrorKind::OutOfRange);
    let mut write = controller.store.write().await.unwrap();
    query("DELETE FROM events WHERE number < 3").execute(write.connection()).await.unwrap();
    write.commit().await.unwrap();
    let gone = controller.operations.watch(None, EventNumber(1)).await.err().unwrap();
    assert_eq!(gone.kind, ErrorKind::OutOfRange);
    assert!(gone.message.contains("the oldest kept is 3"), "{gone}");
    let mut rest = controller.operations.watch(Some(&id), EventNumber(2)).await.unwrap();
    assert!(matches!(next(&mut rest).await, Some(WatchUpdate::Event(event)) if event.number == 3));
    let mut from_the_first = controller.operations.watch(Some(&id), EventNumber(0)).await.unwrap();
    assert!(matches!(next(&mut from_the_first).await, Some(WatchUpdate::Event(event)) if event.number == 3));
}

#[tokio::test]
async fn the_journal_of_events_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    let _session = agent.connect(&controller);
    for _ in 0..3 {
        let accepted = controller.operations.start(asked(check())).await.unwrap();
        controller.ends(&accepted.id).await;
    }
    let bounds = Bounds { events: 4, ..Bounds::default() };
    bounds::hold(&controller.store, &bounds, muster_service::clock::now()).await.unwrap();
    let mut read = controller.store.read().await.unwrap();
    let row = query("SELECT min(number), max(number), count(*) FROM events").fetch_one(&mut read).await.unwrap();
    let (oldest, newest, count): (i64, i64, i64) = (row.try_get(0).unwrap(), row.try_get(1).unwrap(), row.try_get(2).unwrap());
    assert_eq!((newest - oldest + 1, count), (4, 4), "{oldest} {newest}");
    drop(read);
    let gone = controller.operations.watch(None, EventNumber(1)).await.map(drop).unwrap_err();
    assert_eq!(gone.kind, ErrorKind::OutOfRange, "a watch from what is gone is told where to begin: {gone}");
}

#[tokio::test]
async fn watchers_and_waits_end_when_the_controller_stops() {
    let (_folder, controller, _agent, session, id, _command) = under_way().await;
    let mut updates = controller.operations.watch(None, EventNumber(1)).await.unwrap();
    let operations = controller.operations.clone();
    let waiting = tokio::spawn(async move { operations.wait(&id, Duration::from_secs(600)).await });
    drop(session);
    controller.stop().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
    let last = loop {
        match updates.next().await {
            Some(Ok(_)) => {}
            Some(Err(fault)) => break fault,
            None => panic!("it did not end, it was stopped"),
        }
    };
    assert_eq!(last.kind, ErrorKind::Unavailable, "{last}");
}
