//! `muster wait`: for scripts that only need to know how an operation ended.

use std::time::{Duration, Instant};

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::WaitRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// One call waits so long at most, so that a controller that is gone is noticed.
const ONE_CALL: Duration = Duration::from_secs(50);

/// The arguments of `muster wait`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster wait 3f2a91c0 --timeout 2h\n  muster wait \"$id\" -q || echo \"ended with $?\"")]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits.
    operation: String,
    /// How long at most; then it ends with code 10 and the operation goes on. Default: for ever.
    #[arg(short, long, value_name = "DURATION", value_parser = muster_common::duration::parse)]
    timeout: Option<Duration>,
}

/// Waits.
///
/// # Errors
/// Where there is no such operation, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let started = Instant::now();
    loop {
        let left = arguments.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        let this = left.unwrap_or(ONE_CALL).min(ONE_CALL);
        let request = WaitRequest { id: arguments.operation.clone(), timeout: Some(convert::duration_to_proto(this)) };
        let answer = controller
            .call_within(ONE_CALL + Duration::from_secs(15), Repeat::Read, &request, |request| {
                let mut client = controller.operation();
                async move { client.wait(request).await }
            })
            .await?;
        let operation = convert::required(answer.operation, "operation")?;
        if answer.ended || left.is_some_and(|left| left <= this) {
            follow::show(&app.console, &operation)?;
            return Ok(Exit::of_operation(&operation));
        }
    }
}
