//! `muster points`: what a component can be brought back to.

use clap::Args;
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::{ListPointsRequest, ListPointsResponse};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most points that `--all` lists.
const MOST: usize = 10_000;

/// The arguments of `muster points`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster points orders-db\n  muster points orders-db --all -o json | jq -r '.points[].id'")]
pub struct Arguments {
    /// The component.
    component: String,
    /// All, up to 10,000. Default: the newest 50.
    #[arg(long)]
    all: bool,
}

/// Lists them.
///
/// # Errors
/// Where there is no such component.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let mut answer = page(&controller, &arguments.component, if arguments.all { 500 } else { 50 }, String::new()).await?;
    while arguments.all && !answer.next_page_token.is_empty() && answer.points.len() < MOST {
        let more = page(&controller, &arguments.component, 500, answer.next_page_token).await?;
        answer.points.extend(more.points);
        answer.next_page_token = more.next_page_token;
    }
    app.console
        .show(&answer, "muster.v1.ListPointsResponse", || render::points::list(&arguments.component, &answer.points, clock::now()))?;
    if !answer.next_page_token.is_empty() {
        app.console.note("there are older ones: --all lists them");
    }
    Ok(Exit::Ok)
}

/// One page of points.
///
/// # Errors
/// Where there is no such component.
pub async fn page(controller: &Controller, component: &str, page_size: u32, page_token: String) -> Result<ListPointsResponse, Fault> {
    let request = ListPointsRequest { component: component.to_owned(), page_size, page_token };
    controller
        .call(Repeat::Read, &request, |request| {
            let mut client = controller.repository();
            async move { client.list_points(request).await }
        })
        .await
}
