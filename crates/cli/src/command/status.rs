//! `muster status`: the one page, once or kept fresh.

use std::time::{Duration, Instant};

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_service::clock;
use muster_wire::proto::v1::{ComponentStatus, StatusPage, StatusServiceGetRequest, StatusServiceWatchRequest};
use muster_wire::{convert, status};
use rand::RngExt;

use crate::arguments::App;
use crate::console::Output;
use crate::controller::{Controller, Patience, Repeat};
use crate::exit::Exit;
use crate::{last_page, render};

/// A controller that cannot be reached is tried for so long where its last page can be shown.
const HURRY: Duration = Duration::from_secs(3);

/// The arguments of `muster status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster status\n  muster status orders-db --watch\n  muster status -o json | jq '.components[].writer'"
)]
pub struct Arguments {
    /// Only this component.
    component: Option<String>,
    /// Keep the page fresh until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

/// Shows the page.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let component = arguments.component.unwrap_or_default();
    if arguments.watch {
        return watch(app, &controller, component).await;
    }
    let kept = last_page::place(&controller.context, |name| std::env::var_os(name));
    let last = kept.as_deref().filter(|_| app.console.output == Output::Text).and_then(last_page::read);
    // Whoever has the last page need not wait long for a controller that is gone.
    let controller = if last.is_some() { controller.tried_for(HURRY) } else { controller };
    let page = match (page(&controller, &component).await, last) {
        (Err(fault), Some(last)) if fault.kind == ErrorKind::Unavailable => {
            app.console.data(&render::status::last(&last.page, &component, &controller.place, last.at, clock::now()))?;
            return Err(fault);
        }
        (page, _) => page?,
    };
    if let Some(kept) = kept.filter(|_| component.is_empty())
        && let Err(error) = last_page::keep(&kept, &page, clock::now())
    {
        tracing::debug!(error, "the page is not kept for when the controller is gone");
    }
    show(app, &controller, &page)?;
    Ok(Exit::Ok)
}

fn show(app: &App, controller: &Controller, page: &StatusPage) -> Result<(), Fault> {
    app.console.show(page, "muster.v1.StatusPage", || render::status::page(page, &controller.place, clock::now()))
}

/// The page, of one component or (empty) of all.
///
/// # Errors
/// Where the controller cannot be reached or knows no such component.
pub async fn page(controller: &Controller, component: &str) -> Result<StatusPage, Fault> {
    let request = StatusServiceGetRequest { component: component.to_owned() };
    let answer = controller
        .call(Repeat::Read, &request, |request| {
            let mut client = controller.status();
            async move { client.get(request).await }
        })
        .await?;
    convert::required(answer.page, "page")
}

/// What the controller knows of one component.
///
/// # Errors
/// Where the controller cannot be reached or knows no such component.
pub async fn component(controller: &Controller, name: &str) -> Result<ComponentStatus, Fault> {
    let page = page(controller, name).await?;
    let found = page.components.into_iter().find(|component| component.name == name);
    found.ok_or_else(|| {
        Fault::refused(ErrorKind::NotFound, format!("there is no component {name:?}")).hint("`muster get component` lists them")
    })
}

async fn watch(app: &App, controller: &Controller, component: String) -> Result<Exit, Fault> {
    let mut patience = Patience::new(std::time::Duration::from_secs(600), Instant::now());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let shown = tokio::select! {
            shown = once(app, controller, &component, &mut patience) => shown,
            _ = &mut interrupt => return Ok(Exit::Ok),
        };
        let fault = match shown {
            Ok(()) => Fault::refused(ErrorKind::Unavailable, "the controller ended the stream"),
            Err(fault) if fault.kind == ErrorKind::Unavailable => fault,
            Err(fault) => return Err(fault),
        };
        let Some((wait, left)) = patience.next(Instant::now(), rand::rng().random()) else {
            return Err(controller.explained(fault));
        };
        controller.unreachable(&fault, left);
        tokio::time::sleep(wait).await;
    }
}

async fn once(app: &App, controller: &Controller, component: &str, patience: &mut Patience) -> Result<(), Fault> {
    let request = StatusServiceWatchRequest { component: component.to_owned() };
    let mut stream = controller.status().watch(request).await.map_err(|status| status::fault(&status))?.into_inner();
    while let Some(answer) = stream.message().await.map_err(|status| status::fault(&status))? {
        *patience = Patience::new(std::time::Duration::from_secs(600), Instant::now());
        if let Some(page) = answer.page {
            if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                // Home, and erase what follows (ECMA-48 CUP and ED).
                app.console.data("\x1b[H\x1b[2J")?;
            }
            show(app, controller, &page)?;
        }
    }
    Ok(())
}
