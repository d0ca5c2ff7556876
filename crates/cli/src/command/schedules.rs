//! `muster schedules`: what is done by itself: when it ran last, when it runs next, and why not.

use clap::Args;
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::{ListSchedulesRequest, ListSchedulesResponse};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most rows that are listed.
const MOST: usize = 10_000;

/// The arguments of `muster schedules`.
#[derive(Debug, Args)]
#[command(
    after_help = "Schedules are declared: `muster apply -f FILE`, kind Schedule.\n\nExamples:\n  muster schedules\n  muster schedules nightly\n  muster schedules --component orders-db"
)]
pub struct Arguments {
    /// Only this schedule.
    schedule: Option<String>,
    /// Only for this component.
    #[arg(short, long, value_name = "NAME")]
    component: Option<String>,
}

/// Lists them.
///
/// # Errors
/// Where there is no such schedule or component.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let schedule = arguments.schedule.unwrap_or_default();
    let answer = all(&controller, &schedule, &arguments.component.unwrap_or_default()).await?;
    app.console.show(&answer, "muster.v1.ListSchedulesResponse", || render::schedule::list(&answer.schedules, clock::now()))?;
    Ok(Exit::Ok)
}

/// All of a schedule and a component; empty: of all.
///
/// # Errors
/// Where there is no such schedule or component.
pub async fn all(controller: &Controller, schedule: &str, component: &str) -> Result<ListSchedulesResponse, Fault> {
    let mut all = ListSchedulesResponse::default();
    let mut page_token = String::new();
    loop {
        let request = ListSchedulesRequest { schedule: schedule.to_owned(), component: component.to_owned(), page_size: 1_000, page_token };
        let answer = controller
            .call(Repeat::Read, &request, |request| {
                let mut client = controller.inventory();
                async move { client.list_schedules(request).await }
            })
            .await?;
        all.schedules.extend(answer.schedules);
        if answer.next_page_token.is_empty() || all.schedules.len() >= MOST {
            return Ok(all);
        }
        page_token = answer.next_page_token;
    }
}
