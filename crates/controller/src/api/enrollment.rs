//! `EnrollmentService`: how an agent gets its certificate, and a new one for the same key.
//!
//! What always holds: a token is used up in the same transaction that records the certificate, so that of any number of calls with one
//! token one key wins (and may ask again, where the answer was lost); nothing of a request but its key is believed; why a token is not good is not told apart.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_identity::caller::ConnectInfo;
use muster_identity::csr::Csr;
use muster_identity::token::JoinSecret;
use muster_service::clock;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::v1::enrollment_service_server::EnrollmentService;
use muster_wire::proto::v1::{EnrollRequest, EnrollResponse, RenewRequest, RenewResponse};
use opentelemetry::KeyValue;
use tonic::{Request, Response, Status};

use super::{Api, caller_of, status};
use crate::agents::courier::End;
use crate::agents::link::Peer;
use crate::audit::chain::{Phase, What};
use crate::store::{agents, audit, certificates, tokens};

#[tonic::async_trait]
impl EnrollmentService for Api {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let peer = request.extensions().get::<ConnectInfo>().map(|info| info.peer.ip().to_string()).unwrap_or_default();
        let message = request.into_inner();
        let api = self.clone();
        self.detached("enroll", async move { enroll(&api, peer, &message).await }).await.map(Response::new)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let peer = Peer::of(&caller_of(&request)?).map_err(status)?;
        let message = request.into_inner();
        let api = self.clone();
        self.detached("renew", async move { renew(&api, &peer, &message).await }).await.map(Response::new)
    }
}

/// A request that is no good.
pub(super) fn csr(pem: &str) -> Result<Csr, Fault> {
    Csr::parse(pem).map_err(|error| {
        Fault::refused(ErrorKind::InvalidArgument, format!("csr_pem: {error}")).hint("send a PKCS #10 request for a P-256 key, in PEM")
    })
}

/// The CA could not sign, which is this machine's fault.
pub(super) fn unsigned(error: &muster_identity::authority::AuthorityError) -> Fault {
    Fault::refused(ErrorKind::Internal, error.to_string()).hint("look at the controller's CA and clock")
}

async fn enroll(api: &Api, peer: String, message: &EnrollRequest) -> Result<EnrollResponse, Fault> {
    let not_good = || {
        Fault::refused(
            ErrorKind::PermissionDenied,
            "the join token is not good: it was used, has ended, or was not made by this controller",
        )
        .hint("an admin makes a new one: `muster token create --site SITE --agent AGENT`")
    };
    let secret: JoinSecret = message.secret.parse().map_err(|_| not_good())?;
    let hash = secret.hash().to_hex();
    let mut read = api.agents.store.read().await?;
    if !tokens::is_known(&mut read, &hash, clock::now()).await? {
        return Err(not_good());
    }
    drop(read);
    // A request that cannot be signed must not use the token up.
    let csr = csr(&message.csr_pem)?;
    let now = clock::now();
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    if certificates::revoked_keys(connection).await?.contains(&csr.key_fingerprint().to_string()) {
        return Err(Fault::refused(ErrorKind::PermissionDenied, "enroll: the key of this request is revoked")
            .hint("remove the agent's identity folder, so that it makes a new key, and start it again with the same token"));
    }
    let invited = tokens::take(connection, &hash, &csr.key_fingerprint().to_string(), now).await?.ok_or_else(not_good)?;
    let life = api.config.agent_certificate_life;
    let authorities = api.agents.authorities.current();
    let issued = authorities.signs().issue_agent(&csr, &invited.site, &invited.agent, now, life).map_err(|error| unsigned(&error))?;
    let key = issued.key_fingerprint.to_string();
    let subject = format!("agent/{}", invited.agent);
    let before = agents::get(connection, &invited.agent).await?;
    let replaced = before.is_some_and(|before| before.key_fingerprint != key);
    if replaced {
        certificates::revoke_subject(connection, &subject, "the agent joined again with another key", now).await?;
    }
    agents::joined(connection, &invited.agent, &invited.site, &key, issued.serial.as_str(), issued.not_after).await?;
    certificates::keep(connection, &subject, &issued, now).await?;
    audit::append(connection, joined(&invited, peer, issued.serial.as_str(), now)).await?;
    write.commit().await?;
    if replaced {
        api.agents.roles.reload(&api.agents.store, &api.agents.revocations).await?;
        api.agents.courier.end(&invited.agent, End::Revoked);
    }
    tell_peers(api, &invited.agent).await;
    api.agents.metrics.certificates.add(1, &[KeyValue::new("why", "enroll")]);
    tracing::info!(agent = %invited.agent, site = %invited.site, serial = %issued.serial, "agent joined");
    Ok(EnrollResponse {
        certificate_pem: issued.pem,
        ca_pem: authorities.pem(),
        agent: invited.agent.to_string(),
        site: invited.site.to_string(),
        expires_at: Some(timestamp_to_proto(issued.not_after)),
    })
}

/// Receipts of this agent are checked by the key that its peers' assignments name.
async fn tell_peers(api: &Api, agent: &Name) {
    let assigner = &api.agents.assigner;
    let declared = assigner.declared();
    let is_peer = declared.instances_kept_by(agent).any(|instance| declared.instances_of(&instance.name.component).nth(1).is_some());
    if is_peer && let Err(error) = assigner.refresh().await {
        tracing::error!(%error, %agent, "its peers learn its key when assignments are made the next time");
    }
}

async fn renew(api: &Api, peer: &Peer, message: &RenewRequest) -> Result<RenewResponse, Fault> {
    let csr = csr(&message.csr_pem)?;
    let present = &peer.caller.certificate;
    if csr.key_fingerprint() != present.key_fingerprint {
        return Err(Fault::refused(ErrorKind::PermissionDenied, "renew: the request is for another key than the caller's certificate")
            .hint("an agent keeps its key; with a new one it joins again with a new token"));
    }
    let now = clock::now();
    let life = api.config.agent_certificate_life;
    let authorities = api.agents.authorities.current();
    let issued = authorities.signs().issue_agent(&csr, &peer.site, &peer.agent, now, life).map_err(|error| unsigned(&error))?;
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    agents::renewed(connection, &peer.agent, issued.serial.as_str(), issued.not_after).await?;
    certificates::keep(connection, &format!("agent/{}", peer.agent), &issued, now).await?;
    write.commit().await?;
    api.agents.metrics.certificates.add(1, &[KeyValue::new("why", "renew")]);
    tracing::info!(agent = %peer.agent, serial = %issued.serial, "certificate renewed");
    Ok(RenewResponse { certificate_pem: issued.pem, ca_pem: authorities.pem(), expires_at: Some(timestamp_to_proto(issued.not_after)) })
}

/// Recorded with what it records: anybody can call, and a record beforehand of each would fill the log.
fn joined(invited: &tokens::Invited, peer: String, serial: &str, now: Timestamp) -> What {
    What {
        at: now,
        phase: Phase::Answered,
        caller: format!("agent/{}/{}", invited.site, invited.agent),
        peer,
        rpc: "/muster.v1.EnrollmentService/Enroll".into(),
        resource: format!("agent/{}", invited.agent),
        outcome: "OK".into(),
        message: format!("certificate {serial}"),
        ..What::default()
    }
}
