//! The audit log around real calls: what is recorded of whom, what is not, and what happens where it cannot be recorded.

use muster_common::fault::{Effect, ErrorKind};
use muster_identity::caller::Role;
use muster_identity::key::KeyPair;
use muster_wire::proto::v1::audit_service_client::AuditServiceClient;
use muster_wire::proto::v1::recovery_service_client::RecoveryServiceClient;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{
    AuditEntry, AuditPhase, AuditServiceListRequest, AuditServiceVerifyRequest, AuditServiceVerifyResponse, BackupRequest,
    InventoryServiceListRequest, RevokeOperatorRequest, StatusServiceGetRequest,
};
use muster_wire::status::fault;

use crate::world::{DOCS, World};

async fn listed(world: &World, request: AuditServiceListRequest) -> Vec<AuditEntry> {
    AuditServiceClient::new(world.admins()).list(request).await.unwrap().into_inner().entries
}

async fn of(world: &World, caller: &str) -> Vec<AuditEntry> {
    listed(world, AuditServiceListRequest { caller: caller.into(), ..Default::default() }).await
}

async fn verified(world: &World) -> AuditServiceVerifyResponse {
    AuditServiceClient::new(world.admins()).verify(AuditServiceVerifyRequest::default()).await.unwrap().into_inner()
}

async fn beside(world: &World, sql: &'static str) {
    let place = world.running.api.config.store_place().unwrap();
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{place}")).await.unwrap();
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn what_changes_something_is_recorded_with_its_outcome_and_what_only_reads_is_not() {
    let world = World::with_docs().await;
    let eve = world.channel(&world.operator("eve", Role::Viewer).await);
    StatusServiceClient::new(eve.clone()).get(StatusServiceGetRequest::default()).await.unwrap();
    world.inventory().list(InventoryServiceListRequest::default()).await.unwrap();
    let backup = BackupRequest { component: "docs".into(), request_id: "r-1".into(), ..Default::default() };
    RecoveryServiceClient::new(eve.clone()).backup(backup.clone()).await.unwrap_err();
    // Nobody keeps the component yet: it is recorded with what the controller said.
    let refused = fault(&RecoveryServiceClient::new(world.admins()).backup(backup).await.unwrap_err());
    world.fleet().revoke_operator(RevokeOperatorRequest { name: "eve".into(), reason: "a test".into() }).await.unwrap();
    RecoveryServiceClient::new(eve).backup(BackupRequest::default()).await.unwrap_err();

    let admins = of(&world, "operator/admin").await;
    let told: Vec<_> =
        admins.iter().map(|entry| (entry.rpc.rsplit('/').next().unwrap(), entry.resource.as_str(), entry.outcome.as_str())).collect();
    let kind = muster_wire::status::reason(refused.kind);
    assert_eq!(
        told,
        [
            ("RevokeOperator", "operator/eve", "OK"),
            ("Backup", "component/docs", kind),
            ("IssueOperator", "operator/eve", "OK"),
            ("Apply", "site/istanbul site/ankara component/docs", "OK"),
        ]
    );
    let backup = &admins[1];
    assert_eq!((backup.role.as_str(), backup.request_id.as_str(), backup.peer.as_str()), ("admin", "r-1", "127.0.0.1"));
    assert_eq!((backup.message.as_str(), backup.digest.len(), backup.phase()), (refused.message.as_str(), 64, AuditPhase::Answered));

    let eves = of(&world, "operator/eve").await;
    let told: Vec<_> = eves.iter().map(|entry| (entry.phase(), entry.outcome.as_str(), entry.code)).collect();
    assert_eq!(told, [(AuditPhase::Refused, "UNAUTHENTICATED", 16), (AuditPhase::Refused, "PERMISSION_DENIED", 7)]);
    assert_eq!(eves[1].resource, "component/docs", "what it was about is told");
    assert_eq!(eves[1].digest, backup.digest, "the same request");
    let every = listed(&world, AuditServiceListRequest { every: true, caller: "operator/admin".into(), ..Default::default() }).await;
    assert_eq!(every.len(), 8, "each call was asked before it was answered");
    assert!(
        every.iter().filter(|entry| entry.phase() == AuditPhase::Answered).all(|one| every.iter().any(|asked| asked.number == one.answers))
    );
    let verdict = verified(&world).await;
    assert!(verdict.whole && verdict.head.len() == 64, "{verdict:?}");
}

#[tokio::test]
async fn who_joins_is_recorded_and_strangers_cannot_fill_the_log() {
    let world = World::with_docs().await;
    let token = world.token("istanbul", "istanbul-1").await.unwrap();
    let key = KeyPair::generate().unwrap();
    world.enroll(&token, &key).await.unwrap();
    for _ in 0..60 {
        world.enroll(&token, &KeyPair::generate().unwrap()).await.unwrap_err();
    }
    let joined = of(&world, "agent/istanbul/istanbul-1").await;
    assert_eq!(joined.iter().map(|entry| (entry.phase(), entry.outcome.as_str())).collect::<Vec<_>>(), [(AuditPhase::Answered, "OK")]);
    let nobody = of(&world, "nobody").await;
    assert_eq!(nobody.len(), 20, "strangers have a measure");
    assert!(nobody.iter().all(|entry| entry.outcome == "PERMISSION_DENIED" && entry.phase() == AuditPhase::Refused), "{nobody:?}");
    let secret = token.secret.reveal();
    assert!(!format!("{nobody:?}{joined:?}").contains(&*secret), "the token's secret is in the log");
    assert!(verified(&world).await.whole);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done_and_what_was_done_unrecorded_is_not_answered_ok() {
    let world = World::start().await;
    beside(&world, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END").await;
    let refused = fault(&world.apply(DOCS).await.unwrap_err());
    assert!(refused.message.contains("was not done") && refused.effect == Effect::None, "{refused}");
    let resources = world.inventory().list(InventoryServiceListRequest::default()).await.unwrap().into_inner().resources;
    assert!(resources.is_empty(), "{resources:?}");
    // The intention can be recorded, the outcome cannot.
    beside(&world, "DROP TRIGGER full").await;
    beside(&world, "CREATE TRIGGER full BEFORE INSERT ON audit WHEN NEW.phase = 'answered' BEGIN SELECT RAISE(ABORT, 'no room'); END")
        .await;
    let told = fault(&world.apply(DOCS).await.unwrap_err());
    assert_eq!((told.kind, told.effect), (ErrorKind::Unavailable, Effect::Done), "{told}");
    beside(&world, "DROP TRIGGER full").await;
    let entries = of(&world, "operator/admin").await;
    assert_eq!(entries.iter().map(AuditEntry::phase).collect::<Vec<_>>(), [AuditPhase::Asked], "the intention stands");
    world.apply(DOCS).await.unwrap();
    assert!(verified(&world).await.whole);
}

#[tokio::test]
async fn a_log_that_was_cut_together_with_its_ends_is_found_by_what_the_machine_remembers() {
    let world = World::with_docs().await;
    let file = world.running.api.config.state_directory.join("audit-head.json");
    crate::world::eventually("the head is remembered", async || file.exists()).await;
    let world = world.restart(|_| {}).await;
    let head = verified(&world).await;
    crate::world::eventually("the head is the newest", async || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&head.head)))
        .await;
    beside(&world, "DELETE FROM audit WHERE number >= (SELECT max(number) FROM audit)").await;
    beside(
        &world,
        "UPDATE audit_chain SET last = (SELECT max(number) FROM audit), head = (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)",
    )
    .await;
    let verdict = verified(&world).await;
    assert_eq!((verdict.whole, verdict.number), (false, head.last));
    assert!(verdict.problem.contains("audit-head.json"), "{verdict:?}");
    let bad = AuditServiceVerifyRequest { known_number: 1, known_hash: String::new() };
    let refused = AuditServiceClient::new(world.admins()).verify(bad).await.unwrap_err();
    assert_eq!(fault(&refused).kind, ErrorKind::InvalidArgument);
}
