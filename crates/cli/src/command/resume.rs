//! `muster resume`: a pause ends before its time.

use clap::Args;
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::ResumeRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::render;

/// The arguments of `muster resume`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster resume orders-db\n  muster resume --all")]
pub struct Arguments {
    /// The component.
    #[arg(required_unless_present = "all")]
    component: Option<String>,
    /// Ends the pause of all; a pause of one component alone stays.
    #[arg(long, conflicts_with = "component")]
    all: bool,
}

/// Ends it.
///
/// # Errors
/// Where there is no such component, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = ResumeRequest { component: arguments.component.unwrap_or_default() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.inventory();
            async move { client.resume(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.ResumeResponse", || render::pause::ended(&request.component, &answer, clock::now()))?;
    Ok(Exit::Ok)
}
