//! An agent with nothing but a join token.

use muster_identity::bootstrap;
use muster_identity::client;
use muster_identity::credentials::Credentials;
use muster_identity::fingerprint::Fingerprint;
use muster_identity::key::KeyPair;
use muster_identity::server::Limits;
use muster_identity::token::{JoinSecret, JoinToken};
use muster_wire::proto::v1::enrollment_service_client::EnrollmentServiceClient;
use muster_wire::proto::v1::{EnrollRequest, EnrollResponse};
use tonic::{Code, Status};

use crate::world::{BOUND, Ca, World, call_status, check_health, who_am_i};

fn token(world: &World, authority: Fingerprint) -> JoinToken {
    JoinToken { endpoints: vec![world.endpoint()], authority, secret: JoinSecret::generate() }
}

async fn enroll(token: &JoinToken) -> Result<EnrollResponse, Status> {
    let mut client = EnrollmentServiceClient::new(bootstrap::channel(token).unwrap());
    let request = EnrollRequest { secret: token.secret.reveal(), csr_pem: String::new() };
    tokio::time::timeout(BOUND, client.enroll(request)).await.unwrap().map(tonic::Response::into_inner)
}

#[tokio::test]
async fn enroll_works_without_a_certificate_and_gives_the_pinned_ca() {
    let world = World::new().await;
    let token = token(&world, world.ca.authority.fingerprint());
    let answer = enroll(&token).await.unwrap();
    assert!(bootstrap::is_pinned(&token, &answer.ca_pem));
    assert!(!bootstrap::is_pinned(&token, Ca::new().authority.pem()));
    assert_eq!(*world.enrollment.secrets.lock().unwrap(), [token.secret.reveal()]);
}

#[tokio::test]
async fn without_a_certificate_only_enroll_and_health_pass() {
    let world = World::new().await;
    let channel = bootstrap::channel(&token(&world, world.ca.authority.fingerprint())).unwrap();
    check_health(channel.clone()).await.unwrap();
    for refused in [who_am_i(channel.clone()).await.unwrap_err(), call_status(channel).await] {
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(refused.message().contains("no client certificate"), "{refused:?}");
    }
    assert_eq!(world.gate.refused(), 2);
}

#[tokio::test]
async fn a_server_under_another_ca_is_refused_before_the_secret_is_sent() {
    let world = World::new().await;
    let error = enroll(&token(&world, Ca::new().authority.fingerprint())).await.unwrap_err();
    assert!(client::explain(&error).contains("no CA with the fingerprint"), "{}", client::explain(&error));
    assert!(world.enrollment.secrets.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_shows_the_right_ca_beside_a_certificate_of_its_own_is_refused() {
    // Who listens in knows the CA's certificate: it is public. It is shown here behind a leaf that another CA signed.
    let (right, mine) = (Ca::new(), Ca::new());
    let key = KeyPair::generate().unwrap();
    let csr = muster_identity::csr::Csr::parse(&muster_identity::csr::Csr::request(&key).unwrap()).unwrap();
    let issued = mine.authority.issue_controller(&csr, &[], crate::world::now(), muster_identity::authority::AGENT_LIFE).unwrap();
    let shown = Credentials::from_pem(mine.authority.pem(), &format!("{}{}", issued.pem, right.authority.pem()), key).unwrap();
    let fingerprint = right.authority.fingerprint();
    let world = World::with(mine, &shown, Limits::default()).await;
    let error = enroll(&token(&world, fingerprint)).await.unwrap_err();
    assert!(client::explain(&error).contains("invalid peer certificate"), "{}", client::explain(&error));
    assert!(world.enrollment.secrets.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_agent_that_plays_the_controller_is_refused_before_the_secret_is_sent() {
    // Its certificate is of the right CA and good for servers; the CA is in its chain.
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let csr = muster_identity::csr::Csr::parse(&muster_identity::csr::Csr::request(&key).unwrap()).unwrap();
    let issued = ca
        .authority
        .issue_agent(
            &csr,
            &crate::world::name("istanbul"),
            &crate::world::name("db1"),
            crate::world::now(),
            muster_identity::authority::AGENT_LIFE,
        )
        .unwrap();
    let shown = Credentials::from_pem(ca.authority.pem(), &format!("{}{}", issued.pem, ca.authority.pem()), key).unwrap();
    let world = World::with(ca, &shown, Limits::default()).await;
    let error = enroll(&token(&world, world.ca.authority.fingerprint())).await.unwrap_err();
    assert!(client::explain(&error).contains("the server is agent istanbul/db1, not controller"), "{}", client::explain(&error));
    assert!(world.enrollment.secrets.lock().unwrap().is_empty());
}
