//! How a simulated agent lives: it connects as a real one does (with the same waits), beats, reports, takes each command on and ends it at
//! once. A check of one in [`FLOODS_OF`] parts makes it tell progress as fast as it is taken for [`FLOOD`] first.
//!
//! What always holds: a command that is sent again is not done again; what is remembered outlives the session, as an inbox does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use muster_common::backoff::Backoff;
use muster_identity::client::ReloadableClient;
use muster_identity::endpoint::Endpoint;
use muster_service::clock;
use muster_wire::convert::{timestamp_from_proto, timestamp_to_proto};
use muster_wire::proto::agent::v1::command::Work;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{
    AgentHeartbeat, Assignment, AssignmentApplied, Command, Hello, ObservationReport, TaskAccepted, TaskOutcome, TaskProgress, task_outcome,
};
use muster_wire::proto::v1::{CheckResult, InstanceRole, Observation, Progress};
use rand::RngExt as _;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{Session, hello};

/// As the real agent has them.
const HEARTBEAT: Duration = Duration::from_secs(2);
const REPORT: Duration = Duration::from_secs(10);
const GOOD: Duration = Duration::from_secs(5);

/// A check of one in so many parts asks for a flood of progress.
pub const FLOODS_OF: u32 = 1_000;
/// Which lasts so long.
pub const FLOOD: Duration = Duration::from_secs(3);

/// What is counted of all agents of a process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions that were welcomed and live.
    pub connected: AtomicI64,
    /// Tries that did not lead to a session.
    pub failed: AtomicU64,
    /// Sessions that ended.
    pub ended: AtomicU64,
    /// Commands taken on.
    pub commands: AtomicU64,
    /// Commands that came again and were not done again.
    pub repeated: AtomicU64,
}

/// A simulated agent.
#[derive(Debug)]
pub struct Simulated {
    credentials: Arc<ReloadableClient>,
    endpoint: Endpoint,
    counts: Arc<Counts>,
    memory: Hello,
    instances: Vec<(String, String)>,
    ended: BTreeMap<String, TaskOutcome>,
}

impl Simulated {
    #[must_use]
    pub fn new(credentials: Arc<ReloadableClient>, endpoint: Endpoint, counts: Arc<Counts>) -> Self {
        Self { credentials, endpoint, counts, memory: hello(), instances: Vec::new(), ended: BTreeMap::new() }
    }

    /// Lives for as long as the process.
    pub async fn live(mut self) {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let over = self.talk().await;
            if began.elapsed() >= GOOD {
                failures = 0;
            }
            let unit = rand::rng().random();
            let usual = backoff.map_or(Duration::from_secs(5), |backoff| backoff.delay(failures, unit));
            failures += 1;
            tokio::time::sleep(over.unwrap_or(usual)).await;
        }
    }

    /// One session. Gives the wait that the controller asked for, if it did.
    async fn talk(&mut self) -> Option<Duration> {
        let memory = Hello { now: Some(timestamp_to_proto(clock::now())), ..self.memory.clone() };
        let Ok(mut session) = Session::begin(self.credentials.clone(), &self.endpoint, memory).await else {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let mut welcomed = false;
        let over = self.converse(&mut session, &mut welcomed).await;
        if welcomed {
            self.counts.connected.fetch_sub(1, Ordering::Relaxed);
            self.counts.ended.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        over.unwrap_or_default()
    }

    async fn converse(&mut self, session: &mut Session, welcomed: &mut bool) -> Result<Option<Duration>> {
        let phase = |every: Duration| tokio::time::Instant::now() + every.mul_f64(rand::rng().random());
        let mut heartbeat = interval_at(phase(HEARTBEAT), HEARTBEAT);
        let mut report = interval_at(phase(REPORT), REPORT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {
                    number += 1;
                    session.say(FromAgent::Heartbeat(AgentHeartbeat { now: Some(timestamp_to_proto(clock::now())), number })).await?;
                }
                _ = report.tick() => self.report(session).await?,
                message = session.incoming.message() => match message?.and_then(|message| message.message) {
                    None => bail!("the session was closed"),
                    Some(ToAgent::Welcome(welcome)) => {
                        self.memory.highest_term = welcome.term;
                        self.memory.store_id = welcome.store_id;
                        *welcomed = true;
                        self.counts.connected.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(ToAgent::Assignment(assignment)) => self.assigned(session, assignment).await?,
                    Some(ToAgent::Command(command)) => self.obey(session, command).await?,
                    Some(ToAgent::Acknowledged(told)) => drop(self.ended.remove(&told.command_id)),
                    Some(ToAgent::Goodbye(goodbye)) => {
                        let after = goodbye.retry_after.and_then(|after| Duration::try_from(after).ok());
                        return Ok(after);
                    }
                    Some(
                        ToAgent::Heartbeat(_) | ToAgent::Cancel(_) | ToAgent::Ask(_) | ToAgent::LookClosely(_) | ToAgent::Trust(_),
                    ) => {}
                },
            }
        }
    }

    async fn assigned(&mut self, session: &Session, assignment: Assignment) -> Result<()> {
        self.memory.assignment_revision = assignment.revision;
        self.instances = assignment.instances.into_iter().map(|instance| (instance.component, instance.instance)).collect();
        session.say(FromAgent::Applied(AssignmentApplied { revision: assignment.revision, problems: Vec::new() })).await?;
        self.report(session).await
    }

    async fn report(&self, session: &Session) -> Result<()> {
        for (component, instance) in &self.instances {
            let observation = Observation {
                role: InstanceRole::ReadWrite.into(),
                at: Some(timestamp_to_proto(clock::now())),
                full: true,
                version: "files".to_owned(),
                ..Observation::default()
            };
            let (component, instance) = (component.clone(), instance.clone());
            session
                .say(FromAgent::Observation(ObservationReport { component, instance, observation: Some(observation), kept: Vec::new() }))
                .await?;
        }
        Ok(())
    }

    /// Takes a command on and ends it. How long it was under way is told as a line.
    async fn obey(&mut self, session: &Session, command: Command) -> Result<()> {
        let now = clock::now();
        let id = command.id;
        session.say(FromAgent::Accepted(TaskAccepted { command_id: id.clone() })).await?;
        if let Some(outcome) = self.ended.get(&id) {
            self.counts.repeated.fetch_add(1, Ordering::Relaxed);
            return session.say(FromAgent::Outcome(outcome.clone())).await;
        }
        self.counts.commands.fetch_add(1, Ordering::Relaxed);
        self.memory.highest_sequence = self.memory.highest_sequence.max(command.sequence);
        if let Some(issued) = command.issued_at.as_ref().and_then(|at| timestamp_from_proto(at, "issued_at").ok()) {
            println!("{{\"received_us\": {}, \"command\": \"{id}\"}}", now.0.saturating_sub(issued.0));
        }
        if matches!(&command.work, Some(Work::Check(check)) if check.read_data_of == FLOODS_OF) {
            flood(session, &id).await?;
        }
        let result = task_outcome::Outcome::Check(CheckResult { points: 1, ..CheckResult::default() });
        let outcome =
            TaskOutcome { command_id: id.clone(), at: Some(timestamp_to_proto(clock::now())), outcome: Some(result), hooks: Vec::new() };
        self.ended.insert(id, outcome.clone());
        session.say(FromAgent::Outcome(outcome)).await
    }
}

/// Tells progress as fast as the controller takes it.
async fn flood(session: &Session, command: &str) -> Result<()> {
    let began = Instant::now();
    let mut told = 0_u64;
    while began.elapsed() < FLOOD {
        told += 1;
        let progress = Progress {
            phase: "reading".to_owned(),
            bytes_done: told,
            bytes_total: 1 << 40,
            at: Some(timestamp_to_proto(clock::now())),
            ..Progress::default()
        };
        session.say(FromAgent::Progress(TaskProgress { command_id: command.to_owned(), progress: Some(progress) })).await?;
    }
    println!("{{\"progress_told\": {told}, \"seconds\": {}}}", began.elapsed().as_secs_f64());
    Ok(())
}
