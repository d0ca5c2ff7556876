//! Retries through the whole controller: the same request again, never of what succeeded or runs, never with old consent.

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_wire::convert::fault_to_proto;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::{Command, TaskOutcome, command::Work, task_outcome};
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::recovery_service_client::RecoveryServiceClient;
use muster_wire::proto::v1::restore_request::Target;
use muster_wire::proto::v1::{BackupRequest, Operation, OperationState, RestoreRequest, RetryRequest};
use muster_wire::status::fault;

use crate::operations::{acknowledged, asked, backup, commanded, done, ready};
use crate::world::World;

fn failed(command: &Command) -> FromAgent {
    let now = Some(muster_wire::convert::timestamp_to_proto(muster_service::clock::now()));
    let fault = fault_to_proto(&Fault::failed(ErrorKind::Unavailable, "the store is away").effect(Effect::None).hint("try again"));
    FromAgent::Outcome(TaskOutcome {
        command_id: command.id.clone(),
        at: now,
        outcome: Some(task_outcome::Outcome::Fault(fault)),
        hooks: Vec::new(),
    })
}

async fn retry(world: &World, id: &str, consent: &str, request_id: &str) -> Result<Operation, Fault> {
    let request = RetryRequest { id: id.into(), consent: consent.into(), request_id: request_id.into() };
    let answer = OperationServiceClient::new(world.admins()).retry(request).await;
    answer.map(|answer| answer.into_inner().operation.unwrap()).map_err(|status| fault(&status))
}

#[tokio::test]
async fn a_backup_that_failed_is_asked_for_again_as_it_was_and_one_that_succeeded_is_not() {
    let (world, mut session) = ready().await;
    let old = asked(&world, BackupRequest { label: "nightly".into(), compression_level: 7, ..backup() }).await;
    assert!(retry(&world, &old.id, "", "").await.unwrap_err().message.contains("has not ended"));
    let first = commanded(&mut session).await;
    session.say(failed(&first)).await;
    acknowledged(&mut session, &first).await;

    let new = retry(&world, &old.id, "", "r-1").await.unwrap();
    assert_eq!(new.cause, format!("operator/admin, retry of operation/{}", old.id));
    assert_eq!(retry(&world, &old.id, "", "r-1").await.unwrap().id, new.id, "the same request is the same retry");
    assert_eq!(retry(&world, &old.id, "", "r-2").await.unwrap_err().kind, ErrorKind::Conflict);
    let second = commanded(&mut session).await;
    assert_ne!(first.id, second.id);
    match (&first.work, &second.work) {
        (Some(Work::Backup(first)), Some(Work::Backup(second))) => {
            assert_eq!((second.label.as_str(), second.compression_level), ("nightly", 7));
            assert_ne!(first.point_id, second.point_id, "a new point");
        }
        other => panic!("{other:?}"),
    }
    session.say(done(&second)).await;
    acknowledged(&mut session, &second).await;
    let refused = retry(&world, &new.id, "", "").await.unwrap_err();
    assert!(refused.kind == ErrorKind::FailedPrecondition && refused.message.contains("has succeeded"), "{refused}");
}

#[tokio::test]
async fn a_restore_in_place_is_retried_to_the_same_point_and_only_with_consent_given_anew() {
    let (world, mut session) = ready().await;
    asked(&world, backup()).await;
    let command = commanded(&mut session).await;
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
    let restore = RestoreRequest {
        component: "docs".into(),
        instance: "istanbul".into(),
        consent: "docs".into(),
        target: Some(Target::InPlace(())),
        ..RestoreRequest::default()
    };
    let old = RecoveryServiceClient::new(world.admins()).restore(restore).await.unwrap().into_inner().operation.unwrap();
    let first = commanded(&mut session).await;
    session.say(failed(&first)).await;
    acknowledged(&mut session, &first).await;
    // A newer point comes in between: the retry goes back to the old one.
    asked(&world, backup()).await;
    let command = commanded(&mut session).await;
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;

    let refused = retry(&world, &old.id, "", "").await.unwrap_err();
    assert!(refused.message.contains("nobody consented"), "{refused}");
    let new = retry(&world, &old.id, "docs", "").await.unwrap();
    assert_eq!(new.state(), OperationState::Pending);
    let second = commanded(&mut session).await;
    match (&first.work, &second.work) {
        (Some(Work::Restore(first)), Some(Work::Restore(second))) => assert_eq!(first, second),
        other => panic!("{other:?}"),
    }
}
