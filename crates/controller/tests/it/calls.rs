//! Every rpc: who may call it, what it answers without a certificate, and what a refusal says.

use muster_common::fault::ErrorKind;
use muster_identity::caller::Role;
use muster_identity::rule::{Rule, rule_for};
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::recovery_service_client::RecoveryServiceClient;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{
    BackupRequest, InventoryServiceDeleteRequest, OperationServiceGetRequest, ResourceKind, RestoreRequest, RevokeOperatorRequest,
    StatusServiceGetRequest, StatusServiceWatchRequest, WhoAmIRequest,
};
use muster_wire::status::fault;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{DOCS, World};

/// Every rpc that the descriptors name, as a path.
fn rpcs() -> Vec<String> {
    let set = FileDescriptorSet::decode(muster_wire::DESCRIPTORS).unwrap();
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(paths.len() > 25, "{paths:?}");
    paths
}

/// Calls an rpc with an empty message and gives what it answers.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let request = futures::stream::iter([()]);
    let mut answers = client.streaming(tonic::Request::new(request), path.parse().unwrap(), codec).await?.into_inner();
    answers.message().await.map(|_| ())
}

#[tokio::test]
async fn every_rpc_has_a_rule_and_is_refused_without_a_certificate_except_enroll_and_health() {
    let world = World::with_docs().await;
    let nobody = world.nobody().await;
    for path in rpcs() {
        let rule = rule_for(&path).unwrap_or_else(|| panic!("{path} has no rule"));
        let refused = call(nobody.clone(), &path).await.expect_err(&path);
        if path == "/muster.v1.EnrollmentService/Enroll" {
            assert_eq!(rule, Rule::Anyone);
            assert_eq!(refused.code(), Code::PermissionDenied, "{path}: the token is not good, but the call came through");
        } else {
            assert_ne!(rule, Rule::Anyone, "{path}");
            assert_eq!(refused.code(), Code::Unauthenticated, "{path}: {refused:?}");
            assert!(!fault(&refused).hint.is_empty(), "{path}");
        }
    }
    let mut health = HealthClient::new(nobody.clone());
    for service in muster_controller::server::SERVICES.into_iter().chain([""]) {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{service:?} is not serving");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(call(nobody, reflection).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn each_role_may_call_what_its_rule_says_and_agents_nothing_of_operators() {
    let world = World::with_docs().await;
    let agent = world.channel(&world.join("istanbul", "istanbul-1").await);
    let mut operators = Vec::new();
    for role in Role::ALL {
        operators.push((role, world.channel(&world.operator(role.as_str(), role).await)));
    }
    for path in rpcs() {
        let Some(Rule::AtLeast(needs)) = rule_for(&path) else { continue };
        assert_eq!(call(agent.clone(), &path).await.unwrap_err().code(), Code::PermissionDenied, "{path} by an agent");
        for (role, channel) in operators.iter().filter(|(role, _)| *role < needs) {
            let refused = call(channel.clone(), &path).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{path} by {role}");
            assert!(fault(&refused).hint.contains(needs.as_str()), "{refused:?}");
        }
    }
    let (_, viewer) = &operators[0];
    StatusServiceClient::new(viewer.clone()).get(StatusServiceGetRequest::default()).await.unwrap();
}

#[tokio::test]
async fn reflection_answers_in_both_versions_to_whoever_has_a_certificate() {
    use tonic_reflection::pb::{v1, v1alpha};
    let world = World::start().await;
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(world.admins());
    let mut answers = client.server_reflection_info(futures::stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(listed) = answer else { panic!("{answer:?}") };
    for service in muster_controller::server::SERVICES {
        assert!(listed.service.iter().any(|listed| listed.name == service), "{service}");
    }
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol("muster.v1.RecoveryService".into())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(world.admins());
    let mut answers = client.server_reflection_info(futures::stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[tokio::test]
async fn whoami_tells_the_identity_and_a_role_that_is_taken_away_is_gone_at_once() {
    let world = World::start().await;
    let ada = world.channel(&world.operator("ada", Role::Operator).await);
    let mut status = StatusServiceClient::new(ada);
    let me = status.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.identity.as_str(), me.role.as_str()), ("operator/ada", "operator"));
    assert!(me.certificate_until.is_some());
    // On the same connection, whose handshake was good.
    world.fleet().revoke_operator(RevokeOperatorRequest { name: "ada".into(), reason: "left".into() }).await.unwrap();
    let refused = status.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    // A new certificate counts, the old one stays revoked.
    let again = world.operator("ada", Role::Viewer).await;
    StatusServiceClient::new(world.channel(&again)).who_am_i(WhoAmIRequest {}).await.unwrap();
    assert_eq!(status.who_am_i(WhoAmIRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_only_admin_is_not_revoked_and_an_unknown_operator_is_told_with_the_nearest() {
    let world = World::start().await;
    let refused = world.fleet().revoke_operator(RevokeOperatorRequest { name: "admin".into(), reason: "x".into() }).await.unwrap_err();
    assert_eq!(fault(&refused).kind, ErrorKind::FailedPrecondition);
    let refused = world.fleet().revoke_operator(RevokeOperatorRequest { name: "admn".into(), reason: "x".into() }).await.unwrap_err();
    assert_eq!(fault(&refused).hint, "did you mean admin?");
    let refused = world.fleet().revoke_operator(RevokeOperatorRequest { name: "admin".into(), reason: " ".into() }).await.unwrap_err();
    assert_eq!(fault(&refused).kind, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn names_that_do_not_exist_are_told_with_the_nearest_by_every_call_that_takes_one() {
    let world = World::with_docs().await;
    let mut recovery = RecoveryServiceClient::new(world.admins());
    let mut told = Vec::new();
    let backup = BackupRequest { component: "doc".into(), ..BackupRequest::default() };
    told.push(recovery.backup(backup).await.unwrap_err());
    let backup = BackupRequest { component: "docs".into(), instance: "istambul".into(), ..BackupRequest::default() };
    told.push(recovery.backup(backup).await.unwrap_err());
    let restore = RestoreRequest { component: "dcos".into(), ..RestoreRequest::default() };
    told.push(recovery.restore(restore).await.unwrap_err());
    told.push(StatusServiceClient::new(world.admins()).get(StatusServiceGetRequest { component: "docz".into() }).await.unwrap_err());
    told.push(StatusServiceClient::new(world.admins()).watch(StatusServiceWatchRequest { component: "docz".into() }).await.unwrap_err());
    let delete = InventoryServiceDeleteRequest { kind: ResourceKind::Site.into(), name: "istanbull".into(), ..Default::default() };
    told.push(world.inventory().delete(delete).await.unwrap_err());
    told.push(world.token("istanbool", "a").await.unwrap_err());
    for status in told {
        let fault = fault(&status);
        assert_eq!(fault.kind, ErrorKind::NotFound, "{fault}");
        assert!(fault.hint.contains("did you mean docs?") || fault.hint.contains("did you mean istanbul?"), "{fault}");
    }
    let unknown = OperationServiceGetRequest { id: "abcdef".into() };
    assert!(OperationServiceClient::new(world.admins()).get(unknown).await.is_err());
}

#[tokio::test]
async fn a_request_that_cannot_be_meant_is_refused_before_anything_starts() {
    let world = World::with_docs().await;
    let mut recovery = RecoveryServiceClient::new(world.admins());
    let good = BackupRequest { component: "docs".into(), ..BackupRequest::default() };
    for bad in [
        BackupRequest { compression_level: 20, ..good.clone() },
        BackupRequest { label: "x".repeat(201), ..good.clone() },
        BackupRequest { label: "a\nb".into(), ..good.clone() },
        BackupRequest { request_id: "x".repeat(129), ..good.clone() },
        BackupRequest { stall_limit: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..good.clone() },
        BackupRequest { stall_limit: Some(prost_types::Duration { seconds: 0, nanos: 0 }), ..good },
    ] {
        assert_eq!(recovery.backup(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let restore = RestoreRequest { component: "docs".into(), instance: "istanbul".into(), ..RestoreRequest::default() };
    let no_target = recovery.restore(restore.clone()).await.unwrap_err();
    assert!(fault(&no_target).hint.contains("in_place"), "{no_target:?}");
    let beside = muster_wire::proto::v1::BesideTarget { directory: "relative".into(), port: 0 };
    let target = Some(muster_wire::proto::v1::restore_request::Target::Beside(beside));
    let relative = recovery.restore(RestoreRequest { target, ..restore }).await.unwrap_err();
    assert_eq!(relative.code(), Code::InvalidArgument);
    assert!(DOCS.contains("docs"));
}
