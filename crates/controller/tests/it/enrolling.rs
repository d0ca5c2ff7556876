//! Join tokens, certificates, renewal, revocation.

use std::time::Duration;

use muster_common::fault::ErrorKind;
use muster_identity::csr::Csr;
use muster_identity::identity::Identity;
use muster_identity::key::KeyPair;
use muster_wire::proto::v1::enrollment_service_client::EnrollmentServiceClient;
use muster_wire::proto::v1::{CreateJoinTokenRequest, EnrollRequest, RenewRequest, RevokeAgentRequest};
use muster_wire::status::fault;
use tonic::Code;

use crate::world::{World, name};

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_who_enroll_with_one_token_at_once_one_wins() {
    let world = World::with_docs().await;
    let token = world.token("istanbul", "istanbul-1").await.unwrap();
    let channel = muster_identity::bootstrap::channel(&token).unwrap();
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let request = EnrollRequest { secret: token.secret.reveal(), csr_pem: Csr::request(&KeyPair::generate().unwrap()).unwrap() };
        let mut client = EnrollmentServiceClient::new(channel.clone());
        racing.spawn(async move { client.enroll(request).await });
    }
    let ended = racing.join_all().await;
    assert_eq!(ended.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in ended.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert!(fault(refused).hint.contains("muster token create"), "{refused:?}");
    }
}

#[tokio::test]
async fn an_agent_whose_answer_was_lost_asks_again_with_its_key_and_nobody_else_does() {
    let world = World::with_docs().await;
    let token = world.token("istanbul", "istanbul-1").await.unwrap();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let lost = world.enroll(&token, &key).await.unwrap();
    assert_eq!(world.enroll(&token, &other).await.unwrap_err().code(), Code::PermissionDenied);
    let again = world.enroll(&token, &key).await.unwrap();
    assert_eq!((&again.agent, &again.site), (&lost.agent, &lost.site));
    assert_ne!(again.certificate_pem, lost.certificate_pem);
    assert_eq!(world.enroll(&token, &other).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_token_is_bound_to_its_site_and_agent_whatever_the_request_says() {
    let world = World::with_docs().await;
    let joined = world.join("istanbul", "istanbul-1").await;
    assert_eq!(joined.own().identity, Identity::Agent { site: name("istanbul"), agent: name("istanbul-1") });
    assert_eq!(world.agent_status("istanbul-1").await.site, "istanbul");
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_does_not_use_the_token_up() {
    let world = World::with_docs().await;
    let token = world.token("istanbul", "istanbul-1").await.unwrap();
    let mut client = EnrollmentServiceClient::new(muster_identity::bootstrap::channel(&token).unwrap());
    let good = Csr::request(&KeyPair::generate().unwrap()).unwrap();
    let tampered = good.replacen(char::is_lowercase, "Q", 3);
    let bad = EnrollRequest { secret: token.secret.reveal(), csr_pem: tampered };
    assert_eq!(client.enroll(bad).await.unwrap_err().code(), Code::InvalidArgument);
    client.enroll(EnrollRequest { secret: token.secret.reveal(), csr_pem: good }).await.unwrap();
}

#[tokio::test]
async fn a_token_that_has_ended_is_not_good() {
    let world = World::with_docs().await;
    let request = CreateJoinTokenRequest {
        site: "istanbul".into(),
        agent: "istanbul-1".into(),
        ttl: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
    };
    let token = world.fleet().create_join_token(request.clone()).await.unwrap().into_inner().token.parse().unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(world.enroll(&token, &KeyPair::generate().unwrap()).await.unwrap_err().code(), Code::PermissionDenied);
    let ttl = Some(prost_types::Duration { seconds: 8 * 86_400, nanos: 0 });
    let too_long = world.fleet().create_join_token(CreateJoinTokenRequest { ttl, ..request }).await.unwrap_err();
    assert_eq!(fault(&too_long).kind, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn an_agents_name_is_unique_over_all_sites() {
    let world = World::with_docs().await;
    // Declared at one site …
    assert_eq!(fault(&world.token("ankara", "istanbul-1").await.unwrap_err()).kind, ErrorKind::Conflict);
    // … or joined at one.
    world.join("ankara", "spare").await;
    assert_eq!(fault(&world.token("istanbul", "spare").await.unwrap_err()).kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn renewal_is_for_the_same_key_only() {
    let world = World::with_docs().await;
    let joined = world.join("istanbul", "istanbul-1").await;
    let mut client = EnrollmentServiceClient::new(world.channel(&joined));
    let renewed = client.renew(RenewRequest { csr_pem: Csr::request(joined.key()).unwrap() }).await.unwrap().into_inner();
    let key = KeyPair::from_pem(&joined.key().to_pem(), "key").unwrap();
    let renewed = muster_identity::credentials::Credentials::from_pem(&renewed.ca_pem, &renewed.certificate_pem, key).unwrap();
    assert_ne!(renewed.own().serial, joined.own().serial);
    assert_eq!(renewed.own().identity, joined.own().identity);
    let other = Csr::request(&KeyPair::generate().unwrap()).unwrap();
    let refused = client.renew(RenewRequest { csr_pem: other }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // An operator is no agent.
    let mut admin = EnrollmentServiceClient::new(world.admins());
    let refused = admin.renew(RenewRequest { csr_pem: Csr::request(world.admin.key()).unwrap() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_revoked_agent_is_refused_with_all_its_certificates_and_its_key_does_not_come_back() {
    let world = World::with_docs().await;
    let joined = world.join("istanbul", "istanbul-1").await;
    let mut client = EnrollmentServiceClient::new(world.channel(&joined));
    let csr = || RenewRequest { csr_pem: Csr::request(joined.key()).unwrap() };
    let renewed = client.renew(csr()).await.unwrap().into_inner();
    let revoke = RevokeAgentRequest { agent: "istanbul-1".into(), reason: "machine stolen".into() };
    world.fleet().revoke_agent(revoke).await.unwrap();
    assert!(world.agent_status("istanbul-1").await.revoked);
    assert_eq!(client.renew(csr()).await.unwrap_err().code(), Code::Unauthenticated);
    let key = || KeyPair::from_pem(&joined.key().to_pem(), "key").unwrap();
    let newer = muster_identity::credentials::Credentials::from_pem(&renewed.ca_pem, &renewed.certificate_pem, key()).unwrap();
    let mut client = EnrollmentServiceClient::new(world.channel(&newer));
    assert_eq!(client.renew(csr()).await.unwrap_err().code(), Code::Unauthenticated);
    // A new token and the old key: refused, and the token is still good for a new key.
    let token = world.token("istanbul", "istanbul-1").await.unwrap();
    let refused = world.enroll(&token, &key()).await.unwrap_err();
    assert!(fault(&refused).message.contains("revoked"), "{refused:?}");
    world.enroll(&token, &KeyPair::generate().unwrap()).await.unwrap();
    assert!(!world.agent_status("istanbul-1").await.revoked);
}

#[tokio::test]
async fn an_agent_that_joins_again_with_another_key_leaves_the_old_one_dead() {
    let world = World::with_docs().await;
    let old = world.join("istanbul", "istanbul-1").await;
    let mut client = EnrollmentServiceClient::new(world.channel(&old));
    client.renew(RenewRequest { csr_pem: Csr::request(old.key()).unwrap() }).await.unwrap();
    world.join("istanbul", "istanbul-1").await;
    let refused = client.renew(RenewRequest { csr_pem: Csr::request(old.key()).unwrap() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
}
