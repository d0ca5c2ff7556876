//! `muster completion`: what makes a shell complete `muster`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use muster_common::fault::Fault;

use crate::arguments::{App, Arguments as All};
use crate::exit::Exit;

/// The arguments of `muster completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster completion bash > /etc/bash_completion.d/muster\n  source <(muster completion zsh)")]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Where it cannot be written.
pub fn run(app: &App, arguments: &Arguments) -> Result<Exit, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut All::command(), "muster", &mut script);
    app.console.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
