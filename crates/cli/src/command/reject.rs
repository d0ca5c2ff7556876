//! `muster reject`: an operation that waits for approval goes back.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::RejectRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster reject`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster reject 3f2a91c0 --reason \"the site is back\"")]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits.
    operation: String,
    /// Why, for the record.
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
}

/// Rejects it.
///
/// # Errors
/// Where it has ended, or is past its point of no return.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = RejectRequest { id: arguments.operation, reason: arguments.reason };
    let answer = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.operation();
            async move { client.reject(request).await }
        })
        .await?;
    follow::show(&app.console, &convert::required(answer.operation, "operation")?)?;
    Ok(Exit::Ok)
}
