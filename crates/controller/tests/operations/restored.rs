//! A controller that was restored from an older copy of its store, moved, or doubled.

use std::path::Path;

use muster_common::counter::Term;
use muster_common::fault::ErrorKind;
use muster_common::time::Timestamp;
use muster_controller::operation::asked::{Place, What};
use muster_controller::operation::news::AgentNews;
use muster_controller::store::operations;
use muster_controller::store::sql::query;
use muster_wire::proto::agent::v1::{Hello, InstanceEpoch};
use muster_wire::proto::v1::{OperationState, StepKind};

use crate::agent::*;
use crate::sim::*;

/// A copy of the store as it is on disk, taken while nothing has it open.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from.join("muster.db"), to).unwrap();
}

fn put_back(folder: &Path, from: &Path) {
    for left in ["muster.db-wal", "muster.db-shm"] {
        match std::fs::remove_file(folder.join(left)) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
    std::fs::copy(from, folder.join("muster.db")).unwrap();
}

/// An in-place restore that had run when the controller is restored from a copy of before its outcome, or even of before its command.
async fn does_not_run_again(copied_before_the_command: bool) {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.db");
    let agent = Agent::new(ISTANBUL);
    let controller = Controller::open(folder.path()).await;
    controller.first_reign().await;
    agent.behave(Manner { slow: true, ..Manner::default() });
    let session = (!copied_before_the_command).then(|| agent.connect(&controller));
    let accepted = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap();
    match copied_before_the_command {
        true => controller.reaches(&accepted.id, OperationState::Pending).await,
        false => until("it is taken on", async || (!agent.disk().tasks.is_empty()).then_some(accepted.clone())).await,
    };
    drop(session);
    controller.stop().await;
    copy(folder.path(), &saved);

    // What the copy does not know: it is done, and acknowledged.
    agent.behave(Manner::default());
    let controller = Controller::open(folder.path()).await;
    controller.observe();
    let session = agent.connect(&controller);
    assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
    assert_eq!((controller.epoch().await, agent.disk().epoch), (2, 2));
    drop(session);
    controller.stop().await;
    put_back(folder.path(), &saved);

    let controller = Controller::open(folder.path()).await;
    controller.observe();
    assert_eq!(
        controller.operation(&accepted.id).await.state().as_str_name(),
        if copied_before_the_command { "OPERATION_STATE_PENDING" } else { "OPERATION_STATE_RUNNING" }
    );
    let before = controller.store.term();
    let _session = agent.connect(&controller);
    let ended = controller.ends(&accepted.id).await;
    assert_eq!(ended.state(), OperationState::Succeeded, "the agent told what had become of it: {ended:?}");
    each_effect_once(&agent);
    assert_eq!(agent.disk().effects.len(), 1, "it did not run again");
    assert_eq!(controller.epoch().await, 2, "the epoch is what the agent remembers, neither lower nor moved twice");
    assert_eq!(controller.superseded().await, std::collections::BTreeSet::from([name("ankara")]));
    assert!(agent.disk().highest_term <= controller.store.term().0);
    assert!(controller.store.term() >= before);
}

#[tokio::test]
async fn a_controller_restored_from_a_copy_of_before_the_outcome_does_not_run_an_in_place_restore_again() {
    does_not_run_again(false).await;
}

#[tokio::test]
async fn a_controller_restored_from_a_copy_of_before_the_command_does_not_run_an_in_place_restore_again() {
    does_not_run_again(true).await;
}

#[tokio::test]
async fn a_store_that_is_behind_takes_a_higher_term_suspends_voids_tokens_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    controller.first_reign().await;
    let mut write = controller.store.write().await.unwrap();
    query("INSERT INTO tokens (hash, site, agent, expires) VALUES ('h', 'istanbul', 'a', 9000000000000000)")
        .execute(write.connection())
        .await
        .unwrap();
    write.commit().await.unwrap();
    let waits = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let other = controller.operations.start(asked(backup(Some("ankara")))).await.unwrap();
    // Ankara's agent has served a controller that this store knows nothing of.
    let ankara = Agent::new(ANKARA);
    ankara.change(|disk| {
        disk.highest_term = 40;
        disk.highest_sequence = 900;
        disk.store_id = controller.store.store_id().to_string();
        disk.epoch = 7;
    });
    let _ankara = ankara.connect(&controller);
    until("the term is higher", async || (controller.store.term() == Term(41)).then_some(())).await;
    assert!(controller.operations.behind().await.unwrap().contains("ankara-db1"));
    assert_eq!(controller.epoch().await, 7, "the epoch is adopted");
    // Istanbul's operation goes on when Istanbul was asked, and not before.
    assert_eq!(controller.reaches(&waits.id, OperationState::Suspended).await.state(), OperationState::Suspended);
    assert_eq!(controller.ends(&other.id).await.state(), OperationState::Succeeded, "ankara was asked, and had never heard of it");
    assert_eq!(controller.operation(&waits.id).await.state(), OperationState::Suspended);
    let istanbul = Agent::new(ISTANBUL);
    let _istanbul = istanbul.connect(&controller);
    let ended = controller.ends(&waits.id).await;
    assert_eq!((ended.state(), ended.epoch), (OperationState::Succeeded, 7));
    assert_eq!(istanbul.disk().highest_term, 41);
    assert!(istanbul.disk().highest_sequence > 900, "sequences go on above what agents remember");
    let mut read = controller.store.read().await.unwrap();
    let unused: i64 = query("SELECT count(*) FROM tokens WHERE used_at IS NULL").fetch_one(&mut read).await.unwrap().try_get(0).unwrap();
    assert_eq!(unused, 0);
}

#[tokio::test]
async fn an_agent_that_comes_back_to_the_store_that_it_knows_suspends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::new(ISTANBUL);
    for life in 1..=4 {
        let controller = Controller::open(folder.path()).await;
        controller.first_reign().await;
        for _ in 0..3 {
            let session = agent.connect(&controller);
            let accepted = controller.operations.start(asked(check())).await.unwrap();
            assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
            session.cut(&agent, &controller).await;
        }
        assert_eq!((controller.store.term(), controller.operations.behind().await.unwrap().as_str()), (Term(life), ""));
        controller.stop().await;
    }
}

#[tokio::test]
async fn an_epoch_that_an_agent_remembers_is_kept_for_the_first_reign() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    agent.change(|disk| disk.epoch = 5);
    let _session = agent.connect(&controller);
    until("the epoch is kept", async || {
        let mut read = controller.store.read().await.unwrap();
        let kept = muster_controller::store::shards::get(&mut read, &name("orders-db")).await.unwrap();
        (kept.floor.0 == 5).then_some(())
    })
    .await;
    controller.observe();
    until("the reign begins", async || (controller.epoch().await == 5).then_some(())).await;
}

#[tokio::test]
async fn an_agent_is_not_believed_about_epochs_of_instances_that_are_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    controller.first_reign().await;
    let foreign = |component: &str, instance: &str| InstanceEpoch {
        component: component.into(),
        instance: instance.into(),
        epoch: 99,
        reign_id: String::new(),
    };
    let hello = Hello { epochs: vec![foreign("orders-db", "istanbul"), foreign("gone", "istanbul")], ..Hello::default() };
    let _place = controller.courier.connect(&name(ANKARA));
    controller.operations.hear(&name(ANKARA), AgentNews::Connected(Box::new(hello))).await.unwrap();
    assert_eq!(controller.epoch().await, 1);
    let mut wild = Hello { epochs: vec![foreign("orders-db", "ankara")], ..Hello::default() };
    wild.epochs[0].epoch = u64::MAX;
    assert!(controller.operations.hear(&name(ANKARA), AgentNews::Connected(Box::new(wild))).await.is_err());
    let forged = Hello { highest_sequence: u64::MAX, ..Hello::default() };
    assert!(controller.operations.hear(&name(ANKARA), AgentNews::Connected(Box::new(forged))).await.is_err());
}

#[tokio::test]
async fn a_store_that_was_moved_asks_before_it_goes_on() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { slow: true, ..Manner::default() });
    let controller = Controller::open(here.path()).await;
    let session = agent.connect(&controller);
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let command = until("it is taken on", async || agent.disk().tasks.keys().next().cloned()).await;
    drop(session);
    controller.stop().await;
    copy(here.path(), &there.path().join("muster.db"));
    let controller = Controller::open(there.path()).await;
    assert_eq!(controller.operation(&accepted.id).await.state(), OperationState::Suspended);
    assert!(controller.operations.behind().await.unwrap().contains("may be a copy"));
    let _session = agent.connect(&controller);
    controller.reaches(&accepted.id, OperationState::Running).await;
    agent.finish(&controller.operations, &command).await;
    assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
    each_effect_once(&agent);
}

#[tokio::test]
async fn an_outcome_of_a_command_that_the_store_never_issued_is_kept_and_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::new(ISTANBUL);
    let saved = folder.path().join("saved.db");
    let controller = Controller::open(folder.path()).await;
    controller.stop().await;
    copy(folder.path(), &saved);
    let controller = Controller::open(folder.path()).await;
    agent.behave(Manner { slow: true, ..Manner::default() });
    let session = agent.connect(&controller);
    controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let command = until("it is taken on", async || agent.disk().tasks.keys().next().cloned()).await;
    drop(session);
    controller.stop().await;
    put_back(folder.path(), &saved);
    agent.do_work(&command);
    let controller = Controller::open(folder.path()).await;
    let _session = agent.connect(&controller);
    until("it is acknowledged", async || agent.disk().tasks[&command].acknowledged.then_some(())).await;
    let mut read = controller.store.read().await.unwrap();
    let kept: i64 = query("SELECT count(*) FROM strays").fetch_one(&mut read).await.unwrap().try_get(0).unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_damaged_operation_keeps_nobody_from_starting_and_blocks_its_own_component_only() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    controller.stop().await;
    let other = sqlx::SqlitePool::connect(&format!("sqlite://{}", folder.path().join("muster.db").display())).await.unwrap();
    sqlx::query("UPDATE operations SET state_version = 99").execute(&other).await.unwrap();
    other.close().await;
    let controller = Controller::open(folder.path()).await;
    let refused = controller.operations.start(asked(check())).await.unwrap_err();
    assert!(refused.to_string().contains(&accepted.id) && refused.to_string().contains("version 99"), "{refused}");
    let agent = Agent::new(ISTANBUL);
    agent.change(|disk| disk.highest_term = 50);
    let _session = agent.connect(&controller);
    until("sessions work", async || (controller.store.term() == Term(51)).then_some(())).await;
}

#[tokio::test]
async fn a_process_whose_rule_is_over_ends_instead_of_driving_on() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let other = sqlx::SqlitePool::connect(&format!("sqlite://{}", folder.path().join("muster.db").display())).await.unwrap();
    sqlx::query("UPDATE meta SET term = term + 1").execute(&other).await.unwrap();
    let refused = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap_err();
    assert!(refused.to_string().contains("another controller took over"), "{refused}");
    until("the process is told to end", async || controller.failure()).await;
}

#[tokio::test]
async fn request_ids_are_forgotten_after_seven_days() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let mut request = asked(check());
    request.request_id = Some("r".into());
    let first = controller.operations.start(request.clone()).await.unwrap();
    assert_eq!(controller.operations.start(request.clone()).await.unwrap().id, first.id);
    let mut write = controller.store.write().await.unwrap();
    let week = Timestamp(7 * 86_400_000_000 + 1_000_000);
    query("UPDATE requests SET at = at - $1").bind(week.0).execute(write.connection()).await.unwrap();
    write.commit().await.unwrap();
    assert_ne!(controller.operations.start(request).await.unwrap().id, first.id);
    assert_eq!(controller.operation(&first.id).await.steps[0].kind(), StepKind::Wait);
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_asked_and_the_work_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { slow: true, ..Manner::default() });
    let session = agent.connect(&controller);
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let command = until("it is taken on", async || agent.disk().tasks.keys().next().cloned()).await;
    until("that is journaled", async || (controller.operation(&accepted.id).await.last_event == 3).then_some(())).await;
    // SQLite answers as on a full disk (SQLITE_FULL) when a file may grow no further.
    let limit = async |pages: &'static str| {
        let mut write = controller.store.write().await.unwrap();
        query(pages).execute(write.connection()).await.unwrap();
    };
    limit("PRAGMA max_page_count = 1").await;
    let mut refused = None;
    for _ in 0..500 {
        let mut big = asked(backup(Some("ankara")));
        big.traceparent = "x".repeat(100_000);
        if let Err(fault) = controller.operations.start(big).await {
            refused = Some(fault);
            break;
        }
    }
    let refused = refused.expect("the disk is full at some time");
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    assert!(refused.hint.contains("disk"), "{refused}");
    agent.do_work(&command);
    agent.tell_outcome(&controller.operations, &command).await;
    if !agent.disk().tasks[&command].acknowledged {
        limit("PRAGMA max_page_count = 1073741823").await;
        drop(session);
        let _session = agent.connect(&controller);
        assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
    }
    each_effect_once(&agent);
}

#[tokio::test]
async fn history_is_bounded_and_what_is_recent_or_unfinished_stays() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    let _session = agent.connect(&controller);
    for _ in 0..5 {
        let accepted = controller.operations.start(asked(check())).await.unwrap();
        controller.ends(&accepted.id).await;
    }
    let open = controller.operations.start(asked(backup(Some("ankara")))).await.unwrap();
    let mut write = controller.store.write().await.unwrap();
    let connection = write.connection();
    assert_eq!(operations::prune(connection, 3, Timestamp(0)).await.unwrap(), 0, "none is old enough");
    assert_eq!(operations::prune(connection, 3, Timestamp(i64::MAX)).await.unwrap(), 3);
    assert_eq!(operations::prune(connection, 0, Timestamp(i64::MAX)).await.unwrap(), 2);
    let left = query("SELECT id FROM operations").fetch_all(connection).await.unwrap();
    let left: Vec<String> = left.iter().map(|row| row.try_get(0).unwrap()).collect();
    let commands: i64 = query("SELECT count(*) FROM commands").fetch_one(connection).await.unwrap().try_get(0).unwrap();
    assert_eq!((left, commands), (vec![open.id], 0));
}
