//! News from agents, taken to the drivers; and the beginning of a session, where a store finds out that it is behind.

use std::sync::Arc;

use muster_common::counter::{Epoch, EventNumber, Term};
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{CommandId, RuleId};
use muster_common::name::{InstanceName, Name};
use muster_failover::here::Rule;
use muster_wire::convert::{id_from_proto, name_from_proto, optional_id_from_proto};
use muster_wire::proto::agent::v1::{
    Hello, OutcomeAcknowledged, SessionResponse, TaskOutcome, TaskProgress, TaskReport, TaskState, session_response,
};
use tokio::sync::oneshot;

use crate::failover;
use crate::operation::accept;
use crate::operation::behind::{self, Known, Remembers};
use crate::operation::done::{Outcome, hooks, outcome_from_proto};
use crate::operation::driver::Message;
use crate::operation::event::Event;
use crate::operation::fleet::Fleet;
use crate::operation::journal;
use crate::operation::life::News;
use crate::operation::shared::{Driver, Shared};
use crate::store::commands::Memory;
use crate::store::{Connection, Write, commands, meta, operations, tokens};

/// No honest agent has seen so many epochs more than a store that was restored: a forged Hello must not use them up.
const MOST_EPOCHS_AHEAD: u64 = 1_000;

/// A task is in the agent's inbox, or the agent was asked and tells.
pub(super) async fn taken_on(shared: &Shared, agent: &Name, command: &str) -> Result<(), Fault> {
    tell(shared, agent, id_from_proto(command, "command_id")?, News::TakenOn, None).await?;
    Ok(())
}

/// The answer to AskTask.
pub(super) async fn report(shared: &Shared, agent: &Name, report: &TaskReport) -> Result<(), Fault> {
    let news = match report.state() {
        TaskState::Unheard => News::Unheard,
        // Its outcome follows; until then it is as if it went on.
        TaskState::TakenOn | TaskState::Ended => News::TakenOn,
        TaskState::Unspecified => {
            return Err(Fault::refused(ErrorKind::InvalidArgument, "a task's report without a state").hint("upgrade the agent"));
        }
    };
    tell(shared, agent, id_from_proto(&report.command_id, "command_id")?, news, None).await?;
    Ok(())
}

/// How far a task is: shown, never journaled.
pub(super) fn progress(shared: &Shared, agent: &Name, progress: TaskProgress) -> Result<(), Fault> {
    let command = id_from_proto(&progress.command_id, "command_id")?;
    let Some(driver) = own_driver(shared, agent, command)? else { return Ok(()) };
    if let Some(progress) = progress.progress
        && shared.hub.progress(driver.operation, progress)
    {
        driver.moved_at(shared.clock.now());
    }
    Ok(())
}

/// How a task ended. Acknowledged once it is journaled, also where it is told again.
pub(super) async fn outcome(shared: &Shared, agent: &Name, outcome: &TaskOutcome) -> Result<Vec<SessionResponse>, Fault> {
    let command: CommandId = id_from_proto(&outcome.command_id, "command_id")?;
    let parsed = outcome_from_proto(outcome).unwrap_or_else(|fault| {
        // It will not become better by being told again: the operation ends, and says what the agent sent.
        Outcome::Fault(Fault::failed(ErrorKind::Internal, format!("the agent's outcome cannot be read: {fault}")).hint("upgrade the agent"))
    });
    let ran = hooks::from_proto(&outcome.hooks);
    if !tell(shared, agent, command, News::Outcome(Box::new(parsed.clone()), ran), Some(outcome)).await? {
        without_driver(shared, agent, command, parsed, outcome).await?;
    }
    let acknowledged = OutcomeAcknowledged { command_id: outcome.command_id.clone(), term: shared.store.term().0 };
    Ok(vec![SessionResponse { message: Some(session_response::Message::Acknowledged(acknowledged)) }])
}

/// Takes news to the driver; tells whether there is one.
async fn tell(shared: &Shared, agent: &Name, command: CommandId, news: News, raw: Option<&TaskOutcome>) -> Result<bool, Fault> {
    let Some(driver) = own_driver(shared, agent, command)? else { return Ok(false) };
    let (reply, answer) = oneshot::channel();
    let raw = raw.map(|outcome| Box::new(outcome.clone()));
    if driver.mailbox.send(Message::News { news, raw, reply }).await.is_err() {
        return Ok(false);
    }
    match answer.await {
        Ok(answer) => answer.map(|()| true),
        // It ended before it came to this.
        Err(_) => Ok(false),
    }
}

fn own_driver(shared: &Shared, agent: &Name, command: CommandId) -> Result<Option<Driver>, Fault> {
    match shared.driver_of_command(command) {
        Some(driver) if driver.agent != *agent => Err(not_its_own(agent, command)),
        driver => Ok(driver),
    }
}

fn not_its_own(agent: &Name, command: CommandId) -> Fault {
    Fault::refused(ErrorKind::PermissionDenied, format!("agent {agent} tells of command {command}, which is another agent's"))
        .hint("an agent speaks for its own instances only; look at who has its certificate")
}

/// An outcome of an operation that has ended (told again, or late), or of a command that this store never issued.
async fn without_driver(shared: &Shared, agent: &Name, command: CommandId, parsed: Outcome, raw: &TaskOutcome) -> Result<(), Fault> {
    let now = muster_service::clock::now();
    let mut write = shared.write().await?;
    let Some(issued) = commands::get(write.connection(), command).await? else {
        commands::keep_stray(write.connection(), agent, raw, now).await?;
        write.commit().await?;
        tracing::warn!(%agent, %command, "an agent told the outcome of a command that this store does not know; it is kept as a stray");
        return Ok(());
    };
    if issued.agent != *agent {
        return Err(not_its_own(agent, command));
    }
    if issued.ended {
        return Ok(());
    }
    let operation = commands::operation_of(&issued)?;
    let Some(record) = operations::get(write.connection(), operation).await? else { return Ok(()) };
    let journaled = journal::read(&record)?;
    if !journaled.state.phase.ended() {
        return Err(Fault::refused(ErrorKind::Unavailable, format!("operation {operation} is not driven now")).hint("tell it again"));
    }
    let ran = hooks::from_proto(&raw.hooks).into_iter().map(|ran| Event::Hook(Box::new(ran)));
    let late = ran.chain([Event::Late(parsed)]).collect();
    if let Some(recorded) = journal::record(&mut write, &journaled, late, Some(raw), shared.store.rule(), now).await? {
        write.commit().await?;
        shared.hub.committed(recorded.journaled.last_event);
        if recorded.shard_changed {
            shared.hub.shard_changed();
        }
    }
    Ok(())
}

/// A session began. The term may be higher when this returns.
pub(super) async fn connected(shared: &Arc<Shared>, agent: &Name, hello: &Hello) -> Result<(), Fault> {
    // Many agents come back at once: beside each other as long as none shows that this store is behind.
    let sending = shared.suspensions.read().await;
    let met = meet(shared, shared.write_together().await?, agent, hello, false).await?;
    drop(sending);
    let met = match met {
        Some(met) => met,
        None => {
            // Nothing that was decided before is sent while this is judged.
            let mut suspensions = shared.suspensions.write().await;
            let met = meet(shared, shared.write().await?, agent, hello, true).await?.unwrap_or_default();
            if let Some(why) = &met.behind {
                *suspensions += 1;
                tracing::warn!(%agent, term = %shared.store.term(), "this store is behind its agents, unfinished operations wait until theirs were asked: {why}");
            }
            met
        }
    };
    if let Some(number) = met.last_event {
        shared.hub.committed(number);
    }
    if met.has_adopted {
        shared.hub.shard_changed();
    }
    shared.set_heard(agent, true);
    wake(shared, agent, met.behind.is_some()).await;
    Ok(())
}

/// What a session's first message led to.
#[derive(Default)]
struct Met {
    /// Why this store is behind, in words.
    behind: Option<String>,
    last_event: Option<EventNumber>,
    has_adopted: bool,
}

/// Judges what an agent remembers and keeps it. `None`: this store is behind, nothing was changed, and it `may_catch_up` only where nothing
/// is sent meanwhile.
async fn meet(shared: &Shared, mut write: Write, agent: &Name, hello: &Hello, may_catch_up: bool) -> Result<Option<Met>, Fault> {
    let remembers = behind::read(hello, shared.store.term(), meta::sequence(write.connection()).await?)?;
    let first_meeting = !shared.has_met(agent);
    let known = Known {
        store: shared.store.store_id(),
        term: shared.store.term(),
        memory: commands::memory(write.connection(), agent).await?,
        first_meeting,
    };
    let behind = behind::judge(agent, &remembers, &known);
    if behind.is_some() && !may_catch_up {
        write.abandon().await?;
        return Ok(None);
    }
    let mut last_event = None;
    if let Some(why) = &behind {
        last_event = catch_up(&mut write, &remembers, why).await?;
    }
    // Another store's sequences are no measure for this one's.
    let ours = remembers.store.is_none_or(|store| store == known.store);
    let memory = Memory {
        term: remembers.memory.term.max(known.memory.term),
        sequence: if ours { remembers.memory.sequence.max(known.memory.sequence) } else { known.memory.sequence },
    };
    commands::remember(write.connection(), agent, &memory, remembers.store).await?;
    let has_adopted = adopt_epochs(shared, write.connection(), agent, hello).await?;
    write.commit().await?;
    shared.meet(agent);
    Ok(Some(Met { behind, last_event, has_adopted }))
}

/// A session ended.
pub(super) async fn disconnected(shared: &Shared, agent: &Name) {
    // A newer session of the same agent may be there already.
    if !shared.courier.is_connected(agent) {
        shared.set_heard(agent, false);
    }
    wake(shared, agent, false).await;
}

/// Tells the drivers that wait for this agent; where operations were suspended, all of them.
async fn wake(shared: &Shared, agent: &Name, suspended: bool) {
    for driver in shared.drivers() {
        let message = match driver.agent == *agent {
            true => Message::Session,
            false if suspended => Message::Reload,
            false => continue,
        };
        // A driver that has ended needs no word.
        if driver.mailbox.send(message).await.is_err() {
            tracing::debug!(operation = %driver.operation, "the driver has ended");
        }
    }
}

/// A higher term, higher sequences, no unused join token, and no operation that goes on before its agent was asked.
async fn catch_up(write: &mut Write, remembers: &Remembers, why: &str) -> Result<Option<EventNumber>, Fault> {
    write.raise_term(remembers.memory.term).await?;
    meta::raise_sequence(write.connection(), remembers.memory.sequence).await?;
    let now = muster_service::clock::now();
    tokens::void_unused(write.connection(), now).await?;
    meta::set_behind(write.connection(), why).await?;
    suspend_all(write, why).await
}

/// Suspends every operation that has not ended; answers the newest event.
pub(super) async fn suspend_all(write: &mut Write, why: &str) -> Result<Option<EventNumber>, Fault> {
    let now = muster_service::clock::now();
    let mut last = None;
    for record in operations::unfinished(write.connection()).await? {
        // One that cannot be read was named when the controller started, and is not driven.
        let Ok(journaled) = journal::read(&record) else { continue };
        let suspended = vec![Event::Suspended { why: why.to_owned() }];
        // No command is issued by this event: the rule does not matter.
        let rule = Rule { term: Term(0), id: RuleId::from_bytes([0; 16]) };
        if let Some(recorded) = journal::record(write, &journaled, suspended, None, rule, now).await? {
            last = Some(recorded.journaled.last_event);
        }
    }
    Ok(last)
}

/// Epochs that the agent remembers of its own instances; lower ones than ours are left alone.
async fn adopt_epochs(shared: &Shared, connection: &mut Connection, agent: &Name, hello: &Hello) -> Result<bool, Fault> {
    let mut adopted = false;
    for epoch in &hello.epochs {
        let instance = InstanceName {
            component: name_from_proto(&epoch.component, "hello.epochs.component")?,
            instance: name_from_proto(&epoch.instance, "hello.epochs.instance")?,
        };
        let fleet: Result<Fleet, Fault> = accept::fleet(shared, connection, &instance.component).await;
        // Of a component that is no longer declared nobody needs an epoch.
        let Ok(fleet) = fleet else { continue };
        if !fleet.instances.iter().any(|declared| declared.name == instance.instance && declared.agent == *agent) {
            continue;
        }
        let known = fleet.shard.record.as_ref().map_or(fleet.shard.floor, |record| record.reign.epoch);
        if epoch.epoch.saturating_sub(known.0) > MOST_EPOCHS_AHEAD {
            let fault =
                Fault::refused(ErrorKind::InvalidArgument, format!("agent {agent} says that {instance} is in epoch {}", epoch.epoch));
            return Err(fault
                .evidence(format!("this store knows epoch {known}"))
                .hint("reinstall the agent with an empty state directory"));
        }
        let reign = optional_id_from_proto(&epoch.reign_id, "hello.epochs.reign_id")?;
        if failover::shards::adopt(connection, &instance, Epoch(epoch.epoch), reign).await? {
            tracing::warn!(%agent, %instance, epoch = epoch.epoch, "an agent remembers a higher epoch than this store: it is adopted");
            adopted = true;
        }
    }
    Ok(adopted)
}
