//! The TLS side of a gRPC client: connects to the first controller of a list that answers and proves that it is the controller.
//!
//! The certificate can be replaced while connections live; the next connection shows the new one.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Uri};

use crate::credentials::{Credentials, CredentialsError};
use crate::endpoint::Endpoint;
use crate::identity::Identity;
use crate::server;
use crate::showing::Showing;
use crate::verifier::{self, ServerVerifier, Trust};

/// How it is told that a server's certificate is of a CA that is not trusted.
pub const OTHER_AUTHORITY: &str = "another CA signed it than the one that is trusted here";

/// How long one endpoint may take to connect and shake hands before the next is tried.
pub const CONNECT: Duration = Duration::from_secs(5);
/// A connection is pinged so often, also while nothing runs on it.
pub const PING_EVERY: Duration = Duration::from_secs(10);
/// And given up when no answer comes for so long.
pub const PING_ANSWER: Duration = Duration::from_secs(10);

/// A client's certificate, key and CA, which can be replaced while connections live.
#[derive(Debug)]
pub struct ReloadableClient {
    config: ArcSwap<ClientConfig>,
    expected: Identity,
}

impl ReloadableClient {
    /// A client of the controller.
    ///
    /// # Errors
    /// Where TLS refuses the credentials.
    pub fn new(credentials: &Credentials) -> Result<Arc<Self>, CredentialsError> {
        Self::of(credentials, Identity::Controller)
    }

    /// A client of whoever has this identity (an agent's peer).
    ///
    /// # Errors
    /// Where TLS refuses the credentials.
    pub fn of(credentials: &Credentials, expected: Identity) -> Result<Arc<Self>, CredentialsError> {
        let config = ArcSwap::from_pointee(config(credentials, &expected)?);
        Ok(Arc::new(Self { config, expected }))
    }

    /// From now on, new connections show these. Old ones live on.
    ///
    /// # Errors
    /// Where TLS refuses them; then the old ones stay.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        self.config.store(Arc::new(config(credentials, &self.expected)?));
        Ok(())
    }
}

/// A channel over TLS to the first of `endpoints` that answers. It connects at the first call and again whenever the connection broke.
#[must_use]
pub fn channel(client: Arc<ReloadableClient>, endpoints: Vec<Endpoint>) -> Channel {
    connect_lazy(Connector::new(Source::Reloadable(client), endpoints))
}

pub(crate) fn connect_lazy(connector: Connector) -> Channel {
    // The URI is not where it connects to: the connector has its own list. The scheme must not be https, or tonic would do TLS too.
    tonic::transport::Endpoint::from_static("http://controller.muster")
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// Why a call did not get through, with the causes that tonic keeps behind "transport error": what an operator should read.
#[must_use]
pub fn explain(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a String cannot fail.
            write!(text, ": {said}").unwrap_or_default();
        }
        cause = error.source();
    }
    text
}

fn config(credentials: &Credentials, expected: &Identity) -> Result<ClientConfig, CredentialsError> {
    let trust = Trust::Authorities(credentials.trusted().clone());
    let showing = Showing::new(credentials.certified_keys()?);
    let config = client_builder(ServerVerifier::new(trust, expected.clone())?)?.with_client_cert_resolver(Arc::new(showing));
    Ok(finish(config))
}

pub(crate) fn client_builder(
    verifier: ServerVerifier,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(verifier::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

pub(crate) fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Where the configuration of a new connection comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Reloadable(Arc<ReloadableClient>),
    Fixed(Arc<ClientConfig>),
}

/// Connects for tonic: the endpoints in turn, from the one that answered last.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    source: Source,
    endpoints: Arc<[Endpoint]>,
    last_good: Arc<AtomicUsize>,
}

impl Connector {
    pub(crate) fn new(source: Source, endpoints: Vec<Endpoint>) -> Self {
        Self { source, endpoints: endpoints.into(), last_good: Arc::default() }
    }

    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let count = self.endpoints.len();
        let first = self.last_good.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for (at, endpoint) in self.endpoints.iter().enumerate().cycle().skip(first).take(count) {
            let config = match &self.source {
                Source::Reloadable(client) => client.config.load_full(),
                Source::Fixed(config) => config.clone(),
            };
            match tokio::time::timeout(CONNECT, connect_one(endpoint, config)).await {
                Ok(Ok(stream)) => {
                    self.last_good.store(at, Ordering::Relaxed);
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => failures.push(format!("{endpoint}: {error}")),
                Err(_) => failures.push(format!("{endpoint}: no answer within {} s", CONNECT.as_secs())),
            }
        }
        Err(io::Error::other(if failures.is_empty() { "no endpoint is known".to_owned() } else { failures.join("; ") }))
    }
}

async fn connect_one(endpoint: &Endpoint, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    server::prepare(&stream)?;
    TlsConnector::from(config).connect(name, stream).await.map_err(readable)
}

/// What is wrong with the server's certificate, in words: rustls shows structures and names of its own.
fn readable(error: io::Error) -> io::Error {
    use rustls::CertificateError::{Other, UnknownIssuer};
    let said = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(Other(said))) => said.0.to_string(),
        Some(rustls::Error::InvalidCertificate(UnknownIssuer)) => {
            format!(
                "{OTHER_AUTHORITY}; perhaps another controller answers at this address, or its CA was replaced while this side was away (an \
                 agent joins again with a new token; an operator is given a new file by `muster operator add` or `muster-controller admin-cert`)"
            )
        }
        Some(_) | None => return error,
    };
    io::Error::new(error.kind(), format!("invalid peer certificate: {said}"))
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
