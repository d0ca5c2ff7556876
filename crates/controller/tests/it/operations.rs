//! Operations through the whole controller: asked over gRPC, commanded to an agent that is simulated at the other end of a real link.

use std::time::{Duration, Instant};

use muster_common::fault::ErrorKind;
use muster_controller::agents::courier::Courier;
use muster_identity::caller::Role;
use muster_service::telemetry::{self, LogFormat, TelemetryOptions};
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{AgentHeartbeat, Command, TaskAccepted, TaskOutcome, TaskProgress, task_outcome};
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::operation_service_watch_response::Update;
use muster_wire::proto::v1::recovery_service_client::RecoveryServiceClient;
use muster_wire::proto::v1::repository_service_client::RepositoryServiceClient;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{
    BackupRequest, BackupResult, CancelRequest, InventoryServiceDeleteRequest, ListPointsRequest, Operation, OperationServiceGetRequest,
    OperationServiceListRequest, OperationServiceWatchRequest, OperationState, Progress, ResourceKind, RevokeOperatorRequest,
    StatusServiceGetRequest, StatusServiceWatchRequest, WaitRequest,
};
use muster_wire::status::fault;
use tonic::Code;

use crate::world::{BOUND, Session, World, eventually, hello, report};

pub const STORED: &str = "\
kind: Repository
name: primary
spec:
  repositoryId: abababababababababababababababab
  publicKey: cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
  folder: {path: /srv/backups}
---
kind: Component
name: docs
spec:
  repository: primary
  instances:
  - {site: istanbul, agent: istanbul-1, files: {path: /srv/docs}}
  - {site: ankara, agent: ankara-1, files: {path: /srv/docs}}
";

/// A world with a component that can be backed up, and the session of its agent.
pub async fn ready() -> (World, Session) {
    let world = World::with_docs().await;
    world.apply(STORED).await.unwrap();
    let agent = world.join("istanbul", "istanbul-1").await;
    let session = world.session(&agent, hello()).await.unwrap();
    session.say(report("docs", "istanbul")).await;
    eventually("the report is taken", async || world.running.api.agents.observations.of(&"docs/istanbul".parse().unwrap()).is_some()).await;
    (world, session)
}

pub fn backup() -> BackupRequest {
    BackupRequest { component: "docs".into(), instance: "istanbul".into(), ..BackupRequest::default() }
}

pub async fn asked(world: &World, request: BackupRequest) -> Operation {
    RecoveryServiceClient::new(world.admins()).backup(request).await.unwrap().into_inner().operation.unwrap()
}

pub async fn commanded(session: &mut Session) -> Command {
    session.until(|message| if let ToAgent::Command(command) = message { Some(command) } else { None }).await
}

pub fn done(command: &Command) -> FromAgent {
    let now = Some(muster_wire::convert::timestamp_to_proto(muster_service::clock::now()));
    let point_id = match &command.work {
        Some(muster_wire::proto::agent::v1::command::Work::Backup(work)) => work.point_id.clone(),
        other => panic!("{other:?}"),
    };
    let result =
        BackupResult { point_id, started_at: now, finished_at: now, bytes_total: 10, bytes_stored: 5, files: 1, ..Default::default() };
    FromAgent::Outcome(TaskOutcome {
        command_id: command.id.clone(),
        at: now,
        outcome: Some(task_outcome::Outcome::Backup(result)),
        hooks: Vec::new(),
    })
}

fn progress(command: &Command, bytes_done: u64) -> FromAgent {
    let progress = Progress { phase: "reading".into(), bytes_done, bytes_total: 1_000_000, ..Progress::default() };
    FromAgent::Progress(TaskProgress { command_id: command.id.clone(), progress: Some(progress) })
}

pub async fn acknowledged(session: &mut Session, command: &Command) {
    session.until(|message| matches!(message, ToAgent::Acknowledged(ack) if ack.command_id == command.id).then_some(())).await;
}

#[tokio::test]
async fn a_backup_is_asked_commanded_reported_acknowledged_and_shown() {
    let (world, mut session) = ready().await;
    let operation = asked(&world, backup()).await;
    assert_eq!(operation.cause, "operator/admin");
    let command = commanded(&mut session).await;
    assert_eq!((command.component.as_str(), command.instance.as_str(), command.term), ("docs", "istanbul", 1));
    session.say(FromAgent::Accepted(TaskAccepted { command_id: command.id.clone() })).await;
    session.say(progress(&command, 7)).await;
    let mut operations = OperationServiceClient::new(world.admins());
    eventually("progress is shown", async || {
        let shown = operations.get(OperationServiceGetRequest { id: operation.id.clone() }).await.unwrap().into_inner().operation.unwrap();
        shown.progress.is_some_and(|progress| progress.bytes_done == 7)
    })
    .await;
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
    let waited = operations.wait(WaitRequest { id: operation.id.clone(), timeout: None }).await.unwrap().into_inner();
    assert!(waited.ended && waited.operation.unwrap().state() == OperationState::Succeeded);
    // Told again, it is acknowledged again and nothing else happens.
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
    let points = RepositoryServiceClient::new(world.admins())
        .list_points(ListPointsRequest { component: "docs".into(), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(points.points.len(), 1);
    let request = StatusServiceGetRequest { component: "docs".into() };
    let page = StatusServiceClient::new(world.admins()).get(request).await.unwrap().into_inner().page.unwrap();
    let docs = &page.components[0];
    assert_eq!(docs.newest_point.as_ref().unwrap().id, points.points[0].id);
    assert!(docs.measured_rpo.is_some_and(|rpo| rpo.seconds < 60) && docs.measured_rto.is_none(), "{docs:?}");
    let metrics = || prometheus::TextEncoder::new().encode_to_string(&world.registry.gather()).unwrap();
    eventually("the transition is counted", async || metrics().contains("kind=\"backup\"") && metrics().contains("state=\"succeeded\""))
        .await;
    assert!(metrics().lines().any(|line| line.starts_with("muster_controller_sessions{") && line.ends_with(" 1")), "{}", metrics());
}

#[tokio::test]
async fn the_first_sole_writer_begins_epoch_one_and_its_agent_is_told_by_a_new_assignment() {
    let (world, mut session) = ready().await;
    let told = |message| match message {
        ToAgent::Assignment(assignment) if assignment.instances[0].epoch == 1 => Some(assignment),
        _ => None,
    };
    let assignment = session.until(told).await;
    assert!(!assignment.instances[0].reign_id.is_empty() && assignment.revision > 1, "{assignment:?}");
    let request = StatusServiceGetRequest { component: "docs".into() };
    let page = StatusServiceClient::new(world.admins()).get(request).await.unwrap().into_inner().page.unwrap();
    assert_eq!((page.components[0].epoch, page.components[0].writer.as_str()), (1, "istanbul"));
}

#[tokio::test]
async fn a_watch_is_told_every_transition_and_ends_well_after_the_last_also_for_one_who_reads_late() {
    let (world, mut session) = ready().await;
    let operation = asked(&world, backup()).await;
    let mut client = OperationServiceClient::new(world.admins());
    let watch = OperationServiceWatchRequest { id: operation.id.clone(), after_event: 0 };
    let mut updates = client.watch(watch).await.unwrap().into_inner();
    let command = commanded(&mut session).await;
    session.say(FromAgent::Accepted(TaskAccepted { command_id: command.id.clone() })).await;
    // Nobody reads the stream, and the work is not held up by that.
    let began = Instant::now();
    for n in 0..3_000 {
        session.say(progress(&command, n)).await;
        if n % 100 == 0 {
            session.say(FromAgent::Heartbeat(AgentHeartbeat { now: None, number: n })).await;
            session.until(|message| matches!(message, ToAgent::Heartbeat(beat) if beat.number == n).then_some(())).await;
        }
    }
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let (mut events, mut last) = (Vec::new(), None);
    let mut seen = 0;
    while let Some(update) = updates.message().await.unwrap() {
        match update.update.unwrap() {
            Update::Event(event) => {
                events.push(event.number);
                last = event.operation;
            }
            Update::Progress(_) => seen += 1,
        }
    }
    assert!(events.windows(2).all(|pair| pair[0] < pair[1]), "{events:?}");
    assert_eq!(last.unwrap().state(), OperationState::Succeeded);
    assert!(seen < 3_000, "progress that was not taken is left out");
    let gone = OperationServiceWatchRequest { id: String::new(), after_event: 1 << 40 };
    let refused = match client.watch(gone).await {
        Err(refused) => refused,
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
    };
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
}

#[tokio::test]
async fn the_trace_of_the_operators_call_reaches_the_agents_command() {
    let options = TelemetryOptions {
        service_name: "muster-controller",
        instance: None,
        format: LogFormat::Text,
        level: "warn,muster_controller=info".into(),
    };
    telemetry::init(options).unwrap();
    let (world, mut session) = ready().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut request = tonic::Request::new(backup());
    request.metadata_mut().insert("traceparent", format!("00-{trace}-b7ad6b7169203331-01").parse().unwrap());
    RecoveryServiceClient::new(world.admins()).backup(request).await.unwrap();
    let command = commanded(&mut session).await;
    assert!(command.traceparent.contains(trace), "{:?}", command.traceparent);
}

#[tokio::test]
async fn revocation_cuts_an_operators_watches_and_waits_too() {
    let (world, mut session) = ready().await;
    let operation = asked(&world, backup()).await;
    commanded(&mut session).await;
    let vera = world.channel(&world.operator("vera", Role::Viewer).await);
    let watch = OperationServiceWatchRequest { id: operation.id.clone(), after_event: operation.last_event };
    let mut updates = OperationServiceClient::new(vera.clone()).watch(watch).await.unwrap().into_inner();
    let mut pages = StatusServiceClient::new(vera.clone()).watch(StatusServiceWatchRequest::default()).await.unwrap().into_inner();
    let mut waiting = OperationServiceClient::new(vera);
    let wait = WaitRequest { id: operation.id, timeout: None };
    let waited = tokio::spawn(async move { waiting.wait(wait).await });
    world.fleet().revoke_operator(RevokeOperatorRequest { name: "vera".into(), reason: "left".into() }).await.unwrap();
    let ended = async {
        let of_watch = loop {
            match updates.message().await {
                Ok(Some(_)) => {}
                other => break other.unwrap_err(),
            }
        };
        let of_pages = loop {
            match pages.message().await {
                Ok(Some(_)) => {}
                other => break other.unwrap_err(),
            }
        };
        [of_watch, of_pages, waited.await.unwrap().unwrap_err()]
    };
    for refused in tokio::time::timeout(BOUND, ended).await.unwrap() {
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    }
}

#[tokio::test]
async fn a_component_that_takes_a_deleted_ones_name_has_neither_its_points_nor_its_epoch() {
    let (world, mut session) = ready().await;
    session.until(|message| matches!(message, ToAgent::Assignment(a) if a.instances[0].epoch == 1).then_some(())).await;
    asked(&world, backup()).await;
    let command = commanded(&mut session).await;
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
    let points = async || {
        let request = ListPointsRequest { component: "docs".into(), ..Default::default() };
        RepositoryServiceClient::new(world.admins()).list_points(request).await.unwrap().into_inner().points
    };
    assert_eq!(points().await.len(), 1);
    let delete = InventoryServiceDeleteRequest { kind: ResourceKind::Component.into(), name: "docs".into(), ..Default::default() };
    eventually("nothing runs on it", async || world.inventory().delete(delete.clone()).await.is_ok()).await;
    world.apply(STORED).await.unwrap();
    assert_eq!(points().await, []);
    session.say(report("docs", "istanbul")).await;
    let epoch = session
        .until(|message| match message {
            ToAgent::Assignment(assignment) => assignment.instances.first().map(|instance| instance.epoch).filter(|epoch| *epoch > 1),
            _ => None,
        })
        .await;
    assert_eq!(epoch, 2);
}

#[tokio::test]
async fn an_outcome_of_another_agents_command_is_refused_counted_and_not_acknowledged() {
    let (world, mut session) = ready().await;
    asked(&world, backup()).await;
    let command = commanded(&mut session).await;
    let thief = world.join("ankara", "ankara-1").await;
    let mut stolen = world.session(&thief, hello()).await.unwrap();
    stolen.say(done(&command)).await;
    stolen.say(FromAgent::Heartbeat(AgentHeartbeat { now: None, number: 9 })).await;
    let mut acks = 0;
    stolen
        .until(|message| match message {
            ToAgent::Heartbeat(beat) if beat.number == 9 => Some(()),
            ToAgent::Acknowledged(_) => {
                acks += 1;
                None
            }
            _ => None,
        })
        .await;
    assert_eq!(acks, 0);
    eventually("it is counted", async || world.agent_status("ankara-1").await.refused_calls == 1).await;
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_to_the_next_session() {
    let (world, mut session) = ready().await;
    asked(&world, backup()).await;
    let command = commanded(&mut session).await;
    drop(session);
    let courier: &Courier = &world.running.api.agents.courier;
    eventually("the session is over", async || !courier.is_connected(&"istanbul-1".parse().unwrap())).await;
    let again = world.join_again("istanbul-1").await;
    let mut session = world.session(&again, hello()).await.unwrap();
    let resent = commanded(&mut session).await;
    assert_eq!((resent.id.as_str(), resent.sequence), (command.id.as_str(), command.sequence));
    session.say(done(&resent)).await;
    acknowledged(&mut session, &resent).await;
}

#[tokio::test]
async fn what_runs_is_not_declared_away_and_a_request_id_answers_the_same_operation() {
    let (world, mut session) = ready().await;
    let request = BackupRequest { request_id: "b-1".into(), ..backup() };
    let first = asked(&world, request.clone()).await;
    let again = asked(&world, request.clone()).await;
    assert_eq!(first.id, again.id);
    let other = BackupRequest { label: "other".into(), ..request };
    let refused = RecoveryServiceClient::new(world.admins()).backup(other).await.unwrap_err();
    assert_eq!(fault(&refused).kind, ErrorKind::AlreadyExists, "{refused:?}");
    commanded(&mut session).await;
    let delete = InventoryServiceDeleteRequest { kind: ResourceKind::Component.into(), name: "docs".into(), ..Default::default() };
    let busy = fault(&world.inventory().delete(delete).await.unwrap_err());
    assert!(busy.kind == ErrorKind::Conflict && busy.hint.contains("muster cancel"), "{busy}");
    let moved = fault(
        &world.apply(&STORED.replace("path: /srv/docs}}\n  - {site: ankara", "path: /srv/x}}\n  - {site: ankara")).await.unwrap_err(),
    );
    assert_eq!(moved.kind, ErrorKind::Conflict, "{moved}");
}

#[tokio::test]
async fn operations_are_listed_in_pages_and_a_viewer_looks_but_does_not_cancel() {
    let (world, mut session) = ready().await;
    let operation = asked(&world, backup()).await;
    let command = commanded(&mut session).await;
    let viewer = world.channel(&world.operator("vera", Role::Viewer).await);
    let mut looking = OperationServiceClient::new(viewer);
    let listed = looking.list(OperationServiceListRequest { page_size: 1, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(listed.operations[0].id, operation.id);
    let by_prefix = looking.get(OperationServiceGetRequest { id: operation.id[..8].into() }).await.unwrap().into_inner();
    assert_eq!(by_prefix.operation.unwrap().id, operation.id);
    let cancel = CancelRequest { id: operation.id.clone(), reason: "no".into() };
    assert_eq!(looking.cancel(cancel.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    OperationServiceClient::new(world.admins()).cancel(cancel).await.unwrap();
    session.until(|message| matches!(message, ToAgent::Cancel(cancel) if cancel.command_id == command.id).then_some(())).await;
}
