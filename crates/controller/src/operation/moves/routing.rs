//! An act on a route is carried out: the name is read, replaced by compare-and-swap, and read back. Why and when is `route`'s.
//!
//! What always holds: the reign beside the name is the journal's present one; a name that belongs to a reign that is not on the journal's line is
//! left alone.

use std::time::Duration;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::reign::Line;
use muster_routes::route::Route;
use muster_wire::proto::v1::ResourceKind;
use muster_wire::proto::v1::resource::Spec;

use crate::inventory::route::meaning;
use crate::operation::moves::route::Deed;
use crate::store::error::StoreError;
use crate::store::{Connection, resources};

/// One act may last so long.
const LIMIT: Duration = Duration::from_secs(60);
/// Every authoritative server answers the new set within this, or it is tried again.
const SETTLES: Duration = Duration::from_secs(5);
/// The most routes that are looked through.
const MOST_ROUTES: u32 = 100_000;

/// The routes that follow a component, by name.
///
/// # Errors
/// The store's.
pub async fn of_component(connection: &mut Connection, component: &Name) -> Result<Vec<Name>, StoreError> {
    let declared = resources::list(connection, ResourceKind::Route, None, MOST_ROUTES).await?;
    let follows = |spec: &Spec| match spec {
        Spec::Route(route) => route.component == component.as_str(),
        Spec::Site(_) | Spec::Repository(_) | Spec::Component(_) | Spec::Schedule(_) => false,
    };
    Ok(declared.into_iter().filter(|declared| follows(&declared.spec)).map(|declared| declared.name).collect())
}

/// A declared route.
///
/// # Errors
/// Where there is none (any more).
pub async fn declared(connection: &mut Connection, route: &Name) -> Result<Route, Fault> {
    let found = resources::get(connection, ResourceKind::Route, route).await?.map(|declared| declared.spec);
    let read = match found {
        Some(Spec::Route(spec)) => meaning(&spec),
        Some(Spec::Site(_) | Spec::Repository(_) | Spec::Component(_) | Spec::Schedule(_)) | None => None,
    };
    read.ok_or_else(|| Fault::refused(ErrorKind::NotFound, format!("route {route} is not declared")).hint("muster get route"))
}

/// Carries a deed out; answers for how many seconds resolvers may still answer what stood there before.
///
/// # Errors
/// Why it was not done, or is not seen by everybody.
pub async fn carry(route: &Route, deed: Deed, site: &Name, line: &Line) -> Result<u32, Fault> {
    let act = async {
        let changed = match deed {
            Deed::Lower => route.lower_ttl(line).await?,
            Deed::CutOver => route.cut_over(site, line).await?,
            Deed::Restore => route.restore_ttl(line).await?,
        };
        if deed == Deed::CutOver {
            route.settled(site, SETTLES).await?;
        }
        Ok(if changed.before == changed.now { 0 } else { changed.old_ttl() })
    };
    let late = |_| {
        Fault::failed(ErrorKind::Stalled, format!("{} {}: no answer within {} s", deed.name(), route.name, LIMIT.as_secs()))
            .effect(Effect::Unknown)
            .hint("look at the zone's primary; muster route show tells what stands there")
    };
    tokio::time::timeout(LIMIT, act).await.map_err(late)?
}
