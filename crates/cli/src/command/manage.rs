//! `muster manage`: keeps what runs from now on: who may write is decided by Muster then. Nothing is restarted.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::ManageRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

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
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = ManageRequest { component: arguments.component, writer: arguments.writer, request_id: arguments.asking.request_id() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.manage(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
