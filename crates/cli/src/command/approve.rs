//! `muster approve`: a word about a machine, or what may be lost, for an operation that waits for it.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::{ApproveRequest, LossBound, MachineWord};

use super::moves;
use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster approve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster approve 3f2a91c0 --word istanbul=off\n  muster approve 3f2a91c0 --accept-loss 81920\n  muster approve 3f2a91c0 --accept-loss unknown\n\nThe operation tells what it waits for: muster watch 3f2a91c0"
)]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits.
    operation: String,
    /// What you state of a machine that does not answer: INSTANCE=off, or INSTANCE=fenced where `muster-agent fence` was run on it.
    #[arg(long, value_name = "INSTANCE=STATE", value_parser = moves::word)]
    word: Vec<MachineWord>,
    /// What may be lost at most, in bytes of log; `unknown` approves a loss without a known bound.
    #[arg(long, value_name = "BYTES", value_parser = moves::ceiling)]
    accept_loss: Option<LossBound>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Approves it, after consent.
///
/// # Errors
/// Where the operation waits for no approval, or there is none.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let operation = follow::get(&controller, &arguments.operation).await?;
    let text = moves::stated(&arguments.word, arguments.accept_loss.as_ref());
    app.console.consent(&text, &operation.component, arguments.yes).await?;
    let request = ApproveRequest { id: operation.id, words: arguments.word, accept_loss: arguments.accept_loss };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.operation();
            async move { client.approve(request).await }
        })
        .await?;
    follow::show(&app.console, &convert::required(answer.operation, "operation")?)?;
    Ok(Exit::Ok)
}
