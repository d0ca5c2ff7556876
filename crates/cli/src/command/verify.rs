//! `muster verify`: proves a recovery point good, by restoring it to an agent's scratch folder and checking it there.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::VerifyRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster verify orders-db                        # the newest point\n  muster verify orders-db --point 9c1e0a12\n  muster verify orders-db --instance ankara      # in the scratch folder of ankara's agent\n\nWhat a restored copy must answer stands in the component's spec:\n  verify: {assertions: [{name: orders, database: shop, sql: \"select count(*) > 0 from orders\", expect: t}]}"
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The instance whose agent does it, in its scratch folder. Default: a standby's, else any that is connected.
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,
    /// The point: its id, or the first 6 or more digits. Default: the newest.
    #[arg(short, long, value_name = "ID")]
    point: Option<String>,
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
    let request = VerifyRequest {
        component: arguments.component,
        instance: arguments.instance.unwrap_or_default(),
        point: arguments.point.unwrap_or_default(),
        stall_limit: arguments.stall_limit.map(convert::duration_to_proto),
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.verify(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
