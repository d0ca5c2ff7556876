//! `muster repo restore`: a recovery point back into a folder, with no controller and no agent left.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{CommandId, ComponentId};
use muster_engine::observation::Position;
use muster_engine::request::{RestoreOutcome, RestoreRequest, RestoreTarget};
use muster_engine::verbs::Engine;
use muster_engine::work::{Notes, OpenRepository, Progress, Work};
use muster_engine_files::engine::Files;
use muster_engine_postgres::config::{Address, Control, PostgresConfig};
use muster_engine_postgres::engine::Postgres;
use muster_repository::reading::PointSummary;
use rand::RngExt;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Passphrase, chosen, component, short};
use crate::arguments::App;
use crate::console::{Console, Output};
use crate::exit::Exit;
use crate::follow::View;
use crate::place::{self, Place};
use crate::render::amount::{bytes, counted, instant};
use crate::render::table;

const EXAMPLES: &str = "\
Examples:
  muster repo restore --file primary.yaml --passphrase-file passphrase --into /srv/pg --start --port 5432
  muster repo restore --folder /srv/muster --passphrase-file passphrase --component-id ID --point 9c1e0a12 --into /srv/look

A database is started as the user who runs this command, who must not be root: run it as postgres.";

/// The arguments of `muster repo restore`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    passphrase: Passphrase,
    /// The component, 32 hexadecimal digits. May be left out where the repository holds one.
    #[arg(long, value_name = "ID")]
    component_id: Option<ComponentId>,
    /// The point: its id, or its first digits. Default: the newest.
    #[arg(short, long, value_name = "ID")]
    point: Option<String>,
    /// The folder, which must be empty or absent.
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
    /// Start the database and wait until it accepts connections.
    #[arg(long)]
    start: bool,
    /// With --start: its TCP port. Default: one that is free.
    #[arg(long, value_name = "PORT", requires = "start", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Only tell what it would do.
    #[arg(long)]
    dry_run: bool,
    /// Where a tablespace goes. May be given several times. Default: `<folder>.tablespace-<oid>`.
    #[arg(long = "tablespace", value_name = "OID=FOLDER", value_parser = crate::command::restore::tablespace)]
    tablespaces: Vec<(u32, String)>,
    /// The folder of PostgreSQL's initdb, postgres and pg_ctl. Default: `/usr/lib/postgresql/<major>/bin`.
    #[arg(long, value_name = "FOLDER")]
    bin_directory: Option<PathBuf>,
    /// The role to look at the restored database with, once it runs. Default: postgres.
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    user: String,
    /// How many threads decrypt and write. Default: one a processor.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
}

/// Restores, and starts the database where that was asked for.
///
/// # Errors
/// Where the passphrase is wrong, the folder is not empty, the point is damaged, or the server does not start.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let passphrase = place::passphrase(&arguments.passphrase.passphrase_file)?;
    let repository = arguments.place.required()?.open().await?;
    let component = component(&repository, arguments.component_id).await?;
    let keys = repository.unlock_with_passphrase(component, &passphrase).await.map_err(|error| place::unread(&error))?;
    let points = repository.list_points(Some(component)).await.map_err(|error| place::unread(&error))?;
    let point = chosen(&points, arguments.point.as_deref())?.point;
    let summary = repository.point_summary(&keys, component, point).await.map_err(|error| place::unread(&error))?;
    app.console.note(&about(&summary));
    let into = std::path::absolute(&arguments.into).map_err(|error| {
        Fault::refused(ErrorKind::InvalidArgument, format!("{}: {error}", arguments.into.display())).hint("give a path")
    })?;
    let port = match (arguments.start, arguments.port) {
        (false, _) => 0,
        (true, Some(port)) => port,
        (true, None) => free_port()?,
    };
    let scratch = Scratch::make(&into)?;
    let engine = engine(&summary.details.kind, &into, &scratch.path, port, &arguments)?;
    let cancel = CancellationToken::new();
    let (progress, seen) = watch::channel(Progress::default());
    let work = Work {
        command: CommandId::from_bytes(rand::rng().random()),
        cancel: cancel.clone(),
        progress: Arc::new(progress),
        notes: Arc::new(Forgotten),
        scratch: scratch.path.clone(),
        threads: arguments.threads.map_or_else(|| std::thread::available_parallelism().map_or(2, usize::from).min(64), usize::from),
        repository: Some(OpenRepository { repository: repository.clone(), keys, cache: scratch.path.join("cache") }),
    };
    let request = RestoreRequest {
        component,
        point,
        target: RestoreTarget::Beside { directory: into.clone(), port },
        dry_run: arguments.dry_run,
        tablespaces: arguments.tablespaces.iter().map(|(oid, folder)| (*oid, PathBuf::from(folder))).collect::<BTreeMap<_, _>>(),
        keep_old_seconds: 0,
        start: arguments.start,
        consent: false,
    };
    let restoring = engine.restore(&work, &request);
    let outcome = if arguments.dry_run {
        shown(app.console, restoring, seen, &cancel).await?
    } else {
        let restoring = repository.while_held((component, point), ("muster repo restore", "it is being restored"), &cancel, restoring);
        shown(app.console, restoring, seen, &cancel).await?
    };
    show(app, &summary, &outcome, port, arguments.dry_run)?;
    Ok(Exit::Ok)
}

/// Runs the restore while its progress is shown. Ctrl-C asks it to stop, and waits until it has.
async fn shown(
    console: Console,
    restoring: impl Future<Output = Result<RestoreOutcome, Fault>>,
    mut seen: watch::Receiver<Progress>,
    cancel: &CancellationToken,
) -> Result<RestoreOutcome, Fault> {
    let mut view = View::new(&console);
    let mut restoring = std::pin::pin!(restoring);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut asked = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut restoring => break outcome,
            _ = &mut interrupt, if !asked => {
                asked = true;
                cancel.cancel();
                view.line(&console, "asked to stop; what was restored so far is left in place, and cannot be started");
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(250)) => {
                if seen.has_changed().unwrap_or(false) {
                    let progress = seen.borrow_and_update().clone();
                    view.progress(&console, &told(&progress));
                }
            }
        }
    };
    view.clear();
    outcome
}

fn told(progress: &Progress) -> muster_wire::proto::v1::Progress {
    muster_wire::proto::v1::Progress {
        phase: progress.phase.clone(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        files_done: progress.files_done,
        files_total: progress.files_total,
        bytes_stored: progress.bytes_stored,
        at: Some(muster_wire::convert::timestamp_to_proto(muster_service::clock::now())),
    }
}

/// What knows how to restore points of that kind.
fn engine(kind: &str, into: &Path, scratch: &Path, port: u16, arguments: &Arguments) -> Result<Box<dyn Engine>, Fault> {
    match kind {
        "postgres.physical" | "postgres.dump" => {
            let own = std::env::current_exe().map_err(|error| {
                Fault::refused(ErrorKind::Internal, format!("find this program: {error}")).hint("call it by its whole path")
            })?;
            let config = PostgresConfig {
                name: into.display().to_string(),
                address: Address::Tcp { host: "127.0.0.1".into(), port: if port == 0 { 5432 } else { port } },
                // No instance of this machine is meant: the restore goes beside one that is not there.
                data_directory: scratch.join("absent"),
                user: arguments.user.clone(),
                database: "postgres".into(),
                password_file: None,
                bin_directory: arguments.bin_directory.clone(),
                config_file: None,
                control: Control::PgCtl { options: String::new(), log_file: None },
                wal_get: vec![own.display().to_string(), "wal-get".into()],
                server_unit: None,
                keeping: None,
            };
            Ok(Box::new(Postgres::new(config)?))
        }
        "files" => Ok(Box::new(Files::new(into.display().to_string(), into)?)),
        other => {
            Err(Fault::refused(ErrorKind::NotAvailable, format!("this version restores no points of kind {other:?}"))
                .hint("upgrade muster"))
        }
    }
}

fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| Fault::refused(ErrorKind::ResourceExhausted, format!("find a free port: {error}")).hint("give --port"))
}

/// This restore is not resumed: it is run again into an empty folder.
struct Forgotten;

#[async_trait]
impl Notes for Forgotten {
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    async fn keep(&self, _note: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
}

/// A folder beside the target, removed at the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(into: &Path) -> Result<Self, Fault> {
        let name = into.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = into.with_file_name(format!(".{name}.muster-{:08x}", rand::rng().random::<u32>()));
        muster_service::files::create_private_folder(&path).map_err(|error| {
            Fault::refused(ErrorKind::FailedPrecondition, error.to_string()).hint("give --into in a folder that you may write")
        })?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is told by its name; nothing depends on it.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

fn about(summary: &PointSummary) -> String {
    format!(
        "point {} of component {} ({}), taken of {} at {}, reaches {}: {} in {}",
        short(summary.point),
        summary.component,
        summary.details.kind,
        summary.instance,
        instant(summary.details.finished),
        summary.details.position_text,
        bytes(summary.bytes),
        counted(summary.files, "file")
    )
}

fn show(app: &App, summary: &PointSummary, outcome: &RestoreOutcome, port: u16, dry_run: bool) -> Result<(), Fault> {
    if app.console.output == Output::Text {
        return app.console.data(&text(summary, outcome, port, dry_run));
    }
    app.console.value(&json!({
        "point": summary.point.to_string(),
        "dryRun": dry_run,
        "directory": outcome.directory.display().to_string(),
        "bytes": outcome.plan.bytes,
        "files": outcome.plan.files,
        "freeBytes": outcome.plan.free_bytes,
        "replaces": outcome.plan.replaces,
        "notes": outcome.plan.notes,
        "port": port,
        "started": outcome.position.is_some(),
        "phaseSeconds": outcome.phases,
    }))
}

fn text(summary: &PointSummary, outcome: &RestoreOutcome, port: u16, dry_run: bool) -> String {
    let done = if dry_run { "would restore" } else { "restored" };
    let mut text = format!("{done} point {} to {}\n", short(summary.point), outcome.directory.display());
    let mut rows = vec![("writes", format!("{} in {}", bytes(outcome.plan.bytes), counted(outcome.plan.files, "file")))];
    if dry_run {
        rows.push(("free there", bytes(outcome.plan.free_bytes)));
    }
    if let Some(Position::Postgres(position)) = &outcome.position {
        rows.push(("runs", format!("on port {port}, at {position}")));
        rows.push(("try", format!("psql -h 127.0.0.1 -p {port}")));
    }
    text.push_str(&table::labelled(&rows, "  "));
    for replaced in &outcome.plan.replaces {
        text.push_str(&format!("  REPLACES: {replaced}\n"));
    }
    for note in &outcome.plan.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    for (phase, seconds) in &outcome.phases {
        text.push_str(&format!("  {phase} took {seconds:.1} s\n"));
    }
    text
}
