//! `muster findings`: what a person should know now, once or as it is raised and cleared.

use std::time::{Duration, Instant};

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_service::clock;
use muster_wire::proto::v1::{ListFindingsRequest, ListFindingsResponse, WatchFindingsRequest};
use muster_wire::status;
use rand::RngExt;

use crate::arguments::App;
use crate::controller::{Controller, Patience, Repeat};
use crate::exit::Exit;
use crate::render;

/// A watch outlasts a controller that is away for so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// The arguments of `muster findings`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster findings\n  muster findings orders-db\n  muster findings --watch\n  muster findings -o json | jq -r '.findings[] | select(.severity == \"SEVERITY_CRITICAL\") | .subject'"
)]
pub struct Arguments {
    /// Only what concerns this component, or none.
    component: Option<String>,
    /// Tell them as they are raised and cleared, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

/// Shows them.
///
/// # Errors
/// Where the controller cannot be reached or knows no such component.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let component = arguments.component.unwrap_or_default();
    let answer = list(&controller, &component).await?;
    app.console.show(&answer, "muster.v1.ListFindingsResponse", || render::findings::list(&answer.findings, clock::now()))?;
    if arguments.watch {
        return watch(app, &controller, component, answer.last_event).await;
    }
    Ok(Exit::Ok)
}

/// What stands.
///
/// # Errors
/// Where the controller cannot be reached or knows no such component.
pub async fn list(controller: &Controller, component: &str) -> Result<ListFindingsResponse, Fault> {
    let request = ListFindingsRequest { component: component.to_owned() };
    controller
        .call(Repeat::Read, &request, |request| {
            let mut client = controller.status();
            async move { client.list_findings(request).await }
        })
        .await
}

async fn watch(app: &App, controller: &Controller, component: String, mut after: u64) -> Result<Exit, Fault> {
    let mut patience = Patience::new(PATIENCE, Instant::now());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let read = tokio::select! {
            read = once(app, controller, &component, &mut after, &mut patience) => read,
            _ = &mut interrupt => return Ok(Exit::Ok),
        };
        let fault = match read {
            Ok(()) => Fault::refused(ErrorKind::Unavailable, "the controller ended the stream"),
            Err(fault) if fault.kind == ErrorKind::Unavailable => fault,
            Err(fault) => return Err(fault),
        };
        let Some((wait, left)) = patience.next(Instant::now(), rand::rng().random()) else {
            return Err(controller.explained(fault));
        };
        controller.unreachable(&fault, left);
        tokio::time::sleep(wait).await;
    }
}

async fn once(app: &App, controller: &Controller, component: &str, after: &mut u64, patience: &mut Patience) -> Result<(), Fault> {
    let request = WatchFindingsRequest { component: component.to_owned(), after_event: *after };
    let mut stream = controller.status().watch_findings(request).await.map_err(|status| status::fault(&status))?.into_inner();
    while let Some(answer) = stream.message().await.map_err(|status| status::fault(&status))? {
        *patience = Patience::new(PATIENCE, Instant::now());
        if let Some(event) = answer.event {
            *after = (*after).max(event.number);
            app.console.show(&event, "muster.v1.FindingEvent", || render::findings::event(&event))?;
        }
    }
    Ok(())
}
