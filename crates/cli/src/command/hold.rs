//! `muster hold`: a recovery point stays, whatever the rules say.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::HoldRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster hold`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster hold orders-db 9c1e0a12 --for 90d --reason \"the auditors\"")]
pub struct Arguments {
    /// The component.
    component: String,
    /// The point: its id, or the first 6 or more digits.
    point: String,
    /// For how long from now on.
    #[arg(long = "for", value_name = "DURATION", value_parser = muster_common::duration::parse)]
    lasts: Duration,
    /// Why, for whoever wonders later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    asking: Asking,
}

/// Holds it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = HoldRequest {
        component: arguments.component,
        point: arguments.point,
        lasts: Some(convert::duration_to_proto(arguments.lasts)),
        reason: arguments.reason,
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.hold(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
