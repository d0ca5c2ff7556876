//! Runs one verb on one instance in a process of its own, as the owner of the data, as an agent does. Tests start it as
//! user `postgres`, set failpoints, and kill it.
//!
//! `REQUEST.json` as its argument: prints `{"ok": …}` or `{"fault": …}`; `keep REQUEST.json` does a keeper's act; `wal-get …` is the
//! restore_command's helper; `hold DIRECTORY` holds a lock.

mod keeping;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{CommandId, ComponentId};
use muster_engine::request::{BackupRequest, DiscardRequest, RestoreRequest};
use muster_engine::verbs::Engine;
use muster_engine::work::{Notes, OpenRepository, Progress, Work};
use muster_engine_postgres::config::PostgresConfig;
use muster_engine_postgres::engine::Postgres;
use muster_repository::location::{Location, Pin};
use muster_repository::repository::Repository;
use muster_repository::secret::AgentSecret;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
struct Order {
    config: PostgresConfig,
    command: CommandId,
    component: ComponentId,
    repository: PathBuf,
    pin_id: muster_common::id::RepositoryId,
    pin_key: String,
    agent_secret: String,
    work_folder: PathBuf,
    threads: usize,
    verb: Verb,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verb {
    Backup(BackupRequest),
    Restore(RestoreRequest),
    Discard(DiscardRequest),
}

/// A note in a file.
struct FileNotes(PathBuf);

#[async_trait]
impl Notes for FileNotes {
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault> {
        match std::fs::read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn keep(&self, note: &[u8]) -> Result<(), Fault> {
        let next = self.0.with_extension("next");
        std::fs::write(&next, note).map_err(failed)?;
        std::fs::rename(&next, &self.0).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::failed(ErrorKind::Internal, error.to_string())
}

async fn run(order: Order) -> Result<serde_json::Value, Fault> {
    std::fs::create_dir_all(order.work_folder.join("scratch")).map_err(failed)?;
    let key = |text: &str| -> Result<[u8; 32], Fault> { hex::decode(text).map_err(failed)?.try_into().map_err(|_| failed("no key")) };
    let pin = Pin { id: order.pin_id, public_key: key(&order.pin_key)? };
    let repository = Repository::open(&Location::Folder { path: order.repository }, pin).await.map_err(|error| error.fault())?;
    let secret = AgentSecret::from_bytes(key(&order.agent_secret)?);
    let keys = repository.unlock(order.component, &secret).await.map_err(|error| error.fault())?;
    let (progress, mut told) = tokio::sync::watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let work = Work {
        command: order.command,
        cancel: cancel.clone(),
        progress: Arc::new(progress),
        notes: Arc::new(FileNotes(order.work_folder.join("note"))),
        scratch: order.work_folder.join("scratch"),
        threads: order.threads,
        repository: Some(OpenRepository { repository, keys, cache: order.work_folder.join("cache") }),
    };
    tokio::spawn(async move {
        let mut last = String::new();
        while told.changed().await.is_ok() {
            let phase = told.borrow_and_update().phase.clone();
            if phase != last {
                eprintln!("phase: {phase}");
                last = phase;
            }
        }
    });
    let heard = order.work_folder.join("cancelled");
    // A thread of its own: a failpoint that holds a thread must not hold this.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok()?;
            terminate.recv().await
        })?;
        cancel.cancel();
        // Whoever sent the signal waits for this.
        std::fs::write(heard, "").ok()
    });
    let instance = Postgres::new(order.config)?;
    let json = |value: Result<serde_json::Value, serde_json::Error>| value.map_err(failed);
    match order.verb {
        Verb::Backup(request) => json(serde_json::to_value(instance.backup(&work, &request).await?)),
        Verb::Restore(request) => json(serde_json::to_value(instance.restore(&work, &request).await?)),
        Verb::Discard(request) => json(serde_json::to_value(instance.discard(&work, &request).await?)),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "wal-get") {
        return muster_engine_postgres::wal_get::run(arguments.get(1..).unwrap_or_default());
    }
    if let [word, data] = arguments.as_slice()
        && word == "hold"
    {
        return muster_engine_postgres::keep::lock::hold(Path::new(data)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let keeps = arguments.first().is_some_and(|word| word == "keep");
    let Some(path) = arguments.last() else { return ExitCode::from(2) };
    let answer = || {
        let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
        let bytes = std::fs::read(Path::new(path)).map_err(failed)?;
        if keeps {
            return runtime.block_on(keeping::run(serde_json::from_slice(&bytes).map_err(failed)?));
        }
        runtime.block_on(run(serde_json::from_slice(&bytes).map_err(failed)?))
    };
    let answer = answer();
    let text = match answer {
        Ok(value) => serde_json::json!({ "ok": value }),
        Err(fault) => serde_json::json!({ "fault": fault }),
    };
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}
