//! The TLS side of a gRPC server: an accept loop of our own, since tonic's cannot change its certificate while it runs.
//!
//! A client certificate is asked for and optional; one that is shown must be good. New connections get the newest configuration, old ones
//! live on. What always holds: TLS 1.3 only, no resumption (a resumed session would not be checked again), every handshake is bounded in
//! time, connections are bounded in number, and those without a certificate neither use up the places of the others nor live for long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::Stream;
use muster_service::log_limit::LogLimit;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::caller::ConnectInfo;
use crate::certificate::{CertificateError, PeerCertificate};
use crate::credentials::{Credentials, CredentialsError};
use crate::fingerprint::Fingerprint;
use crate::showing::Showing;
use crate::trust::Trusted;
use crate::verifier;

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection on which nothing came for this long is probed by TCP, then each [`PROBE_EVERY`], and given up after [`PROBES`].
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// How long to wait after `accept` failed (no file descriptors left).
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// At most so many refusals are logged in a second.
pub(crate) const LINES_A_SECOND: u32 = 10;

/// A server's certificate, key and CA, which can be replaced while connections live.
#[derive(Debug)]
pub struct ReloadableServer {
    current: ArcSwap<Current>,
    refused: AtomicU64,
    lines: LogLimit,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    trusted: Trusted,
}

/// How many connections are taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all, those in their handshake included.
    pub connections: usize,
    /// Of them without a certificate.
    pub anonymous: usize,
    /// How long one without a certificate lives: Enroll and a health check are short.
    pub anonymous_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, anonymous: 256, anonymous_life: Duration::from_secs(60) }
    }
}

impl ReloadableServer {
    /// With these to begin with.
    ///
    /// # Errors
    /// Where TLS refuses them.
    pub fn new(credentials: &Credentials) -> Result<Arc<Self>, CredentialsError> {
        let current = ArcSwap::from_pointee(current(credentials, None)?);
        Ok(Arc::new(Self { current, refused: AtomicU64::new(0), lines: LogLimit::new(LINES_A_SECOND) }))
    }

    /// From now on, new connections get these. Old ones live on.
    ///
    /// # Errors
    /// Where TLS refuses them; then the old ones stay.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        self.current.store(Arc::new(current(credentials, None)?));
        Ok(())
    }

    /// The same with a second certificate, for clients that do not trust the CA of the first.
    ///
    /// # Errors
    /// Where TLS refuses them; then the old ones stay.
    pub fn reload_both(&self, credentials: &Credentials, second: &Credentials) -> Result<(), CredentialsError> {
        self.current.store(Arc::new(current(credentials, Some(second))?));
        Ok(())
    }

    /// Connections that were refused since start: failed handshakes, foreign, expired or nameless certificates, over a limit.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

fn current(credentials: &Credentials, second: Option<&Credentials>) -> Result<Current, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for anchor in credentials.trusted().anchors() {
        roots.add(anchor.clone())?;
    }
    let mut keys = credentials.certified_keys()?;
    if let Some(second) = second {
        keys.extend(second.certified_keys()?);
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), verifier::provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(verifier::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(Showing::new(keys)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Current { config: Arc::new(config), trusted: credentials.trusted().clone() })
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connection {
    // Boxed: what serves a connection keeps room for it in each of its states.
    stream: Box<TlsStream<TcpStream>>,
    info: ConnectInfo,
    _place: OwnedSemaphorePermit,
    anonymous: Option<Anonymous>,
}

/// What bounds a connection without a certificate.
#[derive(Debug)]
struct Anonymous {
    _place: OwnedSemaphorePermit,
    end: Pin<Box<Sleep>>,
}

/// Connections as they come, for `serve_with_incoming_shutdown`. It ends with the accept loop.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<Connection>,
}

/// Accepts on `listener` until `shutdown`. The connections that are handed out live on after it.
pub fn incoming(listener: TcpListener, server: Arc<ReloadableServer>, limits: Limits, shutdown: CancellationToken) -> Incoming {
    let (sender, connections) = mpsc::channel(32);
    let places = Places {
        all: Arc::new(Semaphore::new(limits.connections)),
        anonymous: Arc::new(Semaphore::new(limits.anonymous)),
        anonymous_life: limits.anonymous_life,
    };
    tokio::spawn(accept(listener, server, places, sender, shutdown));
    Incoming { connections }
}

#[derive(Clone)]
struct Places {
    all: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    anonymous_life: Duration,
}

impl Places {
    fn anonymous(&self) -> io::Result<Anonymous> {
        let place = self.anonymous.clone().try_acquire_owned();
        let place = place.map_err(|_| io::Error::other("too many connections without a certificate"))?;
        Ok(Anonymous { _place: place, end: Box::pin(tokio::time::sleep(self.anonymous_life)) })
    }
}

async fn accept(
    listener: TcpListener,
    server: Arc<ReloadableServer>,
    places: Places,
    sender: mpsc::Sender<Connection>,
    shutdown: CancellationToken,
) {
    let next = async || {
        let place = places.all.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok::<_, io::Error>((place, stream, peer))
    };
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next() => next,
        };
        match next {
            Ok((place, stream, peer)) => {
                let (server, places, sender, shutdown) = (server.clone(), places.clone(), sender.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = take(stream, peer, place, &places, &server, sender) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
}

async fn take(
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    places: &Places,
    server: &ReloadableServer,
    sender: mpsc::Sender<Connection>,
) {
    match handshake(stream, peer, place, places, server).await {
        // A closed channel means that the server went away while this shook hands.
        Ok(connection) => drop(sender.send(connection).await),
        Err(error) => {
            server.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(left_out) = server.lines.take() {
                tracing::info!(%peer, %error, left_out, "connection refused");
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    places: &Places,
    server: &ReloadableServer,
) -> io::Result<Connection> {
    prepare(&stream)?;
    let current = server.current.load_full();
    let shaken = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(current.config.clone()).accept(stream));
    let stream = shaken.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake within 5 s"))??;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let read = |leaf: &CertificateDer<'_>| {
        let certificate = PeerCertificate::from_der(leaf, current.trusted.trust_domain())?;
        // TLS has found that one of them signed it.
        let authority = match current.trusted.anchors() {
            [only] => Some(Fingerprint::of(only)),
            _ => current.trusted.issuer_of(leaf),
        };
        Ok::<_, CertificateError>(PeerCertificate { authority, ..certificate })
    };
    let certificate = leaf.map(read).transpose().map_err(io::Error::other)?;
    let anonymous = if certificate.is_none() { Some(places.anonymous()?) } else { None };
    let info = ConnectInfo { peer, certificate: certificate.map(Arc::new) };
    Ok(Connection { stream: Box::new(stream), info, _place: place, anonymous })
}

/// Small frames go out at once, and a peer whose machine vanished is noticed.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(anonymous) = &mut self.anonymous
            && anonymous.end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a connection without a certificate has lived its time")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
