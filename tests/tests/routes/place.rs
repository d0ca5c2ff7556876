//! What the tests of routes share: reigns, a route at a server, what is seen there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use muster_common::counter::Epoch;
use muster_common::id::ReignId;
use muster_failover::reign::{Line, Mark};
use muster_routes::dns::Primary;
use muster_routes::exchange::Transport;
use muster_routes::key::KeyFile;
use muster_routes::provider::Provider;
use muster_routes::route::Route;
use muster_routes::standing::Target;
use muster_testbed::dns::ZONE;

/// A reign.
pub fn mark(epoch: u64, id: u8) -> Mark {
    Mark { epoch: Epoch(epoch), id: ReignId::from_bytes([id; 16]) }
}

/// The first reign's line and the one that goes on from it.
pub fn lines() -> (Line, Line) {
    let first = Line::of(mark(1, 1));
    let second = first.then(mark(2, 2));
    (first, second)
}

/// One address.
pub fn address(text: &str) -> Target {
    Target::Addresses(BTreeSet::from([text.parse::<IpAddr>().expect("an address")]))
}

/// The name `orders` at a server: istanbul is 10.0.0.1, ankara 10.0.0.2 and an IPv6 address, izmir a CNAME.
pub fn route(server: SocketAddr, key: PathBuf, transport: Transport) -> Route {
    let provider = Provider::Dns(Primary { server, transport, key: KeyFile(key) });
    of(provider, vec![server])
}

/// The same with any provider.
pub fn of(provider: Provider, servers: Vec<SocketAddr>) -> Route {
    let both = BTreeSet::from(["10.0.0.2", "fd00::2"].map(|text| text.parse::<IpAddr>().expect("an address")));
    let sites = BTreeMap::from([
        ("istanbul".parse().expect("a name"), address("10.0.0.1")),
        ("ankara".parse().expect("a name"), Target::Addresses(both)),
        ("izmir".parse().expect("a name"), Target::Alias(format!("db.izmir.{ZONE}").parse().expect("a name"))),
    ]);
    Route {
        name: format!("orders.{ZONE}").parse().expect("a name"),
        zone: ZONE.parse().expect("a name"),
        provider,
        sites,
        ttl: 60,
        moving_ttl: 2,
        servers,
        resolvers: Vec::new(),
    }
}

/// A site's name.
pub fn site(name: &str) -> muster_common::name::Name {
    name.parse().expect("a name")
}
