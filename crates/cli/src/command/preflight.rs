//! `muster preflight`: what a switchover needs, and what a failover now would lose. Nothing is done.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::PreflightRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::render;

/// The arguments of `muster preflight`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster preflight orders-db --to ankara")]
pub struct Arguments {
    /// The component.
    component: String,
    /// The next writer. Default: whoever would lose least.
    #[arg(long, value_name = "INSTANCE")]
    to: Option<String>,
}

/// Shows it. Ends as failed where a switchover would be refused.
///
/// # Errors
/// Where there is no such component, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = PreflightRequest { component: arguments.component, to: arguments.to.unwrap_or_default() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.preflight(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.PreflightResponse", || render::moves::preflight(&request.component, &answer))?;
    Ok(if answer.ready { Exit::Ok } else { Exit::Refused })
}
