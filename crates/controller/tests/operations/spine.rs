//! One operation of each kind, from asked to recorded; steered, refused, repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_common::fault::ErrorKind;
use muster_controller::operation::asked::{AskedRestore, Place, What};
use muster_controller::operation::handle::ListFilter;
use muster_wire::proto::v1::{self, OperationKind, OperationState, StepKind, StepState};

use crate::agent::*;
use crate::sim::*;

async fn world() -> (tempfile::TempDir, Controller, Agent, Session) {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    controller.first_reign().await;
    let agent = Agent::new(ISTANBUL);
    let session = agent.connect(&controller);
    (folder, controller, agent, session)
}

#[tokio::test]
async fn a_backup_goes_from_asked_to_recorded_and_its_point_is_known() {
    let (_folder, controller, agent, _session) = world().await;
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    assert_eq!((accepted.kind(), accepted.state()), (OperationKind::Backup, OperationState::Pending));
    let ended = controller.ends(&accepted.id).await;
    assert_eq!(ended.state(), OperationState::Succeeded, "{ended:?}");
    let command = ended.steps.iter().find(|step| step.kind() == StepKind::Command).unwrap();
    assert_eq!((command.state(), command.agent.as_str(), agent.disk().effects.len()), (StepState::Succeeded, ISTANBUL, 1));
    assert_eq!((ended.epoch, ended.cause.as_str(), ended.repository.as_str()), (1, "operator/ada", "primary"));
    // The newest point is what the next restore brings back.
    let newest = AskedRestore { point: String::new(), dry_run: true, ..restore(Place::InPlace) };
    let plan = controller.operations.start(asked(What::Restore(newest))).await.unwrap();
    let Some(v1::operation::Result::Backup(result)) = ended.result else { panic!("{ended:?}") };
    let plan = controller.ends(&plan.id).await;
    let Some(v1::operation::Result::Restore(planned)) = plan.result else { panic!("{plan:?}") };
    assert_eq!(planned.point_id, result.point_id);
    assert_eq!((controller.epoch().await, plan.dry_run), (1, true), "a dry run changes nothing");
}

#[tokio::test]
async fn a_writer_restored_in_place_moves_the_epoch_with_the_outcome_and_supersedes_its_followers() {
    let (_folder, controller, _agent, _session) = world().await;
    let mut shards = controller.operations.shards_changed();
    shards.mark_unchanged();
    let accepted = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap();
    let ended = controller.ends(&accepted.id).await;
    assert_eq!(ended.state(), OperationState::Succeeded, "{ended:?}");
    assert_eq!(controller.epoch().await, 2);
    assert_eq!(controller.superseded().await, BTreeSet::from([name("ankara")]));
    assert!(ended.steps.iter().any(|step| step.kind() == StepKind::Action && step.name == "reign"), "{ended:?}");
    assert!(shards.has_changed().unwrap(), "assignments are to be made anew");
    // What it kept aside can be discarded, in the new epoch.
    let discard = controller.operations.start(asked(What::Discard { restore: ended.id[..8].to_owned() })).await.unwrap();
    let discarded = controller.ends(&discard.id).await;
    assert_eq!((discarded.state(), discarded.epoch), (OperationState::Succeeded, 2), "{discarded:?}");
}

#[tokio::test]
async fn a_follower_restored_in_place_moves_no_epoch_and_is_no_longer_superseded() {
    let (_folder, controller, _agent, _session) = world().await;
    let ankara = Agent::new(ANKARA);
    let _ankara = ankara.connect(&controller);
    let first = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap();
    controller.ends(&first.id).await;
    let follower = AskedRestore { instance: name("ankara"), ..restore(Place::InPlace) };
    let second = controller.operations.start(asked(What::Restore(follower))).await.unwrap();
    assert_eq!(controller.ends(&second.id).await.state(), OperationState::Succeeded);
    assert_eq!((controller.epoch().await, controller.superseded().await), (2, BTreeSet::new()));
}

#[tokio::test]
async fn a_restore_beside_and_a_check_change_no_epoch() {
    let (_folder, controller, _agent, _session) = world().await;
    let beside = restore(Place::Beside { directory: "/srv/other".into(), port: 5433 });
    for what in [What::Restore(beside), check()] {
        let accepted = controller.operations.start(asked(what)).await.unwrap();
        assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
    }
    assert_eq!(controller.epoch().await, 1);
}

#[tokio::test]
async fn an_operation_waits_for_its_agent_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let waiting = until("it says what it waits for", async || {
        let operation = controller.operation(&accepted.id).await;
        (!operation.waiting_for.is_empty()).then_some(operation)
    })
    .await;
    assert_eq!((waiting.state(), waiting.waiting_for.as_str()), (OperationState::Pending, "agent istanbul-db1 to connect"));
    assert_eq!(waiting.steps[0].kind(), StepKind::Wait);
    let agent = Agent::new(ISTANBUL);
    let _session = agent.connect(&controller);
    let ended = controller.ends(&accepted.id).await;
    assert_eq!((ended.state(), ended.waiting_for.as_str()), (OperationState::Succeeded, ""));
}

#[tokio::test]
async fn an_agent_that_does_not_come_in_time_ends_the_operation_and_nothing_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let mut quick = asked(backup(Some("istanbul")));
    quick.stall_limit = Some(Duration::from_secs(1));
    let accepted = controller.operations.start(quick).await.unwrap();
    let ended = controller.ends(&accepted.id).await;
    let fault = ended.fault.unwrap();
    assert_eq!((fault.kind(), fault.effect()), (v1::ErrorKind::Stalled, v1::Effect::None), "{fault:?}");
    assert!(!fault.hint.is_empty());
}

#[tokio::test]
async fn a_backup_without_an_instance_reads_a_standby_that_is_fit_else_the_writer() {
    let (_folder, controller, _agent, _session) = world().await;
    let ankara = Agent::new(ANKARA);
    let from_ankara = ankara.connect(&controller);
    until("ankara is heard", async || {
        let accepted = controller.operations.start(asked(backup(None))).await.unwrap();
        let ended = controller.ends(&accepted.id).await;
        (ended.instance == "ankara").then_some(())
    })
    .await;
    let broken = v1::Condition { name: "BackupRights".into(), blocking: true, message: "no right".into(), ..v1::Condition::default() };
    controller.see_with("ankara", ANKARA, v1::InstanceRole::Standby, vec![broken.clone()]);
    let accepted = controller.operations.start(asked(backup(None))).await.unwrap();
    assert_eq!(accepted.instance, "istanbul");
    controller.ends(&accepted.id).await;
    // Named, it is refused before anything starts, with what is missing.
    let refused = controller.operations.start(asked(backup(Some("ankara")))).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::FailedPrecondition);
    assert!(refused.to_string().contains("no right"), "{refused}");
    drop(from_ankara);
}

#[tokio::test]
async fn a_restore_of_a_server_that_is_down_is_not_refused_for_being_down() {
    let (_folder, controller, _agent, _session) = world().await;
    let down = v1::Condition { name: "ServerReachable".into(), blocking: true, message: "refused".into(), ..v1::Condition::default() };
    controller.see_with("istanbul", ISTANBUL, v1::InstanceRole::Down, vec![down]);
    let accepted = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap();
    assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
    let no_key = v1::Condition { name: "DataKey".into(), blocking: true, message: "no data key".into(), ..v1::Condition::default() };
    controller.see_with("istanbul", ISTANBUL, v1::InstanceRole::Down, vec![no_key]);
    let refused = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_a_hint_and_leaves_nothing() {
    let (_folder, controller, _agent, _session) = world().await;
    let backup_of = |component: &str, instance: &str| match backup(Some(instance)) {
        What::Backup(asked) => What::Backup(muster_controller::operation::asked::AskedBackup { component: name(component), ..asked }),
        other => other,
    };
    for (what, kind, says) in [
        (backup_of("order-db", "istanbul"), ErrorKind::NotFound, "orders-db"),
        (backup_of("orders-db", "instanbul"), ErrorKind::NotFound, "istanbul"),
        (What::Restore(AskedRestore { consent: String::new(), ..restore(Place::InPlace) }), ErrorKind::FailedPrecondition, "consent"),
        (What::Restore(AskedRestore { consent: "other".into(), ..restore(Place::InPlace) }), ErrorKind::InvalidArgument, "orders-db"),
        (What::Restore(AskedRestore { point: String::new(), ..restore(Place::Empty) }), ErrorKind::FailedPrecondition, "muster backup"),
        (What::Restore(AskedRestore { point: "abcdef".into(), ..restore(Place::Empty) }), ErrorKind::NotFound, "muster points"),
        (What::Restore(AskedRestore { point: "abc".into(), ..restore(Place::Empty) }), ErrorKind::InvalidArgument, "digits"),
        (What::Restore(restore(Place::Beside { directory: "here".into(), port: 0 })), ErrorKind::InvalidArgument, "absolute"),
        (What::Discard { restore: "abcdef01".into() }, ErrorKind::NotFound, "muster ops"),
        (What::Discard { restore: "%%%%%%".into() }, ErrorKind::InvalidArgument, "0-9"),
    ] {
        let refused = controller.operations.start(asked(what.clone())).await.unwrap_err();
        assert_eq!(refused.kind, kind, "{what:?}: {refused}");
        assert!(refused.to_string().contains(says) && !refused.hint.is_empty(), "{refused}");
    }
    assert_eq!(controller.operations.list(ListFilter::default(), 10).await.unwrap().0, []);
}

#[tokio::test]
async fn what_excludes_each_other_is_refused_with_the_holder_and_how_to_end_it() {
    let (_folder, controller, agent, _session) = world().await;
    agent.behave(Manner { slow: true, ..Manner::default() });
    let holder = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let refused = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    let text = refused.to_string();
    assert!(text.contains(&holder.id) && text.contains("muster cancel") && text.contains("operator/ada"), "{text}");
    // Asking for a plan, and another instance, are free.
    let plan = AskedRestore { dry_run: true, ..restore(Place::InPlace) };
    controller.operations.start(asked(What::Restore(plan))).await.unwrap();
    controller.operations.start(asked(backup(Some("ankara")))).await.unwrap();
}

#[tokio::test]
async fn of_many_that_ask_for_the_same_at_once_one_wins() {
    let (_folder, controller, agent, _session) = world().await;
    agent.behave(Manner { slow: true, ..Manner::default() });
    let race: Vec<_> = (0..16)
        .map(|_| {
            let operations = controller.operations.clone();
            tokio::spawn(async move { operations.start(asked(backup(Some("istanbul")))).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for racer in race {
        won += usize::from(racer.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_request_id_answers_the_same_operation_and_is_refused_with_other_content() {
    let (_folder, controller, _agent, _session) = world().await;
    let with = |caller: &str, digest: &str| {
        let mut request = asked(backup(Some("istanbul")));
        request.caller = caller.into();
        request.request_id = Some("r-1".into());
        request.digest = digest.into();
        request
    };
    let first = controller.operations.start(with("operator/ada", "d1")).await.unwrap();
    let again = controller.operations.start(with("operator/ada", "d1")).await.unwrap();
    assert_eq!(again.id, first.id);
    controller.ends(&first.id).await;
    assert_eq!(controller.operations.start(with("operator/ada", "d1")).await.unwrap().id, first.id, "also when it has ended");
    let refused = controller.operations.start(with("operator/ada", "d2")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);
    assert!(refused.to_string().contains(&first.id), "{refused}");
    let other = controller.operations.start(with("operator/bob", "d2")).await.unwrap();
    assert_ne!(other.id, first.id, "another caller's ids are another's");
}

#[tokio::test]
async fn cancelling_stops_the_agent_and_a_cancel_that_comes_too_late_is_answered_by_the_outcome() {
    let (_folder, controller, agent, _session) = world().await;
    agent.behave(Manner { slow: true, ..Manner::default() });
    let first = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    until("it is taken on", async || (agent.disk().tasks.len() == 1).then_some(())).await;
    controller.operations.cancel(&first.id, "operator/bob", "wrong one").await.unwrap();
    let ended = controller.ends(&first.id).await;
    assert_eq!(ended.state(), OperationState::Cancelled, "{ended:?}");
    assert!(agent.disk().effects.is_empty());
    let refused = controller.operations.cancel(&first.id, "operator/bob", "").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::FailedPrecondition);

    agent.behave(Manner { slow: true, stubborn: true, ..Manner::default() });
    let second = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap();
    let id = until("it is taken on", async || agent.disk().tasks.iter().find(|(_, task)| !task.ended).map(|(id, _)| id.clone())).await;
    let cancelling = controller.operations.cancel(&second.id, "operator/bob", "").await.unwrap();
    assert_eq!(cancelling.state(), OperationState::Cancelling);
    agent.finish(&controller.operations, &id).await;
    let ended = controller.ends(&second.id).await;
    assert_eq!((ended.state(), controller.epoch().await), (OperationState::Succeeded, 2), "past the point of no return it goes on");
}

#[tokio::test]
async fn cancelling_before_anything_was_issued_does_nothing_at_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let cancelled = controller.operations.cancel(&accepted.id, "operator/bob", "").await.unwrap();
    assert_eq!(cancelled.state(), OperationState::Cancelled);
    let agent = Agent::new(ISTANBUL);
    let _session = agent.connect(&controller);
    let next = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    controller.ends(&next.id).await;
    assert_eq!(agent.disk().effects.len(), 1, "only the second one ran");
}

#[tokio::test]
async fn lists_are_newest_first_a_page_at_a_time() {
    let (_folder, controller, _agent, _session) = world().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        let accepted = controller.operations.start(asked(check())).await.unwrap();
        controller.ends(&accepted.id).await;
        ids.insert(0, accepted.id);
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let (page, next) = controller.operations.list(ListFilter { before, ..ListFilter::default() }, 3).await.unwrap();
        assert!(page.len() <= 3);
        seen.extend(page.into_iter().map(|operation| operation.id));
        before = next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let running = ListFilter { running: true, ..ListFilter::default() };
    assert_eq!(controller.operations.list(running, 10).await.unwrap().0.len(), 0);
    let failed = ListFilter { state: OperationState::Failed, ..ListFilter::default() };
    assert_eq!(controller.operations.list(failed, 10).await.unwrap().0.len(), 0);
    let all = ListFilter { state: OperationState::Succeeded, component: Some(name("orders-db")), ..ListFilter::default() };
    assert_eq!(controller.operations.list(all, 100).await.unwrap().0.len(), 7);
    let other = ListFilter { component: Some(name("other")), ..ListFilter::default() };
    assert_eq!(controller.operations.list(other, 100).await.unwrap().0.len(), 0);
}

#[tokio::test]
async fn a_wait_that_is_over_answers_the_operation_that_has_not_ended() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    let (operation, ended) = controller.operations.wait(&accepted.id, Duration::from_millis(30)).await.unwrap();
    assert_eq!((ended, operation.state()), (false, OperationState::Pending));
}
