//! A controller's end of the link, as small as it can be and under a test's command: real TLS, real certificates, a script.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_common::id::StoreId;
use muster_identity::authority::Authority;
use muster_identity::credentials::Credentials;
use muster_identity::csr::Csr;
use muster_identity::endpoint::Endpoint;
use muster_identity::fingerprint::Fingerprint;
use muster_identity::key::KeyPair;
use muster_identity::server::{Limits, ReloadableServer, incoming};
use muster_identity::token::{JoinSecret, JoinToken};
use muster_service::clock;
use muster_wire::LINK_PROTOCOL;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::agent::v1::link_service_server::{LinkService, LinkServiceServer};
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{ControllerHeartbeat, Hello, SessionRequest, SessionResponse, Welcome};
use muster_wire::proto::v1::enrollment_service_server::{EnrollmentService, EnrollmentServiceServer};
use muster_wire::proto::v1::{EnrollRequest, EnrollResponse, RenewRequest, RenewResponse};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// See the module.
pub struct Controller {
    pub address: SocketAddr,
    pub enrolled: Arc<AtomicU32>,
    pub renewed: Arc<AtomicU32>,
    /// How long the certificates that it signs live.
    pub life: Arc<Mutex<Duration>>,
    authority: Arc<Authority>,
    secret: JoinSecret,
    sessions: mpsc::Receiver<Talk>,
    stop: CancellationToken,
}

/// One session, as the controller sees it.
pub struct Talk {
    pub hello: Hello,
    from: mpsc::Receiver<FromAgent>,
    to: mpsc::Sender<Result<SessionResponse, Status>>,
    /// Whether heartbeats are answered.
    beats: Arc<std::sync::atomic::AtomicBool>,
}

struct Service {
    sessions: mpsc::Sender<Talk>,
    authority: Arc<Authority>,
    secret: JoinSecret,
    enrolled: Arc<AtomicU32>,
    renewed: Arc<AtomicU32>,
    life: Arc<Mutex<Duration>>,
}

impl Controller {
    pub async fn start(folder: &Path) -> Self {
        let authority = Arc::new(Authority::create(&folder.join("ca"), &"muster".parse().unwrap(), clock::now()).unwrap());
        let key = KeyPair::generate().unwrap();
        let csr = Csr::parse(&Csr::request(&key).unwrap()).unwrap();
        let issued = authority.issue_controller(&csr, &["127.0.0.1".into()], clock::now(), Duration::from_secs(86_400)).unwrap();
        let credentials = Credentials::from_pem(authority.pem(), &issued.pem, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::channel(64);
        let secret = JoinSecret::generate();
        let life = Arc::new(Mutex::new(Duration::from_secs(86_400)));
        let (enrolled, renewed): (Arc<AtomicU32>, Arc<AtomicU32>) = Default::default();
        let service = || Service {
            sessions: sender.clone(),
            authority: authority.clone(),
            secret: secret.clone(),
            enrolled: enrolled.clone(),
            renewed: renewed.clone(),
            life: life.clone(),
        };
        let stop = CancellationToken::new();
        let connections = incoming(listener, ReloadableServer::new(&credentials).unwrap(), Limits::default(), stop.clone());
        let router = tonic::transport::Server::builder()
            .add_service(LinkServiceServer::new(service()))
            .add_service(EnrollmentServiceServer::new(service()));
        tokio::spawn(router.serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned()));
        Self { address, enrolled, renewed, life, authority, secret, sessions, stop }
    }

    /// A token for it, with this fingerprint or its own.
    pub fn token(&self, authority: Option<Fingerprint>) -> String {
        let endpoints = vec![Endpoint { host: "127.0.0.1".into(), port: self.address.port() }];
        JoinToken { endpoints, authority: authority.unwrap_or_else(|| self.authority.fingerprint()), secret: self.secret.clone() }.reveal()
    }

    /// The next session, whose Hello has come and that is not welcomed yet.
    pub async fn next(&mut self) -> Talk {
        tokio::time::timeout(PATIENCE, self.sessions.recv()).await.expect("no agent came").unwrap()
    }

    /// The next session, welcomed.
    pub async fn welcome(&mut self, term: u64) -> Talk {
        let talk = self.next().await;
        talk.welcome(term).await;
        talk
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Talk {
    pub async fn welcome(&self, term: u64) {
        let welcome = Welcome {
            protocol: Some(LINK_PROTOCOL),
            build: "test".into(),
            term,
            store_id: StoreId::from_bytes([8; 16]).to_string(),
            now: Some(timestamp_to_proto(clock::now())),
        };
        self.say(ToAgent::Welcome(welcome)).await;
    }

    pub async fn say(&self, message: ToAgent) {
        // An agent that was killed takes nothing any more; the test sees that by what it waits for.
        drop(self.to.send(Ok(SessionResponse { message: Some(message) })).await);
    }

    /// Waits for what `wanted` picks; everything else is left.
    pub async fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(FromAgent) -> Option<T>) -> T {
        let heard = async {
            loop {
                let message = self.from.recv().await.unwrap_or_else(|| panic!("the session ended before {what}"));
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }

    /// The next message; `None` where the session has ended.
    pub async fn next(&mut self) -> Option<FromAgent> {
        self.from.recv().await
    }

    /// Waits until the session ends.
    pub async fn ended(&mut self) {
        let ended = async { while self.from.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the session did not end");
    }

    /// No longer answers heartbeats.
    pub fn fall_silent(&self) {
        self.beats.store(false, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl LinkService for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponse, Status>> + Send>>;

    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (to, outgoing) = mpsc::channel(256);
        let (heard, from) = mpsc::channel(100_000);
        let beats = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (sessions, answers, answering) = (self.sessions.clone(), to.clone(), beats.clone());
        tokio::spawn(async move {
            let Ok(Some(SessionRequest { message: Some(FromAgent::Hello(hello)) })) = incoming.message().await else { return };
            if sessions.send(Talk { hello, from, to, beats }).await.is_err() {
                return;
            }
            let answers = answers.downgrade();
            loop {
                // The test dropped its end: the session is cut.
                let Some(answers) = answers.upgrade() else { return };
                let message = tokio::select! {
                    message = incoming.message() => message,
                    () = heard.closed() => return,
                };
                let Ok(Some(SessionRequest { message: Some(message) })) = message else { return };
                if let FromAgent::Heartbeat(beat) = &message {
                    if answering.load(Ordering::Relaxed) {
                        let answer = ControllerHeartbeat { number: beat.number, now: Some(timestamp_to_proto(clock::now())) };
                        drop(answers.send(Ok(SessionResponse { message: Some(ToAgent::Heartbeat(answer)) })).await);
                    }
                    continue;
                }
                if heard.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

#[tonic::async_trait]
impl EnrollmentService for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        self.enrolled.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        if request.secret != self.secret.reveal() {
            return Err(Status::permission_denied("no such token"));
        }
        let csr = Csr::parse(&request.csr_pem).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let life = *self.life.lock().unwrap();
        let (site, agent) = ("istanbul".parse().unwrap(), "istanbul-db1".parse().unwrap());
        let issued = self.authority.issue_agent(&csr, &site, &agent, clock::now(), life).unwrap();
        Ok(Response::new(EnrollResponse {
            certificate_pem: issued.pem,
            ca_pem: self.authority.pem().to_owned(),
            agent: agent.to_string(),
            site: site.to_string(),
            expires_at: None,
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        self.renewed.fetch_add(1, Ordering::Relaxed);
        let csr = Csr::parse(&request.into_inner().csr_pem).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let life = *self.life.lock().unwrap();
        let issued =
            self.authority.issue_agent(&csr, &"istanbul".parse().unwrap(), &"istanbul-db1".parse().unwrap(), clock::now(), life).unwrap();
        Ok(Response::new(RenewResponse { certificate_pem: issued.pem, ca_pem: self.authority.pem().to_owned(), expires_at: None }))
    }
}
