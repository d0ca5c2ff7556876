//! `muster route`: names in the DNS, with no controller. So far: trying an operator's own program out.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_common::fault::{ErrorKind, Fault};
use muster_routes::conform::conform;
use muster_routes::domain::Domain;
use muster_routes::program::Program;

use crate::arguments::App;
use crate::exit::Exit;

/// The arguments of `muster route`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tries out whether a program of yours keeps the contract of a route's provider, at a name that nobody uses.
    Conform(Conform),
}

/// The arguments of `muster route conform`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster route conform --zone example.com --name conform-1.example.com /etc/muster/dns-provider --account 7"
)]
pub struct Conform {
    /// The zone that the program changes.
    #[arg(long, value_name = "ZONE")]
    zone: Domain,
    /// A name in it that nobody uses. It is made, and stays: remove it afterwards.
    #[arg(long, value_name = "NAME")]
    name: Domain,
    /// How long one run may last, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    limit: u64,
    /// The program's absolute path.
    #[arg(value_name = "PROGRAM")]
    program: PathBuf,
    /// Its arguments.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs it; a broken contract is a refusal.
///
/// # Errors
/// What failed, with what to do next.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    match arguments.action {
        Action::Conform(arguments) => try_out(app, arguments).await,
    }
}

async fn try_out(app: &App, arguments: Conform) -> Result<Exit, Fault> {
    let Conform { zone, name, limit, program: path, arguments } = arguments;
    if !path.is_absolute() || !name.is_in(&zone) || name == zone {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("try {} out at {name}", path.display()))
            .hint(format!("give an absolute path, and a name below the zone: --name conform-1.{zone}")));
    }
    let program = Program { path, arguments, limit: Duration::from_secs(limit) };
    let checks = conform(&program, &zone, &name).await?;
    let mut text = String::new();
    for check in &checks {
        match &check.broken {
            None => writeln!(text, "kept    {}", check.what),
            Some(how) => writeln!(text, "BROKEN  {}: {how}", check.what),
        }
        .map_err(|error| Fault::refused(ErrorKind::Internal, format!("show the checks: {error}")).hint("report this"))?;
    }
    app.console.data(&text)?;
    let broken = checks.iter().find_map(|check| check.broken.as_ref().map(|_| check.what));
    match broken {
        None => Ok(Exit::Ok),
        Some(what) => Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} breaks the contract: {what}", program.path.display()))
            .hint(format!("mend it by docs/guides/routes.md, remove {name} from the zone, and try again"))),
    }
}
