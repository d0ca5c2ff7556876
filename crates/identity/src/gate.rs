//! The gate before every handler: connection, revocation, expiry, role, rule. One tower layer around all services, so that no rpc can be
//! forgotten.
//!
//! A request that passes with a certificate carries a [`Caller`] in its extensions; one that does not pass never reaches its handler. A call
//! that is under way when its caller's certificate is revoked or runs out is ended. Agents' own calls are not: their sessions say goodbye.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use muster_common::fault::{Effect, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_service::log_limit::LogLimit;
use tonic::Status;

use crate::caller::{Caller, ConnectInfo, Role};
use crate::certificate::PeerCertificate;
use crate::identity::Identity;
use crate::lasting::{Ended, Lasting};
use crate::revocation::Revocations;
use crate::rule::{Denied, Resource, Rule, allowed, rule_for};
use crate::server::LINES_A_SECOND;

/// What the gate asks. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// An operator's role, from memory.
type RoleOf = dyn Fn(&Name) -> Option<Role> + Send + Sync;

struct Shared {
    revocations: Revocations,
    role_of: Box<RoleOf>,
    now: fn() -> Timestamp,
    refuse: fn(Fault) -> Status,
    refused: AtomicU64,
    lines: LogLimit,
}

impl Gate {
    /// `role_of` tells an operator's role from memory, without waiting; `refuse` makes the status of a fault (`wire` has the one place for
    /// that); `now` reads the clock.
    pub fn new(
        revocations: Revocations,
        role_of: impl Fn(&Name) -> Option<Role> + Send + Sync + 'static,
        now: fn() -> Timestamp,
        refuse: fn(Fault) -> Status,
    ) -> Self {
        let (refused, lines) = (AtomicU64::new(0), LogLimit::new(LINES_A_SECOND));
        let shared = Shared { revocations, role_of: Box::new(role_of), now, refuse, refused, lines };
        Self { shared: Arc::new(shared) }
    }

    /// How many calls were refused since start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Judges a call by its connection and path. `None` is a call that needs no certificate, made without one.
    ///
    /// # Errors
    /// [`Denied`] tells why it is refused.
    pub fn admit(&self, connection: Option<&ConnectInfo>, rpc: &str) -> Result<Option<Caller>, Denied> {
        let caller = match connection.and_then(|info| info.certificate.as_ref().map(|certificate| (info, certificate))) {
            Some((info, certificate)) => Some(self.caller(info, certificate)?),
            None => None,
        };
        allowed(caller.as_ref(), rpc, &Resource::Unspecified)?;
        Ok(caller)
    }

    fn caller(&self, info: &ConnectInfo, certificate: &Arc<PeerCertificate>) -> Result<Caller, Denied> {
        let identity = certificate.identity.clone();
        if self.shared.revocations.contains(certificate) {
            return Err(Denied::Revoked(identity));
        }
        if certificate.is_expired((self.shared.now)()) {
            return Err(Denied::Expired(identity));
        }
        let role = match &identity {
            Identity::Operator { name } => (self.shared.role_of)(name),
            Identity::Agent { .. } | Identity::Controller => None,
        };
        Ok(Caller { identity, role, certificate: certificate.clone(), peer: info.peer })
    }

    fn ended(&self, caller: &Caller, rpc: &str) -> Option<Ended> {
        if rule_for(rpc) == Some(Rule::Agent) {
            return None;
        }
        let (identity, certificate) = (caller.identity.clone(), caller.certificate.clone());
        let revocations = self.shared.revocations.clone();
        let left = certificate.not_after.since((self.shared.now)());
        Some(Box::pin(async move {
            tokio::select! {
                () = revocations.until_revoked(&certificate) => Denied::Revoked(identity),
                () = tokio::time::sleep(left) => Denied::Expired(identity),
            }
        }))
    }

    fn refusal(&self, fault: Fault, connection: Option<&ConnectInfo>) -> Status {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        let peer = connection.map(|info| info.peer.to_string()).unwrap_or_default();
        if let Some(left_out) = self.shared.lines.take() {
            tracing::info!(peer, reason = %fault.message, left_out, "call refused");
        }
        (self.shared.refuse)(fault)
    }
}

impl<S> tower::Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

type Response = http::Response<tonic::body::Body>;

impl<S, B> tower::Service<http::Request<B>> for Gated<S>
where
    S: tower::Service<http::Request<B>, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let connection = request.extensions().get::<ConnectInfo>();
        match self.gate.admit(connection, request.uri().path()) {
            Ok(None) => Box::pin(self.inner.call(request)),
            Ok(Some(caller)) => {
                let ended = self.gate.ended(&caller, request.uri().path());
                request.extensions_mut().insert(caller);
                let answered = self.inner.call(request);
                match ended {
                    None => Box::pin(answered),
                    Some(ended) => Box::pin(until(self.gate.clone(), answered, ended)),
                }
            }
            Err(denied) => {
                let status = self.gate.refusal(denied.fault(), connection);
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

/// The handler's answer, or the refusal of a caller who lost its right while it worked or while its answer streamed.
async fn until<E>(gate: Gate, answered: impl Future<Output = Result<Response, E>>, mut ended: Ended) -> Result<Response, E> {
    // What the handler began goes on where it must (it is spawned), so what was done is not known here.
    let refuse = move |denied: &Denied| gate.refusal(denied.fault().effect(Effect::Unknown), None);
    let response = tokio::select! {
        biased;
        response = answered => response?,
        denied = &mut ended => return Ok(refuse(&denied).into_http()),
    };
    Ok(response.map(|body| tonic::body::Body::new(Lasting::new(body, ended, refuse))))
}

/// Who calls, in a handler behind the gate.
///
/// # Errors
/// `UNAUTHENTICATED` where the call came without a certificate (only rpcs for anyone can see that).
#[allow(clippy::result_large_err, reason = "tonic handlers return Status")]
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&Caller, Status> {
    request.extensions().get::<Caller>().ok_or_else(|| Status::unauthenticated("no client certificate was shown"))
}
