//! `muster switchover`: the writer changes, planned: nothing is lost, or it goes back.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::{SwitchoverRequest, SwitchoverSiteRequest};

use super::sites::Whole;
use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster switchover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster preflight orders-db --to ankara     # what it needs, without doing anything\n  muster switchover orders-db --to ankara\n  muster switchover --site istanbul          # every component that writes there"
)]
pub struct Arguments {
    /// The component.
    #[arg(required_unless_present = "site")]
    component: Option<String>,
    /// The next writer.
    #[arg(long, value_name = "INSTANCE", required_unless_present = "site")]
    to: Option<String>,
    #[command(flatten)]
    whole: Whole,
    /// How long the stopped writer waits before it asks to come back. Default: 5m.
    #[arg(long, value_name = "DURATION", value_parser = muster_common::duration::parse)]
    stop_limit: Option<std::time::Duration>,
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
    let (component, to) = (arguments.component.unwrap_or_default(), arguments.to.unwrap_or_default());
    let controller = app.controller()?;
    let lost = format!(
        "SWITCHOVER of {component}: its writer is stopped and {to} takes writes. Clients are cut off for the time between. Nothing is lost: where that cannot be had it goes back.\n"
    );
    app.console.consent(&lost, &component, arguments.yes).await?;
    let request = SwitchoverRequest {
        component,
        to,
        stop_limit: arguments.stop_limit.map(convert::duration_to_proto),
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.switchover(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}

/// The same with every component of a site.
async fn leave(app: &App, site: &str, arguments: &Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let lost = format!(
        "SWITCHOVER of everything that writes at {site}: each writer is stopped and another site takes writes. Clients are cut off for the time between. Nothing is lost: what cannot be moved goes back.\n"
    );
    app.console.consent(&lost, site, arguments.yes).await?;
    let request = SwitchoverSiteRequest {
        site: site.to_owned(),
        to_site: arguments.whole.to_site(),
        stop_limit: arguments.stop_limit.map(convert::duration_to_proto),
        on_failure: arguments.whole.on_failure().into(),
        at_once: arguments.whole.at_once(),
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.recovery();
            async move { client.switchover_site(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}
