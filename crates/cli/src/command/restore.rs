//! `muster restore`: brings a recovery point back, beside what runs or in its place.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_service::clock;
use muster_wire::convert;
use muster_wire::proto::v1::{BesideTarget, ComponentStatus, DatabaseTarget, Operation, RestoreRequest, restore_request};

use super::{points, status};
use crate::arguments::{App, Asking};
use crate::controller::{Controller, Repeat, request_id};
use crate::exit::{Exit, has_ended};
use crate::follow::{self, Followed, fault_with_id};
use crate::render;

const EXAMPLES: &str = "\
Examples:
  muster restore orders-db --instance istanbul --in-place --dry-run    # what it would do
  muster restore orders-db --instance istanbul --in-place              # the newest point; asks first
  muster restore orders-db --point 9c1e0a12 --beside /srv/look --port 5499
  muster restore orders-db --instance ankara                           # into its empty data directory";

/// The arguments of `muster restore`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The instance whose agent does it. May be left out where the component has one.
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,
    /// The point: its id, or the first 6 or more digits. Default: the newest.
    #[arg(short, long, value_name = "ID")]
    point: Option<String>,
    /// Into the instance's own place; what is there is kept aside. Default: into its own place, which must be empty.
    #[arg(long)]
    in_place: bool,
    /// Into another folder on the same machine, which must be empty or absent.
    #[arg(long, value_name = "FOLDER", conflicts_with = "in_place")]
    beside: Option<PathBuf>,
    /// With --beside: start the restored server on this TCP port. Default: it is left stopped.
    #[arg(long, value_name = "PORT", requires = "beside", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    port: Option<u32>,
    /// Of a logical point: into a new database of this name on the running server.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["in_place", "beside"], requires = "point")]
    into_database: Option<String>,
    /// With --into-database: which database of the point. May be left out where it has one.
    #[arg(long, value_name = "NAME", requires = "into_database")]
    from_database: Option<String>,
    /// Only tell what it would do.
    #[arg(long)]
    dry_run: bool,
    /// With --in-place: do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Where a tablespace goes. May be given several times. Default: where it stood, else `<data>.tablespace-<oid>`.
    #[arg(long = "tablespace", value_name = "OID=FOLDER", value_parser = tablespace)]
    tablespaces: Vec<(u32, String)>,
    /// With --in-place: how long the old directory is kept. Default: 24h.
    #[arg(long, value_name = "DURATION", requires = "in_place", value_parser = muster_common::duration::parse)]
    keep_old: Option<Duration>,
    /// Leave the restored server stopped.
    #[arg(long)]
    no_start: bool,
    /// Fail when nothing moved for so long. Default: 15m.
    #[arg(long, value_name = "DURATION", value_parser = muster_common::duration::parse)]
    stall_limit: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

/// Asks where something is replaced, starts it, follows it.
///
/// # Errors
/// Where consent is not given, it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let component = status::component(&controller, &arguments.component).await?;
    let instance = chosen(&component, arguments.instance.as_deref())?;
    let mut request = request(&arguments, &instance);
    if arguments.in_place && !arguments.dry_run {
        let point = point_line(&controller, &arguments).await?;
        let lost = render::loss::in_place(&component, &instance, &point, arguments.keep_old, clock::now());
        if std::io::stdin().is_terminal() && !arguments.yes {
            // Who can be asked sees the plan first, and every refusal before the question.
            let consent = arguments.component.clone();
            let plan = RestoreRequest { dry_run: true, consent, request_id: request_id(None), ..request.clone() };
            if let Some(refused) = planned(app, &controller, plan).await? {
                return Ok(refused);
            }
        }
        app.console.consent(&lost, &arguments.component, arguments.yes).await?;
        request.consent.clone_from(&arguments.component);
    }
    let operation = start(&controller, &request).await?;
    follow::to_the_end(&controller, &app.console, operation, arguments.asking.no_wait).await
}

fn request(arguments: &Arguments, instance: &str) -> RestoreRequest {
    let target = match (&arguments.beside, arguments.in_place) {
        _ if arguments.into_database.is_some() => restore_request::Target::Database(DatabaseTarget {
            name: arguments.into_database.clone().unwrap_or_default(),
            from: arguments.from_database.clone().unwrap_or_default(),
        }),
        (Some(folder), _) => restore_request::Target::Beside(BesideTarget {
            directory: folder.display().to_string(),
            port: arguments.port.unwrap_or_default(),
        }),
        (None, true) => restore_request::Target::InPlace(()),
        (None, false) => restore_request::Target::Empty(()),
    };
    RestoreRequest {
        component: arguments.component.clone(),
        instance: instance.to_owned(),
        point: arguments.point.clone().unwrap_or_default(),
        dry_run: arguments.dry_run,
        // A dry run replaces nothing: with consent it tells what would stand in the way besides.
        consent: if arguments.dry_run { arguments.component.clone() } else { String::new() },
        tablespaces: arguments.tablespaces.iter().cloned().collect::<HashMap<_, _>>(),
        keep_old: arguments.keep_old.map(convert::duration_to_proto),
        no_start: arguments.no_start,
        stall_limit: arguments.stall_limit.map(convert::duration_to_proto),
        request_id: arguments.asking.request_id(),
        target: Some(target),
    }
}

/// The instance that was named, or the only one.
fn chosen(component: &ComponentStatus, named: Option<&str>) -> Result<String, Fault> {
    let names: Vec<&str> = component.instances.iter().map(|instance| instance.name.as_str()).collect();
    match (named, names.as_slice()) {
        (Some(name), _) if names.contains(&name) => Ok(name.to_owned()),
        (Some(name), _) => {
            let near = muster_wire::nearest::did_you_mean(name, names.iter().copied());
            let message = format!("{} has no instance {name:?}; there are {}{near}", component.name, names.join(", "));
            Err(Fault::refused(ErrorKind::NotFound, message).hint(format!("`muster status {}` shows them", component.name)))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let message = format!("restore {}: at which instance? There are {}", component.name, names.join(", "));
            Err(Fault::refused(ErrorKind::InvalidArgument, message).hint("give --instance NAME"))
        }
    }
}

/// The point that will be restored, in words.
async fn point_line(controller: &Controller, arguments: &Arguments) -> Result<String, Fault> {
    let wanted = arguments.point.as_deref().unwrap_or_default();
    let page = points::page(controller, &arguments.component, 500, String::new()).await?;
    let found = page.points.iter().find(|point| wanted.is_empty() || point.id.starts_with(wanted));
    match found {
        Some(point) => Ok(render::loss::point(point, clock::now())),
        None if wanted.is_empty() => Err(Fault::refused(ErrorKind::NotFound, format!("{} has no recovery point", arguments.component))
            .hint(format!("`muster points {}` lists them", arguments.component))),
        // An older one than the newest 500: the controller knows.
        None => Ok(format!("{wanted}…")),
    }
}

async fn start(controller: &Controller, request: &RestoreRequest) -> Result<Operation, Fault> {
    let answer = controller
        .call(Repeat::Safe, request, |request| {
            let mut client = controller.recovery();
            async move { client.restore(request).await }
        })
        .await
        .map_err(|fault| fault_with_id(fault, &request.request_id))?;
    convert::required(answer.operation, "operation")
}

/// Shows the plan. Gives an exit code where there is none: then the restore would not go either.
async fn planned(app: &App, controller: &Controller, request: RestoreRequest) -> Result<Option<Exit>, Fault> {
    let operation = start(controller, &request).await?;
    match follow::follow(controller, &app.console, operation).await? {
        Followed::Ended(operation) => {
            app.console.say(&render::operation::outcome(&operation, clock::now()));
            let exit = Exit::of_operation(&operation);
            Ok((has_ended(&operation) && exit != Exit::Ok).then_some(exit))
        }
        Followed::Interrupted(_) => Ok(Some(Exit::Interrupted)),
    }
}

/// `OID=FOLDER`.
///
/// # Errors
/// Where it is anything else.
pub fn tablespace(text: &str) -> Result<(u32, String), String> {
    let read = || {
        let (oid, folder) = text.split_once('=')?;
        let oid: u32 = oid.parse().ok()?;
        folder.starts_with('/').then(|| (oid, folder.to_owned()))
    };
    read().ok_or_else(|| "expected OID=FOLDER with an absolute folder, for example 16384=/srv/fast".to_owned())
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::InstanceStatus;

    use super::*;

    fn component(names: &[&str]) -> ComponentStatus {
        let instances = names.iter().map(|name| InstanceStatus { name: (*name).into(), ..InstanceStatus::default() }).collect();
        ComponentStatus { name: "orders-db".into(), instances, ..ComponentStatus::default() }
    }

    #[test]
    fn the_instance_must_be_named_unless_there_is_one() {
        assert_eq!(chosen(&component(&["istanbul"]), None).unwrap(), "istanbul");
        assert_eq!(chosen(&component(&["istanbul", "ankara"]), Some("ankara")).unwrap(), "ankara");
        let fault = chosen(&component(&["istanbul", "ankara"]), None).unwrap_err();
        assert_eq!(
            (fault.kind, fault.message.as_str()),
            (ErrorKind::InvalidArgument, "restore orders-db: at which instance? There are istanbul, ankara")
        );
        let fault = chosen(&component(&["istanbul"]), Some("instanbul")).unwrap_err();
        assert_eq!(fault.message, "orders-db has no instance \"instanbul\"; there are istanbul; did you mean \"istanbul\"?");
    }

    #[test]
    fn a_tablespace_is_an_oid_and_an_absolute_folder() {
        assert_eq!(tablespace("16384=/srv/fast"), Ok((16_384, "/srv/fast".to_owned())));
        for text in ["", "16384", "x=/a", "16384=a", "-1=/a"] {
            assert!(tablespace(text).is_err(), "{text}");
        }
    }
}
