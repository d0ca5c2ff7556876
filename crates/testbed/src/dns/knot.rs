//! Knot: a primary that lets the key change everything.

use anyhow::Result;

use crate::account::RunAs;
use crate::dns::{KEY, NameServer, SECRET, ZONE, zone_file};
use crate::port::Port;
use crate::world::World;

/// Starts a primary.
///
/// # Errors
/// Where it is not installed or does not listen.
pub async fn primary(world: &World, name: &str, algorithm: &str) -> Result<NameServer> {
    with_clock(world, name, algorithm, Vec::new()).await
}

/// Starts a primary with these variables, for a clock that is off. (BIND does not come up under libfaketime.)
///
/// # Errors
/// As [`primary`].
pub async fn with_clock(world: &World, name: &str, algorithm: &str, environment: Vec<(String, String)>) -> Result<NameServer> {
    let folder = world.folder(name, RunAs::Postgres)?.display().to_string();
    let zone = zone_file(world, name)?;
    let port = Port::take()?;
    let text = format!(
        "server:\n  listen: 127.0.0.1@{}\n  rundir: {folder}\ndatabase:\n  storage: {folder}\nlog:\n  - target: stdout\n    any: info\n\
         key:\n  - id: {KEY}\n    algorithm: {algorithm}\n    secret: {SECRET}\n\
         acl:\n  - id: move\n    key: {KEY}\n    action: [update]\n\
         zone:\n  - domain: {ZONE}\n    storage: {folder}\n    file: {}\n    acl: move\n    zonefile-sync: -1\n    zonefile-load: difference\n    journal-content: all\n",
        port.number(),
        zone.display()
    );
    let file = world.file(&format!("{name}/knot.conf"), &text, RunAs::Postgres, 0o600)?;
    NameServer::begin(world, name, port, "/usr/sbin/knotd", &["-c", &file.display().to_string()], environment).await
}
