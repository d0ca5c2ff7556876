//! `muster cancel`: asks an operation to stop.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::CancelRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::{Exit, has_ended};
use crate::follow::{self, Followed};

/// The arguments of `muster cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster cancel 3f2a91c0\n  muster cancel 3f2a91c0 --reason \"disk is filling up\" --no-wait")]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits.
    operation: String,
    /// Why, for the record.
    #[arg(short, long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Do not wait until it has stopped.
    #[arg(long)]
    no_wait: bool,
}

/// Asks, and waits until it has stopped. Ends with 0 where it was cancelled, else as the operation ended.
///
/// # Errors
/// Where it is past its point of no return, has ended already, or there is none.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = CancelRequest { id: arguments.operation, reason: arguments.reason };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.operation();
            async move { client.cancel(request).await }
        })
        .await?;
    let operation = convert::required(answer.operation, "operation")?;
    if arguments.no_wait || has_ended(&operation) {
        follow::show(&app.console, &operation)?;
        return Ok(as_asked(Exit::of_operation(&operation), arguments.no_wait));
    }
    match follow::follow(&controller, &app.console, operation).await? {
        Followed::Ended(operation) => {
            follow::show(&app.console, &operation)?;
            Ok(as_asked(Exit::of_operation(&operation), false))
        }
        Followed::Interrupted(_) => Ok(Exit::Interrupted),
    }
}

/// That it was cancelled is what was asked for here.
const fn as_asked(exit: Exit, no_wait: bool) -> Exit {
    match exit {
        Exit::Cancelled => Exit::Ok,
        Exit::TimedOut | Exit::Unknown if no_wait => Exit::Ok,
        other => other,
    }
}
