//! `muster rejoin`: what wrote before, or was left behind, follows the writer again.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::RejoinRequest;

use super::moves;
use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster rejoin`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster rejoin orders-db/istanbul")]
pub struct Arguments {
    /// The instance, as COMPONENT/INSTANCE.
    name: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let (component, instance) = moves::named(&arguments.name);
    let lost =
        format!("REJOIN of {}: what only it holds, past the point where it left the writer's line, is taken back.\n", arguments.name);
    app.console.consent(&lost, &arguments.name, arguments.yes).await?;
    let request = RejoinRequest { component, instance, request_id: arguments.asking.request_id() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.rejoin(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
