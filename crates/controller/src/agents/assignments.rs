//! What an agent has to know: computed from what is declared, never edited.
//!
//! It is pure. What always holds: the same declarations, epochs and revocations give the same bytes, so that the digest tells whether an
//! agent's assignment has changed; an assignment holds its own agent's instances only.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::name::Name;
use muster_wire::proto::agent::v1::{AssignedInstance, AssignedRepository, Assignment, Peer};
use muster_wire::proto::v1::InstanceSpec;
use muster_wire::proto::v1::instance_spec::Engine;
use muster_wire::proto::v1::resource::Spec;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::inventory::{Declared, DeclaredInstance, Kind};
use crate::store::shards::Kept;

/// The most revoked serial numbers that travel with an assignment; the newest.
pub const MOST_REVOKED: usize = 10_000;

/// The agent's assignment without its revision and term, which whoever stores it gives it. `keys` are the fingerprints of the agents' keys.
#[must_use]
pub fn compute(
    agent: &Name,
    declared: &Declared,
    shards: &BTreeMap<Name, Kept>,
    keys: &BTreeMap<Name, String>,
    revoked: &[String],
) -> Assignment {
    let mut repositories = BTreeSet::new();
    let mut instances = Vec::new();
    for instance in declared.instances_kept_by(agent) {
        let shard = shards.get(&instance.name.component);
        let reign = shard.and_then(|kept| kept.record.as_ref());
        repositories.insert(instance.component.repository.as_str());
        instances.push(AssignedInstance {
            component: instance.name.component.to_string(),
            component_id: instance.component_id.to_owned(),
            instance: instance.name.instance.to_string(),
            epoch: reign.map_or(shard.map_or(0, |kept| kept.floor.0), |record| record.reign.epoch.0),
            reign_id: reign.map(|record| record.reign.id.to_string()).unwrap_or_default(),
            superseded: reign.is_some_and(|record| record.superseded.contains(&instance.name.instance)),
            repository: instance.component.repository.clone(),
            hooks: instance.component.hooks.clone(),
            peers: peers(declared, &instance, keys),
            spec: Some(InstanceSpec { name: instance.name.instance.to_string(), ..instance.spec.clone() }),
        });
    }
    let repositories = repositories.into_iter().filter_map(|name| name.parse::<Name>().ok());
    Assignment {
        revision: 0,
        term: 0,
        instances,
        repositories: repositories
            .filter_map(|name| match &declared.get(Kind::Repository, &name)?.spec {
                Some(Spec::Repository(spec)) => Some(AssignedRepository { name: name.to_string(), spec: Some(spec.clone()) }),
                Some(Spec::Site(_) | Spec::Component(_) | Spec::Schedule(_) | Spec::Route(_)) | None => None,
            })
            .collect(),
        revoked_serials: revoked.iter().take(MOST_REVOKED).cloned().collect(),
    }
}

/// The others of an instance that can be kept, with the keys that their agents' receipts are checked by.
fn peers(declared: &Declared, instance: &DeclaredInstance<'_>, keys: &BTreeMap<Name, String>) -> Vec<Peer> {
    if !matches!(instance.spec.engine, Some(Engine::Postgres(_))) {
        return Vec::new();
    }
    let others = declared.instances_of(&instance.name.component).filter(|other| other.name != instance.name);
    let peer = |other: DeclaredInstance<'_>| Peer {
        instance: other.name.instance.to_string(),
        agent: other.agent.to_string(),
        site: other.spec.site.clone(),
        key_fingerprint: keys.get(&other.agent).cloned().unwrap_or_default(),
        address: match &other.spec.engine {
            Some(Engine::Postgres(postgres)) => postgres.address.clone(),
            Some(Engine::Files(_)) | None => String::new(),
        },
    };
    others.map(peer).collect()
}

/// Tells one content from another: SHA-256 of the message without revision and term, in hexadecimal digits.
#[must_use]
pub fn digest(assignment: &Assignment) -> String {
    let content = Assignment { revision: 0, term: 0, ..assignment.clone() };
    hex::encode(Sha256::digest(content.encode_to_vec()))
}

/// The agents that anything is assigned to.
#[must_use]
pub fn assigned_agents(declared: &Declared) -> BTreeSet<Name> {
    declared.agents().cloned().collect()
}

#[cfg(test)]
mod tests {
    use muster_common::id::ReignId;
    use muster_failover::shard::ShardRecord;
    use muster_wire::proto::v1::{ComponentSpec, FilesSpec, PostgresSpec, RepositorySpec, Resource};

    use super::*;

    fn declared() -> Declared {
        let instance = |site: &str, agent: &str| InstanceSpec {
            site: site.into(),
            agent: agent.into(),
            engine: Some(Engine::Files(FilesSpec { path: "/srv".into() })),
            ..InstanceSpec::default()
        };
        let component = ComponentSpec {
            repository: "primary".into(),
            instances: vec![instance("istanbul", "i1"), instance("ankara", "a1")],
            ..ComponentSpec::default()
        };
        let mut declared = Declared::default();
        for (name, spec) in [
            ("primary", Spec::Repository(RepositorySpec::default())),
            ("unused", Spec::Repository(RepositorySpec::default())),
            ("docs", Spec::Component(component)),
        ] {
            declared.insert(Resource { name: name.into(), id: "ab".repeat(16), spec: Some(spec), ..Resource::default() }).unwrap();
        }
        declared
    }

    fn agent(name: &str) -> Name {
        name.parse().unwrap()
    }

    #[test]
    fn an_agent_is_assigned_its_own_instances_and_their_repositories_only() {
        let assignment = compute(&agent("i1"), &declared(), &BTreeMap::new(), &BTreeMap::new(), &["01".into()]);
        assert_eq!(assignment.instances.len(), 1);
        assert_eq!((assignment.instances[0].instance.as_str(), assignment.instances[0].epoch), ("istanbul", 0));
        assert_eq!(assignment.instances[0].spec.as_ref().unwrap().name, "istanbul");
        assert_eq!(assignment.repositories.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["primary"]);
        assert_eq!(assignment.revoked_serials, ["01"]);
        assert!(compute(&agent("x"), &declared(), &BTreeMap::new(), &BTreeMap::new(), &[]).instances.is_empty());
        assert_eq!(assigned_agents(&declared()), BTreeSet::from([agent("i1"), agent("a1")]));
    }

    #[test]
    fn an_instance_of_postgresql_is_told_whose_receipts_count() {
        let instance = |name: &str, agent: &str| InstanceSpec {
            name: name.into(),
            site: name.into(),
            agent: agent.into(),
            engine: Some(Engine::Postgres(PostgresSpec { address: format!("{name}:5432"), ..PostgresSpec::default() })),
        };
        let spec = ComponentSpec { instances: vec![instance("istanbul", "i1"), instance("ankara", "a1")], ..ComponentSpec::default() };
        let mut declared = Declared::default();
        let resource = Resource { name: "orders".into(), id: "ab".repeat(16), spec: Some(Spec::Component(spec)), ..Resource::default() };
        declared.insert(resource).unwrap();
        let keys = BTreeMap::from([(agent("a1"), "cd".repeat(32))]);
        let of = |keys| compute(&agent("i1"), &declared, &BTreeMap::new(), keys, &[]);
        let peer = Peer {
            instance: "ankara".into(),
            agent: "a1".into(),
            site: "ankara".into(),
            key_fingerprint: "cd".repeat(32),
            address: "ankara:5432".into(),
        };
        assert_eq!(of(&keys).instances[0].peers, [peer]);
        assert_ne!(digest(&of(&keys)), digest(&of(&BTreeMap::new())), "an agent that joins with another key is told to its peers");
    }

    #[test]
    fn the_digest_changes_with_epochs_and_superseded_marks_and_not_with_the_revision() {
        let declared = declared();
        let first = ShardRecord::first(agent("istanbul"), ReignId::from_bytes([1; 16]));
        let others = [agent("ankara")];
        let second = first.restored_in_place(&agent("istanbul"), first.reign.epoch, &others, ReignId::from_bytes([2; 16])).unwrap();
        let of = |record: Option<ShardRecord>| {
            let shards = record.map(|record| (agent("docs"), Kept { record: Some(record), ..Kept::default() })).into_iter().collect();
            compute(&agent("a1"), &declared, &shards, &BTreeMap::new(), &[])
        };
        assert!(of(Some(second.clone())).instances[0].superseded);
        let digests: BTreeSet<String> = [of(None), of(Some(first)), of(Some(second.clone()))].iter().map(digest).collect();
        assert_eq!(digests.len(), 3);
        assert_eq!(digest(&Assignment { revision: 9, term: 3, ..of(Some(second.clone())) }), digest(&of(Some(second))));
    }
}
