//! Which certificates are taken and refused, at the handshake and at each call.

use std::sync::Arc;
use std::time::Duration;

use muster_identity::authority::AGENT_LIFE;
use muster_identity::client::{self, ReloadableClient};
use muster_identity::credentials::Credentials;
use muster_identity::identity::Identity;
use muster_identity::server::Limits;
use muster_identity::token::{JoinSecret, JoinToken};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{
    BOUND, Ca, World, ago, ahead, call_status, check_health, name, now, right_clock, set_serving, who_am_i, with_gate_ahead,
};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn the_handler_knows_who_calls_and_by_which_certificate() {
    let world = World::new().await;
    let agent = world.ca.agent("db1");
    let said = who_am_i(world.channel(&agent)).await.unwrap();
    assert_eq!(said, format!("agent istanbul/db1 {}", agent.own().serial));
}

#[tokio::test]
async fn roles_are_looked_up_for_operators_and_agents_have_none() {
    let world = World::new().await;
    for (credentials, code) in [
        (world.ca.operator("viewer"), Code::Unimplemented),
        (world.ca.operator("admin"), Code::Unimplemented),
        (world.ca.operator("dismissed"), Code::PermissionDenied),
        (world.ca.agent("admin"), Code::PermissionDenied),
    ] {
        let status = call_status(world.channel(&credentials)).await;
        assert_eq!(status.code(), code, "{}: {status:?}", credentials.own().identity);
    }
    let by_operator = who_am_i(world.channel(&world.ca.operator("admin"))).await.unwrap_err();
    assert_eq!(by_operator.code(), Code::PermissionDenied, "Renew is for agents: {by_operator:?}");
}

#[tokio::test]
async fn bad_client_certificates_are_refused_at_the_handshake() {
    let world = World::new().await;
    let foreign = Ca::new();
    // Signed by a foreign CA, shown to a server whose CA it trusts.
    let foreign_leaf = {
        let key = muster_identity::key::KeyPair::generate().unwrap();
        let csr = muster_identity::csr::Csr::parse(&muster_identity::csr::Csr::request(&key).unwrap()).unwrap();
        let issued = foreign.authority.issue_operator(&csr, &name("admin"), now(), DAY).unwrap();
        Credentials::from_pem(world.ca.authority.pem(), &issued.pem, key).unwrap()
    };
    let refused = [
        ("expired", world.ca.credentials(|ca, csr| ca.issue_operator(csr, &name("admin"), ago(2 * DAY), DAY).unwrap())),
        ("not yet valid", world.ca.credentials(|ca, csr| ca.issue_operator(csr, &name("admin"), ahead(DAY), DAY).unwrap())),
        ("of a foreign CA", foreign_leaf),
        ("for servers only", world.ca.controller()),
    ];
    for (n, (what, credentials)) in refused.into_iter().enumerate() {
        // Health passes without a certificate; a bad one is worse than none.
        let status = check_health(world.channel(&credentials)).await.unwrap_err();
        assert!(client::explain(&status).contains("alert"), "{what}: {}", client::explain(&status));
        assert_eq!(world.tls.refused(), n as u64 + 1, "{what}");
    }
    let within_tolerance =
        world.ca.credentials(|ca, csr| ca.issue_operator(csr, &name("admin"), ahead(Duration::from_secs(240)), DAY).unwrap());
    check_health(world.channel(&within_tolerance)).await.unwrap();
}

#[tokio::test]
async fn bad_servers_are_refused_by_the_client() {
    let ca = Ca::new();
    let operator = ca.operator("admin");
    let shown = [
        ("expired", ca.credentials(|ca, csr| ca.issue_controller(csr, &[], ago(2 * DAY), DAY).unwrap()), "expired"),
        ("not yet valid", ca.credentials(|ca, csr| ca.issue_controller(csr, &[], ahead(DAY), DAY).unwrap()), "not valid yet"),
        ("an agent", ca.agent("db1"), "the server is agent istanbul/db1, not controller"),
        ("an operator", ca.operator("admin"), "invalid peer certificate"),
        ("a foreign controller", Ca::new().controller(), "another CA signed it"),
    ];
    for (what, credentials, expected) in shown {
        let world = World::with(Ca::new(), &credentials, Limits::default()).await;
        let status = check_health(world.channel(&operator)).await.unwrap_err();
        assert!(client::explain(&status).contains(expected), "{what}: {}", client::explain(&status));
    }
}

#[tokio::test]
async fn a_peer_is_known_by_its_identity_whatever_its_address() {
    let ca = Ca::new();
    let (ankara, istanbul) = (ca.agent("ankara"), ca.agent("istanbul"));
    let world = World::with(ca, &ankara, Limits::default()).await;
    let peer = |agent: &str| Identity::Agent { site: name("istanbul"), agent: name(agent) };
    let right = client::channel(ReloadableClient::of(&istanbul, peer("ankara")).unwrap(), vec![world.endpoint()]);
    check_health(right).await.unwrap();
    let wrong = client::channel(ReloadableClient::of(&istanbul, peer("izmir")).unwrap(), vec![world.endpoint()]);
    assert!(check_health(wrong).await.is_err());
}

#[tokio::test]
async fn revocation_refuses_the_next_call_of_a_live_connection() {
    let world = World::new().await;
    let (agent, other) = (world.ca.agent("db1"), world.ca.agent("db2"));
    let (channel, others) = (world.channel(&agent), world.channel(&other));
    who_am_i(channel.clone()).await.unwrap();
    who_am_i(others.clone()).await.unwrap();

    let session = {
        let (revocations, certificate) = (world.revocations.clone(), agent.own().clone());
        tokio::spawn(async move { revocations.until_revoked(&certificate).await })
    };
    world.revocations.revoke_serial(other.own().serial.clone());
    who_am_i(channel.clone()).await.unwrap();
    assert!(!session.is_finished());
    world.revocations.revoke_serial(agent.own().serial.clone());
    tokio::time::timeout(BOUND, session).await.unwrap().unwrap();
    for channel in [channel, others] {
        let status = who_am_i(channel.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains("revoked"), "{status:?}");
        assert_eq!(check_health(channel).await.unwrap_err().code(), Code::Unauthenticated, "who is shut out sees not even health");
    }
}

#[tokio::test]
async fn revocation_ends_the_streams_that_are_open_and_no_others() {
    let world = World::new().await;
    set_serving(&world.health, true).await;
    let (ayse, can) = (world.ca.operator("viewer"), world.ca.operator("admin"));
    let watch = async |credentials: &Credentials| {
        let mut client = HealthClient::new(world.channel(credentials));
        let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    };
    let (mut of_ayse, mut of_can) = (watch(&ayse).await, watch(&can).await);
    let refused = world.gate.refused();
    world.revocations.revoke_key(ayse.own().key_fingerprint);
    let status = tokio::time::timeout(BOUND, of_ayse.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("operator viewer is revoked"), "{status:?}");
    assert_eq!(world.gate.refused(), refused + 1);
    set_serving(&world.health, false).await;
    of_can.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_ends_when_its_callers_certificate_runs_out() {
    let _clock = right_clock().await;
    let world = World::new().await;
    set_serving(&world.health, true).await;
    let short = world.ca.credentials(|ca, csr| ca.issue_operator(csr, &name("viewer"), now(), Duration::from_secs(3)).unwrap());
    let mut client = HealthClient::new(world.channel(&short));
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let status = tokio::time::timeout(BOUND, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("expired"), "{status:?}");
    assert!(now() > short.own().not_after);
}

#[tokio::test]
async fn a_revoked_key_takes_its_renewed_certificates_along() {
    let world = World::new().await;
    let key = muster_identity::key::KeyPair::generate().unwrap();
    let renewed = |key: &muster_identity::key::KeyPair| {
        let csr = muster_identity::csr::Csr::parse(&muster_identity::csr::Csr::request(key).unwrap()).unwrap();
        let issued = world.ca.authority.issue_agent(&csr, &name("istanbul"), &name("db1"), now(), AGENT_LIFE).unwrap();
        let key = muster_identity::key::KeyPair::from_pem(&key.to_pem(), "test").unwrap();
        Credentials::from_pem(world.ca.authority.pem(), &issued.pem, key).unwrap()
    };
    let (first, second) = (renewed(&key), renewed(&key));
    world.revocations.revoke_key(key.fingerprint());
    for credentials in [first, second] {
        assert_eq!(who_am_i(world.channel(&credentials)).await.unwrap_err().code(), Code::Unauthenticated);
    }
    who_am_i(world.channel(&world.ca.agent("db1"))).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_runs_out_on_a_live_connection_is_refused_at_the_next_call() {
    let world = World::new().await;
    let short =
        world.ca.credentials(|ca, csr| ca.issue_agent(csr, &name("istanbul"), &name("db1"), now(), Duration::from_secs(600)).unwrap());
    let channel = world.channel(&short);
    who_am_i(channel.clone()).await.unwrap();
    // Other tests' certificates live for 30 days: an hour more changes nothing for them.
    let status = with_gate_ahead(Duration::from_secs(3_600), who_am_i(channel.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("expired"), "{status:?}");
}

#[tokio::test]
async fn tls_1_2_and_plain_bytes_are_refused_and_silence_holds_up_nobody() {
    let world = World::new().await;
    let silent: Vec<TcpStream> = {
        let mut streams = Vec::new();
        for _ in 0..50 {
            streams.push(TcpStream::connect(world.address).await.unwrap());
        }
        streams
    };
    check_health(world.channel(&world.ca.operator("admin"))).await.unwrap();

    let mut plain = TcpStream::connect(world.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(BOUND, plain.read_to_end(&mut rest)).await.unwrap().unwrap_or_default();
    assert!(rest.len() < 64, "at most an alert: {rest:?}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.ca.authority.certificate().clone()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.address).await.unwrap();
    let shaken = tokio_rustls::TlsConnector::from(Arc::new(old)).connect("localhost".try_into().unwrap(), stream).await;
    assert!(shaken.unwrap_err().to_string().contains("ProtocolVersion"));
    drop(silent);
}

#[tokio::test]
async fn no_session_is_resumed_so_that_every_connection_is_judged_anew() {
    let world = World::new().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.ca.authority.certificate().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    for _ in 0..3 {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        // The server's first frame: a ticket would have come before it.
        stream.read_exact(&mut [0; 9]).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_silent_connection_is_ended_after_the_handshakes_time() {
    let world = World::new().await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut rest = Vec::new();
    tokio::time::timeout(BOUND, silent.read_to_end(&mut rest)).await.unwrap().unwrap_or_default();
    assert!(started.elapsed() >= Duration::from_secs(4) && started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn those_without_a_certificate_cannot_take_the_places_of_the_others() {
    let ca = Ca::new();
    let controller = ca.controller();
    let world = World::with(ca, &controller, Limits { connections: 64, anonymous: 2, ..Limits::default() }).await;
    let token =
        JoinToken { endpoints: vec![world.endpoint()], authority: world.ca.authority.fingerprint(), secret: JoinSecret::generate() };
    let mut anonymous = Vec::new();
    for _ in 0..2 {
        let channel = muster_identity::bootstrap::channel(&token).unwrap();
        check_health(channel.clone()).await.unwrap();
        anonymous.push(channel);
    }
    check_health(muster_identity::bootstrap::channel(&token).unwrap()).await.unwrap_err();
    check_health(world.channel(&world.ca.operator("admin"))).await.unwrap();
    drop(anonymous);
    let freed = async {
        while check_health(muster_identity::bootstrap::channel(&token).unwrap()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, freed).await.unwrap();
}

#[tokio::test]
async fn a_connection_without_a_certificate_ends_after_its_time_and_others_live_on() {
    let ca = Ca::new();
    let controller = ca.controller();
    let limits = Limits { anonymous_life: Duration::from_secs(1), ..Limits::default() };
    let world = World::with(ca, &controller, limits).await;
    set_serving(&world.health, true).await;
    let token =
        JoinToken { endpoints: vec![world.endpoint()], authority: world.ca.authority.fingerprint(), secret: JoinSecret::generate() };
    let watch = async |channel| HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut known = watch(world.channel(&world.ca.operator("viewer"))).await;
    known.message().await.unwrap().unwrap();
    let mut anonymous = watch(muster_identity::bootstrap::channel(&token).unwrap()).await;
    anonymous.message().await.unwrap().unwrap();
    tokio::time::timeout(BOUND, anonymous.message()).await.unwrap().unwrap_err();
    set_serving(&world.health, false).await;
    known.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn the_next_endpoint_is_tried_where_one_is_down_or_not_the_controller() {
    let world = World::new().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let imposter = World::new().await;
    let endpoints = vec![closed.to_string().parse().unwrap(), imposter.endpoint(), world.endpoint()];
    let client = ReloadableClient::new(&world.ca.agent("db1")).unwrap();
    who_am_i(client::channel(client.clone(), endpoints.clone())).await.unwrap();

    let status = who_am_i(client::channel(client, endpoints[..2].to_vec())).await.unwrap_err();
    let text = client::explain(&status);
    assert!(text.contains(&format!("{closed}: ")) && text.contains(&format!("{}: invalid peer", imposter.address)), "{text}");
}

#[tokio::test]
async fn shutdown_ends_the_accepting_and_unfinished_handshakes() {
    let world = World::new().await;
    let mut waiting = TcpStream::connect(world.address).await.unwrap();
    check_health(world.channel(&world.ca.operator("admin"))).await.unwrap();
    world.shutdown.cancel();
    let mut rest = Vec::new();
    let started = tokio::time::Instant::now();
    tokio::time::timeout(BOUND, waiting.read_to_end(&mut rest)).await.unwrap().unwrap_or_default();
    assert!(started.elapsed() < Duration::from_secs(3), "ended by the shutdown, not by the handshake's time: {:?}", started.elapsed());
    let refused = async {
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(BOUND, refused).await.unwrap();
}
