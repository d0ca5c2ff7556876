//! `muster manual`, hidden: writes the manual pages that packages ship.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use muster_common::fault::{ErrorKind, Fault};
use muster_service::manual;

use crate::arguments::{App, Arguments as All};
use crate::exit::Exit;

/// The arguments of `muster manual`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster manual /usr/share/man/man1")]
pub struct Arguments {
    /// The folder, which must exist.
    folder: PathBuf,
}

/// Writes them.
///
/// # Errors
/// Where one cannot be written.
pub fn run(app: &App, arguments: &Arguments) -> Result<Exit, Fault> {
    let written = manual::write(All::command(), "1", &arguments.folder);
    let count =
        written.map_err(|error| Fault::refused(ErrorKind::InvalidArgument, error.to_string()).hint("make the folder, or name another"))?;
    app.console.note(&format!("{count} pages in {}", arguments.folder.display()));
    Ok(Exit::Ok)
}
