//! `muster failover`: the writer changes because the old one is gone. What is lost at most is told before, and approved by its number.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::{FailoverRequest, FailoverSiteRequest, LossBound, MachineWord};

use super::moves;
use super::sites::{self, Whole};
use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster failover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster failover orders-db                                  # whoever loses least; it tells what it waits for\n  muster failover orders-db --to ankara --word istanbul=off --accept-loss unknown\n  muster failover --site istanbul --word istanbul=off --accept-loss unknown\n\nA word is a statement about the machine, not about the database: a database that is down may be started again."
)]
pub struct Arguments {
    /// The component.
    #[arg(required_unless_present = "site")]
    component: Option<String>,
    /// The next writer. Default: whoever loses least.
    #[arg(long, value_name = "INSTANCE")]
    to: Option<String>,
    #[command(flatten)]
    whole: Whole,
    /// What you state of a machine that does not answer: INSTANCE=off, or INSTANCE=fenced where `muster-agent fence` was run on it. With
    /// `--site`: SITE=off, of all machines there.
    #[arg(long, value_name = "INSTANCE=STATE", value_parser = moves::word)]
    word: Vec<MachineWord>,
    /// What may be lost at most, in bytes of log; `unknown` approves a loss without a known bound. Default: nothing.
    #[arg(long, value_name = "BYTES", value_parser = moves::ceiling)]
    accept_loss: Option<LossBound>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    if let Some(site) = &arguments.whole.site {
        return leave(app, site, &arguments).await;
    }
    let component = arguments.component.unwrap_or_default();
    let controller = app.controller()?;
    let lost = format!(
        "FAILOVER of {component}: the old writer is stopped where it can be reached, and never writes again until it rejoined.\n{}",
        moves::stated(&arguments.word, arguments.accept_loss.as_ref())
    );
    app.console.consent(&lost, &component, arguments.yes).await?;
    let request = FailoverRequest {
        component,
        to: arguments.to.unwrap_or_default(),
        words: arguments.word,
        accept_loss: arguments.accept_loss,
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.failover(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}

/// The same with every component of a site.
async fn leave(app: &App, site: &str, arguments: &Arguments) -> Result<Exit, Fault> {
    let states = sites::stated(site, &arguments.word)?;
    let controller = app.controller()?;
    let lost = format!(
        "FAILOVER of everything that writes at {site}: old writers are stopped where they can be reached, and never write again until they rejoined.\n{}",
        moves::stated(&arguments.word, arguments.accept_loss.as_ref())
    );
    app.console.consent(&lost, site, arguments.yes).await?;
    let request = FailoverSiteRequest {
        site: site.to_owned(),
        to_site: arguments.whole.to_site(),
        states: states.into(),
        accept_loss: arguments.accept_loss,
        on_failure: arguments.whole.on_failure().into(),
        at_once: arguments.whole.at_once(),
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.failover_site(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
