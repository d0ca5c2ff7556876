//! Each refusal that a real server can produce is told in its own words.

use anyhow::Result;
use muster_common::fault::{Effect, Fault};
use muster_routes::domain::Domain;
use muster_routes::exchange::Transport;
use muster_routes::route::Route;
use muster_routes::standing::Marked;
use muster_testbed::dns::{KEY, NameServer, SECRET, bind, key_file, knot};
use muster_testbed::faketime::SteppedClock;
use muster_testbed::world::World;

use crate::place::{lines, route, site};

const OTHER: &str = "YW5vdGhlci1zZWNyZXQtb2YtdGhlLXRlc3QtMDEyMzQ=";

async fn refused(route: &Route) -> Fault {
    let fault = route.adopt(&site("istanbul"), &lines().0).await.expect_err("a refusal");
    assert!(!fault.hint.is_empty(), "{fault}");
    assert!(!fault.to_string().contains(SECRET) && !fault.to_string().contains(OTHER), "a secret in a fault");
    fault
}

async fn wrong_keys(world: &World, server: &NameServer) -> Result<()> {
    let unknown = route(server.address(), key_file(world, "unknown", "stranger", SECRET, "hmac-sha256")?, Transport::Udp);
    let fault = refused(&unknown).await;
    assert!(fault.message.contains("BADKEY") && fault.hint.contains("stranger"), "{fault}");
    let wrong = route(server.address(), key_file(world, "wrong", KEY, OTHER, "hmac-sha256")?, Transport::Udp);
    let fault = refused(&wrong).await;
    assert!(fault.message.contains("BADSIG") && fault.hint.contains("tsigKeyFile"), "{fault}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_secret_are_told_apart_by_both_servers() -> Result<()> {
    let world = World::new()?;
    wrong_keys(&world, &bind::Primary::new("bind").start(&world).await?).await?;
    wrong_keys(&world, &knot::primary(&world, "knot", "hmac-sha256").await?).await
}

#[tokio::test]
async fn clocks_that_are_apart_are_told_with_both_times() -> Result<()> {
    let world = World::new()?;
    let clock = SteppedClock::new(&world, "knot")?;
    clock.step(-3_600)?;
    let server = knot::with_clock(&world, "knot", "hmac-sha256", clock.environment()).await?;
    let fault = refused(&route(server.address(), key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp)).await;
    assert!(fault.message.contains("BADTIME"), "{fault}");
    assert!(fault.evidence.iter().any(|seen| seen.contains("this machine's clock: 20") && seen.contains("the server's: 20")), "{fault}");
    Ok(())
}

#[tokio::test]
async fn a_policy_that_forbids_the_mark_is_refused_and_the_name_stays() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary { policy: bind::ADDRESSES_ONLY, ..bind::Primary::new("bind") }.start(&world).await?;
    let route = route(server.address(), key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp);
    let before = route.provider.read(&route.zone, &route.name).await?;
    let fault = refused(&route).await;
    assert!(fault.message.contains("REFUSED") && fault.hint.contains("update-policy"), "{fault}");
    assert_eq!((fault.effect, route.provider.read(&route.zone, &route.name).await?), (Effect::None, before));
    Ok(())
}

#[tokio::test]
async fn a_zone_that_is_not_its_own_is_refused_by_both_servers() -> Result<()> {
    let world = World::new()?;
    for server in [bind::Primary::new("bind").start(&world).await?, knot::primary(&world, "knot", "hmac-sha256").await?] {
        let mut route = route(server.address(), key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp);
        route.zone = "foreign.test".parse()?;
        route.name = "orders.foreign.test".parse()?;
        let fault = refused(&route).await;
        assert!(["REFUSED", "NOTAUTH", "not authoritative"].iter().any(|word| fault.message.contains(word)), "{fault}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cname_beside_a_txt_is_refused_before_the_server_drops_half_of_it() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary::new("bind").start(&world).await?;
    let mut route = route(server.address(), key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp);
    route.name = "mixed.example.test".parse::<Domain>()?;
    let fault = route.adopt(&site("izmir"), &lines().0).await.expect_err("beside a TXT no CNAME may stand");
    assert!(fault.message.contains("YXDOMAIN"), "{fault}");
    let stands = route.provider.read(&route.zone, &route.name).await?;
    assert_eq!((stands.records, stands.mark), (None, Marked::Nothing));
    Ok(())
}

#[tokio::test]
async fn a_silent_server_and_a_closed_port_are_told_apart() -> Result<()> {
    let world = World::new()?;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    let key = key_file(&world, "key", KEY, SECRET, "hmac-sha256")?;
    let fault = refused(&route(silent.local_addr()?, key.clone(), Transport::Udp)).await;
    assert!(fault.message.contains("no answer within"), "{fault}");
    let address = silent.local_addr()?;
    let fault = refused(&route(address, key, Transport::Tcp)).await;
    assert!(fault.message.contains("refused") && fault.hint.contains("listens"), "{fault}");
    Ok(())
}

#[tokio::test]
async fn a_lost_reply_is_resolved_by_reading() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary::new("bind").start(&world).await?;
    // Lets everything through to the server and loses the answers to updates (opcode 5).
    let proxy = std::sync::Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await?);
    let address = proxy.local_addr()?;
    let target = server.address();
    let cut = tokio::spawn(async move {
        let mut bytes = vec![0; 65_535];
        while let Ok((length, from)) = proxy.recv_from(&mut bytes).await {
            let question = bytes[..length].to_vec();
            let proxy = proxy.clone();
            tokio::spawn(async move {
                let Ok(behind) = tokio::net::UdpSocket::bind("127.0.0.1:0").await else { return };
                let mut answer = vec![0; 65_535];
                if behind.send_to(&question, target).await.is_ok()
                    && let Ok(length) = behind.recv(&mut answer).await
                    && answer[2] >> 3 & 0x0f != 5
                {
                    proxy.send_to(&answer[..length], from).await.ok();
                }
            });
        }
    });
    let route = route(address, key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp);
    let adopted = route.adopt(&site("istanbul"), &lines().0).await;
    cut.abort();
    let adopted = adopted?;
    assert_eq!(adopted.now.mark, muster_routes::standing::Marked::Reign(crate::place::mark(1, 1)));
    Ok(())
}
