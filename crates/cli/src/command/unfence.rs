//! `muster unfence`: the recorded writer, which is stopped, starts again, once nobody else may write.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::{MachineWord, UnfenceRequest};

use super::moves;
use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster unfence`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster unfence orders-db\n  muster unfence orders-db --word ankara=off      # ankara does not answer")]
pub struct Arguments {
    /// The instance, as COMPONENT/INSTANCE; a component alone means its recorded writer.
    name: String,
    /// What you state of a machine that does not answer: INSTANCE=off, or INSTANCE=fenced where `muster-agent fence` was run on it.
    #[arg(long, value_name = "INSTANCE=STATE", value_parser = moves::word)]
    word: Vec<MachineWord>,
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
    let (component, instance) = moves::named(&arguments.name);
    if !arguments.word.is_empty() {
        app.console.consent(&moves::stated(&arguments.word, None), &arguments.name, arguments.yes).await?;
    }
    let request = UnfenceRequest { component, instance, words: arguments.word, request_id: arguments.asking.request_id() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.unfence(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
