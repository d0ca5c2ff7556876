//! `muster adopt`: a controller that was restored or made anew believes its agents about who writes.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::AdoptRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;

/// The arguments of `muster adopt`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster adopt orders-db\n  muster adopt orders-db --off istanbul\n\n\
    A controller that hears from every instance does this by itself. It is needed where one of them is silent: its machine has to be off.")]
pub struct Arguments {
    /// The component.
    component: String,
    /// You state that the machine of this silent instance is off. Again for each.
    #[arg(long, value_name = "INSTANCE")]
    off: Vec<String>,
}

/// Asks for it, and shows who writes.
///
/// # Errors
/// Where no later reign is reported, or something stands against it.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = AdoptRequest { component: arguments.component, off: arguments.off };
    let answer = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.recovery();
            async move { client.adopt(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.AdoptResponse", || format!("{} writes in epoch {}\n", answer.writer, answer.epoch))?;
    Ok(Exit::Ok)
}
