//! `muster history`: operations, findings and changes of roles, newest first.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::{ListHistoryRequest, ListHistoryResponse};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most entries that `--all` lists.
const MOST: usize = 10_000;

/// The arguments of `muster history`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster history\n  muster history orders-db --limit 200\n  muster history --all -o json > history.json"
)]
pub struct Arguments {
    /// Only of this component.
    component: Option<String>,
    /// How many, the newest first.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// All, up to 10,000.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Shows it.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let most = if arguments.all { MOST } else { arguments.limit.clamp(1, MOST) };
    let answer = up_to(&controller, &arguments.component.unwrap_or_default(), most).await?;
    app.console.show(&answer, "muster.v1.ListHistoryResponse", || render::findings::history(&answer.entries))?;
    if !answer.next_page_token.is_empty() {
        app.console.note("there is more: --limit and --all list it");
    }
    Ok(Exit::Ok)
}

/// The newest entries, `most` at most.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn up_to(controller: &Controller, component: &str, most: usize) -> Result<ListHistoryResponse, Fault> {
    let mut all = ListHistoryResponse::default();
    loop {
        let left = most.saturating_sub(all.entries.len()).min(500);
        let request = ListHistoryRequest {
            component: component.to_owned(),
            page_size: u32::try_from(left).unwrap_or(500),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = controller
            .call(Repeat::Read, &request, |request| {
                let mut client = controller.status();
                async move { client.list_history(request).await }
            })
            .await?;
        all.entries.extend(page.entries);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.entries.len() >= most {
            return Ok(all);
        }
    }
}
