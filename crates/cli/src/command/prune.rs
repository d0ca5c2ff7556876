//! `muster prune`: what the component's retention does not keep goes, and what no recovery point needs.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::PruneRequest;

use super::backup::fault_with_id;
use crate::arguments::App;
use crate::controller::{Repeat, request_id};
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster prune`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster prune orders-db --dry-run     # what stays, what goes, and why\n  muster prune orders-db\n\nWhat stays is declared in the component's spec:\n  retention: {keepWithin: 30d, keepLast: 7}\nWhat may go is marked first, and removed by a prune that comes a grace time (48 h) later."
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The instance whose agent does it. Default: any that is connected.
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,
    /// Only tell what would go.
    #[arg(long)]
    dry_run: bool,
    /// Do not follow it: print the operation and end.
    #[arg(long)]
    no_wait: bool,
    /// The same id with the same content is the same prune. Default: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = PruneRequest {
        component: arguments.component,
        instance: arguments.instance.unwrap_or_default(),
        dry_run: arguments.dry_run,
        request_id: request_id(arguments.request_id.as_deref()),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.prune(request).await }
        })
        .await
        .map_err(|fault| fault_with_id(fault, &request.request_id))?;
    let operation = convert::required(answer.operation, "operation")?;
    follow::to_the_end(&controller, &app.console, operation, arguments.no_wait).await
}
