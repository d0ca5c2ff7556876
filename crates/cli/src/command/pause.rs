//! `muster pause`: automation and schedules off for a while.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::convert;
use muster_wire::proto::v1::PauseRequest;

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::render;

/// The arguments of `muster pause`.
#[derive(Debug, Args)]
#[command(
    after_help = "What persons ask for is done all the same, and what runs goes on. It ends by itself.\n\nExamples:\n  muster pause orders-db --for 2h --reason \"moving the disks\"\n  muster pause --all --for 30m --reason \"network maintenance\""
)]
pub struct Arguments {
    /// The component.
    #[arg(required_unless_present = "all")]
    component: Option<String>,
    /// All components.
    #[arg(long, conflicts_with = "component")]
    all: bool,
    /// How long, 30d at most.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = muster_common::duration::parse)]
    duration: Duration,
    /// Why, for whoever looks.
    #[arg(short, long, required = true, value_name = "TEXT")]
    reason: String,
}

/// Pauses it.
///
/// # Errors
/// Where there is no such component, or no reason.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = PauseRequest {
        component: arguments.component.unwrap_or_default(),
        duration: Some(convert::duration_to_proto(arguments.duration)),
        reason: arguments.reason,
    };
    // Twice is once, a moment later.
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.inventory();
            async move { client.pause(request).await }
        })
        .await?;
    let pause = convert::required(answer.pause.clone(), "pause")?;
    app.console.show(&answer, "muster.v1.PauseResponse", || render::pause::begun(&pause, clock::now()))?;
    Ok(Exit::Ok)
}
