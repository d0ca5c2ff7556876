//! What operators and automation call: a file a service. Handlers are thin: they turn a message into ours, ask whoever knows, and turn
//! the answer back.
//!
//! What always holds: every call has passed the gate (certificate, revocation, role) before it comes here; what changes something runs in
//! a task of its own, so that a client that goes away does not cut it in half; every failure is a status made by `wire::status`.

pub mod audit;
pub mod authority;
pub mod enrollment;
pub mod fleet;
pub mod inventory;
pub mod moves;
pub mod operations;
pub mod pausing;
pub mod recovery;
pub mod repeat;
pub mod repository;
pub mod roles;
mod routes;
pub mod schedules;
mod sites;
pub mod status;
mod status_diagnose;
pub mod status_findings;
pub mod status_page;

use std::sync::Arc;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::time::Timestamp;
use muster_identity::caller::Caller;
use muster_identity::gate;
use muster_identity::identity::Identity;
use muster_wire::convert::duration_from_proto;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::agents::link::Agents;
use crate::audit::watcher::Watcher;
use crate::config::Config;
use crate::findings::watch::Findings;
use crate::own_backup::keeper::Keeper;

/// The longest request id, in bytes.
const MOST_REQUEST_ID: usize = 128;

/// All that handlers need. Clones are the same.
#[derive(Clone, Debug)]
pub struct Api {
    /// The agents, and what stands behind them: store, operations, tasks.
    pub agents: Agents,
    /// All instruments, as `/metrics` shows them.
    pub registry: prometheus::Registry,
    /// What a person should know now.
    pub findings: Findings,
    /// Looks after the audit log.
    pub audit: Watcher,
    /// The controller's own backups.
    pub keeper: Keeper,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Since when this process runs.
    pub started: Timestamp,
    /// Cancelled when the process stops: streams end then.
    pub stopping: CancellationToken,
}

impl Api {
    /// Backs the controller up now, where that is configured: its CA has changed. What comes of it is told where the nightly one's is.
    pub fn back_up_soon(&self) {
        if self.keeper.plan().is_none() {
            return;
        }
        let api = self.clone();
        let taken = async move {
            let taken = async { api.keeper.take(api.agents.store.read().await?).await };
            if let Err(error) = taken.await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "back the controller up after its CA changed; it is tried again in 15 minutes"
                );
            }
        };
        self.agents.gate.spawn("own backup of the changed CA", tracing::Span::none(), taken);
    }

    /// Runs what must not be cut in half in a task of its own and waits for it.
    async fn detached<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Status> {
        let (sender, answer) = oneshot::channel();
        let work = work.in_current_span();
        let spawned = self.agents.gate.spawn(name, tracing::Span::current(), async move {
            // Nobody waits for the answer any more where the client went away; the work is done all the same.
            drop(sender.send(work.await));
        });
        let stopping =
            || Fault::refused(ErrorKind::Unavailable, format!("{name}: the controller is stopping")).hint("call again in a few seconds");
        if !spawned {
            return Err(status(stopping()));
        }
        // A task that panicked has said so in the log.
        answer
            .await
            .map_err(|_| status(Fault::failed(ErrorKind::Internal, format!("{name} broke off")).hint("look at the controller's log")))?
            .map_err(status)
    }
}

/// The one way from a fault to a status.
fn status(fault: Fault) -> Status {
    muster_wire::status::status(fault)
}

fn answer<T>(result: Result<T, Fault>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(status)
}

/// Who calls, as it is journaled: `operator/ada`, `agent/istanbul/istanbul-db1`.
#[must_use]
pub fn subject(identity: &Identity) -> String {
    match identity {
        Identity::Operator { name } => format!("operator/{name}"),
        Identity::Agent { site, agent } => format!("agent/{site}/{agent}"),
        Identity::Controller => "controller".to_owned(),
    }
}

fn caller_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    gate::caller(request).cloned()
}

fn subject_of<T>(request: &Request<T>) -> Result<String, Status> {
    Ok(subject(&gate::caller(request)?.identity))
}

/// Tells one request's content from another's: SHA-256 of the message, which the caller has freed of its request id.
fn digest(message: &impl prost::Message) -> String {
    hex::encode(Sha256::digest(message.encode_to_vec()))
}

/// A request id as it is remembered.
fn request_id(text: &str) -> Result<Option<String>, Fault> {
    if text.len() > MOST_REQUEST_ID || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let fault = Fault::refused(
            ErrorKind::InvalidArgument,
            format!("request_id: expected at most {MOST_REQUEST_ID} printable ASCII characters"),
        );
        return Err(fault.hint("give a random id, for example a UUID, or none"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A duration that may be absent; one that is there must be more than nothing.
fn some_duration(duration: Option<prost_types::Duration>, field: &str) -> Result<Option<Duration>, Fault> {
    let Some(duration) = duration else { return Ok(None) };
    let duration = duration_from_proto(&duration, field)?;
    if duration.is_zero() {
        return Err(
            Fault::refused(ErrorKind::InvalidArgument, format!("{field}: expected more than nothing")).hint("leave it out for the usual")
        );
    }
    Ok(Some(duration))
}

fn no_name(error: &muster_common::name::InvalidName, field: &str) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, format!("{field}: {error}")).hint("give a name as `muster get` shows it")
}
