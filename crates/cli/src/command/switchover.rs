//! `muster switchover`: the writer changes, planned: nothing is lost, or it goes back.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::SwitchoverRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster switchover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster preflight orders-db --to ankara     # what it needs, without doing anything\n  muster switchover orders-db --to ankara"
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The next writer.
    #[arg(long, value_name = "INSTANCE")]
    to: String,
    /// How long the stopped writer waits before it asks to come back. Default: 5m.
    #[arg(long, value_name = "DURATION", value_parser = muster_common::duration::parse)]
    stop_limit: Option<std::time::Duration>,
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
    let lost = format!(
        "SWITCHOVER of {}: its writer is stopped and {} takes writes. Clients are cut off for the time between. Nothing is lost: where that cannot be had it goes back.\n",
        arguments.component, arguments.to
    );
    app.console.consent(&lost, &arguments.component, arguments.yes).await?;
    let request = SwitchoverRequest {
        component: arguments.component,
        to: arguments.to,
        stop_limit: arguments.stop_limit.map(convert::duration_to_proto),
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.switchover(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
