//! The socket of a running agent, for who is root or the agent's user on this machine: one request a connection, one line of JSON each way.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_service::tasks::TaskGate;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::agent::Agent;
use crate::local::act::{Reply, Request, act};

/// The longest request or answer, in bytes.
pub const MOST: u64 = 1 << 20;
/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many are served at once. More wait.
const AT_ONCE: usize = 8;

/// Where it is.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// Opens it. The state folder's lock is held: what lies there is of a process that is gone.
///
/// # Errors
/// Where it cannot be bound, as with a path of more than 107 bytes (unix(7)).
pub fn open(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the gate closes. A request that has begun is finished, whoever asked has gone or not.
pub async fn serve(agent: Arc<Agent>, listener: UnixListener, gate: TaskGate) {
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gate.token().cancelled() => return,
        };
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match accepted {
            Ok((stream, _)) => {
                let agent = agent.clone();
                gate.spawn("answer on the spot", tracing::Span::none(), async move {
                    if let Err(error) = answer(&agent, stream).await {
                        tracing::debug!(%error, "whoever asked on the spot has gone");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a request on the spot could not be taken");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(agent: &Agent, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MOST));
    let asked = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await;
    asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let reply: Reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            tracing::info!(?request, "asked on the spot");
            act(&agent.keepers, &agent.assignments.current(), &request).await
        }
        Err(error) => {
            Err(Fault::refused(ErrorKind::InvalidArgument, format!("the request cannot be read: {error}")).hint("use the same version"))
        }
    };
    let mut text = serde_json::to_string(&reply).map_err(io::Error::other)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}
