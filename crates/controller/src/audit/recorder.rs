//! Around every call, outside of the gate: what changes something is recorded before it reaches its handler, and what came of it before the
//! answer leaves; a refusal by the gate is recorded too.
//!
//! What always holds: what could not be recorded is not done, and what was done and whose outcome could not be recorded is not answered OK;
//! a recorded call runs in a task of its own, so that a client that goes away leaves no call without its outcome; calls that only read pass
//! untouched; of a request only its digest is kept.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use http_body_util::{BodyExt, Full, Limited};
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_identity::caller::{Caller, ConnectInfo};
use muster_identity::gate::Gate;
use muster_service::clock;
use muster_service::tasks::TaskGate;
use muster_wire::canonical::Read;
use muster_wire::status::{self, status};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::api::subject;
use crate::audit::chain::{Phase, What};
use crate::audit::limit::Limit;
use crate::audit::what::{About, changing, resource};
use crate::store::error::StoreError;
use crate::store::{Store, audit};

/// The longest request that changes something: what a handler takes, and gRPC's five bytes before it.
const MOST_BYTES: usize = (4 << 20) + FRAME;
/// The longest request of somebody who is refused that is looked at.
const MOST_GLANCED: usize = 64 << 10;
/// For so long it is waited for.
const GLANCE: Duration = Duration::from_secs(2);
/// What gRPC puts before a message: whether it is compressed, and its length.
const FRAME: usize = 5;

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// Whoever records. Clones are the same.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    gate: Gate,
    tasks: TaskGate,
    limit: Limit,
}

impl Recorder {
    /// Records into `store` what `gate` lets through and what it refuses.
    #[must_use]
    pub fn new(store: Store, gate: Gate, tasks: TaskGate) -> Self {
        Self { shared: Arc::new(Shared { store, gate, tasks, limit: Limit::default() }) }
    }

    async fn append(&self, what: What) -> Result<u64, StoreError> {
        let mut write = self.shared.store.write_together().await?;
        let number = audit::append(write.connection(), what).await?;
        write.commit().await?;
        Ok(number)
    }

    /// Records a refusal, unless this caller had too many. It is refused whether it could be recorded or not.
    async fn refused(&self, caller: Option<&str>, what: What, refusal: &Status) {
        let Some(left_out) = self.shared.limit.take(caller) else { return };
        let what = What { phase: Phase::Refused, left_out, at: clock::now(), ..ended(what, refusal) };
        if let Err(error) = self.append(what).await {
            tracing::warn!(%error, "a refusal could not be recorded in the audit log");
        }
    }
}

impl<S> tower::Layer<S> for Recorder {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        Recorded { recorder: self.clone(), inner }
    }
}

/// A service whose calls are recorded.
#[derive(Clone)]
pub struct Recorded<S> {
    recorder: Recorder,
    inner: S,
}

impl<S> tower::Service<Request> for Recorded<S>
where
    S: tower::Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some((rpc, about)) = changing(request.uri().path()) else { return Box::pin(self.inner.call(request)) };
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(recorded(self.recorder.clone(), inner, rpc, about, request))
    }
}

/// Reads the request where its caller may make it, and has the rest done in a task of its own.
async fn recorded<S>(recorder: Recorder, inner: S, rpc: &'static str, about: About, request: Request) -> Result<Response, S::Error>
where
    S: tower::Service<Request, Response = Response> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    let (parts, body) = request.into_parts();
    let connection = parts.extensions.get::<ConnectInfo>();
    let admitted = recorder.shared.gate.admit(connection, rpc);
    let told = What { rpc: rpc.to_owned(), ..who(admitted.as_ref().ok().and_then(Option::as_ref), connection) };
    let call = match admitted {
        // The gate refuses it again. Of somebody who is known it is told what it was about, where that comes soon and is short.
        Err(_) => {
            let told = if told.caller == NOBODY { told } else { glanced(told, rpc, about, body).await };
            Call { recorder: recorder.clone(), rpc, parts, body: Body::empty(), told, recorded: Recording::Refusal }
        }
        Ok(_) => {
            let bytes = match Limited::new(body, MOST_BYTES).collect().await {
                Ok(read) => read.to_bytes(),
                Err(error) => return Ok(unreadable(rpc, &*error)),
            };
            let told = described(told, rpc, about, bytes.get(FRAME..).unwrap_or_default());
            let recorded = recording(about, rpc, bytes.get(FRAME..).unwrap_or_default());
            Call { recorder: recorder.clone(), rpc, parts, body: Body::new(Full::new(bytes)), told, recorded }
        }
    };
    let (sender, answer) = oneshot::channel();
    let done = async move {
        // Nobody waits any more where the client went away; it is done and recorded all the same.
        drop(sender.send(call.done(inner).await));
    };
    if !recorder.shared.tasks.spawn(rpc, tracing::Span::current(), done) {
        let fault = Fault::refused(ErrorKind::Unavailable, format!("{rpc}: the controller is stopping"));
        return Ok(status(fault.hint("call again in a few seconds")).into_http());
    }
    answer.await.unwrap_or_else(|_| {
        let fault = Fault::failed(ErrorKind::Internal, format!("{rpc} broke off")).hint("look at the controller's log");
        Ok(status(fault).into_http())
    })
}

async fn glanced(told: What, rpc: &'static str, about: About, body: Body) -> What {
    match tokio::time::timeout(GLANCE, Limited::new(body, MOST_GLANCED).collect()).await {
        Ok(Ok(read)) => described(told, rpc, about, read.to_bytes().get(FRAME..).unwrap_or_default()),
        Ok(Err(_)) | Err(_) => told,
    }
}

/// What of a call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recording {
    /// That it was asked, and what came of it.
    Both,
    /// That it was refused, if it is.
    Refusal,
    /// Nothing.
    Nothing,
}

fn recording(about: About, rpc: &str, message: &[u8]) -> Recording {
    match about {
        About::Joining => Recording::Refusal,
        // What only tells the differences changes nothing.
        About::Resources if Read::request(rpc, message).is_some_and(|request| request.is("dry_run")) => Recording::Nothing,
        About::Component
        | About::Site
        | About::Route
        | About::Operation
        | About::Agent
        | About::Operator
        | About::Hook
        | About::Resources
        | About::Resource
        | About::Authority
        | About::Caller => Recording::Both,
    }
}

struct Call {
    recorder: Recorder,
    rpc: &'static str,
    parts: Parts,
    body: Body,
    told: What,
    recorded: Recording,
}

impl Call {
    async fn done<S>(self, mut inner: S) -> Result<Response, S::Error>
    where
        S: tower::Service<Request, Response = Response>,
    {
        let request = Request::from_parts(self.parts, self.body);
        let asked = match self.recorded {
            Recording::Nothing => return inner.call(request).await,
            Recording::Refusal => 0,
            Recording::Both => match self.recorder.append(What { at: clock::now(), ..self.told.clone() }).await {
                Ok(number) => number,
                Err(error) => return Ok(unrecorded(self.rpc, &error).into_http()),
            },
        };
        if let Err(injected) = muster_failpoint::hit("controller.audit.asked") {
            let fault = Fault::failed(ErrorKind::Unavailable, format!("{}: {injected}", self.rpc));
            return Ok(status(fault.hint("call again")).into_http());
        }
        let (head, body) = inner.call(request).await?.into_parts();
        let answered = Answered::read(&head.headers, body).await;
        match self.recorded {
            Recording::Both => {
                let what = What { operation: answered.operation(self.rpc), ..ended(self.told, &answered.status) };
                let what = What { phase: Phase::Answered, answers: asked, at: clock::now(), ..what };
                if let Err(error) = self.recorder.append(what).await {
                    tracing::error!(%error, rpc = self.rpc, asked, "the outcome of a call could not be recorded in the audit log");
                    if answered.status.code() == Code::Ok {
                        return Ok(done_and_unrecorded(self.rpc, &error).into_http());
                    }
                }
            }
            Recording::Refusal if answered.status.code() != Code::Ok => {
                let caller = Some(self.told.caller.clone()).filter(|caller| caller != NOBODY);
                self.recorder.refused(caller.as_deref(), self.told, &answered.status).await;
            }
            Recording::Refusal | Recording::Nothing => {}
        }
        Ok(Response::from_parts(head, answered.into_body()))
    }
}

/// An answer as it was read whole.
struct Answered {
    data: tonic::codegen::Bytes,
    trailers: Option<HeaderMap>,
    status: Status,
}

impl Answered {
    async fn read(headers: &HeaderMap, body: Body) -> Self {
        match body.collect().await {
            Ok(collected) => {
                let trailers = collected.trailers().cloned();
                let status = trailers.as_ref().and_then(Status::from_header_map).or_else(|| Status::from_header_map(headers));
                let status = status.unwrap_or_else(|| Status::unknown("it was not answered as gRPC"));
                Self { data: collected.to_bytes(), trailers, status }
            }
            Err(status) => {
                let mut trailers = HeaderMap::new();
                let told = status.add_header(&mut trailers).is_ok();
                Self { data: tonic::codegen::Bytes::new(), trailers: told.then_some(trailers), status }
            }
        }
    }

    /// The operation that it tells of; empty where there is none.
    fn operation(&self, rpc: &str) -> String {
        let answer = self.data.get(FRAME..).and_then(|message| Read::answer(rpc, message));
        answer.and_then(|answer| answer.inner("operation")).map(|operation| operation.text("id")).unwrap_or_default()
    }

    fn into_body(self) -> Body {
        match self.trailers {
            None => Body::new(Full::new(self.data)),
            Some(trailers) => Body::new(Full::new(self.data).with_trailers(async move { Some(Ok(trailers)) })),
        }
    }
}

/// Who calls without a certificate.
const NOBODY: &str = "nobody";

fn who(caller: Option<&Caller>, connection: Option<&ConnectInfo>) -> What {
    let identity = connection.and_then(|info| info.certificate.as_ref()).map(|certificate| subject(&certificate.identity));
    What {
        caller: identity.unwrap_or_else(|| NOBODY.to_owned()),
        role: caller.and_then(|caller| caller.role).map(|role| role.to_string()).unwrap_or_default(),
        peer: connection.map(|info| info.peer.ip().to_string()).unwrap_or_default(),
        ..What::default()
    }
}

/// What the request says: what it is about, its id, its digest.
fn described(what: What, rpc: &str, about: About, message: &[u8]) -> What {
    let Some(request) = Read::request(rpc, message) else {
        return What { digest: hex::encode(Sha256::digest(message)), ..what };
    };
    let digest = request.canonical().map_or_else(|| Sha256::digest(message), |text| Sha256::digest(text.as_bytes()));
    What { resource: resource(about, &request, &what.caller), request_id: request.text("request_id"), digest: hex::encode(digest), ..what }
}

fn ended(what: What, status: &Status) -> What {
    if status.code() == Code::Ok {
        return What { outcome: "OK".to_owned(), ..what };
    }
    let fault = status::fault(status);
    let code = u32::try_from(i32::from(status.code())).unwrap_or(2);
    What { outcome: status::reason(fault.kind).to_owned(), code, message: fault.message, ..what }
}

fn unreadable(rpc: &str, error: &(dyn std::error::Error + 'static)) -> Response {
    let fault = if error.is::<http_body_util::LengthLimitError>() {
        Fault::refused(ErrorKind::ResourceExhausted, format!("{rpc}: the request has more than 4 MiB")).hint("send less at once")
    } else {
        Fault::refused(ErrorKind::Cancelled, format!("{rpc}: the request broke off")).hint("send it again")
    };
    status(fault).into_http()
}

fn unrecorded(rpc: &str, error: &StoreError) -> Status {
    let cause = error.fault();
    let fault = Fault::refused(cause.kind, format!("{rpc} was not done, for it could not be recorded in the audit log: {}", cause.message));
    status(cause.evidence.into_iter().fold(fault.hint(cause.hint), Fault::evidence))
}

fn done_and_unrecorded(rpc: &str, error: &StoreError) -> Status {
    let cause = error.fault();
    let told = format!("{rpc} was done, and its outcome could not be recorded in the audit log: {}", cause.message);
    let fault = Fault::failed(ErrorKind::Unavailable, told).effect(Effect::Done);
    status(fault.hint("call again with the same request id when the store can be written: it is answered as it was done"))
}
