//! `muster manage`: keeps what runs from now on: who may write is decided by Muster then. Nothing is restarted.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::ManageRequest;

use super::moves;
use crate::arguments::App;
use crate::controller::{Repeat, request_id};
use crate::exit::Exit;

/// The arguments of `muster manage`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster manage orders-db --writer istanbul\n\nExactly one instance takes writes, the others follow it; each agent keeps its own from then on: it removes\nthe right to start at each boot and asks before it writes again."
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The one instance that takes writes now.
    #[arg(long, value_name = "INSTANCE")]
    writer: String,
    /// Do not follow it: print the operation and end.
    #[arg(long)]
    no_wait: bool,
    /// The same id with the same content is the same operation. Default: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request =
        ManageRequest { component: arguments.component, writer: arguments.writer, request_id: request_id(arguments.request_id.as_deref()) };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.manage(request).await }
        })
        .await
        .map(|answer| answer.operation);
    moves::followed(app, answer, &request.request_id, arguments.no_wait).await
}
