//! `muster release`: a held recovery point goes by the rules again.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::ReleaseRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
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
    #[command(flatten)]
    asking: Asking,
}

/// Lets it go.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = ReleaseRequest { component: arguments.component, point: arguments.point, request_id: arguments.asking.request_id() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.release(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
