//! `muster delete`: a declared thing is no longer looked after.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::{InventoryServiceDeleteRequest, Resource, ResourceKind};
use muster_wire::yaml::{self, kind_name};

use super::get;
use crate::arguments::App;
use crate::controller::{Repeat, request_id};
use crate::exit::Exit;

/// The arguments of `muster delete`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster delete component orders-db\n  muster delete site ankara --yes")]
pub struct Arguments {
    /// site, repository, component or schedule.
    kind: String,
    /// The name.
    name: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Removes it, after consent.
///
/// # Errors
/// Where consent is not given, it is in use, or there is none.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let kind = yaml::kind_from_name(&arguments.kind)?;
    let controller = app.controller()?;
    let resource = get::one(&controller, kind, &arguments.name).await?;
    app.console.consent(&lost(kind, &resource), &resource.name, arguments.yes).await?;
    let request =
        InventoryServiceDeleteRequest { kind: kind.into(), name: resource.name.clone(), etag: resource.etag, request_id: request_id(None) };
    controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.inventory();
            async move { client.delete(request).await }
        })
        .await?;
    app.console.note(&format!("{} {} is deleted", kind_name(kind), resource.name));
    Ok(Exit::Ok)
}

/// What deleting it means.
fn lost(kind: ResourceKind, resource: &Resource) -> String {
    let consequence = match kind {
        ResourceKind::Component => {
            "no longer observed, backed up or restored by Muster. Its databases go on; its recovery points stay in their repository \
             (`muster repo list` finds them), under an id that a new component of this name does not get"
        }
        ResourceKind::Repository => "no longer used. What is in it stays as it is",
        ResourceKind::Route => "no longer moved with the writer. It stays in the DNS as it is",
        ResourceKind::Schedule => "no longer run. What it has begun goes on, and its recovery points stay",
        ResourceKind::Site | ResourceKind::Unspecified => "no longer known",
    };
    format!("{} {} (id {}) will be {consequence}.\n", kind_name(kind), resource.name, resource.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deleting_means_is_told_for_each_kind() {
        let resource = Resource { name: "orders-db".into(), id: "00".into(), ..Resource::default() };
        let texts = [ResourceKind::Component, ResourceKind::Repository, ResourceKind::Site].map(|kind| lost(kind, &resource));
        assert!(
            texts[0].starts_with("Component orders-db (id 00) will be no longer observed, backed up or restored by Muster."),
            "{}",
            texts[0]
        );
        assert_eq!(texts[1], "Repository orders-db (id 00) will be no longer used. What is in it stays as it is.\n");
        assert_eq!(texts[2], "Site orders-db (id 00) will be no longer known.\n");
    }
}
