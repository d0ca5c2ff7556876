//! `muster release`: a held recovery point goes by the rules again.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::ReleaseRequest;

use super::backup::fault_with_id;
use crate::arguments::App;
use crate::controller::{Repeat, request_id};
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster release`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster release orders-db 9c1e0a12")]
pub struct Arguments {
    /// The component.
    component: String,
    /// The point: its id, or the first 6 or more digits. All its holds end.
    point: String,
    /// Do not follow it: print the operation and end.
    #[arg(long)]
    no_wait: bool,
    /// The same id with the same content is the same release. Default: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Lets it go.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request =
        ReleaseRequest { component: arguments.component, point: arguments.point, request_id: request_id(arguments.request_id.as_deref()) };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.release(request).await }
        })
        .await
        .map_err(|fault| fault_with_id(fault, &request.request_id))?;
    let operation = convert::required(answer.operation, "operation")?;
    follow::to_the_end(&controller, &app.console, operation, arguments.no_wait).await
}
