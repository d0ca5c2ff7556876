//! `muster apply`: declares what the files say, in one transaction.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_wire::proto::v1::{ApplyRequest, Resource};
use muster_wire::yaml;

use crate::arguments::App;
use crate::controller::{Repeat, request_id};
use crate::exit::Exit;
use crate::render;

const EXAMPLES: &str = "\
Examples:
  muster apply -f world.yaml
  muster apply -f world.yaml --dry-run
  cat world.yaml | muster apply -f -

A file of several documents:
  kind: Site
  name: istanbul
  ---
  kind: Repository
  name: primary
  spec:
    repositoryId: 0123456789abcdef0123456789abcdef    # as `muster repo init` printed them
    publicKey: ...
    folder: {path: /srv/muster}
  ---
  kind: Component
  name: orders-db
  spec:
    priority: CRITICAL
    objectives: {rto: 30m, rpo: 1h}
    repository: primary
    instances:
    - site: istanbul
      agent: istanbul-db1
      postgres: {address: \"127.0.0.1:5432\", dataDirectory: /srv/pg, user: muster, pgCtl: {}}";

/// The arguments of `muster apply`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A YAML file, or `-` for standard input. May be given several times: all are applied in one transaction.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Only tell the differences.
    #[arg(long)]
    dry_run: bool,
    /// The same id with the same content is answered as the first time. Default: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Applies the files.
///
/// # Errors
/// Where a file is wrong, or the controller refuses; then nothing was applied.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let mut resources = Vec::new();
    for file in &arguments.file {
        resources.extend(read(file)?);
    }
    if resources.is_empty() {
        return Err(Fault::refused(ErrorKind::InvalidArgument, "the files declare nothing").hint("`muster apply --help` shows a file"));
    }
    let controller = app.controller()?;
    let request = ApplyRequest { resources, dry_run: arguments.dry_run, request_id: request_id(arguments.request_id.as_deref()) };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.inventory();
            async move { client.apply(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.ApplyResponse", || render::resource::differences(&answer.differences, arguments.dry_run))?;
    Ok(Exit::Ok)
}

fn read(file: &Path) -> Result<Vec<Resource>, Fault> {
    let limit = yaml::MAX_BYTES as u64;
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(limit + 1).read_to_string(&mut text);
        read.map_err(|error| unreadable(&format!("read standard input: {error}")))?;
        return Ok(yaml::parse(&text, "standard input")?);
    }
    let text = muster_service::files::read_text(file, limit).map_err(|error| unreadable(&error.to_string()))?;
    Ok(yaml::parse(&text, &file.display().to_string())?)
}

fn unreadable(message: &str) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, message).hint("give the path of a YAML file in UTF-8, or - for standard input")
}
