//! `muster ca`: the CA that everybody's certificate is of, and its replacement by a new one.

use clap::{Args, Subcommand};
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::{
    GetAuthoritiesRequest, GetAuthoritiesResponse, RetireAuthorityRequest, RetireAuthorityResponse, RotateAuthorityRequest,
    RotateAuthorityResponse,
};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The arguments of `muster ca`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Which CAs are trusted, and who still needs the old one.
    #[command(after_help = "Examples:\n  muster ca status")]
    Status,
    /// Makes a new CA, which signs from now on. The old one stays trusted until it is retired.
    #[command(after_help = "Examples:\n  muster ca rotate")]
    Rotate {
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Retires the old CA: what it signed counts no longer. Refused while anybody still needs it.
    #[command(after_help = "Examples:\n  muster ca retire\n  muster ca retire --force agent/istanbul-db1 --force operator/ada")]
    Retire {
        /// Lock this agent or operator out with it, as `muster ca status` names it; may be repeated.
        #[arg(long, value_name = "NAME")]
        force: Vec<String>,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Shows, rotates or retires.
///
/// # Errors
/// Where the caller may not, consent is not given, or somebody still needs the old CA.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    match arguments.action {
        Action::Status => {
            let answer = get(&controller).await?;
            app.console.show(&answer, "muster.v1.GetAuthoritiesResponse", || render::authority::authorities(&answer, clock::now()))?;
            Ok(Exit::Ok)
        }
        Action::Rotate { yes } => rotate(app, &controller, yes).await,
        Action::Retire { force, yes } => retire(app, &controller, force, yes).await,
    }
}

async fn get(controller: &Controller) -> Result<GetAuthoritiesResponse, Fault> {
    controller
        .call(Repeat::Read, &GetAuthoritiesRequest {}, |request| {
            let mut client = controller.fleet();
            async move { client.get_authorities(request).await }
        })
        .await
}

async fn rotate(app: &App, controller: &Controller, yes: bool) -> Result<Exit, Fault> {
    let lost = "A new CA will be made. Agents take it and renew their certificates by themselves; each operator types `muster context renew`; \
                then `muster ca retire` ends the old one. Nothing stops meanwhile.\n";
    app.console.consent(lost, "rotate", yes).await?;
    let answer: RotateAuthorityResponse = controller
        .call(Repeat::IfNotSent, &RotateAuthorityRequest {}, |request| {
            let mut client = controller.fleet();
            async move { client.rotate_authority(request).await }
        })
        .await?;
    let shown = GetAuthoritiesResponse { authorities: answer.authorities.clone(), ..GetAuthoritiesResponse::default() };
    app.console.show(&answer, "muster.v1.RotateAuthorityResponse", || render::authority::authorities(&shown, clock::now()))?;
    app.console
        .note("next: `muster context renew` here and at each operator; `muster ca status` until nobody is waited for; `muster ca retire`");
    Ok(Exit::Ok)
}

async fn retire(app: &App, controller: &Controller, force: Vec<String>, yes: bool) -> Result<Exit, Fault> {
    let out = if force.is_empty() { String::new() } else { format!(" Locked out with it: {}.", force.join(", ")) };
    let lost = format!(
        "The old CA will be retired: certificates of it are refused, join tokens that were not used end, and a backup of the controller from \
         before the rotation brings no agent back.{out}\n"
    );
    app.console.consent(&lost, "retire", yes).await?;
    let request = RetireAuthorityRequest { without: force };
    let answer: RetireAuthorityResponse = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.fleet();
            async move { client.retire_authority(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.RetireAuthorityResponse", || render::authority::retired(&answer))?;
    app.console.note(
        "next: each operator types `muster context renew` once more and trusts the new CA alone; new join tokens for agents that have not joined yet",
    );
    Ok(Exit::Ok)
}
