//! A name is adopted, moved, moved on; who comes late or back moves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use muster_common::fault::ErrorKind;
use muster_routes::exchange::Transport;
use muster_routes::standing::{Marked, Target};
use muster_testbed::dns::{KEY, NameServer, SECRET, bind, key_file, knot};
use muster_testbed::world::World;

use crate::place::{lines, mark, route, site};

async fn whole_life(world: &World, server: &NameServer, algorithm: &str, transport: Transport) -> Result<()> {
    let key = key_file(world, "key", KEY, SECRET, algorithm)?;
    let route = route(server.address(), key, transport);
    let (first, second) = lines();
    let unadopted = route.cut_over(&site("ankara"), &second).await.expect_err("nobody's name");
    assert!(unadopted.hint.contains("adopt"), "{unadopted}");
    assert_eq!(route.adopt(&site("ankara"), &first).await.expect_err("it points elsewhere").kind, ErrorKind::Conflict);

    route.adopt(&site("istanbul"), &first).await?;
    assert_eq!(route.preflight(&first).await?.mark, Marked::Reign(mark(1, 1)));
    let lowered = route.lower_ttl(&first).await?;
    assert_eq!((lowered.old_ttl(), lowered.now.records.map(|records| records.ttl)), (60, Some(2)));

    let moved = route.cut_over(&site("ankara"), &second).await?;
    assert_eq!((moved.old_ttl(), &moved.now.mark), (2, &Marked::Reign(mark(2, 2))));
    assert_eq!(route.cut_over(&site("ankara"), &second).await?.before, moved.now, "asked for again: found done");
    assert_eq!(route.settled(&site("ankara"), Duration::from_secs(5)).await?.moved, [server.address()]);

    // H15: the controller of the first reign comes back and "repairs" the name.
    let repair = route.cut_over(&site("istanbul"), &first).await.expect_err("an old controller moves nothing");
    assert_eq!(repair.kind, ErrorKind::Conflict, "{repair}");
    assert!(repair.message.contains("epoch 2") && repair.evidence.iter().any(|seen| seen.contains("10.0.0.2")), "{repair}");
    assert_eq!(route.provider.read(&route.zone, &route.name).await?, moved.now);

    let third = second.then(mark(3, 3));
    assert!(route.cut_over(&site("izmir"), &third).await.expect_err("a CNAME").message.contains("never changed into a CNAME"));
    route.cut_over(&site("istanbul"), &third).await?;
    let peace = route.restore_ttl(&third).await?;
    assert_eq!(peace.now.records.map(|records| records.ttl), Some(60));

    // A CNAME is moved the same way.
    let mut alias = route;
    alias.name = "alias.example.test".parse()?;
    let to = |name: &str| Ok::<_, anyhow::Error>(Target::Alias(name.parse()?));
    alias.sites = BTreeMap::from([(site("istanbul"), to("orders.example.test")?), (site("ankara"), to("db.ankara.example.test")?)]);
    alias.adopt(&site("istanbul"), &first).await?;
    let moved = alias.cut_over(&site("ankara"), &second).await?;
    assert_eq!(moved.now.records.map(|records| records.target), Some(to("db.ankara.example.test")?));
    alias.settled(&site("ankara"), Duration::from_secs(5)).await?;
    Ok(())
}

#[tokio::test]
async fn a_name_lives_through_moves_at_bind() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary::new("bind").start(&world).await?;
    whole_life(&world, &server, "hmac-sha256", Transport::Udp).await
}

#[tokio::test]
async fn a_name_lives_through_moves_at_bind_over_tcp_with_sha512() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary { algorithm: "hmac-sha512", ..bind::Primary::new("bind") }.start(&world).await?;
    whole_life(&world, &server, "hmac-sha512", Transport::Tcp).await
}

#[tokio::test]
async fn a_name_lives_through_moves_at_knot() -> Result<()> {
    let world = World::new()?;
    let server = knot::primary(&world, "knot", "hmac-sha256").await?;
    whole_life(&world, &server, "hmac-sha256", Transport::Udp).await
}

#[tokio::test]
async fn a_name_lives_through_moves_at_knot_over_tcp_with_sha512() -> Result<()> {
    let world = World::new()?;
    let server = knot::primary(&world, "knot", "hmac-sha512").await?;
    whole_life(&world, &server, "hmac-sha512", Transport::Tcp).await
}

#[tokio::test]
async fn of_two_who_move_a_name_at_once_one_wins_and_the_other_is_told_what_stands() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary::new("bind").start(&world).await?;
    let route = route(server.address(), key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp);
    let (first, second) = lines();
    route.adopt(&site("istanbul"), &first).await?;
    let rival = first.then(mark(2, 9));
    let (ankara, istanbul) = (site("ankara"), site("istanbul"));
    let (one, other) = tokio::join!(route.cut_over(&ankara, &second), route.cut_over(&istanbul, &rival));
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("one of them wins: {both:?}"),
    };
    assert_eq!(lost.kind, ErrorKind::Conflict, "{lost}");
    assert!(lost.evidence.iter().any(|seen| seen.contains("there stands")), "{lost}");
    assert_eq!(route.provider.read(&route.zone, &route.name).await?, won.now);
    Ok(())
}

#[tokio::test]
async fn a_secondary_that_lags_blocks_and_one_that_is_down_is_named_and_does_not() -> Result<()> {
    let world = World::new()?;
    let server = bind::Primary::new("bind").start(&world).await?;
    let lagging = bind::secondary(&world, "lagging", server.address()).await?;
    let mut route = route(server.address(), key_file(&world, "key", KEY, SECRET, "hmac-sha256")?, Transport::Udp);
    let (first, second) = lines();
    route.adopt(&site("istanbul"), &first).await?;
    let probe = muster_routes::exchange::Look { server: lagging.address(), transport: Transport::Udp, key: None, recursive: false };
    let name = route.name.clone();
    muster_testbed::eventually::until("the secondary to have its copy", Duration::from_secs(10), async || {
        Ok(probe.records(&name).await.is_ok_and(|found| !found.addresses.is_empty()))
    })
    .await?;
    route.servers.push(lagging.address());
    route.cut_over(&site("ankara"), &second).await?;
    let blocked = route.settled(&site("ankara"), Duration::from_millis(300)).await.expect_err("a secondary lags");
    assert!(blocked.evidence.iter().any(|seen| seen.contains(&lagging.address().to_string()) && seen.contains("10.0.0.1")), "{blocked}");
    lagging.process().kill()?;
    let judged = route.settled(&site("ankara"), Duration::from_secs(10)).await?;
    assert_eq!((judged.moved, judged.silent.len()), (vec![server.address()], 1));
    Ok(())
}
