//! `FleetService`: agents, join tokens, operators.

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_identity::caller::Role;
use muster_identity::token::{JoinSecret, JoinToken};
use muster_service::clock;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::page;
use muster_wire::proto::v1::fleet_service_server::FleetService;
use muster_wire::proto::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, GetAuthoritiesRequest, GetAuthoritiesResponse, IssueOperatorRequest,
    IssueOperatorResponse, ListAgentsRequest, ListAgentsResponse, ListOperatorsRequest, ListOperatorsResponse, Operator,
    RenewOperatorRequest, RenewOperatorResponse, RetireAuthorityRequest, RetireAuthorityResponse, RevokeAgentRequest, RevokeAgentResponse,
    RevokeOperatorRequest, RevokeOperatorResponse, RotateAuthorityRequest, RotateAuthorityResponse,
};
use opentelemetry::KeyValue;
use tonic::{Request, Response, Status};

use super::enrollment::{csr, unsigned};
use super::status_page::agent_status;
use super::{Api, answer, authority, caller_of, no_name, some_duration, subject_of};
use crate::agents::courier::End;
use crate::inventory::{Kind, not_found};
use crate::store::{agents, certificates, operators, tokens};

const LIST_AGENTS: &str = "FleetService.ListAgents";
const LIST_OPERATORS: &str = "FleetService.ListOperators";
/// How long a join token is good where nothing is said, and at most.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// The longest life of an operator's certificate.
const LONGEST_CERTIFICATE_LIFE: Duration = Duration::from_secs(400 * 86_400);
/// The longest reason, in bytes.
const MOST_REASON: usize = 2_000;

#[tonic::async_trait]
impl FleetService for Api {
    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        answer(self.agents_page(request.into_inner()).await)
    }

    async fn create_join_token(&self, request: Request<CreateJoinTokenRequest>) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("create a join token", async move { create_token(&api, &caller, message).await }).await.map(Response::new)
    }

    async fn revoke_agent(&self, request: Request<RevokeAgentRequest>) -> Result<Response<RevokeAgentResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("revoke an agent", async move { revoke_agent(&api, &caller, &message).await }).await.map(Response::new)
    }

    async fn issue_operator(&self, request: Request<IssueOperatorRequest>) -> Result<Response<IssueOperatorResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("issue an operator", async move { issue_operator(&api, &caller, message).await }).await.map(Response::new)
    }

    async fn list_operators(&self, request: Request<ListOperatorsRequest>) -> Result<Response<ListOperatorsResponse>, Status> {
        answer(self.operators_page(request.into_inner()).await)
    }

    async fn renew_operator(&self, request: Request<RenewOperatorRequest>) -> Result<Response<RenewOperatorResponse>, Status> {
        let caller = caller_of(&request)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("renew an operator", async move { authority::renew_operator(&api, &caller, &message).await }).await.map(Response::new)
    }

    async fn get_authorities(&self, _request: Request<GetAuthoritiesRequest>) -> Result<Response<GetAuthoritiesResponse>, Status> {
        answer(authority::get(self).await)
    }

    async fn rotate_authority(&self, request: Request<RotateAuthorityRequest>) -> Result<Response<RotateAuthorityResponse>, Status> {
        let caller = subject_of(&request)?;
        let api = self.clone();
        self.detached("rotate the CA", async move { authority::rotate(&api, &caller).await }).await.map(Response::new)
    }

    async fn retire_authority(&self, request: Request<RetireAuthorityRequest>) -> Result<Response<RetireAuthorityResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("retire a CA", async move { authority::retire(&api, &caller, &message).await }).await.map(Response::new)
    }

    async fn revoke_operator(&self, request: Request<RevokeOperatorRequest>) -> Result<Response<RevokeOperatorResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("revoke an operator", async move { revoke_operator(&api, &caller, &message).await }).await.map(Response::new)
    }
}

impl Api {
    async fn agents_page(&self, message: ListAgentsRequest) -> Result<ListAgentsResponse, Fault> {
        let after = page::decode(LIST_AGENTS, &message.page_token)?;
        let mut read = self.agents.store.read().await?;
        let rows = agents::all(&mut read).await?;
        let (rows, next_page_token) = cut(rows, LIST_AGENTS, after.as_deref(), message.page_size, |row| row.name.as_str());
        Ok(ListAgentsResponse { agents: rows.into_iter().map(|row| agent_status(&self.agents, row)).collect(), next_page_token })
    }

    async fn operators_page(&self, message: ListOperatorsRequest) -> Result<ListOperatorsResponse, Fault> {
        let after = page::decode(LIST_OPERATORS, &message.page_token)?;
        let mut read = self.agents.store.read().await?;
        let rows = operators::all(&mut read).await?;
        let (rows, next_page_token) = cut(rows, LIST_OPERATORS, after.as_deref(), message.page_size, |row| row.name.as_str());
        let operators = rows.into_iter().map(|row| Operator {
            name: row.name.to_string(),
            role: row.role.to_string(),
            revoked: row.revoked,
            certificate_until: row.certificate_until.map(timestamp_to_proto),
        });
        Ok(ListOperatorsResponse { operators: operators.collect(), next_page_token })
    }
}

/// One page of rows that are ordered by name.
fn cut<T>(rows: Vec<T>, list: &str, after: Option<&str>, asked: u32, name: impl Fn(&T) -> &str) -> (Vec<T>, String) {
    let size = page::size(asked, 100, 1_000);
    let mut rows: Vec<T> =
        rows.into_iter().filter(|row| after.is_none_or(|after| name(row) > after)).take(size.saturating_add(1)).collect();
    let more = rows.len() > size;
    rows.truncate(size);
    let next = match rows.last() {
        Some(last) if more => page::encode(list, name(last)),
        Some(_) | None => String::new(),
    };
    (rows, next)
}

async fn create_token(api: &Api, caller: &str, message: CreateJoinTokenRequest) -> Result<CreateJoinTokenResponse, Fault> {
    let declared = api.agents.assigner.declared();
    declared.find(Kind::Site, &message.site)?;
    let site: Name = message.site.parse().map_err(|error| no_name(&error, "site"))?;
    let agent: Name = message.agent.parse().map_err(|error| no_name(&error, "agent"))?;
    let life = some_duration(message.ttl, "ttl")?.unwrap_or(TOKEN_LIFE);
    if life > LONGEST_TOKEN_LIFE {
        return Err(
            Fault::refused(ErrorKind::InvalidArgument, "ttl: more than 7 days").hint("make the token when the agent is about to join")
        );
    }
    let now = clock::now();
    let expires = now.plus(life);
    // A CA that is retired now ends this token with all others, or the token pins the new one.
    let steady = api.agents.authorities.steady().await;
    let authority = api.agents.authorities.current().in_force.fingerprint();
    let token = JoinToken { endpoints: api.config.endpoints.clone(), authority, secret: JoinSecret::generate() };
    let mut write = api.agents.store.write().await?;
    let elsewhere = agents::get(write.connection(), &agent).await?.filter(|known| known.site != site && !known.revoked);
    let named = declared.instances_kept_by(&agent).find(|instance| instance.site != site).map(|instance| instance.site);
    if let Some(other) = elsewhere.map(|known| known.site).or(named) {
        return Err(Fault::refused(ErrorKind::Conflict, format!("agent {agent} stands at site {other}, not at {site}"))
            .hint("agents' names are unique over all sites: choose another name, or revoke that agent first"));
    }
    let invited = tokens::Invited { site, agent };
    tokens::insert(write.connection(), &token.secret.hash().to_hex(), &invited, expires, now).await?;
    write.commit().await?;
    drop(steady);
    tracing::info!(caller, agent = %invited.agent, site = %invited.site, "join token made");
    Ok(CreateJoinTokenResponse { token: token.reveal(), expires_at: Some(timestamp_to_proto(expires)) })
}

async fn revoke_agent(api: &Api, caller: &str, message: &RevokeAgentRequest) -> Result<RevokeAgentResponse, Fault> {
    let reason = reason(&message.reason)?;
    let now = clock::now();
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    let known = agents::all(connection).await?;
    let agent = known.iter().find(|agent| agent.name.as_str() == message.agent);
    let agent = agent.ok_or_else(|| not_found("agent", &message.agent, known.iter().map(|agent| agent.name.as_str())))?;
    agents::revoke(connection, &agent.name).await?;
    certificates::revoke_subject(connection, &format!("agent/{}", agent.name), reason, now).await?;
    // A store that was restored may know the key and no certificate of it.
    certificates::revoke_key(connection, &agent.key_fingerprint, reason, now).await?;
    write.commit().await?;
    api.agents.roles.reload(&api.agents.store, &api.agents.revocations).await?;
    api.agents.courier.end(&agent.name, End::Revoked);
    refresh(api).await;
    tracing::warn!(caller, agent = %agent.name, reason, "agent revoked");
    Ok(RevokeAgentResponse {})
}

async fn issue_operator(api: &Api, caller: &str, message: IssueOperatorRequest) -> Result<IssueOperatorResponse, Fault> {
    let name: Name = message.name.parse().map_err(|error| no_name(&error, "name"))?;
    let role: Role = message.role.parse().map_err(|error: muster_identity::caller::InvalidRole| {
        Fault::refused(ErrorKind::InvalidArgument, format!("role: {error}"))
            .hint("viewer looks, operator runs, approver is the second person, admin rules")
    })?;
    let csr = csr(&message.csr_pem)?;
    let life = some_duration(message.validity, "validity")?.unwrap_or(api.config.operator_certificate_life);
    if life > LONGEST_CERTIFICATE_LIFE {
        return Err(Fault::refused(ErrorKind::InvalidArgument, "validity: more than 400 days").hint("issue it again before it ends"));
    }
    let now = clock::now();
    let authorities = api.agents.authorities.current();
    let issued = authorities.signs().issue_operator(&csr, &name, now, life).map_err(|error| unsigned(&error))?;
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    keep_an_admin(connection, &name, Some(role)).await?;
    operators::issued(connection, &name, role, issued.serial.as_str(), issued.not_after).await?;
    certificates::keep(connection, &format!("operator/{name}"), &issued, now).await?;
    write.commit().await?;
    api.agents.roles.reload(&api.agents.store, &api.agents.revocations).await?;
    api.agents.metrics.certificates.add(1, &[KeyValue::new("why", "operator")]);
    tracing::info!(caller, operator = %name, %role, serial = %issued.serial, "operator's certificate issued");
    Ok(IssueOperatorResponse {
        certificate_pem: issued.pem,
        ca_pem: authorities.pem(),
        expires_at: Some(timestamp_to_proto(issued.not_after)),
        endpoints: api.config.endpoints.iter().map(ToString::to_string).collect(),
    })
}

async fn revoke_operator(api: &Api, caller: &str, message: &RevokeOperatorRequest) -> Result<RevokeOperatorResponse, Fault> {
    let reason = reason(&message.reason)?;
    let now = clock::now();
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    let known = operators::all(connection).await?;
    let operator = known.iter().find(|operator| operator.name.as_str() == message.name);
    let operator = operator.ok_or_else(|| not_found("operator", &message.name, known.iter().map(|operator| operator.name.as_str())))?;
    keep_an_admin(connection, &operator.name, None).await?;
    operators::revoke(connection, &operator.name).await?;
    certificates::revoke_subject(connection, &format!("operator/{}", operator.name), reason, now).await?;
    write.commit().await?;
    api.agents.roles.reload(&api.agents.store, &api.agents.revocations).await?;
    refresh(api).await;
    tracing::warn!(caller, operator = %operator.name, reason, "operator revoked");
    Ok(RevokeOperatorResponse {})
}

/// Refuses what would leave nobody who may make another admin.
async fn keep_an_admin(connection: &mut crate::store::Connection, name: &Name, becomes: Option<Role>) -> Result<(), Fault> {
    let admins: Vec<Name> =
        operators::all(connection).await?.into_iter().filter(|o| !o.revoked && o.role == Role::Admin).map(|o| o.name).collect();
    if becomes == Some(Role::Admin) || admins.iter().any(|admin| admin != name) || !admins.contains(name) {
        return Ok(());
    }
    Err(Fault::refused(ErrorKind::FailedPrecondition, format!("operator {name} is the only admin"))
        .hint("make another one first: `muster operator add NAME --role admin`"))
}

fn reason(text: &str) -> Result<&str, Fault> {
    let text = text.trim();
    if text.is_empty() || text.len() > MOST_REASON {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("reason: expected 1 to {MOST_REASON} bytes, for the record"))
            .hint("say why: `--reason \"laptop lost\"`"));
    }
    Ok(text)
}

/// Revocations travel with assignments; the task that refreshes makes a failure good.
async fn refresh(api: &Api) {
    if let Err(error) = api.agents.assigner.refresh().await {
        tracing::warn!(%error, "make assignments anew; it is tried again");
    }
}
