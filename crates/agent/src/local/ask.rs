//! `muster-agent status` and `muster-agent fence`: the running agent does it, or this process where none runs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use muster_identity::credentials::CredentialFolder;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::assignment::force::Assignments;
use crate::belonging::Belonging;
use crate::config::Config;
use crate::engines;
use crate::keeper::kept::Keepers;
use crate::keeper::place::Place;
use crate::local::act::{Reply, Request, act};
use crate::local::serve::{self, MOST};
use crate::memory::Memory;
use crate::state::{StateDirectory, StateError};

/// How long an answer may take: a server that ends slowly is killed after 65 s.
const PATIENCE: Duration = Duration::from_secs(150);

/// Asks, and prints the answer.
///
/// # Errors
/// Why it was not done.
pub async fn ask(config: &Config, request: &Request) -> anyhow::Result<()> {
    let reply = match StateDirectory::open(&config.state_directory) {
        Ok(state) => {
            eprintln!("no agent runs here: doing it without one");
            directly(config, &state, request).await?
        }
        Err(StateError::InUse(_)) => {
            let asked = tokio::time::timeout(PATIENCE, running(&serve::path(&config.state_directory), request)).await;
            asked.with_context(|| format!("the agent did not answer within {} s; HINT: stop it and ask again", PATIENCE.as_secs()))??
        }
        Err(error) => return Err(error.into()),
    };
    match reply {
        Ok(text) => {
            println!("{text}");
            Ok(())
        }
        Err(fault) if fault.hint.is_empty() => anyhow::bail!("{}", fault.message),
        Err(fault) => anyhow::bail!("{}; HINT: {}", fault.message, fault.hint),
    }
}

async fn running(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.with_context(|| format!("reach the agent at {}; HINT: stop it and ask again", socket.display()))?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_string(request).context("write the request")?;
    line.push('\n');
    write.write_all(line.as_bytes()).await.context("ask the agent")?;
    let mut answer = String::new();
    let read = BufReader::new(read.take(MOST)).read_line(&mut answer).await;
    read.and_then(|bytes| if bytes == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
        .context("hear the agent; HINT: ask again")?;
    serde_json::from_str(&answer).context("read the agent's answer; HINT: use the version of the agent that runs")
}

async fn directly(config: &Config, state: &StateDirectory, request: &Request) -> anyhow::Result<Reply> {
    let memory = Arc::new(Memory::open(&state.join("memory")).context("remember what was seen before")?);
    let folder = CredentialFolder::at(state.join("identity"));
    let credentials = folder.load().context("read the agent's credentials")?;
    let belonging = Belonging::new(folder, credentials).context("use the agent's certificate")?;
    let run_folder = config.run_directory();
    for folder in [&run_folder, &state.join("keeper")] {
        muster_service::files::create_private_folder(folder)?;
    }
    let own = engines::Own::of_this_program(config)?;
    let build = move |name: &_, assigned: &_| engines::build(name, assigned, &own);
    let assignments =
        Assignments::open(&state.join("assignment"), memory.clone(), Box::new(build)).context("read the stored assignment")?;
    let place = Arc::new(Place::new(config.machine_id_file(), config.boot_id_file(), &run_folder));
    let keepers = Keepers::new(state.join("keeper"), place, belonging, memory);
    Ok(act(&keepers, &assignments.current(), request).await)
}
