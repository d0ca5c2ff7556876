//! `muster version`: of this command, and of the controller where it can be reached.

use clap::Args;
use muster_common::fault::Fault;
use serde_json::json;

use super::status;
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;

/// The version of this build.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// The arguments of `muster version`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster version\n  muster version --client -o json")]
pub struct Arguments {
    /// Only this command's; no controller is asked.
    #[arg(long)]
    client: bool,
}

/// Shows them.
///
/// # Errors
/// Where the controller cannot be reached; this command's version is shown all the same.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    if arguments.client {
        show(app, None)?;
        return Ok(Exit::Ok);
    }
    let asked = match app.controller() {
        Ok(controller) => status::page(&controller, "").await,
        Err(fault) => Err(fault),
    };
    match asked {
        Ok(page) => {
            let controller = page.controller.unwrap_or_default();
            show(app, Some(&controller.build))?;
            Ok(Exit::Ok)
        }
        Err(fault) => {
            show(app, None)?;
            Err(fault)
        }
    }
}

fn show(app: &App, controller: Option<&str>) -> Result<(), Fault> {
    if app.console.output == Output::Text {
        let controller = controller.map_or_else(String::new, |build| format!("muster-controller {build}\n"));
        return app.console.data(&format!("muster {BUILD}\n{controller}"));
    }
    app.console.value(&json!({ "muster": BUILD, "controller": controller }))
}
