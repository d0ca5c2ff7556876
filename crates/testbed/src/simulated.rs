//! Agents without a process of their own, for crowds and floods: real TLS sessions, with certificates that the controller's own CA signed
//! on the spot (joining ten thousand agents is no subject here). And the administrator's own channel.
//!
//! It is the only part of the test bed that knows messages of the protocol.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_common::name::Name;
use muster_identity::authority::{AGENT_LIFE, Authority};
use muster_identity::client::{self, ReloadableClient};
use muster_identity::context::Contexts;
use muster_identity::credentials::Credentials;
use muster_identity::csr::Csr;
use muster_identity::endpoint::Endpoint;
use muster_identity::key::KeyPair;
use muster_service::clock;
use muster_wire::LINK_PROTOCOL;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::agent::v1::link_service_client::LinkServiceClient;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::{Hello, SessionRequest, SessionResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::world::World;

pub mod live;

/// Messages of one agent that may wait for its stream.
const OUTGOING: usize = 64;

/// How long a session may take to begin.
const BEGIN: Duration = Duration::from_secs(15);

/// A channel as the administrator of the world's controller.
///
/// # Errors
/// Where there is no such controller.
pub fn administrator(world: &World) -> Result<Channel> {
    let contexts = Contexts::load(&world.path("home/.config/muster/contexts.yaml")).context("read the administrator's context")?;
    let context = contexts.find(None)?;
    Ok(client::channel(ReloadableClient::new(&context.credentials()?)?, context.endpoints.clone()))
}

/// The CA of the controller whose state lies there.
///
/// # Errors
/// Where it cannot be read.
pub fn authority(state: &Path) -> Result<Authority> {
    Authority::load(&state.join("ca")).context("load the controller's CA")
}

/// What an agent of this name shows.
///
/// # Errors
/// Where the CA does not sign.
pub fn credentials(authority: &Authority, site: &str, agent: &str) -> Result<Arc<ReloadableClient>> {
    let (site, agent): (Name, Name) = (site.parse()?, agent.parse()?);
    let key = KeyPair::generate()?;
    let csr = Csr::parse(&Csr::request(&key)?)?;
    let issued = authority.issue_agent(&csr, &site, &agent, clock::now(), AGENT_LIFE)?;
    Ok(ReloadableClient::new(&Credentials::from_pem(authority.pem(), &issued.pem, key)?)?)
}

/// The first message of an agent that remembers nothing.
#[must_use]
pub fn hello() -> Hello {
    Hello {
        protocol: Some(LINK_PROTOCOL),
        build: "simulated".to_owned(),
        boot_id: "ab".repeat(16),
        encryption_key: vec![7; 32],
        now: Some(timestamp_to_proto(clock::now())),
        ..Hello::default()
    }
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    pub outgoing: mpsc::Sender<SessionRequest>,
    pub incoming: Streaming<SessionResponse>,
}

impl Session {
    /// Dials and says hello.
    ///
    /// # Errors
    /// Where the controller does not take the session.
    pub async fn begin(credentials: Arc<ReloadableClient>, endpoint: &Endpoint, hello: Hello) -> Result<Self> {
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        outgoing.send(SessionRequest { message: Some(FromAgent::Hello(hello)) }).await.context("say hello")?;
        let mut link = LinkServiceClient::new(client::channel(credentials, vec![endpoint.clone()]));
        let incoming =
            tokio::time::timeout(BEGIN, link.session(ReceiverStream::new(requests))).await.context("no session began in time")?;
        Ok(Self { outgoing, incoming: incoming?.into_inner() })
    }

    /// Says something, as soon as the controller takes it.
    ///
    /// # Errors
    /// Where the session is over.
    pub async fn say(&self, message: FromAgent) -> Result<()> {
        self.outgoing.send(SessionRequest { message: Some(message) }).await.context("the session is over")
    }
}
