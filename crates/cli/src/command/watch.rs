//! `muster watch`: an operation to its end, or all operations as they go.

use std::time::{Duration, Instant};

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_wire::proto::v1::OperationServiceWatchRequest;
use muster_wire::proto::v1::operation_service_watch_response::Update;
use muster_wire::status;
use rand::RngExt;

use super::ops;
use crate::arguments::App;
use crate::controller::{Controller, Patience};
use crate::exit::Exit;
use crate::follow;
use crate::render;

/// The arguments of `muster watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster watch 3f2a91c0     # one operation; the exit code tells how it ended\n  muster watch              # all, until Ctrl-C"
)]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits. Default: all operations, from now on.
    operation: Option<String>,
}

/// Follows it, or all.
///
/// # Errors
/// Where there is no such operation, or the controller cannot be reached for ten minutes.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    match arguments.operation {
        Some(id) => {
            let operation = follow::get(&controller, &id).await?;
            follow::to_the_end(&controller, &app.console, operation, false).await
        }
        None => all(app, &controller).await,
    }
}

async fn all(app: &App, controller: &Controller) -> Result<Exit, Fault> {
    let newest = ops::page(controller, ops::Filter::default(), 50, String::new()).await?;
    let mut after = newest.operations.iter().map(|operation| operation.last_event).max().unwrap_or_default();
    let mut patience = Patience::new(Duration::from_secs(600), Instant::now());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let read = tokio::select! {
            read = once(app, controller, &mut after, &mut patience) => read,
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

async fn once(app: &App, controller: &Controller, after: &mut u64, patience: &mut Patience) -> Result<(), Fault> {
    let request = OperationServiceWatchRequest { id: String::new(), after_event: *after };
    let mut stream = controller.operation().watch(request).await.map_err(|status| status::fault(&status))?.into_inner();
    while let Some(answer) = stream.message().await.map_err(|status| status::fault(&status))? {
        *patience = Patience::new(Duration::from_secs(600), Instant::now());
        // Progress of all operations at once would be noise.
        if let Some(Update::Event(event)) = answer.update {
            *after = (*after).max(event.number);
            app.console.show(&event, "muster.v1.OperationEvent", || format!("{}\n", render::operation::event(&event)))?;
        }
    }
    Ok(())
}
