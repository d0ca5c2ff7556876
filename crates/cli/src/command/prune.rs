//! `muster prune`: what the component's retention does not keep goes, and what no recovery point needs.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::PruneRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
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
    #[command(flatten)]
    asking: Asking,
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
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.prune(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
