//! One session with one agent: hello, what was missed, then news and commands until one of the two goes.
//!
//! ```text
//!  waiting for hello --judged--> welcomed --assignment, unacknowledged commands--> talking --goodbye | lost | closed--> over
//! ```
//!
//! What always holds: one task owns it; nothing waits without a bound (an agent that does not read what is sent is not read from, is lost
//! after 8 s, or overflows its mailbox); an outcome is acknowledged only when it is journaled; an agent is believed about its own
//! instances only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use muster_common::counter::Revision;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::InstanceName;
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::LINK_PROTOCOL;
use muster_wire::convert::{duration_to_proto, timestamp_from_proto, timestamp_to_proto};
use muster_wire::failover::kept::kept_from_proto;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{
    AgentHeartbeat, ControllerHeartbeat, Goodbye, Hello, KeptReport, ObservationReport, SessionRequest, SessionResponse, Trust, Welcome,
};
use muster_wire::status::status;
use opentelemetry::KeyValue;
use rand::RngExt;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::agents::courier::{End, Next, Place};
use crate::agents::hello;
use crate::agents::link::{Agents, Peer};
use crate::operation::news::AgentNews;
use crate::store::{agents, certificates};

/// How long an agent may take for its Hello.
pub const HELLO: Duration = Duration::from_secs(10);
/// An agent that was not heard for so long is lost. It sends a heartbeat each 2 s.
pub const LOST: Duration = Duration::from_secs(8);
/// The most CAs of which it is kept that an agent trusts them.
const MOST_AUTHORITIES: usize = 8;
/// How many answers may wait before the agent is no longer read from.
const PENDING: usize = 64;
/// How long the last message may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Debug)]
enum Over {
    /// The agent ended it.
    Closed,
    /// Nothing was heard for [`LOST`].
    Lost,
    /// We end it and tell why.
    Goodbye(&'static str, Goodbye),
    /// It broke or could not be served.
    Failed(Fault),
}

impl From<Fault> for Over {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<crate::store::error::StoreError> for Over {
    fn from(error: crate::store::error::StoreError) -> Self {
        Self::Failed(error.fault())
    }
}

/// What goes out. Boxed: a channel keeps room for 32 of them, used or not.
pub(super) type Outgoing = mpsc::Sender<Box<Result<SessionResponse, Status>>>;

/// A session that was not begun yet.
#[derive(Debug)]
pub struct Session {
    shared: Agents,
    peer: Peer,
    outgoing: Outgoing,
    pending: VecDeque<SessionResponse>,
    /// The CAs that the agent trusts, and those that it was told to: fingerprints.
    trusts: Vec<String>,
    told: Vec<String>,
}

impl Session {
    pub(super) fn new(shared: Agents, peer: Peer, outgoing: Outgoing) -> Self {
        Self { shared, peer, outgoing, pending: VecDeque::new(), trusts: Vec::new(), told: Vec::new() }
    }

    /// Talks until one of the two goes.
    pub async fn run(mut self, mut incoming: Streaming<SessionRequest>) {
        // What is done once or seldom is boxed: its room is given back, and each of thousands of sessions keeps what talking takes.
        let over = match Box::pin(self.begin(&mut incoming)).await {
            Err(over) => over,
            Ok(mut place) => {
                self.shared.metrics.sessions.add(1, &[]);
                let over = self.talk(&mut incoming, &mut place).await;
                self.shared.metrics.sessions.add(-1, &[]);
                Box::pin(self.save()).await;
                Box::pin(self.leave(place)).await;
                over
            }
        };
        let why = match &over {
            Over::Closed => "closed",
            Over::Lost => "lost",
            Over::Goodbye(why, _) => why,
            Over::Failed(_) => "failed",
        };
        self.shared.metrics.sessions_ended.add(1, &[KeyValue::new("why", why)]);
        tracing::info!(why, "session over");
        Box::pin(self.farewell(over)).await;
    }

    /// From the first message to the last of what was missed.
    async fn begin(&mut self, incoming: &mut Streaming<SessionRequest>) -> Result<Place, Over> {
        let first = tokio::time::timeout(HELLO, incoming.message()).await;
        let hello = match first {
            Err(_) => return Err(Over::Failed(protocol("no hello came within 10 s"))),
            Ok(Err(_) | Ok(None)) => return Err(Over::Closed),
            Ok(Ok(Some(SessionRequest { message: Some(FromAgent::Hello(hello)) }))) => hello,
            Ok(Ok(Some(_))) => return Err(Over::Failed(protocol("the first message is no hello"))),
        };
        let version = hello::judge(&hello).map_err(|refusal| {
            tracing::warn!(%refusal, "agent refused");
            Over::Goodbye("refused", refusal.goodbye())
        })?;
        let now = clock::now();
        self.trusts = fingerprints(&hello.trusted_authorities);
        self.remember(&hello, now).await?;
        // The older session ends from here on; what it hears before it noticed is news all the same.
        let place = self.shared.courier.connect(&self.peer.agent);
        let revision = Revision(hello.assignment_revision);
        let serials = hello.revoked_serials.clone();
        let answers = self.shared.operations.hear(&self.peer.agent, AgentNews::Connected(Box::new(hello))).await?;
        let behind = !self.shared.operations.behind().await?.is_empty();
        if behind {
            self.learn_revocations(serials, now).await?;
        }
        let welcome = Welcome {
            protocol: Some(version),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            term: self.shared.store.term().0,
            store_id: self.shared.store.store_id().to_string(),
            now: Some(timestamp_to_proto(clock::now())),
        };
        self.push(ToAgent::Welcome(welcome));
        self.push_trust();
        if let Some(assignment) = self.shared.assigner.reconcile(&self.peer.agent, revision, behind).await? {
            self.push(ToAgent::Assignment(assignment));
        }
        self.pending.extend(answers);
        tracing::info!(session = place.session(), protocol = LINK_PROTOCOL.minor, "agent connected");
        Ok(place)
    }

    /// Keeps what the agent told of itself.
    async fn remember(&self, hello: &Hello, now: Timestamp) -> Result<(), Over> {
        let certificate = &self.peer.caller.certificate;
        let build: String = hello.build.chars().take(80).collect();
        let told = agents::Told {
            name: &self.peer.agent,
            site: &self.peer.site,
            key_fingerprint: &certificate.key_fingerprint.to_string(),
            serial: certificate.serial.as_str(),
            certificate_until: certificate.not_after,
            authority: &certificate.authority.map(|print| print.to_string()).unwrap_or_default(),
            trusts: &self.trusts,
            build: &build,
            encryption_key: &hex::encode(&hello.encryption_key),
            highest_term: hello.highest_term,
            highest_sequence: hello.highest_sequence,
        };
        let mut write = self.shared.store.write_together().await?;
        agents::connected(write.connection(), &told, now).await?;
        write.commit().await?;
        self.shared.roster.heard(&self.peer.agent, now);
        self.clock(hello.now.as_ref(), now);
        Ok(())
    }

    /// A store that was restored from an older copy takes back what it revoked since.
    async fn learn_revocations(&self, serials: Vec<String>, now: Timestamp) -> Result<(), Over> {
        let mut write = self.shared.store.write().await?;
        let mut learnt = 0;
        for serial in serials {
            let Ok(serial) = serial.parse::<muster_identity::certificate::Serial>() else { continue };
            let reason = format!("told by agent {} after this store was restored", self.peer.agent);
            if certificates::revoke_serial(write.connection(), serial.as_str(), &reason, now).await? {
                learnt += 1;
            }
        }
        write.commit().await?;
        if learnt > 0 {
            tracing::warn!(learnt, "certificates are revoked again: an agent remembers it and this store did not");
            self.shared.roles.reload(&self.shared.store, &self.shared.revocations).await?;
        }
        Ok(())
    }

    async fn talk(&mut self, incoming: &mut Streaming<SessionRequest>, place: &mut Place) -> Over {
        let certificate = self.peer.caller.certificate.clone();
        let revocations = self.shared.revocations.clone();
        let revoked = revocations.until_revoked(&certificate);
        tokio::pin!(revoked);
        let until = certificate.not_after.since(clock::now());
        let expired = tokio::time::sleep(until);
        tokio::pin!(expired);
        let outgoing = self.outgoing.clone();
        let mut heard = Instant::now();
        let mut authorities = self.shared.authorities.changes();
        // What changed since the Welcome is told again.
        authorities.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = &mut revoked => return Over::Goodbye("revoked", goodbye_of(&End::Revoked)),
                next = place.next(!self.pending.is_empty()) => match next {
                    Next::End(end) => return Over::Goodbye(word(&end), goodbye_of(&end)),
                    Next::Send(message) => self.pending.push_back(message),
                },
                () = &mut expired => return Over::Goodbye("expired", goodbye("the certificate of this session has ended: connect with the renewed one", 0.1..1.0)),
                permit = outgoing.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => if let Some(message) = self.pending.pop_front() { permit.send(Box::new(Ok(message))) },
                    Err(_) => return Over::Closed,
                },
                message = incoming.message(), if self.pending.len() < PENDING => match message {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        if let Err(over) = self.take(message).await {
                            return over;
                        }
                    }
                    Ok(None) | Err(_) => return Over::Closed,
                },
                () = tokio::time::sleep_until((heard + LOST).into()) => return Over::Lost,
                changed = authorities.changed() => if changed.is_ok() { self.push_trust() },
            }
        }
    }

    async fn take(&mut self, message: SessionRequest) -> Result<(), Over> {
        let now = clock::now();
        self.shared.roster.heard(&self.peer.agent, now);
        let news = match message.message {
            None => return Ok(()),
            Some(FromAgent::Hello(_)) => return Err(Over::Failed(protocol("a second hello"))),
            Some(FromAgent::Heartbeat(heartbeat)) => {
                self.answer_heartbeat(&heartbeat, now);
                return Ok(());
            }
            Some(FromAgent::Observation(report)) => {
                self.observe(report);
                return Ok(());
            }
            Some(FromAgent::Kept(report)) => {
                self.keep(&report);
                return Ok(());
            }
            Some(FromAgent::Applied(applied)) => {
                self.shared.roster.applied(&self.peer.agent, applied.revision, applied.problems);
                return Ok(());
            }
            Some(FromAgent::TrustKept(kept)) => {
                self.trusts = fingerprints(&kept.authorities);
                let mut write = self.shared.store.write().await?;
                agents::trusts(write.connection(), &self.peer.agent, &self.trusts).await?;
                return Ok(write.commit().await?);
            }
            Some(FromAgent::Accepted(accepted)) => AgentNews::TakenOn { command_id: accepted.command_id },
            Some(FromAgent::Progress(progress)) => AgentNews::Progress(progress),
            Some(FromAgent::Outcome(outcome)) => {
                muster_failpoint::hit("controller.link.outcome").map_err(injected)?;
                AgentNews::Outcome(Box::new(outcome))
            }
            Some(FromAgent::Task(report)) => AgentNews::Report(report),
        };
        match Box::pin(self.shared.operations.hear(&self.peer.agent, news)).await {
            Ok(answers) => {
                self.pending.extend(answers);
                Ok(())
            }
            Err(fault) if fault.kind == ErrorKind::PermissionDenied => {
                self.refuse(&fault.message);
                Ok(())
            }
            Err(fault) => Err(Over::Failed(fault)),
        }
    }

    fn answer_heartbeat(&mut self, heartbeat: &AgentHeartbeat, now: Timestamp) {
        self.clock(heartbeat.now.as_ref(), now);
        self.push(ToAgent::Heartbeat(ControllerHeartbeat { number: heartbeat.number, now: Some(timestamp_to_proto(now)) }));
    }

    /// Believes a report if the instance is the agent's own.
    fn observe(&self, report: ObservationReport) {
        let name = match (report.component.parse(), report.instance.parse()) {
            (Ok(component), Ok(instance)) => InstanceName { component, instance },
            (Err(_), _) | (_, Err(_)) => {
                self.refuse("an observation of what is no name");
                return;
            }
        };
        let declared = self.shared.assigner.declared();
        let keeper =
            declared.instances_of(&name.component).find(|instance| instance.name == name).map(|instance| (instance.agent, instance.site));
        match keeper {
            Some((keeper, site)) if keeper == self.peer.agent && site == self.peer.site => {
                self.shared.observations.record(name, &self.peer.agent, report, Instant::now());
            }
            // It may have been declared no longer while the report was under way: no word about that.
            None => {}
            Some((keeper, site)) => self.refuse(&format!("an observation of {name}, which agent {site}/{keeper} keeps")),
        }
    }

    /// Believes a keeper's report if the instance is the agent's own.
    fn keep(&self, report: &KeptReport) {
        let kept = match kept_from_proto(report) {
            Ok(kept) => kept,
            Err(fault) => return self.refuse(&format!("a keeper's report that cannot be read: {}", fault.message)),
        };
        let declared = self.shared.assigner.declared();
        let keeper = declared
            .instances_of(&kept.instance.component)
            .find(|instance| instance.name == kept.instance)
            .map(|instance| (instance.agent, instance.site));
        match keeper {
            Some((keeper, site)) if keeper == self.peer.agent && site == self.peer.site => {
                self.shared.observations.keep(kept, Instant::now());
            }
            None => {}
            Some((keeper, site)) => self.refuse(&format!("a report of {}, which agent {site}/{keeper} keeps", kept.instance)),
        }
    }

    /// Counts what an agent said for what is not its own. The first of a session is told, then each hundredth.
    fn refuse(&self, what: &str) {
        let count = self.shared.roster.refused(&self.peer.agent);
        self.shared.metrics.refused_news.add(1, &[]);
        if count % 100 == 1 {
            tracing::warn!(what, count, "agent refused: it speaks for its own instances only");
        }
    }

    fn clock(&self, theirs: Option<&prost_types::Timestamp>, now: Timestamp) {
        if let Some(theirs) = theirs.and_then(|theirs| timestamp_from_proto(theirs, "now").ok()) {
            self.shared.roster.clock(&self.peer.agent, theirs, now);
        }
    }

    /// Tells the agent which CAs to trust, where it does not trust just these or has a certificate of one that does not sign any more.
    fn push_trust(&mut self) {
        let current = self.shared.authorities.current();
        let signs = current.signs().fingerprint();
        let all: Vec<String> = current.all().map(|authority| authority.fingerprint().to_string()).collect();
        // One that tells nothing is of an older build and would not understand.
        if self.trusts.is_empty() || self.told == all || self.trusts == all && self.peer.caller.certificate.authority == Some(signs) {
            return;
        }
        self.told = all;
        self.push(ToAgent::Trust(Trust { ca_pem: current.pem(), signs: signs.to_string() }));
    }

    fn push(&mut self, message: ToAgent) {
        self.pending.push_back(SessionResponse { message: Some(message) });
    }

    /// Writes what must outlast a restart. A store that cannot be written is told by whatever needs it more.
    async fn save(&self) {
        let agent = &self.peer.agent;
        let refused = self.shared.roster.take_refused(agent);
        let heard = self.shared.roster.of(agent).map_or_else(clock::now, |live| live.last_heard);
        let saved = async {
            let mut write = self.shared.store.write_together().await?;
            agents::heard(write.connection(), agent, heard, refused).await?;
            write.commit().await
        };
        if let Err(error) = saved.await {
            tracing::warn!(fault = %error.fault(), "write when an agent was last heard");
        }
    }

    /// Tells operations that the agent is gone, unless a newer session took its place.
    async fn leave(&self, place: Place) {
        drop(place);
        if self.shared.courier.is_connected(&self.peer.agent) {
            return;
        }
        if let Err(fault) = self.shared.operations.hear(&self.peer.agent, AgentNews::Disconnected).await {
            tracing::warn!(%fault, "tell operations that an agent is gone");
        }
    }

    /// The last word, within a bound.
    async fn farewell(self, over: Over) {
        let last = match over {
            Over::Closed => return,
            Over::Lost => {
                Err(status(Fault::refused(ErrorKind::Unavailable, "nothing was heard from the agent for 8 s").hint("connect again")))
            }
            Over::Failed(fault) => {
                tracing::warn!(%fault, "session failed");
                Err(status(fault))
            }
            Over::Goodbye(_, goodbye) => Ok(SessionResponse { message: Some(ToAgent::Goodbye(goodbye)) }),
        };
        if tokio::time::timeout(FAREWELL, self.outgoing.send(Box::new(last))).await.is_err() {
            tracing::debug!("the agent did not take the last message");
        }
    }
}

/// What are fingerprints among what an agent lists; a few.
fn fingerprints(told: &[String]) -> Vec<String> {
    let is_one = |text: &&String| text.parse::<muster_identity::fingerprint::Fingerprint>().is_ok();
    told.iter().filter(is_one).take(MOST_AUTHORITIES).cloned().collect()
}

fn protocol(what: &str) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, format!("session: {what}")).hint("upgrade or reinstall the agent")
}

fn injected(injected: muster_failpoint::Injected) -> Over {
    Over::Failed(Fault::failed(ErrorKind::Unavailable, injected.to_string()).hint("a test asked for it"))
}

fn word(end: &End) -> &'static str {
    match end {
        End::Replaced => "replaced",
        End::Revoked => "revoked",
        End::Overflowed => "overflowed",
        End::Draining => "draining",
    }
}

fn goodbye_of(end: &End) -> Goodbye {
    match end {
        End::Replaced => {
            goodbye("a newer session of this agent took its place; if no other process uses its certificate, nothing is wrong", 20.0..40.0)
        }
        End::Revoked => Goodbye {
            reason: "the certificate of this agent is revoked; it needs a new join token".into(),
            retry_after: None,
            r#final: true,
        },
        End::Overflowed => goodbye("the agent did not take what was sent to it", 0.5..2.0),
        End::Draining => goodbye("the controller stops", 0.5..3.0),
    }
}

/// Many agents that are told at once must not come back at once: each is given another time.
fn goodbye(reason: &str, seconds: std::ops::Range<f64>) -> Goodbye {
    let retry = Duration::from_secs_f64(rand::rng().random_range(seconds));
    Goodbye { reason: reason.into(), retry_after: Some(duration_to_proto(retry)), r#final: false }
}
