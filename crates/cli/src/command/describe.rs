//! `muster describe`: all about one declared thing.

use clap::Args;
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::ResourceKind;
use muster_wire::yaml;

use super::{get, ops, points, schedules, status};
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;
use crate::render;

/// The arguments of `muster describe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster describe component orders-db\n  muster describe repository primary")]
pub struct Arguments {
    /// site, repository, component or schedule.
    kind: String,
    /// The name.
    name: String,
}

/// Shows it.
///
/// # Errors
/// Where there is none of that kind and name.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let kind = yaml::kind_from_name(&arguments.kind)?;
    let controller = app.controller()?;
    let resource = get::one(&controller, kind, &arguments.name).await?;
    if app.console.output != Output::Text {
        app.console.show(&resource, "muster.v1.Resource", String::new)?;
        return Ok(Exit::Ok);
    }
    let now = clock::now();
    let mut text = render::resource::whole(&resource, now)?;
    if kind == ResourceKind::Schedule {
        let runs = schedules::all(&controller, &resource.name, "").await?;
        text.push_str(&format!("\nRuns:\n{}", render::schedule::list(&runs.schedules, now)));
    }
    if kind == ResourceKind::Component {
        let component = status::component(&controller, &resource.name).await?;
        text.push_str(&format!("\nNow:\n{}", render::status::one(&component, now)));
        let runs = schedules::all(&controller, "", &resource.name).await?;
        text.push_str(&format!("\nSchedules:\n{}", render::schedule::list(&runs.schedules, now)));
        let points = points::page(&controller, &resource.name, 5, String::new()).await?;
        text.push_str(&format!("\nNewest points:\n{}", render::points::list(&resource.name, &points.points, now)));
        let operations =
            ops::page(&controller, ops::Filter { component: resource.name.clone(), ..ops::Filter::default() }, 10, String::new()).await?;
        text.push_str(&format!("\nNewest operations:\n{}", render::operation::list(&operations.operations, now)));
    }
    app.console.data(&text)?;
    Ok(Exit::Ok)
}
