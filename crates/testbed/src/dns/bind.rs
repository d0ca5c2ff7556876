//! BIND 9: a primary with a policy, or a secondary of one.

use std::net::SocketAddr;

use anyhow::Result;

use crate::account::RunAs;
use crate::dns::{KEY, NameServer, SECRET, ZONE, zone_file};
use crate::port::Port;
use crate::world::World;

/// What a primary lets the key do.
pub const ALL: &str = "allow-update { key mover; };";

/// A policy that lets it change addresses only: its TXT is refused.
pub const ADDRESSES_ONLY: &str = "update-policy { grant mover zonesub A AAAA CNAME; };";

/// How a primary is started.
#[derive(Clone, Debug)]
pub struct Primary<'a> {
    /// Its name in the world.
    pub name: &'a str,
    /// What stands in its zone's block: [`ALL`], [`ADDRESSES_ONLY`].
    pub policy: &'a str,
    /// The key's algorithm.
    pub algorithm: &'a str,
}

impl<'a> Primary<'a> {
    /// One that allows the key everything, by hmac-sha256.
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self { name, policy: ALL, algorithm: "hmac-sha256" }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where it is not installed or does not listen.
    pub async fn start(self, world: &World) -> Result<NameServer> {
        let folder = world.folder(self.name, RunAs::Postgres)?;
        let zone = zone_file(world, self.name)?;
        let body = format!("type primary; file \"{}\"; notify no; allow-transfer {{ any; }}; {}", zone.display(), self.policy);
        start(world, self.name, &folder.display().to_string(), self.algorithm, &body).await
    }
}

/// Starts a secondary of `primary`: nobody tells it of changes, so that what it serves is old until the zone's refresh.
///
/// # Errors
/// Where it is not installed or does not listen.
pub async fn secondary(world: &World, name: &str, primary: SocketAddr) -> Result<NameServer> {
    let folder = world.folder(name, RunAs::Postgres)?.display().to_string();
    let body = format!(
        "type secondary; file \"{folder}/copy\"; primaries {{ {} port {}; }}; allow-notify {{ any; }}; notify no; transfer-source 127.0.0.1;",
        primary.ip(),
        primary.port()
    );
    start(world, name, &folder, "hmac-sha256", &body).await
}

async fn start(world: &World, name: &str, folder: &str, algorithm: &str, body: &str) -> Result<NameServer> {
    let port = Port::take()?;
    let text = format!(
        "key \"{KEY}\" {{ algorithm {algorithm}; secret \"{SECRET}\"; }};\n\
         options {{ directory \"{folder}\"; pid-file none; session-keyfile \"{folder}/session.key\"; listen-on port {} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; managed-keys-directory \"{folder}\"; allow-query {{ any; }}; }};\n\
         controls {{ }};\nzone \"{ZONE}\" {{ {body} }};\n",
        port.number()
    );
    let file = world.file(&format!("{name}/named.conf"), &text, RunAs::Postgres, 0o600)?;
    NameServer::begin(world, name, port, "/usr/sbin/named", &["-g", "-n", "1", "-c", &file.display().to_string()], Vec::new()).await
}
