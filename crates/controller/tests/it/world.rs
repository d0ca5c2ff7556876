//! A controller in this process, on free ports and in a folder of its own; an admin; operators and agents as a test wants them.

use std::time::Duration;

use muster_common::name::Name;
use muster_controller::command::{init, operator_file};
use muster_controller::config::{Config, Flags};
use muster_controller::schedule::clock::Clock;
use muster_controller::server::{self, Running};
use muster_identity::bootstrap;
use muster_identity::caller::Role;
use muster_identity::client::{self, ReloadableClient};
use muster_identity::credentials::Credentials;
use muster_identity::csr::Csr;
use muster_identity::endpoint::Endpoint;
use muster_identity::key::KeyPair;
use muster_identity::token::JoinToken;
use muster_service::telemetry;
use muster_wire::LINK_PROTOCOL;
use muster_wire::proto::agent::v1::link_service_client::LinkServiceClient;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{Hello, ObservationReport, SessionRequest, SessionResponse};
use muster_wire::proto::v1::enrollment_service_client::EnrollmentServiceClient;
use muster_wire::proto::v1::fleet_service_client::FleetServiceClient;
use muster_wire::proto::v1::inventory_service_client::InventoryServiceClient;
use muster_wire::proto::v1::{
    AgentStatus, ApplyRequest, ApplyResponse, CreateJoinTokenRequest, EnrollRequest, EnrollResponse, InstanceRole, IssueOperatorRequest,
    ListAgentsRequest, Observation,
};
use muster_wire::yaml;
use opentelemetry::metrics::MeterProvider;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Every wait of a test ends by this.
pub const BOUND: Duration = Duration::from_secs(20);

pub const DOCS: &str = "\
kind: Site
name: istanbul
spec: {description: first}
---
kind: Site
name: ankara
spec: {}
---
kind: Component
name: docs
spec:
  priority: HIGH
  objectives: {rto: 30m, rpo: 1h}
  instances:
  - {site: istanbul, agent: istanbul-1, files: {path: /srv/docs}}
  - {site: ankara, agent: ankara-1, files: {path: /srv/docs}}
";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

tokio::task_local! {
    /// The URL of the store of this test's worlds. None: a file in the world's folder.
    static STORE: String;
}

/// Runs a test whose world has its store on a PostgreSQL server.
pub async fn on_a_server(test: impl Future<Output = ()>) {
    let place = crate::store::server::shared().database().await;
    STORE.scope(place.to_string(), test).await;
}

/// Makes one test of each: with the store in a file, and on a PostgreSQL server.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod on_a_file {
            $(#[tokio::test]
            async fn $name() {
                super::$name().await;
            })+
        }
        mod on_a_server {
            $(#[tokio::test]
            async fn $name() {
                crate::world::on_a_server(super::$name()).await;
            })+
        }
    };
}
pub(crate) use on_both_stores;

pub struct World {
    pub folder: tempfile::TempDir,
    pub running: Running,
    pub admin: Credentials,
    pub registry: prometheus::Registry,
    /// Instruments count for as long as it lives.
    _meters: opentelemetry_sdk::metrics::SdkMeterProvider,
}

pub fn config(folder: &std::path::Path) -> Config {
    let flags = Flags {
        state_directory: Some(folder.join("state")),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        endpoints: vec![Endpoint { host: "127.0.0.1".into(), port: 0 }],
        store: STORE.try_with(Clone::clone).ok(),
        ..Flags::default()
    };
    muster_controller::config::load(&flags).unwrap()
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Schedules go by this clock.
    pub async fn start_by(clock: Clock) -> Self {
        Self::make(clock, |_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::make(Clock::default(), change).await
    }

    /// Drains the controller, waits until `meanwhile` is done, and starts it anew on the same state.
    pub async fn restart(self, meanwhile: impl FnOnce(&Clock)) -> Self {
        let clock = self.running.api.agents.clock.clone();
        self.running.drain(Duration::from_secs(10)).await.unwrap();
        meanwhile(&clock);
        let (registry, provider) = telemetry::meters("muster-controller", None).unwrap();
        let config = config(self.folder.path());
        let running = server::start_by(clock, config, registry.clone(), &provider.meter("test")).await.unwrap();
        Self { folder: self.folder, running, admin: self.admin, registry, _meters: provider }
    }

    async fn make(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let authority = init::make(&config).unwrap();
        let life = config.operator_certificate_life;
        let context = operator_file::make(&config, &authority, &name("admin"), Role::Admin, &name("test"), life).unwrap();
        let (registry, provider) = telemetry::meters("muster-controller", None).unwrap();
        let running = server::start_by(clock, config, registry.clone(), &provider.meter("test")).await.unwrap();
        Self { folder, running, admin: context.credentials().unwrap(), registry, _meters: provider }
    }

    pub fn endpoint(&self) -> Endpoint {
        self.running.address.to_string().parse().unwrap()
    }

    pub fn channel(&self, credentials: &Credentials) -> Channel {
        client::channel(ReloadableClient::new(credentials).unwrap(), vec![self.endpoint()])
    }

    pub fn admins(&self) -> Channel {
        self.channel(&self.admin)
    }

    /// A channel that shows no certificate.
    pub async fn nobody(&self) -> Channel {
        bootstrap::channel(&self.token("istanbul", "nobody").await.unwrap()).unwrap()
    }

    pub fn inventory(&self) -> InventoryServiceClient<Channel> {
        InventoryServiceClient::new(self.admins())
    }

    pub fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.admins())
    }

    pub async fn apply(&self, text: &str) -> Result<ApplyResponse, Status> {
        let resources = yaml::parse(text, "test.yaml").unwrap();
        let request = ApplyRequest { resources, ..ApplyRequest::default() };
        self.inventory().apply(request).await.map(tonic::Response::into_inner)
    }

    /// The sites and the component of [`DOCS`].
    pub async fn with_docs() -> Self {
        let world = Self::start().await;
        world.apply(DOCS).await.unwrap();
        world
    }

    pub async fn token(&self, site: &str, agent: &str) -> Result<JoinToken, Status> {
        let request = CreateJoinTokenRequest { site: site.into(), agent: agent.into(), ttl: None };
        let token = self.fleet().create_join_token(request).await?.into_inner().token;
        Ok(token.parse().unwrap())
    }

    pub async fn enroll(&self, token: &JoinToken, key: &KeyPair) -> Result<EnrollResponse, Status> {
        let request = EnrollRequest { secret: token.secret.reveal(), csr_pem: Csr::request(key).unwrap() };
        EnrollmentServiceClient::new(bootstrap::channel(token).unwrap()).enroll(request).await.map(tonic::Response::into_inner)
    }

    pub async fn join(&self, site: &str, agent: &str) -> Credentials {
        let token = self.token(site, agent).await.unwrap();
        let key = KeyPair::generate().unwrap();
        let enrolled = self.enroll(&token, &key).await.unwrap();
        Credentials::from_pem(&enrolled.ca_pem, &enrolled.certificate_pem, key).unwrap()
    }

    /// Another certificate for an agent that has joined (with another key: the old one is dead from then on).
    pub async fn join_again(&self, agent: &str) -> Credentials {
        let site = self.agent_status(agent).await.site;
        self.join(&site, agent).await
    }

    pub async fn operator(&self, operator: &str, role: Role) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let request =
            IssueOperatorRequest { name: operator.into(), role: role.to_string(), csr_pem: Csr::request(&key).unwrap(), validity: None };
        let issued = self.fleet().issue_operator(request).await.unwrap().into_inner();
        Credentials::from_pem(&issued.ca_pem, &issued.certificate_pem, key).unwrap()
    }

    pub async fn agent_status(&self, agent: &str) -> AgentStatus {
        let listed = self.fleet().list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
        listed.agents.into_iter().find(|status| status.name == agent).unwrap()
    }

    pub async fn session(&self, credentials: &Credentials, hello: Hello) -> Result<Session, Status> {
        let (outgoing, requests) = mpsc::channel(16);
        outgoing.send(SessionRequest { message: Some(FromAgent::Hello(hello)) }).await.unwrap();
        let mut client = LinkServiceClient::new(self.channel(credentials));
        let incoming = client.session(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Session { outgoing, incoming })
    }
}

/// One end of a session, as an agent has it.
pub struct Session {
    pub outgoing: mpsc::Sender<SessionRequest>,
    pub incoming: Streaming<SessionResponse>,
}

impl Session {
    pub async fn say(&self, message: FromAgent) {
        self.outgoing.send(SessionRequest { message: Some(message) }).await.unwrap();
    }

    /// The next message. `None`: the stream ended well.
    pub async fn next(&mut self) -> Result<Option<ToAgent>, Status> {
        let next = tokio::time::timeout(BOUND, self.incoming.message()).await.expect("nothing came");
        next.map(|message| message.and_then(|message| message.message))
    }

    /// The next message that `wanted` takes; others are passed over.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(ToAgent) -> Option<T>) -> T {
        loop {
            let message = self.next().await.unwrap().expect("the session ended");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    pub async fn goodbye(&mut self) -> muster_wire::proto::agent::v1::Goodbye {
        self.until(|message| if let ToAgent::Goodbye(goodbye) = message { Some(goodbye) } else { None }).await
    }
}

pub fn hello() -> Hello {
    Hello {
        protocol: Some(LINK_PROTOCOL),
        build: "0.1.0".into(),
        boot_id: "ab".repeat(16),
        encryption_key: vec![7; 32],
        now: Some(muster_wire::convert::timestamp_to_proto(muster_service::clock::now())),
        ..Hello::default()
    }
}

pub fn report(component: &str, instance: &str) -> FromAgent {
    let observation = Observation { role: InstanceRole::ReadWrite.into(), full: true, version: "files".into(), ..Observation::default() };
    FromAgent::Observation(ObservationReport {
        component: component.into(),
        instance: instance.into(),
        observation: Some(observation),
        kept: Vec::new(),
    })
}

/// Asks until it holds, within the bound.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, poll).await.unwrap_or_else(|_| panic!("{what}: not within {BOUND:?}"));
}
