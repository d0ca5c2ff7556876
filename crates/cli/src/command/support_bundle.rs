//! `muster support-bundle`: one archive for whoever helps: the page, findings, history, operations with their journal, what is declared, the
//! controller's configuration and metrics, versions. Without secrets.
//!
//! What always holds: what cannot be had is told in the bundle and keeps nothing else out; every text passes `redact`; it is bounded.

use std::path::PathBuf;

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::redact::redact;
use muster_service::clock;
use muster_wire::json;
use muster_wire::proto::v1::{DiagnoseRequest, DiagnoseResponse};
use prost::Message;

use super::{findings, get, history, logs, ops, status};
use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;
use crate::tar::Tar;

/// The journal of so many operations, the newest, is in it.
const JOURNALS: usize = 50;
/// So many operations and entries of the history are listed.
const LISTED: usize = 500;
/// One file has so many bytes at most; the rest is cut off.
const MOST_BYTES: usize = 8 << 20;

/// The arguments of `muster support-bundle`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster support-bundle\n  muster support-bundle --file /tmp/muster.tar && tar -tf /tmp/muster.tar")]
pub struct Arguments {
    /// Where to write it. Default: `muster-support-<time>.tar` here.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Collects and writes it.
///
/// # Errors
/// Where the file cannot be written. A controller that cannot be reached leaves a bundle that says so.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let now = clock::now();
    let stamp: String = render::amount::instant(now).chars().filter(char::is_ascii_digit).collect();
    let file = arguments.file.unwrap_or_else(|| PathBuf::from(format!("muster-support-{stamp}.tar")));
    let mut bundle = Bundle { tar: Tar::new(u64::try_from(now.0 / 1_000_000).unwrap_or_default()), missing: Vec::new() };
    bundle.add("versions.txt", &format!("muster {}\nmade {}\n", env!("CARGO_PKG_VERSION"), render::amount::instant(now)));
    match app.controller() {
        Ok(controller) => collect(&mut bundle, &controller).await,
        Err(fault) => bundle.missing.push(format!("everything of the controller: {fault}")),
    }
    let missing = bundle.missing.join("\n");
    bundle.add("missing.txt", &format!("{missing}\n"));
    muster_service::files::write_atomically(&file, &bundle.tar.finish(), 0o600).map_err(|error| {
        Fault::refused(ErrorKind::FailedPrecondition, error.to_string()).hint("give another --file, in a folder that you may write")
    })?;
    app.console.note(&format!("read it before you send it: names, addresses and paths of your machines are in it ({})", file.display()));
    app.console.value_or(&serde_json::json!({ "file": file.display().to_string() }), &format!("{}\n", file.display()))?;
    if missing.is_empty() { Ok(Exit::Ok) } else { Err(lacking(&missing)) }
}

fn lacking(missing: &str) -> Fault {
    Fault::refused(ErrorKind::Unavailable, "the bundle was written, and not all could be had")
        .evidence(missing.lines().next().unwrap_or_default())
        .hint("missing.txt in the bundle tells what; send it all the same")
}

struct Bundle {
    tar: Tar,
    missing: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: &str, text: &str) {
        let clean = redact(text);
        let bytes = clean.as_bytes();
        self.tar.add(&format!("muster-support/{name}"), bytes.get(..bytes.len().min(MOST_BYTES)).unwrap_or_default());
    }

    /// A message as JSON; what failed is told.
    fn message<M: Message>(&mut self, name: &str, full_name: &str, got: &Result<M, Fault>) {
        let value = match got {
            Ok(message) => json::to_value(message, full_name).map_err(|error| error.to_string()),
            Err(fault) => Err(fault.to_string()),
        };
        match value {
            Ok(value) => self.add(name, &format!("{value:#}\n")),
            Err(why) => self.missing.push(format!("{name}: {why}")),
        }
    }
}

async fn collect(bundle: &mut Bundle, controller: &Controller) {
    let page = status::page(controller, "").await;
    if let Ok(page) = &page {
        bundle.add("status.txt", &render::status::page(page, &controller.place, clock::now()));
    }
    bundle.message("status.json", "muster.v1.StatusPage", &page);
    if page.as_ref().is_err_and(|fault| fault.kind == ErrorKind::Unavailable) {
        return;
    }
    bundle.message("findings.json", "muster.v1.ListFindingsResponse", &findings::list(controller, "").await);
    let history = history::up_to(controller, "", LISTED).await;
    if let Ok(history) = &history {
        bundle.add("history.txt", &render::findings::history(&history.entries));
    }
    match get::everything(controller).await.and_then(|resources| render::resource::documents(&resources)) {
        Ok(yaml) => bundle.add("declared.yaml", &yaml),
        Err(fault) => bundle.missing.push(format!("declared.yaml: {fault}")),
    }
    let operations = ops::page(controller, ops::Filter::default(), u32::try_from(LISTED).unwrap_or(500), String::new()).await;
    bundle.message("operations.json", "muster.v1.OperationServiceListResponse", &operations);
    for operation in operations.iter().flat_map(|page| &page.operations).take(JOURNALS) {
        match logs::events(controller, operation).await {
            Ok(events) => bundle.add(&format!("journal/{}.txt", operation.id), &render::logs::logs(operation, &events)),
            Err(fault) => bundle.missing.push(format!("journal of {}: {fault}", operation.id)),
        }
    }
    match diagnose(controller).await {
        Ok(told) => {
            bundle.add("controller/configuration.txt", &told.configuration);
            bundle.add("controller/metrics.txt", &told.metrics);
            let mut facts: Vec<_> = told.facts.iter().map(|(name, fact)| format!("{name}: {fact}\n")).collect();
            facts.sort();
            bundle.add("controller/facts.txt", &facts.concat());
        }
        Err(fault) => bundle.missing.push(format!("controller: {fault}")),
    }
}

async fn diagnose(controller: &Controller) -> Result<DiagnoseResponse, Fault> {
    controller
        .call(Repeat::Read, &DiagnoseRequest {}, |request| {
            let mut client = controller.status();
            async move { client.diagnose(request).await }
        })
        .await
}
