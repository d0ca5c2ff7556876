//! The agents' link as a gRPC service: who calls is known from the certificate; the session itself is a task of its own.

use futures::StreamExt as _;
use futures::stream::Map;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_identity::caller::Caller;
use muster_identity::gate;
use muster_identity::identity::Identity;
use muster_identity::revocation::Revocations;
use muster_service::tasks::TaskGate;
use muster_wire::proto::agent::v1::link_service_server::LinkService;
use muster_wire::proto::agent::v1::{SessionRequest, SessionResponse};
use muster_wire::status::status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::agents::assigner::Assigner;
use crate::agents::courier::Courier;
use crate::agents::observations::Observations;
use crate::agents::roster::Roster;
use crate::agents::session::Session;
use crate::api::roles::Roles;
use crate::ca::authorities::Authorities;
use crate::metrics::Metrics;
use crate::operation::handle::Operations;
use crate::schedule::clock::Clock;
use crate::schedule::pauses::Pauses;
use crate::store::Store;

/// Messages that may wait between a session and its stream; HTTP/2's flow control stands behind it.
const OUTGOING: usize = 16;

/// All that sessions need. Clones are the same.
#[derive(Clone, Debug)]
pub struct Agents {
    /// The store.
    pub store: Store,
    /// What hears news of commands.
    pub operations: Operations,
    /// What carries messages to sessions.
    pub courier: Courier,
    /// What was seen last.
    pub observations: Observations,
    /// What is known of agents that are connected.
    pub roster: Roster,
    /// What they are assigned.
    pub assigner: Assigner,
    /// Operators' roles, and what puts revocations in force.
    pub roles: Roles,
    /// The clock that schedules and pauses go by.
    pub clock: Clock,
    /// What is switched off for a while.
    pub pauses: Pauses,
    /// Which certificates count no longer.
    pub revocations: Revocations,
    /// The CAs in force.
    pub authorities: Authorities,
    /// Where sessions run.
    pub gate: TaskGate,
    /// What is counted.
    pub metrics: Metrics,
}

/// An agent by its certificate.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its site.
    pub site: Name,
    /// Its name.
    pub agent: Name,
    /// Its certificate and where it comes from.
    pub caller: Caller,
}

impl Peer {
    /// The agent that calls.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of(caller: &Caller) -> Result<Self, Fault> {
        match &caller.identity {
            Identity::Agent { site, agent } => Ok(Self { site: site.clone(), agent: agent.clone(), caller: caller.clone() }),
            Identity::Operator { .. } | Identity::Controller => {
                Err(Fault::refused(ErrorKind::PermissionDenied, format!("{} is no agent", caller.identity))
                    .hint("agents use their own certificates"))
            }
        }
    }
}

/// What the stream of a session gives.
type Answer = Result<SessionResponse, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Link {
    agents: Agents,
}

impl Link {
    /// A link that starts sessions.
    #[must_use]
    pub fn new(agents: Agents) -> Self {
        Self { agents }
    }
}

#[tonic::async_trait]
impl LinkService for Link {
    type SessionStream = Map<ReceiverStream<Box<Answer>>, fn(Box<Answer>) -> Answer>;

    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let peer = Peer::of(gate::caller(&request)?).map_err(status)?;
        let (outgoing, answers) = mpsc::channel(OUTGOING);
        let span = tracing::info_span!("session", agent = %peer.agent, peer = %peer.caller.peer);
        let name = format!("session of {}", peer.agent);
        let session = Session::new(self.agents.clone(), peer, outgoing);
        if !self.agents.gate.spawn(name, span, session.run(request.into_inner())) {
            return Err(status(Fault::refused(ErrorKind::Unavailable, "the controller is stopping").hint("call again in a few seconds")));
        }
        Ok(Response::new(ReceiverStream::new(answers).map(|answer| *answer)))
    }
}
