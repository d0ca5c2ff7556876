//! A CA in a folder, a gated server on a free port, and clients with the certificates that a test wants.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_identity::authority::{AGENT_LIFE, Authority, Issued};
use muster_identity::caller::Role;
use muster_identity::client::{self, ReloadableClient};
use muster_identity::credentials::Credentials;
use muster_identity::csr::Csr;
use muster_identity::endpoint::Endpoint;
use muster_identity::gate::Gate;
use muster_identity::identity::TrustDomain;
use muster_identity::key::KeyPair;
use muster_identity::revocation::Revocations;
use muster_identity::server::{self, Limits, ReloadableServer};
use muster_wire::proto::v1::enrollment_service_server::{EnrollmentService, EnrollmentServiceServer};
use muster_wire::proto::v1::{EnrollRequest, EnrollResponse, RenewRequest, RenewResponse};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

/// Every wait of a test ends by this.
pub const BOUND: Duration = Duration::from_secs(20);

/// How far the gate's clock is ahead of this machine's, in microseconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

pub fn now() -> Timestamp {
    muster_service::clock::now()
}

fn gates_clock() -> Timestamp {
    Timestamp(now().0 + AHEAD.load(Ordering::Relaxed))
}

pub fn ahead(by: Duration) -> Timestamp {
    now().plus(by)
}

pub fn ago(by: Duration) -> Timestamp {
    Timestamp(now().0 - i64::try_from(by.as_micros()).unwrap())
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A CA and the folder that it lives in.
pub struct Ca {
    pub authority: Authority,
    _folder: tempfile::TempDir,
}

impl Ca {
    pub fn new() -> Self {
        Self::at(now())
    }

    pub fn at(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(&folder.path().join("ca"), &TrustDomain::default(), now).unwrap();
        Self { authority, _folder: folder }
    }

    /// Has a new key signed by `issue`, trusting this CA.
    pub fn credentials(&self, issue: impl FnOnce(&Authority, &Csr) -> Issued) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let csr = Csr::parse(&Csr::request(&key).unwrap()).unwrap();
        let issued = issue(&self.authority, &csr);
        Credentials::from_pem(self.authority.pem(), &issued.pem, key).unwrap()
    }

    pub fn controller(&self) -> Credentials {
        self.credentials(|ca, csr| ca.issue_controller(csr, &["localhost".into(), "127.0.0.1".into()], now(), AGENT_LIFE).unwrap())
    }

    pub fn operator(&self, operator: &str) -> Credentials {
        self.credentials(|ca, csr| ca.issue_operator(csr, &name(operator), now(), AGENT_LIFE).unwrap())
    }

    pub fn agent(&self, agent: &str) -> Credentials {
        self.credentials(|ca, csr| ca.issue_agent(csr, &name("istanbul"), &name(agent), now(), AGENT_LIFE).unwrap())
    }
}

/// What the enrollment service of these tests was asked.
#[derive(Clone, Default)]
pub struct Enrollment {
    pub secrets: Arc<Mutex<Vec<String>>>,
    ca_pem: String,
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        self.secrets.lock().unwrap().push(request.into_inner().secret);
        Ok(Response::new(EnrollResponse { ca_pem: self.ca_pem.clone(), ..Default::default() }))
    }

    /// Tells who calls and by which certificate.
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = muster_identity::gate::caller(&request)?;
        let text = format!("{} {}", caller.identity, caller.certificate.serial);
        Ok(Response::new(RenewResponse { certificate_pem: text, ..Default::default() }))
    }
}

/// A server with health and enrollment behind the gate.
pub struct World {
    pub ca: Ca,
    pub address: SocketAddr,
    pub tls: Arc<ReloadableServer>,
    pub gate: Gate,
    pub revocations: Revocations,
    pub health: HealthReporter,
    pub enrollment: Enrollment,
    pub shutdown: CancellationToken,
}

impl World {
    pub async fn new() -> Self {
        let ca = Ca::new();
        let controller = ca.controller();
        Self::with(ca, &controller, Limits::default()).await
    }

    /// Operators called `admin`, `viewer` … have the role of their name; others none.
    pub async fn with(ca: Ca, shown: &Credentials, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ReloadableServer::new(shown).unwrap();
        let revocations = Revocations::default();
        let role_of = |name: &Name| name.as_str().parse::<Role>().ok();
        let gate = Gate::new(revocations.clone(), role_of, gates_clock, |fault: Fault| muster_wire::status::status(fault));
        let (health, health_service) = tonic_health::server::health_reporter();
        let enrollment = Enrollment { secrets: Arc::default(), ca_pem: ca.authority.pem().to_owned() };
        let shutdown = CancellationToken::new();
        let incoming = server::incoming(listener, tls.clone(), limits, shutdown.clone());
        let router =
            Server::builder().layer(gate.clone()).add_service(health_service).add_service(EnrollmentServiceServer::new(enrollment.clone()));
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned()));
        Self { ca, address, tls, gate, revocations, health, enrollment, shutdown }
    }

    pub fn endpoint(&self) -> Endpoint {
        self.address.to_string().parse().unwrap()
    }

    pub fn channel(&self, credentials: &Credentials) -> Channel {
        client::channel(ReloadableClient::new(credentials).unwrap(), vec![self.endpoint()])
    }
}

pub async fn check_health(channel: Channel) -> Result<(), Status> {
    let check = async { HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(|_| ()) };
    tokio::time::timeout(BOUND, check).await.unwrap()
}

/// Who the server says that we are: `agent istanbul/db1 <serial>`.
pub async fn who_am_i(channel: Channel) -> Result<String, Status> {
    let mut client = muster_wire::proto::v1::enrollment_service_client::EnrollmentServiceClient::new(channel);
    let renew = client.renew(RenewRequest::default());
    tokio::time::timeout(BOUND, renew).await.unwrap().map(|response| response.into_inner().certificate_pem)
}

/// Calls StatusService.WhoAmI, which is not served here: `UNIMPLEMENTED` means that the gate let it pass.
pub async fn call_status(channel: Channel) -> Status {
    let mut client = muster_wire::proto::v1::status_service_client::StatusServiceClient::new(channel);
    tokio::time::timeout(BOUND, client.get(muster_wire::proto::v1::StatusServiceGetRequest::default())).await.unwrap().unwrap_err()
}

pub async fn set_serving(health: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    health.set_service_status("", status).await;
}

/// Held by who moves the gate's clock, and by who needs it to stand right.
static CLOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub async fn right_clock() -> tokio::sync::MutexGuard<'static, ()> {
    CLOCK.lock().await
}

/// Moves the gate's clock on while `check` runs.
pub async fn with_gate_ahead<T>(by: Duration, check: impl Future<Output = T>) -> T {
    let _moved = CLOCK.lock().await;
    AHEAD.store(i64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    let seen = check.await;
    AHEAD.store(0, Ordering::Relaxed);
    seen
}
