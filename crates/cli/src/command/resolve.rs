//! `muster resolve`: a person's word on what nobody else can find out.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::ResolveRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster resolve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster resolve 3f2a91c0 --failed --word \"the machine burnt; no point was published\"\n  muster resolve 3f2a91c0 --succeeded --word \"the restored server runs, I looked\""
)]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits.
    operation: String,
    /// It counts as done.
    #[arg(long, required_unless_present = "failed")]
    succeeded: bool,
    /// It counts as failed.
    #[arg(long, conflicts_with = "succeeded")]
    failed: bool,
    /// What you know, for the record.
    #[arg(short, long, required = true, value_name = "TEXT")]
    word: String,
}

/// Records the word.
///
/// # Errors
/// Where the operation's outcome is not unknown, or there is none.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = ResolveRequest { id: arguments.operation, succeeded: arguments.succeeded, word: arguments.word };
    let answer = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.operation();
            async move { client.resolve(request).await }
        })
        .await?;
    follow::show(&app.console, &convert::required(answer.operation, "operation")?)?;
    Ok(Exit::Ok)
}
