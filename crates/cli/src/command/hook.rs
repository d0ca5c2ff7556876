//! `muster hook`: programs that agents' own files declare.

use clap::{Args, Subcommand};
use muster_common::fault::Fault;
use muster_wire::proto::v1::RunHookRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster hook`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: HookCommand,
}

#[derive(Debug, Subcommand)]
enum HookCommand {
    /// Runs a hook by itself, on an agent's machine: a migration, an application that is scaled down.
    Run(Run),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster hook run scale-down --on istanbul-db1\n  muster hook run migrate --component orders-db --instance istanbul\n\nWhat the hook is stands in the agent's configuration file, under `hooks:`. `muster logs OP` has all that it said."
)]
struct Run {
    /// The hook's name.
    hook: String,
    /// The agent. Default: the one that keeps the instance.
    #[arg(long, value_name = "AGENT", required_unless_present = "component")]
    on: Option<String>,
    /// The component that it is run for. Default: the only one that the agent keeps an instance of.
    #[arg(short, long, value_name = "NAME")]
    component: Option<String>,
    /// The instance that it is run for. Default: the only one that the agent keeps.
    #[arg(short, long, value_name = "NAME", requires = "component")]
    instance: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Runs it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let HookCommand::Run(run) = arguments.command;
    let controller = app.controller()?;
    let request = RunHookRequest {
        hook: run.hook,
        agent: run.on.unwrap_or_default(),
        component: run.component.unwrap_or_default(),
        instance: run.instance.unwrap_or_default(),
        request_id: run.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.run_hook(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, run.asking.no_wait).await
}
