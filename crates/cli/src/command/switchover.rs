//! `muster switchover`: the writer changes, planned: nothing is lost, or it goes back.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::SwitchoverRequest;

use super::moves;
use crate::arguments::App;
use crate::controller::{Repeat, request_id};
use crate::exit::Exit;

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
    let lost = format!(
        "SWITCHOVER of {}: its writer is stopped and {} takes writes. Clients are cut off for the time between. Nothing is lost: where that cannot be had it goes back.\n",
        arguments.component, arguments.to
    );
    app.console.consent(&lost, &arguments.component, arguments.yes).await?;
    let request = SwitchoverRequest {
        component: arguments.component,
        to: arguments.to,
        stop_limit: arguments.stop_limit.map(convert::duration_to_proto),
        request_id: request_id(arguments.request_id.as_deref()),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.switchover(request).await }
        })
        .await
        .map(|answer| answer.operation);
    moves::followed(app, answer, &request.request_id, arguments.no_wait).await
}
