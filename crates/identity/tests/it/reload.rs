//! Certificates change at both ends while a stream lives.

use muster_identity::authority::AGENT_LIFE;
use muster_identity::client::{self, ReloadableClient};
use muster_identity::credentials::Credentials;
use muster_identity::csr::Csr;
use muster_identity::key::KeyPair;
use muster_wire::proto::v1::RenewRequest;
use muster_wire::proto::v1::enrollment_service_client::EnrollmentServiceClient;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tonic::Streaming;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::world::{BOUND, World, name, now, set_serving, who_am_i};

async fn next(stream: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let message = tokio::time::timeout(BOUND, stream.message()).await.unwrap().unwrap().unwrap();
    message.status()
}

/// The leaf that the server shows to a new connection.
async fn shown(world: &World) -> CertificateDer<'static> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.ca.authority.certificate().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_server_shows_its_new_certificate_to_new_connections_and_drops_no_stream() {
    let world = World::new().await;
    set_serving(&world.health, true).await;
    let old = shown(&world).await;
    let channel = world.channel(&world.ca.operator("viewer"));
    let mut stream = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await, ServingStatus::Serving);

    let renewed = world.ca.controller();
    world.tls.reload(&renewed).unwrap();
    assert_ne!(shown(&world).await, old);
    assert_eq!(shown(&world).await, renewed.chain()[0]);
    for serving in [false, true, false] {
        set_serving(&world.health, serving).await;
        let seen = next(&mut stream).await;
        assert_eq!(seen == ServingStatus::Serving, serving);
    }
}

#[tokio::test]
async fn a_client_renews_for_the_same_key_and_drops_no_stream() {
    let world = World::new().await;
    set_serving(&world.health, true).await;
    let key = KeyPair::generate().unwrap();
    let issue = || {
        let csr = Csr::parse(&Csr::request(&key).unwrap()).unwrap();
        let issued = world.ca.authority.issue_agent(&csr, &name("istanbul"), &name("db1"), now(), AGENT_LIFE).unwrap();
        Credentials::from_pem(world.ca.authority.pem(), &issued.pem, KeyPair::from_pem(&key.to_pem(), "test").unwrap()).unwrap()
    };
    let (first, second) = (issue(), issue());
    let client = ReloadableClient::new(&first).unwrap();
    let channel = client::channel(client.clone(), vec![world.endpoint()]);
    let mut stream = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await, ServingStatus::Serving);
    let said = who_am_i(channel.clone()).await.unwrap();
    assert!(said.ends_with(first.own().serial.as_str()), "{said}");

    client.reload(&second).unwrap();
    set_serving(&world.health, false).await;
    assert_eq!(next(&mut stream).await, ServingStatus::NotServing, "the open stream goes on");
    let said = who_am_i(channel).await.unwrap();
    assert!(said.ends_with(first.own().serial.as_str()), "the open connection keeps its certificate: {said}");
    let said = who_am_i(client::channel(client, vec![world.endpoint()])).await.unwrap();
    assert!(said.ends_with(second.own().serial.as_str()), "a new connection shows the new one: {said}");
    assert_eq!(first.own().key_fingerprint, second.own().key_fingerprint);
}

#[tokio::test]
async fn a_stream_survives_many_reloads_at_both_ends_under_load() {
    let world = World::new().await;
    set_serving(&world.health, true).await;
    let agent = world.ca.agent("db1");
    let client = ReloadableClient::new(&agent).unwrap();
    let channel = client::channel(client.clone(), vec![world.endpoint()]);
    let mut stream = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await, ServingStatus::Serving);
    let calls = tokio::spawn(async move {
        let mut client = EnrollmentServiceClient::new(channel);
        let mut done = 0;
        for _ in 0..500 {
            client.renew(RenewRequest::default()).await.unwrap();
            done += 1;
        }
        done
    });
    for round in 0..50 {
        world.tls.reload(&world.ca.controller()).unwrap();
        client.reload(&world.ca.agent("db1")).unwrap();
        set_serving(&world.health, round % 2 == 1).await;
        let seen = next(&mut stream).await;
        assert_eq!(seen == ServingStatus::Serving, round % 2 == 1);
    }
    assert_eq!(tokio::time::timeout(BOUND, calls).await.unwrap().unwrap(), 500);
}
