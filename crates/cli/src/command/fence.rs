//! `muster fence`: an instance is stopped, and stays stopped until somebody lifts it.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::FenceRequest;

use super::moves;
use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster fence`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster fence orders-db              # its writer\n  muster fence orders-db/istanbul\n  muster unfence orders-db            # the way back"
)]
pub struct Arguments {
    /// The instance, as COMPONENT/INSTANCE; a component alone means its writer.
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
    let lost = format!(
        "FENCE of {}: it takes no writes any more, also after a restart, until `muster unfence`. Clients are cut off.\n",
        arguments.name
    );
    app.console.consent(&lost, &arguments.name, arguments.yes).await?;
    let request = FenceRequest { component, instance, request_id: arguments.asking.request_id() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.fence(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
