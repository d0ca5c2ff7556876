//! A declared route: whether it makes sense, alone and with the component and sites that it names, and what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use muster_common::name::Name;
use muster_routes::dns::Primary;
use muster_routes::domain::Domain;
use muster_routes::exchange::Transport;
use muster_routes::key::KeyFile;
use muster_routes::provider::Provider;
use muster_routes::route::{MOST_SERVERS, Route};
use muster_routes::standing::Target;
use muster_wire::convert::duration_from_proto;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::route_spec::Provider as Declares;
use muster_wire::proto::v1::{RouteSpec, RouteTarget};

use super::form::Problems;
use super::references::meant;
use super::{Declared, Kind};

/// The most sites of one route.
const MOST_TARGETS: usize = 32;
/// The most addresses at one site.
const MOST_ADDRESSES: usize = 16;
/// The TTL in peace, where none is declared.
const TTL: Duration = Duration::from_secs(30);
/// The TTL of a move, where none is declared.
const MOVING_TTL: Duration = Duration::from_secs(5);
/// The longest TTL.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Adds what is wrong with it, seen alone.
pub(super) fn check(spec: &RouteSpec, problems: &mut Problems) {
    read(spec, problems);
}

/// What it means. `None`: something is wrong with it, which a declared one never has.
#[must_use]
pub fn meaning(spec: &RouteSpec) -> Option<Route> {
    read(spec, &mut Problems::default())
}

fn read(spec: &RouteSpec, problems: &mut Problems) -> Option<Route> {
    problems.name("component", &spec.component);
    let name = domain("name", &spec.name, problems);
    let zone = domain("zone", &spec.zone, problems);
    if let (Some(name), Some(zone)) = (&name, &zone)
        && (!name.is_in(zone) || name == zone)
    {
        problems.add("name", format!("{name} does not lie below the zone {zone}"));
    }
    let sites = targets(&spec.targets, problems);
    let ttl = ttl("ttl", spec.ttl.as_ref(), TTL, problems);
    let moving_ttl = self::ttl("movingTtl", spec.moving_ttl.as_ref(), MOVING_TTL.min(Duration::from_secs(ttl.into())), problems);
    if moving_ttl > ttl {
        problems.add("movingTtl", format!("{moving_ttl} s is longer than ttl, {ttl} s"));
    }
    let servers = addresses("servers", &spec.servers, problems);
    let resolvers = addresses("resolvers", &spec.resolvers, problems);
    let provider = match &spec.provider {
        None => {
            problems.add(
                "provider",
                "missing; expected dns, for example `dns: {server: \"10.1.0.53:53\", tsigKeyFile: /etc/muster/mover.key}`",
            );
            None
        }
        Some(Declares::Dns(dns)) => {
            problems.path("dns.tsigKeyFile", &dns.tsig_key_file);
            let transport = if dns.udp { Transport::Udp } else { Transport::Tcp };
            let key = KeyFile(PathBuf::from(&dns.tsig_key_file));
            address("dns.server", &dns.server, problems).map(|server| Provider::Dns(Primary { server, transport, key }))
        }
    };
    Some(Route { name: name?, zone: zone?, provider: provider?, sites, ttl, moving_ttl, servers, resolvers })
}

fn domain(field: &str, text: &str, problems: &mut Problems) -> Option<Domain> {
    text.parse().map_err(|error: muster_routes::domain::InvalidDomain| problems.add(field, error.to_string())).ok()
}

fn address(field: &str, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let read = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if read.is_none() {
        problems.add(field, format!("{text:.80?} is no ADDRESS:PORT, as 10.1.0.53:53 is"));
    }
    read
}

fn addresses(field: &str, texts: &[String], problems: &mut Problems) -> Vec<SocketAddr> {
    if texts.len() > MOST_SERVERS {
        problems.add(field, format!("{} of them; {MOST_SERVERS} is the bound", texts.len()));
    }
    let read = texts.iter().take(MOST_SERVERS).enumerate();
    read.filter_map(|(n, text)| address(&format!("{field}[{n}]"), text, problems)).collect()
}

/// In whole seconds.
fn ttl(field: &str, declared: Option<&prost_types::Duration>, default: Duration, problems: &mut Problems) -> u32 {
    let read = declared.map_or(Some(default), |declared| duration_from_proto(declared, field).ok());
    let fits = read.filter(|ttl| (Duration::from_secs(1)..=LONGEST).contains(ttl) && ttl.subsec_nanos() == 0);
    let Some(ttl) = fits else {
        problems.add(field, "expected whole seconds, 1s to 1d");
        return 1;
    };
    u32::try_from(ttl.as_secs()).unwrap_or(1)
}

fn targets(declared: &[RouteTarget], problems: &mut Problems) -> BTreeMap<Name, Target> {
    if declared.is_empty() || declared.len() > MOST_TARGETS {
        problems.add("targets", format!("{} of them; expected 1 to {MOST_TARGETS}", declared.len()));
    }
    let mut targets = BTreeMap::new();
    for (n, target) in declared.iter().take(MOST_TARGETS).enumerate() {
        let field = format!("targets[{n}]");
        problems.name(&format!("{field}.site"), &target.site);
        let points = match (target.addresses.as_slice(), target.alias.as_str()) {
            ([], "") => {
                problems.add(&field, "expected addresses or an alias");
                None
            }
            ([], alias) => domain(&format!("{field}.alias"), alias, problems).map(Target::Alias),
            (addresses, "") => Some(Target::Addresses(all_addresses(&field, addresses, problems))),
            (_, _) => {
                problems.add(&field, "expected addresses or an alias, not both: beside a CNAME nothing may stand");
                None
            }
        };
        if let (Ok(site), Some(points)) = (target.site.parse::<Name>(), points)
            && targets.insert(site, points).is_some()
        {
            problems.add(&format!("{field}.site"), format!("{} is there twice", target.site));
        }
    }
    let aliases = targets.values().filter(|target| matches!(target, Target::Alias(_))).count();
    if aliases != 0 && aliases != targets.len() {
        problems.add("targets", "expected addresses at every site, or an alias at every site: a server may keep half of such a change");
    }
    targets
}

fn all_addresses(field: &str, texts: &[String], problems: &mut Problems) -> BTreeSet<IpAddr> {
    if texts.len() > MOST_ADDRESSES {
        problems.add(&format!("{field}.addresses"), format!("{} of them; {MOST_ADDRESSES} is the bound", texts.len()));
    }
    let mut read = BTreeSet::new();
    for text in texts.iter().take(MOST_ADDRESSES) {
        match text.parse() {
            Ok(address) => drop(read.insert(address)),
            Err(_) => problems.add(&format!("{field}.addresses"), format!("{text:.80?} is no IP address")),
        }
    }
    read
}

/// What is wrong with routes beside what they name.
#[must_use]
pub fn problems(declared: &Declared) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<&str, &Name> = BTreeMap::new();
    for (route, spec) in routes(declared) {
        if let Some(other) = names.insert(spec.name.as_str(), route) {
            problems.push(format!("routes {other} and {route} both move {}", spec.name));
        }
        if !declared.has(Kind::Component, &spec.component) {
            let near = meant(&spec.component, declared.names(Kind::Component));
            problems.push(format!("route {route}: component {:?} is not declared{near}", spec.component));
            continue;
        }
        for target in spec.targets.iter().filter(|target| !declared.has(Kind::Site, &target.site)) {
            let near = meant(&target.site, declared.names(Kind::Site));
            problems.push(format!("route {route}: site {:?} is not declared{near}", target.site));
        }
        let stands = declared.instances().filter(|instance| instance.name.component.as_str() == spec.component);
        let sites: BTreeSet<String> = stands.map(|instance| instance.site.to_string()).collect();
        for site in sites.iter().filter(|site| !spec.targets.iter().any(|target| target.site == **site)) {
            problems.push(format!("route {route}: there is no target for site {site}, where an instance of {} stands", spec.component));
        }
    }
    problems
}

/// Every route.
pub fn routes(declared: &Declared) -> impl Iterator<Item = (&Name, &RouteSpec)> {
    declared.iter().filter_map(|(_, name, resource)| match &resource.spec {
        Some(Spec::Route(spec)) => Some((name, spec)),
        Some(Spec::Site(_) | Spec::Repository(_) | Spec::Component(_) | Spec::Schedule(_)) | None => None,
    })
}

/// The routes that follow a component.
pub fn of_component<'a>(declared: &'a Declared, component: &'a Name) -> impl Iterator<Item = (&'a Name, &'a RouteSpec)> {
    routes(declared).filter(|(_, spec)| spec.component == component.as_str())
}

#[cfg(test)]
mod tests {
    use muster_wire::yaml;

    use super::*;
    use crate::inventory::form;

    const GOOD: &str = "kind: Route\nname: orders\nspec:\n  component: orders-db\n  name: orders.example.com\n  zone: example.com\n  targets:\n  \
        - {site: istanbul, addresses: [10.1.0.5]}\n  - {site: ankara, addresses: [10.2.0.5, \"fd00::5\"]}\n  ttl: 20s\n  \
        dns: {server: \"10.1.0.53:53\", tsigKeyFile: /etc/muster/mover.key}\n";

    fn told(text: &str) -> Vec<String> {
        let resources = yaml::parse(text, "a.yaml").unwrap();
        form::problems(resources[0].spec.as_ref().unwrap())
    }

    #[test]
    fn a_route_that_makes_sense_means_what_it_says() {
        assert_eq!(told(GOOD), Vec::<String>::new());
        let resources = yaml::parse(GOOD, "a.yaml").unwrap();
        let Some(Spec::Route(spec)) = &resources[0].spec else { panic!("{resources:?}") };
        let route = meaning(spec).unwrap();
        assert_eq!((route.name.as_str(), route.ttl, route.moving_ttl), ("orders.example.com", 20, 5));
        assert_eq!(route.sites.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_field() {
        for (from, to, field) in [
            ("name: orders.example.com", "name: orders.example.org", "name: orders.example.org does not lie below"),
            ("name: orders.example.com", "name: \"a b\"", "name: "),
            ("addresses: [10.1.0.5]", "addresses: [10.1.0]", "targets[0].addresses"),
            ("addresses: [10.1.0.5]", "alias: db.example.com", "targets: expected addresses at every site"),
            ("addresses: [10.1.0.5]", "alias: db.example.com, addresses: [10.1.0.5]", "targets[0]: expected addresses or an alias"),
            ("site: ankara", "site: istanbul", "targets[1].site: istanbul is there twice"),
            ("ttl: 20s", "ttl: 2s\n  movingTtl: 3s", "movingTtl: 3 s is longer than ttl"),
            ("ttl: 20s", "ttl: 2d", "ttl: expected whole seconds"),
            ("10.1.0.53:53", "dns.example.com:53", "dns.server"),
            ("/etc/muster/mover.key", "mover.key", "dns.tsigKeyFile"),
            ("  dns: {server: \"10.1.0.53:53\", tsigKeyFile: /etc/muster/mover.key}\n", "", "provider: missing"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            assert!(told(&text).iter().any(|problem| problem.starts_with(field)), "{field}: {:?}", told(&text));
        }
    }
}
