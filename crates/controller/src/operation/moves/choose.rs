//! Who is to be the next writer, and what that loses at most. Ancestry is compared, never the number alone; what is not known is never zero.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::name::Name;
use muster_common::position::Ancestry;
use muster_failover::control::Role;
use muster_failover::loss::{Evidence, Loss};
use muster_failover::position::Position;
use muster_failover::shard::ShardRecord;
use muster_wire::proto::v1::InstanceRole;

use crate::operation::moves::task::Chosen;
use crate::operation::moves::view::Member;

/// Chooses; `ends` is where those that were stopped ended. `Err`: why nobody can be, one reason an instance.
///
/// # Errors
/// Where no instance can become the writer.
pub fn choose(members: &[Member], ends: &BTreeMap<Name, Position>, record: &ShardRecord, to: Option<&Name>) -> Result<Chosen, Vec<String>> {
    let mut reasons = Vec::new();
    let mut able: Vec<(&Member, &Position)> = Vec::new();
    for member in members.iter().filter(|member| to.is_none_or(|to| member.name == *to)) {
        match fit(member, record, to) {
            Ok(position) => able.push((member, position)),
            Err(why) => reasons.push(format!("{}: {why}", member.name)),
        }
    }
    let site = members.iter().find(|member| member.name == record.reign.writer).map(|writer| writer.site.clone()).unwrap_or_default();
    let best = able
        .iter()
        .find(|(one, at)| able.iter().all(|(other, theirs)| one.name == other.name || better((one, at), (other, theirs), &site)));
    let Some((member, position)) = best else {
        if !able.is_empty() {
            reasons.push("their lines part: name the one to keep with --to INSTANCE".into());
        }
        return Err(reasons);
    };
    let (loss, evidence) = bound(members, ends, record, position);
    Ok(Chosen { candidate: member.name.clone(), loss, evidence })
}

/// Whether an instance can become the writer, and how far it is.
fn fit<'a>(member: &'a Member, record: &ShardRecord, to: Option<&Name>) -> Result<&'a Position, String> {
    if record.superseded.contains(&member.name) {
        return Err("it holds what the writer no longer has: it is superseded".into());
    }
    if !member.connected {
        return Err(format!("agent {} is not connected", member.agent));
    }
    // The old writer only where it is named: it is the way back.
    if to.is_none() && record.possible_writers().contains_key(&member.name) {
        return Err("it is the writer that is to be replaced".into());
    }
    match &member.kept {
        Some(Role::Follower { kept: false } | Role::Stopped { .. } | Role::Writer { .. }) => {}
        Some(Role::Follower { kept: true }) => return Err("it is kept while the writer is restored".into()),
        Some(Role::Unmanaged) | None if member.role == InstanceRole::Standby => {
            return Err("Muster does not keep it: muster manage NAME --writer INSTANCE".into());
        }
        Some(Role::Held { .. }) => return Err("it is held until it is seeded anew".into()),
        Some(Role::Promoting { .. }) => return Err("it is being promoted".into()),
        Some(Role::Unmanaged | Role::Absent) | None => return Err("it has no data, or nothing was reported of it".into()),
    }
    member.fresh().ok_or_else(|| "how far it is was not reported of late".into())
}

fn better(one: (&Member, &Position), other: (&Member, &Position), site: &str) -> bool {
    match one.1.compare(other.1) {
        Ancestry::Line(Ordering::Greater) => true,
        Ancestry::Line(Ordering::Less) | Ancestry::Diverged(_) | Ancestry::Foreign => false,
        Ancestry::Line(Ordering::Equal) => (one.0.site != site, &one.0.name) < (other.0.site != site, &other.0.name),
    }
}

/// What is lost at most, over everyone who may have taken writes.
fn bound(members: &[Member], ends: &BTreeMap<Name, Position>, record: &ShardRecord, candidate: &Position) -> (Loss, String) {
    let (mut whole, mut texts) = (Loss::NONE, Vec::new());
    for name in record.possible_writers().keys() {
        let (loss, text) = match ends.get(name) {
            Some(end) => (Loss::bound(candidate, &Evidence::Final(end.clone())), format!("{name} is stopped at {end}")),
            None => unseen(members, name, candidate),
        };
        whole = sum(whole, loss);
        texts.push(text);
    }
    texts.push(format!("the candidate is at {candidate}"));
    (whole, texts.join("; "))
}

fn unseen(members: &[Member], name: &Name, candidate: &Position) -> (Loss, String) {
    match members.iter().find(|member| member.name == *name).and_then(|member| member.position.as_ref()) {
        Some((position, age)) => {
            let evidence = Evidence::Seen { position: position.clone(), before_end: *age, equal_before_end: None, fastest: None };
            let seen =
                format!("{name} was last seen {} ago at {position}", muster_common::duration::show(Duration::from_secs(age.as_secs())));
            (Loss::bound(candidate, &evidence), seen)
        }
        None => (Loss::bound(candidate, &Evidence::Nothing), format!("nothing is known of {name}")),
    }
}

fn sum(one: Loss, other: Loss) -> Loss {
    let bytes = one.bytes.zip(other.bytes).map(|(one, other)| one.saturating_add(other));
    let time = one.time.zip(other.time).map(|(one, other)| one.max(other));
    Loss { bytes, time }
}
