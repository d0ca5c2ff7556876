//! `muster agents`: who stands beside the databases.

use clap::{Args, Subcommand};
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::{AgentStatus, ListAgentsRequest, ListAgentsResponse, RevokeAgentRequest};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most agents that are listed.
const MOST: usize = 10_000;

/// The arguments of `muster agents`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster agents\n  muster agents revoke istanbul-db1 --reason \"the machine was stolen\"",
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    /// What to do. Default: list them.
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Revokes an agent's certificates at once, also on a live session.
    #[command(after_help = "Examples:\n  muster agents revoke istanbul-db1 --reason \"the machine was stolen\"")]
    Revoke {
        /// The agent.
        agent: String,
        /// Why, for the record.
        #[arg(short, long, value_name = "TEXT")]
        reason: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Lists them, or revokes one.
///
/// # Errors
/// Where consent is not given, or there is no such agent.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    match arguments.action {
        None => {
            let answer = ListAgentsResponse { agents: all(&controller).await?, next_page_token: String::new() };
            app.console.show(&answer, "muster.v1.ListAgentsResponse", || list(&answer.agents))?;
            Ok(Exit::Ok)
        }
        Some(Action::Revoke { agent, reason, yes }) => revoke(app, &controller, agent, reason, yes).await,
    }
}

fn list(agents: &[AgentStatus]) -> String {
    if agents.is_empty() {
        return "no agents\nHINT: `muster token create --site SITE --agent NAME` lets one join\n".to_owned();
    }
    render::agents::agents(agents, clock::now(), "")
}

/// All agents.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn all(controller: &Controller) -> Result<Vec<AgentStatus>, Fault> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAgentsRequest { page_size: 1_000, page_token };
        let answer = controller
            .call(Repeat::Read, &request, |request| {
                let mut client = controller.fleet();
                async move { client.list_agents(request).await }
            })
            .await?;
        all.extend(answer.agents);
        if answer.next_page_token.is_empty() || all.len() >= MOST {
            return Ok(all);
        }
        page_token = answer.next_page_token;
    }
}

async fn revoke(app: &App, controller: &Controller, agent: String, reason: String, yes: bool) -> Result<Exit, Fault> {
    let lost = format!(
        "Agent {agent} will be cut off at once: it backs up, restores and observes nothing more until it joins anew with a token. \
         Its databases go on.\n"
    );
    app.console.consent(&lost, &agent, yes).await?;
    let request = RevokeAgentRequest { agent, reason };
    controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.fleet();
            async move { client.revoke_agent(request).await }
        })
        .await?;
    app.console.note(&format!(
        "agent {} is revoked. It could read the recovery points of its components: a new data key for them is `muster repo grant`.\n\
         To let a machine of this name join again: remove the agent's identity folder there, then `muster token create`",
        request.agent
    ));
    Ok(Exit::Ok)
}
