//! Outcomes that are not known, news that is told twice, late or in another order, and agents that forget.

use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_common::fault::ErrorKind;
use muster_controller::operation::asked::{Place, What};
use muster_controller::operation::news::AgentNews;
use muster_wire::proto::agent::v1::{TaskOutcome, TaskProgress, TaskReport, TaskState, task_outcome};
use muster_wire::proto::v1::{self, OperationState};

use crate::agent::*;
use crate::sim::*;

/// An operation that an agent has taken on and does not finish.
async fn slow(what: What) -> (tempfile::TempDir, Controller, Agent, Session, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    controller.first_reign().await;
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { slow: true, ..Manner::default() });
    let session = agent.connect(&controller);
    let mut asked = asked(what);
    asked.stall_limit = Some(Duration::from_secs(60));
    let accepted = controller.operations.start(asked).await.unwrap();
    let command = until("it is taken on", async || agent.disk().tasks.keys().next().cloned()).await;
    until("that is journaled", async || {
        let mut read = controller.store.read().await.unwrap();
        let all = muster_controller::store::events::list(&mut read, None, muster_common::counter::EventNumber(0), 100).await.unwrap();
        all.iter().any(|event| event.text.contains("has taken it on")).then_some(())
    })
    .await;
    (folder, controller, agent, session, accepted.id, command)
}

#[tokio::test]
async fn an_agent_that_tells_everything_twice_and_late_changes_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    controller.first_reign().await;
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { chatty: true, ..Manner::default() });
    let _session = agent.connect(&controller);
    let accepted = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap();
    let ended = controller.ends(&accepted.id).await;
    assert_eq!((ended.state(), controller.epoch().await), (OperationState::Succeeded, 2));
    let id = agent.disk().effects[0].clone();
    let last = controller.operation(&accepted.id).await.last_event;
    // Much later, in any order, also with another content.
    agent.tell_outcome(&controller.operations, &id).await;
    let fault = v1::Fault { kind: v1::ErrorKind::Internal.into(), message: "no".into(), ..v1::Fault::default() };
    let other = TaskOutcome { command_id: id.clone(), at: None, outcome: Some(task_outcome::Outcome::Fault(fault)), hooks: Vec::new() };
    let answers = controller.operations.hear(&agent.name, AgentNews::Outcome(Box::new(other))).await.unwrap();
    assert_eq!(answers.len(), 1, "acknowledged, so that the agent need not tell it again");
    for state in [TaskState::Unheard, TaskState::TakenOn, TaskState::Ended] {
        let report = TaskReport { command_id: id.clone(), state: state.into() };
        controller.operations.hear(&agent.name, AgentNews::Report(report)).await.unwrap();
    }
    let progress = TaskProgress { command_id: id, progress: Some(v1::Progress::default()) };
    controller.operations.hear(&agent.name, AgentNews::Progress(progress)).await.unwrap();
    let after = controller.operation(&accepted.id).await;
    assert_eq!((after.last_event, after.state(), after.progress), (last, OperationState::Succeeded, None));
    assert_eq!(controller.epoch().await, 2);
}

#[tokio::test]
async fn an_outcome_that_comes_before_anything_else_is_taken() {
    let (_folder, controller, agent, _session, id, command) = slow(backup(Some("istanbul"))).await;
    agent.finish(&controller.operations, &command).await;
    assert_eq!(controller.ends(&id).await.state(), OperationState::Succeeded);
}

#[tokio::test]
async fn a_task_that_its_agent_forgot_is_unknown_until_somebody_says_what_became_of_it() {
    let (_folder, controller, agent, session, id, command) = slow(What::Restore(restore(Place::InPlace))).await;
    session.cut(&agent, &controller).await;
    agent.change(|disk| disk.tasks.clear());
    let _session = agent.connect(&controller);
    let unknown = controller.reaches(&id, OperationState::Unknown).await;
    assert_eq!(unknown.fault.as_ref().unwrap().effect(), v1::Effect::Unknown);
    assert!(unknown.fault.unwrap().hint.contains("muster resolve"));
    // It blocks what would repeat its effect, and nothing else.
    let again = controller.operations.start(asked(What::Restore(restore(Place::InPlace)))).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict);
    assert!(again.to_string().contains("muster resolve"), "{again}");
    agent.behave(Manner::default());
    let free = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    assert_eq!(controller.ends(&free.id).await.state(), OperationState::Succeeded);
    // The word needs content, and is recorded.
    let empty = controller.operations.resolve(&id, "operator/ada", true, " ").await.unwrap_err();
    assert_eq!(empty.kind, ErrorKind::InvalidArgument);
    let resolved = controller.operations.resolve(&id, "operator/ada", true, "psql shows the old rows").await.unwrap();
    assert_eq!((resolved.state(), controller.epoch().await), (OperationState::Succeeded, 2), "a restore that is done moves the epoch");
    let twice = controller.operations.resolve(&id, "operator/ada", false, "no").await.unwrap_err();
    assert_eq!(twice.kind, ErrorKind::FailedPrecondition);
    assert!(!agent.disk().effects.contains(&command));
}

#[tokio::test]
async fn an_outcome_that_comes_after_a_word_is_kept_and_what_it_changed_is_recorded_once() {
    let (_folder, controller, agent, session, id, command) = slow(What::Restore(restore(Place::InPlace))).await;
    let kept = agent.disk().tasks;
    session.cut(&agent, &controller).await;
    agent.change(|disk| disk.tasks.clear());
    let session = agent.connect(&controller);
    controller.reaches(&id, OperationState::Unknown).await;
    let failed = controller.operations.resolve(&id, "operator/ada", false, "the host is scrapped").await.unwrap();
    assert_eq!((failed.state(), controller.epoch().await), (OperationState::Failed, 1));
    session.cut(&agent, &controller).await;
    // The host comes back, with its disk, and had done it.
    agent.change(|disk| disk.tasks = kept);
    agent.do_work(&command);
    let _session = agent.connect(&controller);
    until("the late outcome is acknowledged", async || agent.disk().tasks[&command].acknowledged.then_some(())).await;
    let after = controller.operation(&id).await;
    assert_eq!((after.state(), controller.epoch().await), (OperationState::Failed, 2), "the word stands, the epoch moved all the same");
    agent.tell_outcome(&controller.operations, &command).await;
    assert_eq!((controller.operation(&id).await.last_event, controller.epoch().await), (after.last_event, 2));
}

#[tokio::test]
async fn a_command_that_never_arrived_is_sent_again_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { deaf: true, ..Manner::default() });
    let session = agent.connect(&controller);
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    controller.reaches(&accepted.id, OperationState::Running).await;
    until("the command is lost on the way", async || (agent.unheard.load(Ordering::SeqCst) > 0).then_some(())).await;
    session.cut(&agent, &controller).await;
    agent.behave(Manner::default());
    // The first session's Hello may come after the command was sent, which is then sent once more in it.
    let before = *controller.operations.resends().borrow();
    assert!(before <= 1, "{before}");
    let _session = agent.connect(&controller);
    assert_eq!(controller.ends(&accepted.id).await.state(), OperationState::Succeeded);
    each_effect_once(&agent);
    assert_eq!(*controller.operations.resends().borrow(), before + 1);
}

#[tokio::test]
async fn cancelling_a_command_that_never_arrived_ends_it_once_the_agent_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    let agent = Agent::new(ISTANBUL);
    agent.behave(Manner { deaf: true, ..Manner::default() });
    let _session = agent.connect(&controller);
    let accepted = controller.operations.start(asked(backup(Some("istanbul")))).await.unwrap();
    controller.reaches(&accepted.id, OperationState::Running).await;
    controller.operations.cancel(&accepted.id, "operator/ada", "").await.unwrap();
    let ended = controller.ends(&accepted.id).await;
    assert_eq!((ended.state(), ended.fault.unwrap().effect()), (OperationState::Cancelled, v1::Effect::None));
}

#[tokio::test]
async fn a_fault_whose_effect_is_unknown_stays_with_its_effect() {
    let (_folder, controller, agent, _session, id, command) = slow(What::Restore(restore(Place::InPlace))).await;
    let fault = |effect: v1::Effect| v1::Fault {
        kind: v1::ErrorKind::Unavailable.into(),
        effect: effect.into(),
        message: "the disk went away".into(),
        ..v1::Fault::default()
    };
    let outcome = |effect| TaskOutcome {
        command_id: command.clone(),
        at: None,
        outcome: Some(task_outcome::Outcome::Fault(fault(effect))),
        hooks: Vec::new(),
    };
    let first = AgentNews::Outcome(Box::new(outcome(v1::Effect::Unknown)));
    controller.operations.hear(&agent.name, first).await.unwrap();
    let ended = controller.ends(&id).await;
    assert_eq!((ended.state(), ended.fault.unwrap().effect()), (OperationState::Failed, v1::Effect::Unknown));
    assert_eq!(controller.epoch().await, 1);
}

#[tokio::test]
async fn a_restore_that_was_done_before_it_failed_moves_the_epoch() {
    let (_folder, controller, agent, _session, id, command) = slow(What::Restore(restore(Place::InPlace))).await;
    let fault = v1::Fault {
        kind: v1::ErrorKind::Unavailable.into(),
        effect: v1::Effect::Done.into(),
        message: "restored, and the server does not answer".into(),
        ..v1::Fault::default()
    };
    let outcome = TaskOutcome { command_id: command, at: None, outcome: Some(task_outcome::Outcome::Fault(fault)), hooks: Vec::new() };
    controller.operations.hear(&agent.name, AgentNews::Outcome(Box::new(outcome))).await.unwrap();
    assert_eq!((controller.ends(&id).await.state(), controller.epoch().await), (OperationState::Failed, 2));
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_commands_only() {
    let (_folder, controller, agent, _session, id, command) = slow(backup(Some("istanbul"))).await;
    let thief = name("ankara-db1");
    let task = agent.disk().tasks[&command].clone();
    let told = AgentNews::Outcome(Box::new(outcome_of(&command, &task)));
    let refused = controller.operations.hear(&thief, told.clone()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::PermissionDenied);
    let report = TaskReport { command_id: command.clone(), state: TaskState::Unheard.into() };
    assert!(controller.operations.hear(&thief, AgentNews::Report(report)).await.is_err());
    assert!(controller.operations.hear(&thief, AgentNews::TakenOn { command_id: command.clone() }).await.is_err());
    let progress = TaskProgress { command_id: command.clone(), progress: Some(v1::Progress::default()) };
    assert!(controller.operations.hear(&thief, AgentNews::Progress(progress)).await.is_err());
    assert_eq!(controller.operation(&id).await.state(), OperationState::Running);
    agent.finish(&controller.operations, &command).await;
    controller.ends(&id).await;
    assert_eq!(controller.operations.hear(&thief, told).await.unwrap_err().kind, ErrorKind::PermissionDenied, "also afterwards");
}

#[tokio::test]
async fn an_outcome_of_another_kind_or_without_sense_ends_the_operation_as_a_defect() {
    for outcome in [
        Some(task_outcome::Outcome::Check(v1::CheckResult::default())),
        Some(task_outcome::Outcome::Backup(v1::BackupResult::default())),
        None,
    ] {
        let (_folder, controller, agent, _session, id, command) = slow(backup(Some("istanbul"))).await;
        let told = TaskOutcome { command_id: command, at: None, outcome, hooks: Vec::new() };
        let answers = controller.operations.hear(&agent.name, AgentNews::Outcome(Box::new(told))).await.unwrap();
        assert_eq!(answers.len(), 1, "acknowledged: it does not become better by being told again");
        let ended = controller.ends(&id).await;
        assert_eq!((ended.state(), ended.fault.unwrap().kind()), (OperationState::Failed, v1::ErrorKind::Internal));
    }
}

#[tokio::test]
async fn news_that_name_no_command_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::open(folder.path()).await;
    for news in [
        AgentNews::TakenOn { command_id: "x".into() },
        AgentNews::Report(TaskReport { command_id: "ab".repeat(16), state: TaskState::Unspecified.into() }),
        AgentNews::Outcome(Box::default()),
        AgentNews::Progress(TaskProgress::default()),
    ] {
        assert_eq!(controller.operations.hear(&name("istanbul-db1"), news).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    }
}
