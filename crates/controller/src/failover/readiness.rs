//! What would stop a move now is known before one is needed: every minute the preflight of every kept component that has somebody to take over is
//! evaluated, its names in the DNS included, and what does not hold becomes a finding. Nothing is changed by it.

use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::name::Name;

use crate::api::Api;
use crate::inventory::Kind;

/// Between two evaluations; the first one waits for the agents to report.
const EACH: Duration = Duration::from_secs(60);
/// The first one after a start.
const FIRST: Duration = Duration::from_secs(20);

/// Runs until the controller stops.
pub async fn run(api: Api) {
    let token = api.agents.gate.token().clone();
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = EACH;
        let names: Vec<Name> = api.agents.assigner.declared().names(Kind::Component).filter_map(|name| name.parse().ok()).collect();
        for component in names {
            match missing(&api, &component).await {
                Ok(missing) => api.agents.observations.set_missing(&component, missing),
                Err(_) if token.is_cancelled() => return,
                Err(fault) => tracing::warn!(%component, %fault, "whether it could be moved cannot be evaluated; it is tried again"),
            }
        }
    }
}

/// What a move of the component lacks now: what was seen, and what would lift it. Of one that is not kept, or has nobody else, nothing.
async fn missing(api: &Api, component: &Name) -> Result<Vec<(String, String)>, Fault> {
    let declared = api.agents.assigner.declared();
    let instances: Vec<_> = declared.instances_of(component).map(|instance| instance.name).collect();
    if instances.len() < 2 || !instances.iter().any(|instance| api.agents.observations.kept_of(instance).is_some()) {
        return Ok(Vec::new());
    }
    let found = api.agents.operations.preflight(component, None).await?;
    let checks = found.checks.into_iter().filter(|check| !check.ok && check.blocks);
    let mut missing: Vec<_> = checks.map(|check| (check.evidence, check.lifted_by)).collect();
    let routes = api.route_checks(component).await?;
    missing.extend(routes.into_iter().filter(|check| !check.ok).map(|check| (check.evidence, check.lifted_by)));
    Ok(missing)
}
