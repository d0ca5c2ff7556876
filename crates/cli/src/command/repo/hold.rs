//! `muster repo hold`: a recovery point stays, whatever the rules say.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_common::id::ComponentId;
use serde_json::json;

use super::{chosen, component, short};
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;
use crate::place::{self, Place};
use crate::render::amount::instant;

/// The arguments of `muster repo hold`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster repo hold 9c1e0a12 --folder /srv/muster --for 90d --reason \"the auditors\"")]
pub struct Arguments {
    /// The point: its id, or the first digits of it.
    point: String,
    #[command(flatten)]
    place: Place,
    /// The component, where the repository holds several.
    #[arg(long, value_name = "ID")]
    component_id: Option<ComponentId>,
    /// For how long from now on.
    #[arg(long = "for", value_name = "DURATION", value_parser = muster_common::duration::parse)]
    lasts: Duration,
    /// Why, for whoever wonders later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Holds it.
///
/// # Errors
/// Where there is no such point, it is being removed, or the repository cannot be written.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let repository = arguments.place.required()?.open().await?;
    let component = component(&repository, arguments.component_id).await?;
    let points = repository.list_points(Some(component)).await.map_err(|error| place::unread(&error))?;
    let point = chosen(&points, Some(&arguments.point))?.point;
    let hold = repository.hold((component, point), arguments.lasts, "muster repo hold", &arguments.reason).await;
    let hold = hold.map_err(|error| error.fault())?;
    match app.console.output {
        Output::Text => app.console.data(&format!("{} is held until {}\n", short(point), instant(hold.until)))?,
        Output::Json | Output::Yaml => {
            app.console.value(&json!({"hold": hold.id.to_string(), "point": point.to_string(), "until": instant(hold.until)}))?;
        }
    }
    Ok(Exit::Ok)
}
