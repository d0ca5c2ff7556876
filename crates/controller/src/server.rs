//! The controller as it runs: opened, served, reloaded, drained. It knows every part and decides nothing.
//!
//! What always holds: nothing is served before the store, the CA and both ports are there; a stop drains within a bound and says who is
//! late; whatever is called passes one gate, and what changes something is recorded around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use muster_identity::gate::Gate;
use muster_identity::revocation::Revocations;
use muster_identity::server::{Incoming, Limits, incoming};
use muster_service::metrics::Health;
use muster_service::tasks::TaskGate;
use muster_service::{clock, metrics as probe, trace};
use muster_wire::DESCRIPTORS;
use muster_wire::proto::agent::v1::link_service_server::LinkServiceServer;
use muster_wire::proto::v1::audit_service_server::AuditServiceServer;
use muster_wire::proto::v1::enrollment_service_server::EnrollmentServiceServer;
use muster_wire::proto::v1::fleet_service_server::FleetServiceServer;
use muster_wire::proto::v1::inventory_service_server::InventoryServiceServer;
use muster_wire::proto::v1::operation_service_server::OperationServiceServer;
use muster_wire::proto::v1::recovery_service_server::RecoveryServiceServer;
use muster_wire::proto::v1::repository_service_server::RepositoryServiceServer;
use muster_wire::proto::v1::status_service_server::StatusServiceServer;
use opentelemetry::metrics::Meter;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::agents::assigner::Assigner;
use crate::agents::courier::Courier;
use crate::agents::link::{Agents, Link};
use crate::agents::observations::Observations;
use crate::agents::roster::Roster;
use crate::api::Api;
use crate::api::roles::Roles;
use crate::api::status::StatusPages;
use crate::audit::recorder::Recorder;
use crate::audit::watcher::Watcher;
use crate::ca::authorities::Authorities;
use crate::config::Config;
use crate::findings::watch::Findings;
use crate::metrics::Metrics;
use crate::operation::handle::Operations;
use crate::own_backup::keeper::Keeper;
use crate::schedule::clock::Clock;
use crate::schedule::pauses::Pauses;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::place::Place;
use crate::tasks;

/// The most calls that one connection may have under way.
const MOST_CALLS: u32 = 1_024;
/// How long the last of a drain may take, beyond its bound.
const LAST: Duration = Duration::from_secs(1);
/// A connection is pinged so often, and given up when no answer comes for so long.
const PING: Duration = Duration::from_secs(10);

/// A controller that serves.
pub struct Running {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Where `/metrics` and `/healthz` are served.
    pub metrics_address: SocketAddr,
    /// What handlers and tasks share.
    pub api: Api,
    health: HealthReporter,
    sickness: tasks::Sickness,
    /// Ends the accept loop and the servers.
    closing: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
    probed: JoinHandle<std::io::Result<()>>,
}

/// Opens everything and serves.
///
/// # Errors
/// Where a port, the CA, the certificate or the store cannot be had; then nothing is served.
pub async fn start(config: Config, registry: Registry, meter: &Meter) -> Result<Running> {
    start_by(Clock::default(), config, registry, meter).await
}

/// The same with schedules and pauses that go by this clock.
///
/// # Errors
/// As [`start`].
pub async fn start_by(schedules: Clock, mut config: Config, registry: Registry, meter: &Meter) -> Result<Running> {
    let listener = listen(config.listen, "gRPC").await?;
    let probes = listen(config.metrics_listen, "metrics").await?;
    let (address, metrics_address) = (listener.local_addr()?, probes.local_addr()?);
    // Port 0 is any free one: what tokens carry must be the one that it became.
    for endpoint in config.endpoints.iter_mut().filter(|endpoint| endpoint.port == 0) {
        endpoint.port = address.port();
    }
    let authorities = Authorities::open(&config, clock::now()).with_context(|| {
        format!("load the CA; HINT: `muster-controller init --state-directory {}` makes one", config.state_directory.display())
    })?;
    let tls = authorities.tls();
    let store = open_store(&config, &Keeper::of(&config)).await?;
    let api = assemble(schedules, config, authorities, store, meter, registry.clone()).await?;
    let sickness: tasks::Sickness = Arc::new(ArcSwap::from_pointee(None));
    let (health, health_service) = tonic_health::server::health_reporter();
    let running_tasks = tasks::Background { api: api.clone(), sickness: sickness.clone() };
    running_tasks.spawn();
    let closing = CancellationToken::new();
    let mut routes = routes(&api)?;
    routes = routes.add_service(health_service);
    for name in SERVICES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    health.set_service_status("", ServingStatus::Serving).await;
    let connections = incoming(listener, tls, Limits::default(), closing.clone());
    let gate = gate(&api);
    let recorder = Recorder::new(api.agents.store.clone(), gate.clone(), api.agents.gate.clone());
    let served = tokio::spawn(serve(recorder, gate, routes, connections, closing.clone()));
    let checked = sickness.clone();
    let check: probe::HealthCheck = Arc::new(move || match checked.load().as_ref() {
        None => Health::Serving,
        Some(why) => Health::NotServing(why.clone()),
    });
    let probed = tokio::spawn(probe::serve(probes, registry, check, closing.clone()));
    let term = api.agents.store.term().0;
    tracing::info!(%address, %metrics_address, term, store = api.agents.store.shown(), "serving");
    Ok(Running { address, metrics_address, api, health, sickness, closing, served, probed })
}

/// Why the store was not opened.
enum Unopened {
    Store(StoreError),
    Backup(String),
}

impl From<StoreError> for Unopened {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn open_store(config: &Config, keeper: &Keeper) -> Result<Store> {
    let place = config.store_place().context("find the store")?;
    if let Place::Server(server) = &place
        && server.is_unprotected()
    {
        tracing::warn!(store = %place, "the way to the store is not protected; HINT: say sslmode=verify-full in its URL");
    }
    let opened = Store::open_after(&place, async |version, reading| {
        if keeper.plan().is_none() {
            tracing::warn!(version, "the store's schema is changed without a backup before; HINT: configure `backup`");
            return Ok(());
        }
        let taken = keeper.take(reading).await.map_err(|error| {
            let why = format!("the store's schema has to change, and the backup before that failed: {error:#}");
            Unopened::Backup(why)
        })?;
        tracing::info!(version, backup = taken.name, "backed up before the store's schema is changed");
        Ok(())
    });
    opened.await.map_err(|error: Unopened| match error {
        Unopened::Store(error) => anyhow::anyhow!(error.fault()),
        Unopened::Backup(why) => {
            anyhow::anyhow!("{why}; HINT: make the place of backups usable, or take `backup` out of the configuration")
        }
    })
}

async fn listen(address: SocketAddr, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address} for {what}; HINT: another process may have that port"))
}

async fn assemble(clock: Clock, config: Config, authorities: Authorities, store: Store, meter: &Meter, registry: Registry) -> Result<Api> {
    let told = |fault: muster_common::fault::Fault| anyhow::anyhow!(fault);
    let courier = Courier::default();
    let observations = Observations::default();
    let gate = TaskGate::new(CancellationToken::new());
    let operations = Operations::open(store.clone(), courier.clone(), observations.clone(), gate.clone()).await.map_err(told)?;
    let assigner = Assigner::new(store.clone(), courier.clone());
    assigner.refresh().await.map_err(|error| told(error.fault()))?;
    let revocations = Revocations::default();
    let roles = Roles::default();
    tasks::import_admins(&config, &store).await?;
    roles.reload(&store, &revocations).await.map_err(|error| told(error.fault()))?;
    let pauses = Pauses::load(&store).await.map_err(|error| told(error.fault()))?;
    let agents = Agents {
        store,
        operations,
        courier,
        observations,
        roster: Roster::default(),
        assigner,
        roles,
        clock,
        pauses,
        revocations,
        authorities,
        gate,
        metrics: Metrics::new(meter),
    };
    let findings = Findings::default();
    findings.measure(meter);
    Ok(Api {
        agents,
        registry,
        findings,
        keeper: Keeper::of(&config),
        audit: Watcher::of(&config.state_directory),
        config: Arc::new(config),
        started: clock::now(),
        stopping: CancellationToken::new(),
    })
}

/// The one place that every call passes.
fn gate(api: &Api) -> Gate {
    let roles = api.agents.roles.clone();
    Gate::new(api.agents.revocations.clone(), move |operator| roles.of(operator), clock::now, muster_wire::status::status)
}

/// The services whose health is told.
pub const SERVICES: [&str; 9] = [
    "muster.agent.v1.LinkService",
    "muster.v1.AuditService",
    "muster.v1.EnrollmentService",
    "muster.v1.FleetService",
    "muster.v1.InventoryService",
    "muster.v1.OperationService",
    "muster.v1.RecoveryService",
    "muster.v1.RepositoryService",
    "muster.v1.StatusService",
];

fn routes(api: &Api) -> Result<Routes> {
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(LinkServiceServer::new(Link::new(api.agents.clone())))
        .add_service(AuditServiceServer::new(api.clone()))
        .add_service(EnrollmentServiceServer::new(api.clone()))
        .add_service(FleetServiceServer::new(api.clone()))
        .add_service(InventoryServiceServer::new(api.clone()))
        .add_service(OperationServiceServer::new(api.clone()))
        .add_service(RecoveryServiceServer::new(api.clone()))
        .add_service(RepositoryServiceServer::new(api.clone()))
        .add_service(StatusServiceServer::new(StatusPages::new(api.clone())))
        .add_service(describe().build_v1().context("describe the services")?)
        .add_service(describe().build_v1alpha().context("describe the services")?))
}

async fn serve(
    recorder: Recorder,
    gate: Gate,
    routes: Routes,
    connections: Incoming,
    closing: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .max_concurrent_streams(Some(MOST_CALLS))
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .trace_fn(span)
        .layer(recorder)
        .layer(gate)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, closing.cancelled_owned())
        .await
}

/// The span of a call, which joins the trace that its client began.
fn span(request: &http::Request<()>) -> tracing::Span {
    let span = tracing::info_span!("rpc", rpc = request.uri().path());
    trace::extract(&span, request.headers());
    span
}

impl Running {
    /// Takes the certificate from disk again, a new one where it is due, and puts it in force for new connections.
    ///
    /// # Errors
    /// Where it cannot be had; then the old one stays.
    pub fn reload_certificate(&self) -> Result<()> {
        self.api.agents.authorities.reload(clock::now())
    }

    /// Waits until something without which the controller makes no sense has ended by itself; tells what.
    pub async fn broken(&mut self) -> anyhow::Error {
        let token = self.api.agents.gate.token().clone();
        tokio::select! {
            () = token.cancelled() => anyhow::anyhow!(self.api.agents.gate.failure().unwrap_or_else(|| "its tasks were stopped".into())),
            served = &mut self.served => anyhow::anyhow!("the gRPC server ended: {served:?}"),
            probed = &mut self.probed => anyhow::anyhow!("the metrics port ended: {probed:?}"),
        }
    }

    /// Says goodbye to agents, ends streams, lets calls and tasks finish, closes the store; all of it within `bound`, then whoever is late
    /// is named and left.
    ///
    /// # Errors
    /// Where somebody was late.
    pub async fn drain(self, bound: Duration) -> Result<()> {
        let began = tokio::time::Instant::now();
        self.sickness.store(Arc::new(Some("the controller is stopping".into())));
        for name in SERVICES.into_iter().chain([""]) {
            self.health.set_service_status(name, ServingStatus::NotServing).await;
        }
        self.api.stopping.cancel();
        self.api.agents.courier.drain();
        let tasks = self.api.agents.gate.close(bound).await;
        self.closing.cancel();
        let left = bound.saturating_sub(began.elapsed()).max(LAST);
        let servers = async { (self.served.await, self.probed.await) };
        let servers = tokio::time::timeout(left, servers).await;
        // One who is late may hold a connection of the store.
        let closed = tokio::time::timeout(LAST, self.api.agents.store.close()).await;
        tasks.context("drain: some tasks are late")?;
        let (served, probed) = servers.context("drain: connections are late")?;
        served.context("the gRPC server")?.context("the gRPC server")?;
        probed.context("the metrics port")?.context("the metrics port")?;
        closed.context("drain: the store is still in use")?;
        tracing::info!(milliseconds = began.elapsed().as_millis(), "drained");
        Ok(())
    }
}
