//! Names that follow a writer, by hand: shown, taken over, pointed. In moves it is `operation::moves::route` that says when.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::shard::ShardRecord;
use muster_routes::cutover::{self, Answer};
use muster_routes::route::{Changed, Route};
use muster_wire::convert::{duration_to_proto, name_from_proto};
use muster_wire::proto::v1::{
    AdoptRouteRequest, AdoptRouteResponse, PointRouteRequest, PointRouteResponse, PreflightCheck, RouteAnswer, ShowRouteRequest,
    ShowRouteResponse,
};

use super::Api;
use crate::failover::catching_up;
use crate::inventory::Kind;
use crate::inventory::route::{meaning, of_component, routes};
use crate::operation::moves::route::Deed;
use crate::operation::moves::routing;
use crate::store::shards;

/// A route, where it should point, and the journal's record of who writes.
struct Found {
    component: Name,
    route: Route,
    record: Option<ShardRecord>,
    site: Option<Name>,
}

impl Api {
    async fn route(&self, text: &str) -> Result<Found, Fault> {
        let declared = self.agents.assigner.declared();
        declared.find(Kind::Route, text)?;
        let found = routes(&declared).find(|(name, _)| name.as_str() == text).and_then(|(_, spec)| Some((spec, meaning(spec)?)));
        let (spec, route) =
            found.ok_or_else(|| Fault::refused(ErrorKind::Internal, format!("route {text} cannot be read")).hint("apply it again"))?;
        let component = name_from_proto(&spec.component, "component")?;
        let mut read = self.agents.store.read().await?;
        let record = shards::get(&mut read, &component).await?.record;
        let writer = record.as_ref().map(|record| &record.reign.writer);
        let instance = declared.instances_of(&component).find(|instance| Some(&instance.name.instance) == writer);
        let site = instance.map(|instance| instance.site.clone());
        Ok(Found { component, route, record, site })
    }

    /// A route whose component has a writer that nobody moves now.
    async fn steady(&self, text: &str) -> Result<(Found, ShardRecord, Name), Fault> {
        let found = self.route(text).await?;
        if let Some(refusal) = self.agents.observations.later_reign(&found.component) {
            return Err(catching_up::waits(&found.component, &refusal));
        }
        let refused = |why: &str, hint: String| Fault::refused(ErrorKind::FailedPrecondition, format!("route {text}: {why}")).hint(hint);
        let (record, site) = found.record.clone().zip(found.site.clone()).ok_or_else(|| {
            refused("no writer of its component is known", format!("muster manage {} --writer INSTANCE", found.component))
        })?;
        if !record.is_steady() {
            return Err(refused("its component is being moved", format!("wait for it: muster ops --component {}", found.component)));
        }
        Ok((found, record, site))
    }

    pub(super) async fn show_route(&self, message: ShowRouteRequest) -> Result<ShowRouteResponse, Fault> {
        let Found { route, site, .. } = self.route(&message.route).await?;
        let shown = route.show().await;
        let target = site.as_ref().and_then(|site| route.sites.get(site));
        let answers = |answers: &[Answer]| -> Vec<RouteAnswer> {
            let points =
                |answer: &Answer| target.is_some_and(|target| !cutover::judge(std::slice::from_ref(answer), target).moved.is_empty());
            let said = |answer: &Answer| answer.to_string().trim_start_matches(&answer.server.to_string()).trim_start().to_owned();
            answers
                .iter()
                .map(|answer| RouteAnswer { server: answer.server.to_string(), said: said(answer), points: points(answer) })
                .collect()
        };
        let (standing, problem) = match &shown.standing {
            Ok(standing) => (standing.to_string(), String::new()),
            Err(fault) => (String::new(), fault.to_string()),
        };
        Ok(ShowRouteResponse {
            name: route.name.to_string(),
            site: site.as_ref().map(ToString::to_string).unwrap_or_default(),
            standing,
            problem,
            servers: answers(&shown.servers),
            resolvers: answers(&shown.resolvers),
            points: target.is_some_and(|target| cutover::judge(&shown.servers, target).is_cut_over()),
        })
    }

    pub(super) async fn adopt_route(&self, message: AdoptRouteRequest, by: &str) -> Result<AdoptRouteResponse, Fault> {
        let (found, record, site) = self.steady(&message.route).await?;
        let changed = found.route.adopt(&site, &record.line()).await?;
        tracing::warn!(by, route = message.route, name = %found.route.name, "a name was taken over");
        let (before, standing) = told(&changed);
        Ok(AdoptRouteResponse { before, standing })
    }

    pub(super) async fn point_route(&self, message: PointRouteRequest, by: &str) -> Result<PointRouteResponse, Fault> {
        let (found, record, site) = self.steady(&message.route).await?;
        let line = record.line();
        let changed = found.route.cut_over(&site, &line).await?;
        routing::carry(&found.route, Deed::CutOver, &site, &line).await?;
        let restored = found.route.restore_ttl(&line).await?;
        tracing::warn!(by, route = message.route, name = %found.route.name, %site, "a name was pointed at the writer");
        Ok(PointRouteResponse { before: told(&changed).0, standing: told(&restored).1 })
    }

    /// Whether the names that follow a component could be changed now, and point at its writer.
    ///
    /// # Errors
    /// The store's.
    pub async fn route_checks(&self, component: &Name) -> Result<Vec<PreflightCheck>, Fault> {
        let declared = self.agents.assigner.declared();
        let mut read = self.agents.store.read().await?;
        let record = shards::get(&mut read, component).await?.record;
        drop(read);
        let Some(record) = record else { return Ok(Vec::new()) };
        let mut checks = Vec::new();
        for (name, spec) in of_component(&declared, component) {
            let Some(route) = meaning(spec) else { continue };
            let looked = route.preflight(&record.line()).await;
            checks.push(PreflightCheck {
                name: format!("route {name}"),
                instance: String::new(),
                ok: looked.is_ok(),
                blocks: true,
                evidence: match &looked {
                    Ok(standing) => format!("{} can be changed; there stands {standing}", route.name),
                    Err(fault) => fault.message.clone(),
                },
                age: Some(duration_to_proto(std::time::Duration::ZERO)),
                lifted_by: looked.err().map(|fault| fault.hint).unwrap_or_default(),
            });
            checks.extend(self.points_elsewhere(component, name, &route, &record).await);
        }
        Ok(checks)
    }

    /// That a name does not point at the writer's site for some authoritative server. It stops no move.
    async fn points_elsewhere(&self, component: &Name, name: &Name, route: &Route, record: &ShardRecord) -> Option<PreflightCheck> {
        let declared = self.agents.assigner.declared();
        let site = declared.instances_of(component).find(|instance| instance.name.instance == record.reign.writer)?.site;
        let judged = route.look(&site).await.ok()?;
        let other = judged.blocking.first()?;
        Some(PreflightCheck {
            name: format!("route {name} points"),
            evidence: format!("{} should point at {site}: {other}", route.name),
            age: Some(duration_to_proto(std::time::Duration::ZERO)),
            lifted_by: format!("muster route point {name}"),
            ..PreflightCheck::default()
        })
    }
}

fn told(changed: &Changed) -> (String, String) {
    (changed.before.to_string(), changed.now.to_string())
}
