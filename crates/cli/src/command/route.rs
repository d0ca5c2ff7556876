//! `muster route`: names in the DNS that follow a writer: shown, taken over, pointed; and an operator's own program tried out, with no controller.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_common::fault::{ErrorKind, Fault};
use muster_routes::conform::conform;
use muster_routes::domain::Domain;
use muster_routes::program::Program;
use muster_wire::proto::v1::{AdoptRouteRequest, PointRouteRequest, ShowRouteRequest};

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::render;

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
    /// What stands in the DNS for a route: at the primary, at every authoritative server, at the watched resolvers.
    Show(Named),
    /// Takes a name over that points at the writer's site already, or does not exist yet. Once for each route.
    Adopt(Named),
    /// Points a route at the site of its component's writer: what a move could not do while a server was away.
    Point(Named),
}

/// A route.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster route show orders\n  muster route adopt orders\n  muster route point orders")]
pub struct Named {
    /// Its name, as it is declared.
    route: String,
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
        Action::Show(named) => show(app, named.route).await,
        Action::Adopt(named) => adopt(app, named.route).await,
        Action::Point(named) => point(app, named.route).await,
    }
}

async fn show(app: &App, route: String) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = ShowRouteRequest { route };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.show_route(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.ShowRouteResponse", || render::route::shown(&answer))?;
    Ok(if answer.points { Exit::Ok } else { Exit::Refused })
}

async fn adopt(app: &App, route: String) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = AdoptRouteRequest { route };
    let answer = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.recovery();
            async move { client.adopt_route(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.AdoptRouteResponse", || render::route::changed(&answer.before, &answer.standing))?;
    Ok(Exit::Ok)
}

async fn point(app: &App, route: String) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = PointRouteRequest { route };
    let answer = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.recovery();
            async move { client.point_route(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.PointRouteResponse", || render::route::changed(&answer.before, &answer.standing))?;
    Ok(Exit::Ok)
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
