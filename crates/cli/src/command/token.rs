//! `muster token`: what an agent joins with.

use std::time::Duration;

use clap::{Args, Subcommand};
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::convert;
use muster_wire::proto::v1::{CreateJoinTokenRequest, CreateJoinTokenResponse};

use crate::arguments::App;
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::render::amount::age;

/// The arguments of `muster token`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a token with which one agent joins once. It is printed alone, and shown this once.
    #[command(
        after_help = "Examples:\n  muster token create --site istanbul --agent istanbul-db1 > token\n  muster token create --site istanbul --agent istanbul-db1 --for 10m | ssh db1 'umask 077; cat > /etc/muster/token'"
    )]
    Create {
        /// The agent's site, which must be declared.
        #[arg(long, value_name = "NAME")]
        site: String,
        /// The agent's name.
        #[arg(long, value_name = "NAME")]
        agent: String,
        /// How long it is good, up to 7d. Default: 1h.
        #[arg(long = "for", value_name = "DURATION", value_parser = muster_common::duration::parse)]
        lasts: Option<Duration>,
    },
}

/// Makes the token.
///
/// # Errors
/// Where the site is not declared, or the caller may not.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let Action::Create { site, agent, lasts } = arguments.action;
    let controller = app.controller()?;
    let request = CreateJoinTokenRequest { site, agent, ttl: lasts.map(convert::duration_to_proto) };
    // A token that was made and whose reply was lost hurts nobody: nobody knows it, and it runs out.
    let answer: CreateJoinTokenResponse = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.fleet();
            async move { client.create_join_token(request).await }
        })
        .await?;
    app.console.show(&answer, "muster.v1.CreateJoinTokenResponse", || format!("{}\n", answer.token))?;
    app.console.note(&format!(
        "the token is good once, until {}. Put it into a file that only the agent reads, and name it in agent.yaml: `tokenFile: FILE`",
        age(answer.expires_at.as_ref(), clock::now())
    ));
    Ok(Exit::Ok)
}
