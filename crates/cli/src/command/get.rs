//! `muster get`: what is declared.

use clap::Args;
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::{
    InventoryServiceGetRequest, InventoryServiceListRequest, InventoryServiceListResponse, Resource, ResourceKind,
};
use muster_wire::{convert, yaml};

use super::schedules;
use crate::arguments::App;
use crate::console::Output;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most resources that are listed.
const MOST: usize = 10_000;

/// The arguments of `muster get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster get\n  muster get component\n  muster get component orders-db -o yaml > orders-db.yaml\n  muster get -o json | jq -r '.resources[].name'"
)]
pub struct Arguments {
    /// site, repository, component or schedule. Default: all.
    kind: Option<String>,
    /// The name.
    name: Option<String>,
}

/// Shows one or lists many.
///
/// # Errors
/// Where there is none of that kind and name.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let kind = arguments.kind.as_deref().map(yaml::kind_from_name).transpose()?.unwrap_or(ResourceKind::Unspecified);
    let controller = app.controller()?;
    let (resources, single) = match &arguments.name {
        Some(name) => (vec![one(&controller, kind, name).await?], true),
        None => (all(&controller, kind).await?, false),
    };
    match (app.console.output, resources.first().filter(|_| single)) {
        (Output::Yaml, _) | (Output::Text, Some(_)) => app.console.data(&render::resource::documents(&resources)?)?,
        (Output::Json, Some(resource)) => app.console.show(resource, "muster.v1.Resource", String::new)?,
        (Output::Text, None) if kind == ResourceKind::Schedule => {
            let schedules = schedules::all(&controller, "", "").await?;
            app.console.data(&render::schedule::list(&schedules.schedules, clock::now()))?;
        }
        (Output::Text | Output::Json, None) => {
            let answer = InventoryServiceListResponse { resources, next_page_token: String::new() };
            app.console
                .show(&answer, "muster.v1.InventoryServiceListResponse", || render::resource::list(&answer.resources, clock::now()))?;
        }
    }
    Ok(Exit::Ok)
}

/// One resource.
///
/// # Errors
/// Where there is none of that kind and name.
pub async fn one(controller: &Controller, kind: ResourceKind, name: &str) -> Result<Resource, Fault> {
    let request = InventoryServiceGetRequest { kind: kind.into(), name: name.to_owned() };
    let answer = controller
        .call(Repeat::Read, &request, |request| {
            let mut client = controller.inventory();
            async move { client.get(request).await }
        })
        .await?;
    convert::required(answer.resource, "resource")
}

/// All that is declared.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn everything(controller: &Controller) -> Result<Vec<Resource>, Fault> {
    all(controller, ResourceKind::Unspecified).await
}

async fn all(controller: &Controller, kind: ResourceKind) -> Result<Vec<Resource>, Fault> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = InventoryServiceListRequest { kind: kind.into(), page_size: 1_000, page_token };
        let answer = controller
            .call(Repeat::Read, &request, |request| {
                let mut client = controller.inventory();
                async move { client.list(request).await }
            })
            .await?;
        all.extend(answer.resources);
        if answer.next_page_token.is_empty() || all.len() >= MOST {
            return Ok(all);
        }
        page_token = answer.next_page_token;
    }
}
