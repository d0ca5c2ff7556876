//! `muster repo release`: a held recovery point goes by the rules again.

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ComponentId;
use serde_json::json;

use super::{chosen, component, short};
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;
use crate::place::{self, Place};

/// The arguments of `muster repo release`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster repo release 9c1e0a12 --folder /srv/muster")]
pub struct Arguments {
    /// The point: its id, or the first digits of it. All its holds end.
    point: String,
    #[command(flatten)]
    place: Place,
    /// The component, where the repository holds several.
    #[arg(long, value_name = "ID")]
    component_id: Option<ComponentId>,
}

/// Lets it go.
///
/// # Errors
/// Where there is no such point, nothing holds it, or the repository cannot be written.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let repository = arguments.place.required()?.open().await?;
    let component = component(&repository, arguments.component_id).await?;
    let points = repository.list_points(Some(component)).await.map_err(|error| place::unread(&error))?;
    let point = chosen(&points, Some(&arguments.point))?.point;
    let ended = repository.release_point(component, point).await.map_err(|error| error.fault())?;
    if ended == 0 {
        let message = format!("nothing holds point {}", short(point));
        return Err(Fault::refused(ErrorKind::NotFound, message).hint("`muster repo list` tells which points are held"));
    }
    match app.console.output {
        Output::Text => app.console.data(&format!("{} is held no more\n", short(point)))?,
        Output::Json | Output::Yaml => app.console.value(&json!({"point": point.to_string(), "ended": ended}))?,
    }
    Ok(Exit::Ok)
}
