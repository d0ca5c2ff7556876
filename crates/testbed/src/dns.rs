//! Real DNS servers on the loopback: BIND 9 and Knot, as the user `postgres` (neither needs rights on a high port), each with a
//! folder of its own in the world. A zone's key may change A, AAAA, CNAME and TXT; what a test forbids is said when it starts one.

pub mod bind;
pub mod knot;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::account::RunAs;
use crate::eventually::until;
use crate::port::Port;
use crate::process::Process;
use crate::world::World;

/// The zone that all of them serve.
pub const ZONE: &str = "example.test";

/// The key that they know.
pub const KEY: &str = "mover";

/// Its secret in base64.
pub const SECRET: &str = "bXVzdGVyLXRlc3QtYmVkLXNlY3JldC0wMTIzNDU2Nzg=";

/// How long a server may take to listen.
const STARTS: Duration = Duration::from_secs(20);

/// The zone as it is at first: `orders` points at 10.0.0.1.
const FIRST: &str = "$ORIGIN example.test.\n$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\norders A 10.0.0.1\nalias CNAME orders\nmixed TXT \"beside\"\n";

/// One running server.
#[derive(Debug)]
pub struct NameServer {
    port: Port,
    process: Process,
}

impl NameServer {
    /// Where it listens, UDP and TCP.
    ///
    /// # Panics
    /// Never: a port makes an address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// The process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    async fn begin(
        world: &World,
        name: &str,
        port: Port,
        program: &str,
        arguments: &[&str],
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let mut launch = world.launch(name, program, RunAs::Postgres);
        launch.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        launch.environment.extend(environment);
        let process = launch.start().with_context(|| format!("start {name}: {program} is installed by tools/setup"))?;
        let server = Self { port, process };
        let address = server.address();
        until(&format!("{name} to listen"), STARTS, async || Ok(tokio::net::TcpStream::connect(address).await.is_ok())).await?;
        Ok(server)
    }
}

/// Writes a key file for our side: the key with this name and secret.
///
/// # Errors
/// Where it cannot be written.
pub fn key_file(world: &World, file: &str, name: &str, secret: &str, algorithm: &str) -> Result<PathBuf> {
    world.file(file, &format!("key \"{name}\" {{\n\talgorithm {algorithm};\n\tsecret \"{secret}\";\n}};\n"), RunAs::Caller, 0o600)
}

fn zone_file(world: &World, folder: &str) -> Result<PathBuf> {
    world.file(&format!("{folder}/zone"), FIRST, RunAs::Postgres, 0o600)
}
