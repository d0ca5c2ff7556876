//! `muster repo`: repositories themselves, on any machine that reaches them, with no controller.

pub mod check;
pub mod grant;
pub mod hold;
pub mod init;
pub mod list;
pub mod prune;
pub mod release;
pub mod restore;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{ComponentId, PointId};
use muster_repository::repository::{PointListing, Repository};

use crate::arguments::App;
use crate::exit::Exit;
use crate::place;

/// The arguments of `muster repo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a repository and prints the document that declares it.
    Init(init::Arguments),
    /// Lets a component's agents write and read its recovery points.
    Grant(grant::Arguments),
    /// Lists the recovery points that are there.
    List(list::Arguments),
    /// Checks that what is there is whole.
    Check(check::Arguments),
    /// Removes what no rule keeps and what no point needs, in two runs that lie a grace time apart.
    Prune(prune::Arguments),
    /// Holds a recovery point: it stays whatever the rules say.
    Hold(hold::Arguments),
    /// Lets a held recovery point go.
    Release(release::Arguments),
    /// Brings a recovery point back into a folder and, if asked, starts the database.
    Restore(restore::Arguments),
}

/// The passphrase, for the commands that need one.
#[derive(Clone, Debug, Args)]
pub struct Passphrase {
    /// A file that holds the recovery passphrase, or `-` for standard input.
    #[arg(long, env = "MUSTER_PASSPHRASE_FILE", value_name = "FILE")]
    pub passphrase_file: PathBuf,
}

/// Runs one of them.
///
/// # Errors
/// What failed, with what to do next.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    match arguments.action {
        Action::Init(arguments) => init::run(app, arguments).await,
        Action::Grant(arguments) => grant::run(app, arguments).await,
        Action::List(arguments) => list::run(app, arguments).await,
        Action::Check(arguments) => check::run(app, arguments).await,
        Action::Prune(arguments) => prune::run(app, arguments).await,
        Action::Hold(arguments) => hold::run(app, arguments).await,
        Action::Release(arguments) => release::run(app, arguments).await,
        Action::Restore(arguments) => restore::run(app, arguments).await,
    }
}

/// The component that was named, or the only one that has a key there.
async fn component(repository: &Repository, named: Option<ComponentId>) -> Result<ComponentId, Fault> {
    let (granted, _) = repository.granted().await.map_err(|error| place::unread(&error))?;
    match (named, granted.as_slice()) {
        (Some(id), known) if known.contains(&id) => Ok(id),
        (None, [only]) => Ok(*only),
        (named, known) => {
            let all: Vec<String> = known.iter().map(ToString::to_string).collect();
            let message = match named {
                Some(id) => format!("component {id} has no key in this repository"),
                None => "which component? The repository holds several, or none".to_owned(),
            };
            let kind = if named.is_some() { ErrorKind::NotFound } else { ErrorKind::InvalidArgument };
            let fault = Fault::refused(kind, message)
                .hint("give --component-id ID; `muster repo list --passphrase-file FILE` tells which is which");
            Err(if all.is_empty() { fault } else { fault.evidence(format!("there are {}", all.join(", "))) })
        }
    }
}

/// The point whose id begins so, or the newest. Pure.
fn chosen<'a>(points: &'a [PointListing], prefix: Option<&str>) -> Result<&'a PointListing, Fault> {
    let hint = "`muster repo list` lists them";
    let Some(prefix) = prefix else {
        let newest = points.iter().max_by_key(|point| (point.stored_at, point.point));
        return newest.ok_or_else(|| Fault::refused(ErrorKind::NotFound, "the component has no recovery point there").hint(hint));
    };
    let matching: Vec<&PointListing> = points.iter().filter(|point| point.point.to_string().starts_with(prefix)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(Fault::refused(ErrorKind::NotFound, format!("no recovery point begins with {prefix:?}")).hint(hint)),
        many => {
            let ids: Vec<String> = many.iter().take(10).map(|point| point.point.to_string()).collect();
            Err(Fault::refused(ErrorKind::InvalidArgument, format!("{} recovery points begin with {prefix:?}", many.len()))
                .evidence(ids.join(", "))
                .hint("give more digits"))
        }
    }
}

/// A short form of a point's id.
fn short(point: PointId) -> String {
    crate::render::amount::short(&point.to_string()).to_owned()
}

#[cfg(test)]
mod tests {
    use muster_common::time::Timestamp;

    use super::*;

    fn point(first: u8, second: u8, stored_at: i64) -> PointListing {
        let mut id = [0; 16];
        (id[0], id[1]) = (first, second);
        PointListing {
            component: ComponentId::from_bytes([1; 16]),
            point: PointId::from_bytes(id),
            stored_at: Timestamp(stored_at),
            object_bytes: 1,
            packs: vec![],
            keys: vec![],
            marks_loaded: None,
            problem: None,
        }
    }

    #[test]
    fn a_point_is_named_by_its_first_digits_or_is_the_newest() {
        let points = [point(0xab, 0x01, 3), point(0xab, 0x02, 9), point(0xcd, 0x00, 5)];
        assert_eq!(chosen(&points, None).unwrap(), &points[1]);
        assert_eq!(chosen(&points, Some("ab01")).unwrap(), &points[0]);
        assert_eq!(chosen(&points, Some("ab")).unwrap_err().kind, ErrorKind::InvalidArgument);
        assert_eq!(chosen(&points, Some("ef")).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(chosen(&[], None).unwrap_err().kind, ErrorKind::NotFound);
    }
}
