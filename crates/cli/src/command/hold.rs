//! `muster hold`: a recovery point stays, whatever the rules say.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::HoldRequest;

use super::backup::fault_with_id;
use crate::arguments::App;
use crate::controller::{Repeat, request_id};
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
    /// Do not follow it: print the operation and end.
    #[arg(long)]
    no_wait: bool,
    /// The same id with the same content is the same hold. Default: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
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
        request_id: request_id(arguments.request_id.as_deref()),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.hold(request).await }
        })
        .await
        .map_err(|fault| fault_with_id(fault, &request.request_id))?;
    let operation = convert::required(answer.operation, "operation")?;
    follow::to_the_end(&controller, &app.console, operation, arguments.no_wait).await
}
