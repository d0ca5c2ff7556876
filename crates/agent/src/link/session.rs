//! One session: hello and welcome, then two loops, one that sends what the outbox holds and one that hears.
//!
//! What always holds: nothing of an older term is obeyed; a controller that is silent for 10 s is given up; the send loop never
//! keeps the other from hearing.

use std::sync::Arc;
use std::time::Duration;

use muster_common::counter::Term;
use muster_common::id::{CommandId, StoreId};
use muster_failpoint::Injected;
use muster_service::clock;
use muster_wire::LINK_PROTOCOL;
use muster_wire::convert::{duration_from_proto, timestamp_from_proto, timestamp_to_proto};
use muster_wire::proto::agent::v1::link_service_client::LinkServiceClient;
use muster_wire::proto::agent::v1::session_request::Message as ToController;
use muster_wire::proto::agent::v1::session_response::Message as FromController;
use muster_wire::proto::agent::v1::{self as link, SessionRequest, SessionResponse, TaskState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::belonging::Belonging;
use crate::convert;
use crate::link::outbox::Item;
use crate::task::inbox::Known;
use crate::task::intake::Intake;
use crate::task::perform::blocking;

/// How often a heartbeat is sent.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long the controller may be silent. It answers each heartbeat.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long the controller may take until its Welcome.
const WELCOME: Duration = Duration::from_secs(15);
/// How often outcomes that were not acknowledged are sent again within a session.
const RESEND: Duration = Duration::from_secs(15);
/// Messages between the loops and the connection.
const QUEUE: usize = 16;
/// Longest `LookClosely`.
const CLOSELY: Duration = Duration::from_secs(3_600);
/// Above this the clocks differ worth a word.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// What a session needs besides its connection.
pub struct Talk {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Its credentials.
    pub belonging: Arc<Belonging>,
    /// Where commands go.
    pub intake: Arc<Intake>,
    /// Until when everything is looked at each second.
    pub closely: watch::Sender<Option<Instant>>,
    /// The machine's boot.
    pub boot_id: String,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Over {
    /// The connection or the call failed.
    #[error("{0}")]
    Broken(String),
    /// The controller closed it without a word.
    #[error("the controller closed the session")]
    Closed,
    /// No Welcome came, or nothing for [`SILENCE`].
    #[error("the controller is silent")]
    Silent,
    /// It is of the past.
    #[error("the controller rules term {theirs}, and term {highest} was seen: it is not obeyed")]
    OlderTerm {
        /// Its term.
        theirs: Term,
        /// The highest seen.
        highest: Term,
    },
    /// It speaks what this agent does not.
    #[error("the controller does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// It said goodbye.
    #[error("the controller said goodbye: {reason}")]
    Goodbye {
        /// Its reason.
        reason: String,
        /// Not before so long.
        retry_after: Option<Duration>,
        /// Only a person can change that.
        is_final: bool,
    },
    /// What must be kept could not be.
    #[error("the agent cannot keep what it was told: {0}")]
    Disk(String),
    /// A test asked for it.
    #[error(transparent)]
    Injected(#[from] Injected),
}

/// Who the controller is, by its Welcome.
#[derive(Clone, Copy, Debug)]
struct Ruler {
    term: Term,
    store: StoreId,
}

/// Talks until one of the two goes. `welcomed` is called once it is a session.
pub async fn session(talk: &Talk, channel: Channel, welcomed: impl FnOnce()) -> Over {
    match talk_over(talk, channel, welcomed).await {
        Ok(never) => match never {},
        Err(over) => over,
    }
}

async fn talk_over(talk: &Talk, channel: Channel, welcomed: impl FnOnce()) -> Result<std::convert::Infallible, Over> {
    let (sender, queue) = mpsc::channel(QUEUE);
    send(&sender, ToController::Hello(hello(talk).await?)).await?;
    let mut client = LinkServiceClient::new(channel);
    let begun = async {
        let response = client.session(ReceiverStream::new(queue)).await.map_err(|status| broken(&status))?;
        let mut incoming = response.into_inner();
        let ruler = welcome(talk, next(&mut incoming).await?).await?;
        Ok::<_, Over>((incoming, ruler))
    };
    let (incoming, ruler) = tokio::time::timeout(WELCOME, begun).await.map_err(|_| Over::Silent)??;
    welcomed();
    let unacknowledged: Vec<CommandId> = talk.agent.inbox.unacknowledged().into_iter().map(|(id, _)| id).collect();
    talk.agent.outbox.begin(unacknowledged);
    tokio::select! {
        over = hear(talk, incoming, ruler) => over,
        over = speak(talk, sender) => over,
    }
}

async fn hello(talk: &Talk) -> Result<link::Hello, Over> {
    let agent = talk.agent.clone();
    let boot_id = talk.boot_id.clone();
    let remembered = agent.memory.get();
    let unfinished = agent.inbox.unfinished();
    let epochs = remembered.epochs.iter().map(|known| link::InstanceEpoch {
        component: known.instance.component.to_string(),
        instance: known.instance.instance.to_string(),
        epoch: known.epoch.0,
        reign_id: known.reign.map(|reign| reign.to_string()).unwrap_or_default(),
    });
    Ok(link::Hello {
        protocol: Some(LINK_PROTOCOL),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id,
        assignment_revision: agent.assignments.current().assignment.revision.0,
        highest_term: remembered.highest_term.0,
        store_id: remembered.store.map(|store| store.to_string()).unwrap_or_default(),
        epochs: epochs.collect(),
        unfinished: unfinished.into_iter().map(|(id, operation, ended)| unfinished_task(id, operation, ended)).collect(),
        highest_sequence: remembered.highest_sequence,
        encryption_key: agent.repositories.public_key().to_vec(),
        now: Some(timestamp_to_proto(clock::now())),
        revoked_serials: remembered.revoked,
        trusted_authorities: talk.belonging.trusted(),
    })
}

fn unfinished_task(id: CommandId, operation: Option<muster_common::id::OperationId>, ended: bool) -> link::UnfinishedTask {
    let state = if ended { TaskState::Ended } else { TaskState::TakenOn };
    link::UnfinishedTask {
        command_id: id.to_string(),
        state: state.into(),
        operation_id: operation.map(|operation| operation.to_string()).unwrap_or_default(),
    }
}

/// Judges the first message.
async fn welcome(talk: &Talk, first: FromController) -> Result<Ruler, Over> {
    let welcome = match first {
        FromController::Welcome(welcome) => welcome,
        FromController::Goodbye(goodbye) => return Err(over(goodbye)),
        FromController::Heartbeat(_)
        | FromController::Assignment(_)
        | FromController::Command(_)
        | FromController::Cancel(_)
        | FromController::Acknowledged(_)
        | FromController::Ask(_)
        | FromController::Trust(_)
        | FromController::LookClosely(_) => return Err(Over::Protocol("its first message is no welcome")),
    };
    let protocol = welcome.protocol.unwrap_or_default();
    if protocol.major != LINK_PROTOCOL.major || protocol.minor > LINK_PROTOCOL.minor {
        return Err(Over::Protocol("it welcomes in a version that this agent does not speak: upgrade the agent"));
    }
    let highest = talk.agent.memory.get().highest_term;
    let theirs = Term(welcome.term);
    if theirs < highest {
        return Err(Over::OlderTerm { theirs, highest });
    }
    let store = welcome.store_id.parse().map_err(|_| Over::Protocol("its store has no id"))?;
    let agent = talk.agent.clone();
    let learnt = blocking(move || agent.memory.change(|remembered| remembered.learn_term(theirs))).await;
    learnt.map_err(|fault| Over::Disk(fault.message))?.map_err(|error| Over::Disk(error.to_string()))?;
    if let Some(now) = welcome.now.as_ref().and_then(|now| timestamp_from_proto(now, "now").ok()) {
        let (ours, theirs) = (clock::now(), now);
        let off = ours.since(theirs).max(theirs.since(ours));
        if off > CLOCK_TOLERANCE {
            tracing::warn!(seconds = off.as_secs(), "this machine's clock and the controller's differ: check NTP on both");
        }
    }
    tracing::info!(term = theirs.0, build = %welcome.build, "connected");
    Ok(Ruler { term: theirs, store })
}

/// Hears until the session ends.
async fn hear(talk: &Talk, mut incoming: Streaming<SessionResponse>, ruler: Ruler) -> Result<std::convert::Infallible, Over> {
    loop {
        let message = tokio::time::timeout(SILENCE, next(&mut incoming)).await.map_err(|_| Over::Silent)??;
        match message {
            FromController::Welcome(_) => return Err(Over::Protocol("a second welcome")),
            FromController::Heartbeat(_) => {}
            FromController::Assignment(assignment) => apply(talk, assignment, ruler).await?,
            FromController::Command(command) => talk.intake.command(command, ruler.store).await?,
            FromController::Cancel(cancel) => talk.intake.cancel(&cancel).await,
            FromController::Acknowledged(acknowledged) => talk.intake.acknowledged(&acknowledged).await?,
            FromController::Ask(ask) => talk.intake.ask(&ask.command_id),
            FromController::Trust(told) => trust(talk, told).await,
            FromController::LookClosely(look) => look_closely(talk, &look),
            FromController::Goodbye(goodbye) => return Err(over(goodbye)),
        }
    }
}

async fn apply(talk: &Talk, assignment: link::Assignment, ruler: Ruler) -> Result<(), Over> {
    if Term(assignment.term) > ruler.term {
        return Err(Over::Protocol("an assignment of a term that the controller does not rule"));
    }
    let agent = talk.agent.clone();
    let applied = blocking(move || agent.assignments.apply(&assignment)).await.map_err(|fault| Over::Disk(fault.message))?;
    let (revision, problems) = match applied {
        Ok(in_force) => (in_force.assignment.revision.0, in_force.problems.clone()),
        Err(error) => {
            tracing::error!(%error, "the new assignment cannot be kept: the one before stays in force");
            let present = talk.agent.assignments.current();
            (present.assignment.revision.0, vec![format!("keep the new assignment: {error}: make room for the agent's state directory")])
        }
    };
    tracing::info!(revision, problems = problems.len(), "assignment in force");
    talk.agent.outbox.applied(link::AssignmentApplied { revision, problems });
    Ok(())
}

/// Trusts the CAs that the controller tells. What cannot be kept is not told as kept, and the controller's operator sees who is missing.
async fn trust(talk: &Talk, told: link::Trust) {
    match talk.belonging.trust(told.ca_pem, &told.signs).await {
        Ok(()) => {
            let authorities = talk.belonging.trusted();
            tracing::info!(authorities = authorities.join(", "), "CAs that are trusted from now on");
            talk.agent.outbox.trust_kept(link::TrustKept { authorities });
        }
        Err(why) => tracing::error!("the CAs that are trusted stay as they were: {why}"),
    }
}

fn look_closely(talk: &Talk, look: &link::LookClosely) {
    let duration = look.duration.as_ref().and_then(|duration| duration_from_proto(duration, "duration").ok()).unwrap_or_default();
    talk.closely.send_replace(Some(Instant::now() + duration.min(CLOSELY)));
}

/// Sends until the connection no longer takes anything.
async fn speak(talk: &Talk, sender: mpsc::Sender<SessionRequest>) -> Result<std::convert::Infallible, Over> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let mut resend = tokio::time::interval_at(Instant::now() + RESEND, RESEND);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    resend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        tokio::select! {
            item = talk.agent.outbox.next() => {
                for message in messages(talk, item).await? {
                    send(&sender, message).await?;
                }
            }
            _ = heartbeat.tick() => {
                number += 1;
                talk.agent.outbox.heartbeat(number);
            }
            _ = resend.tick() => {
                for (id, _) in talk.agent.inbox.unacknowledged() {
                    talk.agent.outbox.outcome(id);
                }
            }
        }
    }
}

async fn messages(talk: &Talk, item: Item) -> Result<Vec<ToController>, Over> {
    Ok(match item {
        Item::Heartbeat(number) => {
            vec![ToController::Heartbeat(link::AgentHeartbeat { now: Some(timestamp_to_proto(clock::now())), number })]
        }
        Item::Accepted(id) => vec![ToController::Accepted(link::TaskAccepted { command_id: id.to_string() })],
        Item::Applied(applied) => vec![ToController::Applied(applied)],
        Item::TrustKept(kept) => vec![ToController::TrustKept(kept)],
        Item::Observation(report) => vec![ToController::Observation(*report)],
        Item::Kept(report) => vec![ToController::Kept(*report)],
        Item::Progress(id, progress) => {
            vec![ToController::Progress(link::TaskProgress { command_id: id.to_string(), progress: Some(progress) })]
        }
        Item::Outcome(id) => match known(talk, id).await? {
            Known::Ended(ended) | Known::Buried(ended) => vec![ToController::Outcome(convert::ended_to_proto(id, &ended))],
            Known::Unheard | Known::TakenOn => Vec::new(),
        },
        Item::Report(id) => {
            let report = |state: TaskState| ToController::Task(link::TaskReport { command_id: id.to_string(), state: state.into() });
            match known(talk, id).await? {
                Known::Unheard => vec![report(TaskState::Unheard)],
                Known::TakenOn => vec![report(TaskState::TakenOn)],
                Known::Ended(ended) | Known::Buried(ended) => {
                    vec![report(TaskState::Ended), ToController::Outcome(convert::ended_to_proto(id, &ended))]
                }
            }
        }
    })
}

async fn known(talk: &Talk, id: CommandId) -> Result<Known, Over> {
    talk.intake.know(id).await.map_err(|fault| Over::Disk(fault.message))
}

async fn send(sender: &mpsc::Sender<SessionRequest>, message: ToController) -> Result<(), Over> {
    let is_outcome = matches!(message, ToController::Outcome(_));
    sender.send(SessionRequest { message: Some(message) }).await.map_err(|_| Over::Closed)?;
    if is_outcome {
        muster_failpoint::hit("agent.stop8.sent")?;
    }
    Ok(())
}

async fn next(incoming: &mut Streaming<SessionResponse>) -> Result<FromController, Over> {
    loop {
        match incoming.message().await {
            Ok(Some(SessionResponse { message: Some(message) })) => return Ok(message),
            // What a newer controller says besides is for newer agents.
            Ok(Some(SessionResponse { message: None })) => {}
            Ok(None) => return Err(Over::Closed),
            Err(status) => return Err(broken(&status)),
        }
    }
}

fn broken(status: &tonic::Status) -> Over {
    Over::Broken(muster_wire::status::fault(status).to_string())
}

fn over(goodbye: link::Goodbye) -> Over {
    let retry_after = goodbye.retry_after.as_ref().and_then(|after| duration_from_proto(after, "retry_after").ok());
    Over::Goodbye { reason: goodbye.reason, retry_after, is_final: goodbye.r#final }
}
