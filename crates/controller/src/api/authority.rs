//! The CA's part of `FleetService`: what is trusted, a new CA, the old one retired, an operator's certificate renewed.
//!
//! What always holds: the old CA is retired only when nobody would be locked out but those whom the caller names.

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::time::Timestamp;
use muster_identity::caller::Caller;
use muster_identity::fingerprint::Fingerprint;
use muster_identity::identity::Identity;
use muster_service::clock;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::v1;
use muster_wire::proto::v1::{
    GetAuthoritiesResponse, RenewOperatorRequest, RenewOperatorResponse, RetireAuthorityRequest, RetireAuthorityResponse,
    RotateAuthorityResponse,
};
use opentelemetry::KeyValue;

use super::Api;
use super::enrollment::{csr, unsigned};
use crate::ca::authorities::Current;
use crate::ca::retirement::{Holder, holders};
use crate::store::error::StoreError;
use crate::store::{Connection, agents, certificates, operators, tokens};

/// The most holders that a refusal names; `muster ca status` has all.
const MOST_NAMED: usize = 20;

fn shown(current: &Current) -> Vec<v1::Authority> {
    let one = |authority: &muster_identity::authority::Authority, since: Option<Timestamp>| v1::Authority {
        fingerprint: authority.fingerprint().to_string(),
        until: Some(timestamp_to_proto(authority.not_after())),
        signs: authority.fingerprint() == current.signs().fingerprint(),
        since: since.map(timestamp_to_proto),
    };
    let next = current.next.as_ref().map(|(next, since)| one(next, Some(*since)));
    [Some(one(&current.in_force, None)), next].into_iter().flatten().collect()
}

async fn stand_in_the_way(connection: &mut Connection, new: &Fingerprint, now: Timestamp) -> Result<Vec<Holder>, StoreError> {
    let operators = certificates::operators_of_another(connection, &new.to_string(), now).await?;
    Ok(holders(&agents::all(connection).await?, &operators, new, now))
}

pub(super) async fn get(api: &Api) -> Result<GetAuthoritiesResponse, Fault> {
    let current = api.agents.authorities.current();
    let now = clock::now();
    let mut read = api.agents.store.read().await?;
    let waiting = match &current.next {
        Some((next, _)) => stand_in_the_way(&mut read, &next.fingerprint(), now).await?,
        None => Vec::new(),
    };
    let open = tokens::invited(&mut read, now).await?.len();
    Ok(GetAuthoritiesResponse {
        authorities: shown(&current),
        waiting_for: waiting
            .into_iter()
            .map(|holder| v1::AuthorityHolder { name: holder.name, why: holder.why, hint: holder.hint })
            .collect(),
        open_tokens: u32::try_from(open).unwrap_or(u32::MAX),
    })
}

pub(super) async fn rotate(api: &Api, caller: &str) -> Result<RotateAuthorityResponse, Fault> {
    let authorities = &api.agents.authorities;
    if authorities.current().next.is_some() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, "a rotation of the CA is open already")
            .hint("`muster ca status` tells who it waits for; then `muster ca retire`"));
    }
    authorities.rotate(clock::now()).await.map_err(|error| {
        Fault::refused(ErrorKind::Internal, format!("make a new CA: {error:#}"))
            .hint("look at the CA's folder in the controller's state directory, then `muster ca rotate` again")
    })?;
    api.back_up_soon();
    let current = authorities.current();
    tracing::warn!(caller, authority = %current.signs().fingerprint(), "a rotation of the CA was begun");
    Ok(RotateAuthorityResponse { authorities: shown(&current) })
}

/// What retiring says.
enum Unretired {
    Refused(Fault),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Unretired {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

pub(super) async fn retire(api: &Api, caller: &str, message: &RetireAuthorityRequest) -> Result<RetireAuthorityResponse, Fault> {
    let authorities = &api.agents.authorities;
    if authorities.current().next.is_none() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, "there is no old CA: no rotation is open")
            .hint("`muster ca rotate` makes a new CA first"));
    }
    let now = clock::now();
    let may = async |current: &Current| may_retire(api, current, &message.without, now).await.map_err(Unretired::Refused);
    let (old, voided) = authorities.retire(now, may).await.map_err(|unretired| match unretired {
        Unretired::Refused(fault) => fault,
        Unretired::Failed(error) => Fault::failed(ErrorKind::Internal, format!("retire the old CA: {error:#}"))
            .effect(Effect::Unknown)
            .hint("`muster ca status` tells how far it came; a restart of the controller goes on with it"),
    })?;
    // Who connects anew is refused by TLS; whoever is connected ends here.
    api.agents.revocations.retire_authority(old);
    api.back_up_soon();
    tracing::warn!(caller, retired = %old, without = message.without.join(", "), "the old CA was retired");
    Ok(RetireAuthorityResponse {
        authority: shown(&authorities.current()).pop(),
        retired: old.to_string(),
        voided_tokens: u32::try_from(voided).unwrap_or(u32::MAX),
    })
}

/// Refuses where somebody would be locked out who was not named; ends join tokens, which pin the old CA.
async fn may_retire(api: &Api, current: &Current, without: &[String], now: Timestamp) -> Result<u64, Fault> {
    let new = current.signs().fingerprint();
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    known(connection, without).await?;
    let waiting = stand_in_the_way(connection, &new, now).await?;
    let left: Vec<_> = waiting.iter().filter(|holder| !without.contains(&holder.name)).collect();
    if !left.is_empty() {
        let named: Vec<_> = left.iter().take(MOST_NAMED).map(|holder| format!("{} ({})", holder.name, holder.why)).collect();
        let force: String = waiting.iter().take(MOST_NAMED).map(|holder| format!(" --force {}", holder.name)).collect();
        let more = if left.len() > MOST_NAMED { format!(" and {} more", left.len() - MOST_NAMED) } else { String::new() };
        let message = format!("the old CA is still needed by {}{more}", named.join(", "));
        let hint = format!("`muster ca status` tells what each needs; to lock them out: `muster ca retire{force}`");
        return Err(Fault::refused(ErrorKind::FailedPrecondition, message).hint(hint));
    }
    let voided = tokens::void_unused(connection, now).await?;
    write.commit().await?;
    Ok(voided)
}

async fn known(connection: &mut Connection, without: &[String]) -> Result<(), Fault> {
    let mut names: Vec<String> = agents::all(connection).await?.iter().map(|agent| format!("agent/{}", agent.name)).collect();
    names.extend(operators::all(connection).await?.iter().map(|operator| format!("operator/{}", operator.name)));
    match without.iter().find(|name| !names.contains(name)) {
        None => Ok(()),
        Some(stranger) => {
            let stranger: String = stranger.chars().take(120).collect();
            Err(Fault::refused(ErrorKind::InvalidArgument, format!("without: {stranger:?} is neither an agent nor an operator"))
                .hint("write agent/NAME or operator/NAME, as `muster ca status` does"))
        }
    }
}

pub(super) async fn renew_operator(api: &Api, caller: &Caller, message: &RenewOperatorRequest) -> Result<RenewOperatorResponse, Fault> {
    let csr = csr(&message.csr_pem)?;
    let Identity::Operator { name } = &caller.identity else {
        return Err(Fault::refused(ErrorKind::PermissionDenied, "only operators renew this way").hint("agents renew by themselves"));
    };
    if csr.key_fingerprint() != caller.certificate.key_fingerprint {
        return Err(Fault::refused(ErrorKind::PermissionDenied, "renew: the request is for another key than the caller's certificate")
            .hint("for a new key an admin types `muster operator add NAME --role ROLE`"));
    }
    let now = clock::now();
    let authorities = api.agents.authorities.current();
    // As long as the one before was good for: whoever was given a day does not get ninety by asking.
    let life = caller.certificate.not_after.since(caller.certificate.not_before.plus(muster_identity::certificate::BACKDATE));
    let issued = authorities.signs().issue_operator(&csr, name, now, life).map_err(|error| unsigned(&error))?;
    let role = caller.role.ok_or_else(|| {
        Fault::refused(ErrorKind::PermissionDenied, "this operator has no role any more").hint("an admin types `muster operator add`")
    })?;
    let mut write = api.agents.store.write().await?;
    let connection = write.connection();
    let present = operators::all(connection).await?.into_iter().find(|known| known.name == *name);
    let role = present.filter(|known| !known.revoked).map_or(role, |known| known.role);
    operators::issued(connection, name, role, issued.serial.as_str(), issued.not_after).await?;
    certificates::keep(connection, &format!("operator/{name}"), &issued, now).await?;
    write.commit().await?;
    api.agents.metrics.certificates.add(1, &[KeyValue::new("why", "operator")]);
    tracing::info!(operator = %name, serial = %issued.serial, "operator's certificate renewed");
    Ok(RenewOperatorResponse {
        certificate_pem: issued.pem,
        ca_pem: authorities.pem(),
        expires_at: Some(timestamp_to_proto(issued.not_after)),
    })
}
