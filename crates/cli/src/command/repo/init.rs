//! `muster repo init`: makes a repository.

use std::time::Duration;

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_repository::error::Error;
use muster_repository::keys::KdfCost;
use muster_repository::repository::Repository;
use muster_wire::proto::v1::Resource;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::yaml;

use super::Passphrase;
use crate::arguments::App;
use crate::console::Output;
use crate::exit::Exit;
use crate::place::{self, Place};

/// The arguments of `muster repo init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster repo init --folder /srv/muster --passphrase-file passphrase > primary.yaml && muster apply -f primary.yaml\n  muster repo init --bucket muster --endpoint https://s3.local:9000 --path-style --passphrase-file passphrase > primary.yaml"
)]
pub struct Arguments {
    /// What the document calls it.
    #[arg(default_value = "primary", value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    passphrase: Passphrase,
    /// How long what a prune marked stays at least, for ever: longer than the longest backup. Default: 48h.
    #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = muster_common::duration::parse)]
    grace: Duration,
}

/// Makes it, tries out what the store can do, prints the document.
///
/// # Errors
/// Where there is one already, the store cannot be reached, or the passphrase is too short.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    if arguments.place.file.is_some() {
        return Err(Fault::refused(ErrorKind::InvalidArgument, "a repository that is to be made has no document yet")
            .hint("give --folder or --bucket"));
    }
    let found = arguments.place.required()?;
    let passphrase = place::passphrase(&arguments.passphrase.passphrase_file)?;
    place::check_new(&passphrase)?;
    let pin = Repository::init_with_grace(&found.location, &passphrase, KdfCost::STANDARD, arguments.grace).await;
    let pin = pin.map_err(|error| refused(&error))?;
    let repository = Repository::open(&found.location, pin).await.map_err(|error| error.fault())?;
    let report = repository.probe().await.map_err(|error| error.fault())?;
    for weak in &report.weak {
        app.console.note(&format!("the store: {weak}"));
    }
    if !report.missing.is_empty() {
        let fault = Fault::failed(ErrorKind::FailedPrecondition, "the store cannot do what backups need")
            .hint("use another store, or another place");
        return Err(report.missing.iter().fold(fault, |fault, missing| fault.evidence(missing.clone())));
    }
    let spec = Spec::Repository(arguments.place.spec(&pin)?);
    let resource = Resource { name: arguments.name.to_string(), spec: Some(spec), ..Resource::default() };
    match app.console.output {
        Output::Text | Output::Yaml => app.console.data(&yaml::to_yaml(&resource)?)?,
        Output::Json => app.console.show(&resource, "muster.v1.Resource", String::new)?,
    }
    app.console.note(
        "made. Keep this document and the passphrase apart from the repository, where they outlive it and its machines: \
         with both, any machine restores without a controller. Without the passphrase and without agents nobody does.\n\
         Next: `muster apply -f FILE`, then `muster repo grant COMPONENT --passphrase-file FILE`",
    );
    Ok(Exit::Ok)
}

/// Where there is one already nothing was changed; what else fails may have left a key object behind, which nothing reads.
fn refused(error: &Error) -> Fault {
    if matches!(error, Error::RepositoryExists { .. }) { place::unread(error) } else { error.fault() }
}
