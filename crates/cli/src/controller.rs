//! Calls to the controller: repeated with backoff while it cannot be reached, for a bounded time, and only where repeating is safe.
//!
//! What always holds: a call that changes something is sent again only with the same `request_id`, or where it never left this machine.

use std::future::Future;
use std::time::{Duration, Instant};

use muster_common::backoff::Backoff;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::name::Name;
use muster_wire::proto::v1::audit_service_client::AuditServiceClient;
use muster_wire::proto::v1::fleet_service_client::FleetServiceClient;
use muster_wire::proto::v1::inventory_service_client::InventoryServiceClient;
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::recovery_service_client::RecoveryServiceClient;
use muster_wire::proto::v1::repository_service_client::RepositoryServiceClient;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::status;
use rand::RngExt;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::console::Console;
use crate::context;

/// One try may take so long.
const ATTEMPT: Duration = Duration::from_secs(20);

/// The largest answer that is taken, in bytes.
const MAX_ANSWER: usize = 32 << 20;

type Interceptor = fn(Request<()>) -> Result<Request<()>, Status>;
type Traced = InterceptedService<Channel, Interceptor>;

/// Whether a call may be sent again when its reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing.
    Read,
    /// It carries a `request_id`, or doing it twice is doing it once.
    Safe,
    /// It may only be sent again where it never left this machine.
    IfNotSent,
}

/// A controller that is called.
#[derive(Clone, Debug)]
pub struct Controller {
    channel: Channel,
    /// The context's name.
    pub context: Name,
    /// Where it is, for people.
    pub place: String,
    retry_for: Duration,
    console: Console,
}

impl Controller {
    /// The controller of the named context, or of the current one. It is called first at the first call.
    ///
    /// # Errors
    /// Where there is no context, or its certificate has run out.
    pub fn connect(name: Option<&Name>, retry_for: Duration, console: Console) -> Result<Self, Fault> {
        let connection = context::connect(&context::file()?, name)?;
        Ok(Self { channel: connection.channel, context: connection.context, place: connection.endpoints.join(", "), retry_for, console })
    }

    /// The same controller, tried again for this long at most.
    #[must_use]
    pub fn tried_for(mut self, most: Duration) -> Self {
        self.retry_for = self.retry_for.min(most);
        self
    }

    /// `InventoryService`.
    #[must_use]
    pub fn inventory(&self) -> InventoryServiceClient<Traced> {
        InventoryServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor).max_decoding_message_size(MAX_ANSWER)
    }

    /// `RecoveryService`.
    #[must_use]
    pub fn recovery(&self) -> RecoveryServiceClient<Traced> {
        RecoveryServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor)
    }

    /// `RepositoryService`.
    #[must_use]
    pub fn repository(&self) -> RepositoryServiceClient<Traced> {
        RepositoryServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor).max_decoding_message_size(MAX_ANSWER)
    }

    /// `OperationService`.
    #[must_use]
    pub fn operation(&self) -> OperationServiceClient<Traced> {
        OperationServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor).max_decoding_message_size(MAX_ANSWER)
    }

    /// `StatusService`.
    #[must_use]
    pub fn status(&self) -> StatusServiceClient<Traced> {
        StatusServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor).max_decoding_message_size(MAX_ANSWER)
    }

    /// `AuditService`.
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Traced> {
        AuditServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor).max_decoding_message_size(MAX_ANSWER)
    }

    /// `FleetService`.
    #[must_use]
    pub fn fleet(&self) -> FleetServiceClient<Traced> {
        FleetServiceClient::with_interceptor(self.channel.clone(), traced as Interceptor).max_decoding_message_size(MAX_ANSWER)
    }

    /// Sends `request` until it is answered, refused, or the time to repeat is over.
    ///
    /// # Errors
    /// What the controller answered, or that it cannot be reached.
    pub async fn call<Q, A, F, Fut>(&self, repeat: Repeat, request: &Q, send: F) -> Result<A, Fault>
    where
        Q: Clone,
        F: Fn(Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        self.call_within(ATTEMPT, repeat, request, send).await
    }

    /// The same where one try may take `attempt`.
    ///
    /// # Errors
    /// As [`Controller::call`].
    pub async fn call_within<Q, A, F, Fut>(&self, attempt: Duration, repeat: Repeat, request: &Q, send: F) -> Result<A, Fault>
    where
        Q: Clone,
        F: Fn(Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut patience = Patience::new(self.retry_for, Instant::now());
        let mut seldom = Seldom::default();
        loop {
            let fault = match tokio::time::timeout(attempt, send(Request::new(request.clone()))).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status::fault(&status),
                Err(_) => Fault::failed(ErrorKind::Unavailable, format!("no answer within {} s", attempt.as_secs())),
            };
            let fault = judged(fault, repeat);
            let again = may_repeat(&fault, repeat).then(|| patience.next(Instant::now(), rand::rng().random())).flatten();
            let Some((wait, left)) = again else {
                return Err(self.explained(fault));
            };
            if seldom.now(Instant::now()) {
                self.unreachable(&fault, left);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells that the controller cannot be reached and that it is tried again.
    pub fn unreachable(&self, fault: &Fault, left: Duration) {
        let left = crate::render::amount::rounded(left);
        self.console.note(&format!(
            "controller {}: no answer ({}); trying again for {left}. Agents and databases go on",
            self.place,
            cause(fault)
        ));
    }

    /// A failure to reach the controller with where it was sought and what to do on which host.
    #[must_use]
    pub fn explained(&self, mut fault: Fault) -> Fault {
        if fault.kind == ErrorKind::Unavailable && fault.hint.is_empty() {
            fault.message = format!("the controller of context {} at {} cannot be reached: {}", self.context, self.place, fault.message);
            fault.hint =
                "on its machine: `systemctl status muster-controller`, `journalctl -u muster-controller -n 50`; agents go on without it. \
                          With the controller gone for good: `muster repo restore --help`"
                    .to_owned();
        }
        if fault.kind == ErrorKind::NotAvailable && fault.hint.is_empty() {
            fault.hint = "`muster version` tells whether the controller is older than this command; upgrade the older one".to_owned();
        }
        fault
    }
}

fn traced(request: Request<()>) -> Result<Request<()>, Status> {
    muster_service::trace::client_interceptor(request)
}

/// A read changed nothing, whatever became of its reply.
fn judged(fault: Fault, repeat: Repeat) -> Fault {
    match repeat {
        Repeat::Read => fault.effect(Effect::None),
        Repeat::Safe | Repeat::IfNotSent => fault,
    }
}

/// Whether a call that failed so may be sent again.
fn may_repeat(fault: &Fault, repeat: Repeat) -> bool {
    let sent = fault.effect != Effect::None;
    fault.kind == ErrorKind::Unavailable
        && match repeat {
            Repeat::Read | Repeat::Safe => true,
            Repeat::IfNotSent => !sent,
        }
}

/// How often and how long something is tried again. Pure: instants and chance are arguments.
#[derive(Debug)]
pub struct Patience {
    ends: Instant,
    attempt: u32,
    backoff: Option<Backoff>,
}

impl Patience {
    /// From `now` on, for so long.
    #[must_use]
    pub fn new(lasts: Duration, now: Instant) -> Self {
        Self { ends: now + lasts, attempt: 0, backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)) }
    }

    /// How long to wait before the next try and how long is left then; `None` when the time is over.
    pub fn next(&mut self, now: Instant, unit: f64) -> Option<(Duration, Duration)> {
        let left = self.ends.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let wait = self.backoff.map_or(left, |backoff| backoff.delay(self.attempt, unit)).min(left);
        self.attempt = self.attempt.saturating_add(1);
        Some((wait, left))
    }
}

/// Why a controller cannot be reached, in a few words: the innermost cause, without the library's link to its manual.
#[must_use]
pub fn cause(fault: &Fault) -> &str {
    let seen = fault.evidence.last().unwrap_or(&fault.message);
    seen.split(": https://").next().unwrap_or(seen)
}

/// The same thing is told every ten seconds at most.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Whether it may be told now; then it counts as told.
    pub fn now(&mut self, now: Instant) -> bool {
        let may = self.last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(10));
        if may {
            self.last = Some(now);
        }
        may
    }
}

/// A new `request_id`: 32 hexadecimal digits.
#[must_use]
pub fn request_id(given: Option<&str>) -> String {
    given.map_or_else(|| hex::encode(rand::rng().random::<[u8; 16]>()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_may_have_been_done_is_only_sent_again_where_that_is_safe() {
        let lost = Fault::failed(ErrorKind::Unavailable, "the reply was lost");
        let never_sent = Fault::refused(ErrorKind::Unavailable, "connection refused");
        let refused = Fault::refused(ErrorKind::Conflict, "held");
        for (repeat, after_lost, after_never_sent) in
            [(Repeat::Read, true, true), (Repeat::Safe, true, true), (Repeat::IfNotSent, false, true)]
        {
            assert_eq!((may_repeat(&lost, repeat), may_repeat(&never_sent, repeat)), (after_lost, after_never_sent), "{repeat:?}");
            assert!(!may_repeat(&refused, repeat));
        }
        assert_eq!(judged(lost.clone(), Repeat::Read).effect, Effect::None);
        assert_eq!(judged(lost, Repeat::Safe).effect, Effect::Unknown);
    }

    #[test]
    fn patience_grows_its_waits_and_ends() {
        let start = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(10), start);
        assert_eq!(patience.next(start, 1.0), Some((Duration::from_millis(200), Duration::from_secs(10))));
        assert_eq!(patience.next(start, 1.0), Some((Duration::from_millis(400), Duration::from_secs(10))));
        let late = start + Duration::from_millis(9_900);
        assert_eq!(patience.next(late, 1.0), Some((Duration::from_millis(100), Duration::from_millis(100))));
        assert_eq!(patience.next(start + Duration::from_secs(10), 1.0), None);
    }

    #[test]
    fn the_same_trouble_is_told_every_ten_seconds_and_without_links() {
        let start = Instant::now();
        let mut seldom = Seldom::default();
        let told = [0, 1, 9, 10, 15, 20].map(|second| seldom.now(start + Duration::from_secs(second)));
        assert_eq!(told, [true, false, false, true, false, true]);
        let fault = Fault::failed(ErrorKind::Unavailable, "transport error").evidence("peer closed: https://docs.rs/rustls/x");
        assert_eq!(cause(&fault), "peer closed");
    }

    #[test]
    fn a_request_id_is_drawn_or_taken() {
        assert_eq!(request_id(Some("mine")), "mine");
        assert_ne!(request_id(None), request_id(None));
        assert_eq!(request_id(None).len(), 32);
    }
}
