//! `InventoryService`: what is declared.

use std::collections::BTreeMap;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::{InstanceName, Name};
use muster_service::clock;
use muster_wire::page;
use muster_wire::proto::v1::inventory_service_server::InventoryService;
use muster_wire::proto::v1::{
    ApplyRequest, ApplyResponse, Change, InventoryServiceDeleteRequest, InventoryServiceDeleteResponse, InventoryServiceGetRequest,
    InventoryServiceGetResponse, InventoryServiceListRequest, InventoryServiceListResponse, ListSchedulesRequest, ListSchedulesResponse,
    PauseRequest, PauseResponse, Resource, ResumeRequest, ResumeResponse,
};
use tonic::{Request, Response, Status};

use super::repeat::Call;
use super::{Api, answer, digest, request_id, status, subject_of};
use crate::api::status_page::conditions_of;
use crate::inventory::changes::{self, Circumstances};
use crate::inventory::{Declared, Kind, form, kept};
use crate::schedule::pause::Scope;
use crate::store::{Connection, agents, operations, points, resources, shards, tokens};

const LIST: &str = "InventoryService.List";

#[tonic::async_trait]
impl InventoryService for Api {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let request_id = request_id(&std::mem::take(&mut message.request_id)).map_err(status)?;
        let call = Call { caller, request_id, digest: digest(&message) };
        let api = self.clone();
        self.detached("apply", async move { apply(&api, message, &call).await }).await.map(Response::new)
    }

    async fn get(&self, request: Request<InventoryServiceGetRequest>) -> Result<Response<InventoryServiceGetResponse>, Status> {
        let message = request.into_inner();
        answer((|| {
            let kind = a_kind(message.kind)?;
            let declared = self.agents.assigner.declared();
            let resource = declared.find(kind, &message.name)?;
            Ok(InventoryServiceGetResponse { resource: Some(self.with_conditions(&declared, resource)) })
        })())
    }

    async fn list(&self, request: Request<InventoryServiceListRequest>) -> Result<Response<InventoryServiceListResponse>, Status> {
        let message = request.into_inner();
        answer((|| {
            let kind = if message.kind == 0 { None } else { Some(a_kind(message.kind)?) };
            let size = page::size(message.page_size, 100, 1_000);
            let after = page::decode(LIST, &message.page_token)?;
            let declared = self.agents.assigner.declared();
            let place = |kind: Kind, name: &str| format!("{}/{name}", kind.to_proto() as i32);
            let mut rows = declared
                .iter()
                .filter(|(k, _, _)| kind.is_none_or(|kind| kind == *k))
                .filter(|(k, name, _)| after.as_ref().is_none_or(|after| place(*k, name.as_str()) > *after));
            let shown: Vec<_> = rows.by_ref().take(size).collect();
            let next = match (rows.next(), shown.last()) {
                (Some(_), Some((kind, name, _))) => page::encode(LIST, &place(*kind, name.as_str())),
                (Some(_) | None, _) => String::new(),
            };
            let resources = shown.into_iter().map(|(_, _, resource)| self.with_conditions(&declared, resource)).collect();
            Ok(InventoryServiceListResponse { resources, next_page_token: next })
        })())
    }

    async fn delete(&self, request: Request<InventoryServiceDeleteRequest>) -> Result<Response<InventoryServiceDeleteResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let request_id = request_id(&std::mem::take(&mut message.request_id)).map_err(status)?;
        let call = Call { caller, request_id, digest: digest(&message) };
        let api = self.clone();
        self.detached("delete", async move { delete(&api, &message, &call).await }).await.map(Response::new)
    }

    async fn list_schedules(&self, request: Request<ListSchedulesRequest>) -> Result<Response<ListSchedulesResponse>, Status> {
        answer(self.schedules_page(request.into_inner()).await)
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        let caller = subject_of(&request)?;
        let (api, message) = (self.clone(), request.into_inner());
        self.detached("pause", async move { api.begin_pause(message, &caller).await }).await.map(Response::new)
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        let caller = subject_of(&request)?;
        let (api, message) = (self.clone(), request.into_inner());
        self.detached("resume", async move { api.end_pause(message, &caller).await }).await.map(Response::new)
    }
}

impl Api {
    fn with_conditions(&self, declared: &Declared, resource: &Resource) -> Resource {
        Resource { conditions: conditions_of(&self.agents, declared, resource), ..resource.clone() }
    }

    /// What follows a change of what is declared. It was committed: a failure here is made good by the task that refreshes.
    async fn declared_changed(&self) {
        if let Err(error) = self.agents.assigner.refresh().await {
            tracing::warn!(%error, "make assignments anew; it is tried again");
        }
        let declared = self.agents.assigner.declared();
        self.agents.observations.keep_only(&declared.instances().map(|instance| instance.name).collect());
    }
}

fn a_kind(kind: i32) -> Result<Kind, Fault> {
    Kind::from_proto(kind).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Fault::refused(ErrorKind::InvalidArgument, format!("kind: expected one of {}", known.join(", "))).hint("name the kind")
    })
}

async fn apply(api: &Api, message: ApplyRequest, call: &Call) -> Result<ApplyResponse, Fault> {
    let now = clock::now();
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    if let Some(answered) = call.before(connection, now).await? {
        return Ok(answered);
    }
    let present = kept::load(connection).await?;
    let world = circumstances(connection).await?;
    let outcome = changes::apply(&present, message.resources, &world, rand::random)?;
    let response = ApplyResponse { differences: outcome.differences };
    if message.dry_run {
        return Ok(response);
    }
    let mut changed = 0;
    for difference in response.differences.iter().filter(|difference| difference.change() != Change::Unchanged) {
        if let Some(resource) = &difference.resource {
            kept::put(connection, resource).await?;
            changed += 1;
        }
    }
    call.remember(connection, &response, now).await?;
    write.commit().await?;
    tracing::info!(caller = call.caller, changed, "resources applied");
    api.declared_changed().await;
    Ok(response)
}

async fn delete(api: &Api, message: &InventoryServiceDeleteRequest, call: &Call) -> Result<InventoryServiceDeleteResponse, Fault> {
    let now = clock::now();
    let kind = a_kind(message.kind)?;
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    if let Some(answered) = call.before(connection, now).await? {
        return Ok(answered);
    }
    let present = kept::load(connection).await?;
    let world = circumstances(connection).await?;
    let (_, removed) = changes::delete(&present, kind, &message.name, &message.etag, &world)?;
    let (_, name) = form::identify(&removed)?;
    resources::delete(connection, kind.to_proto(), &name).await?;
    if kind == Kind::Component {
        forget(connection, &name).await?;
    }
    let response = InventoryServiceDeleteResponse {};
    call.remember(connection, &response, now).await?;
    write.commit().await?;
    tracing::info!(caller = call.caller, %kind, %name, "resource deleted");
    if kind == Kind::Component {
        // Another component may get the name. What cannot be ended now ends by itself.
        if let Err(error) = api.agents.pauses.end(&api.agents.store, &Scope::Component(name), api.agents.clock.now()).await {
            tracing::warn!(%error, "end the pause of a deleted component");
        }
    }
    api.declared_changed().await;
    Ok(response)
}

/// Another component may get the name: it has an id of its own, so that the old one's points are not its points, and an epoch is never
/// used twice. The points stay in their repository.
async fn forget(connection: &mut Connection, component: &Name) -> Result<(), Fault> {
    points::forget(connection, component).await?;
    let mut shard = shards::get(connection, component).await?;
    if let Some(record) = shard.record.take() {
        let next = record.reign.epoch.next().unwrap_or(record.reign.epoch);
        shard.floor = shard.floor.max(next);
        shard.floor_reign = None;
        shards::put(connection, component, &shard).await?;
    }
    Ok(())
}

/// What a change is judged by, in the transaction that makes it.
async fn circumstances(connection: &mut Connection) -> Result<Circumstances, Fault> {
    let now = clock::now();
    let mut sites_of_agents: BTreeMap<_, _> =
        tokens::invited(connection, now).await?.into_iter().map(|invited| (invited.agent, invited.site)).collect();
    sites_of_agents.extend(agents::all(connection).await?.into_iter().filter(|agent| !agent.revoked).map(|agent| (agent.name, agent.site)));
    let busy = operations::unfinished(connection).await?.into_iter().filter_map(|record| {
        let name = InstanceName { component: record.component.parse().ok()?, instance: record.instance.parse().ok()? };
        Some((name, record.id.to_string()))
    });
    Ok(Circumstances { sites_of_agents, busy: busy.collect(), now })
}
