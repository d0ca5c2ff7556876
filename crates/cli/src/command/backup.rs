//! `muster backup`: takes a recovery point.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::{BackupRequest, Operation};

use crate::arguments::{App, Asking};
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::follow::{self, fault_with_id};

/// The arguments of `muster backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster backup orders-db\n  muster backup orders-db --instance ankara --label \"before the migration\"\n  id=$(muster backup orders-db --no-wait -o json | jq -r .id)"
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The instance to read. Default: a standby that is fit for it, else the writer.
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,
    /// A label of yours, up to 200 bytes.
    #[arg(short, long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    label: String,
    /// zstd level. Default: 1.
    #[arg(long, value_name = "1-19", value_parser = clap::value_parser!(u32).range(1..=19))]
    compression: Option<u32>,
    /// Wait for the server's next regular checkpoint instead of asking for one at once: slower, and easier on the disks.
    #[arg(long)]
    slow_checkpoint: bool,
    /// Fail when nothing moved for so long. Default: 15m.
    #[arg(long, value_name = "DURATION", value_parser = muster_common::duration::parse)]
    stall_limit: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = BackupRequest {
        component: arguments.component,
        instance: arguments.instance.unwrap_or_default(),
        label: arguments.label,
        compression_level: arguments.compression.unwrap_or_default(),
        slow_checkpoint: arguments.slow_checkpoint,
        stall_limit: arguments.stall_limit.map(convert::duration_to_proto),
        request_id: arguments.asking.request_id(),
        dump: None,
    };
    let operation = start(&controller, &request).await?;
    follow::to_the_end(&controller, &app.console, operation, arguments.asking.no_wait).await
}

/// Asks for it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn start(controller: &Controller, request: &BackupRequest) -> Result<Operation, Fault> {
    let answer = controller
        .call(Repeat::Safe, request, |request| {
            let mut client = controller.recovery();
            async move { client.backup(request).await }
        })
        .await
        .map_err(|fault| fault_with_id(fault, &request.request_id))?;
    convert::required(answer.operation, "operation")
}
