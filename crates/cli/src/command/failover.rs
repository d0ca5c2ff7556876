//! `muster failover`: the writer changes because the old one is gone. What is lost at most is told before, and approved by its number.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::{FailoverRequest, LossBound, MachineWord};

use super::moves;
use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster failover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster failover orders-db                                  # whoever loses least; it tells what it waits for\n  muster failover orders-db --to ankara --word istanbul=off --accept-loss unknown\n\nA word is a statement about the machine, not about the database: a database that is down may be started again."
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The next writer. Default: whoever loses least.
    #[arg(long, value_name = "INSTANCE")]
    to: Option<String>,
    /// What you state of a machine that does not answer: INSTANCE=off, or INSTANCE=fenced where `muster-agent fence` was run on it.
    #[arg(long, value_name = "INSTANCE=STATE", value_parser = moves::word)]
    word: Vec<MachineWord>,
    /// What may be lost at most, in bytes of log; `unknown` approves a loss without a known bound. Default: nothing.
    #[arg(long, value_name = "BYTES", value_parser = moves::ceiling)]
    accept_loss: Option<LossBound>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let lost = format!(
        "FAILOVER of {}: the old writer is stopped where it can be reached, and never writes again until it rejoined.\n{}",
        arguments.component,
        moves::stated(&arguments.word, arguments.accept_loss.as_ref())
    );
    app.console.consent(&lost, &arguments.component, arguments.yes).await?;
    let request = FailoverRequest {
        component: arguments.component,
        to: arguments.to.unwrap_or_default(),
        words: arguments.word,
        accept_loss: arguments.accept_loss,
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.failover(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
