//! An assignment out of its message. What cannot be understood is a problem in words and is left out; the rest is in force.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_common::counter::{Epoch, Revision, Term};
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{ComponentId, ReignId, RepositoryId};
use muster_common::name::{InstanceName, Name};
use muster_repository::location::{Credentials, Location, Pin, S3Location};
use muster_wire::convert::{id_from_proto, name_from_proto, optional_id_from_proto, optional_name_from_proto, required};
use muster_wire::proto::agent::v1 as link;
use muster_wire::proto::v1::{self, instance_spec, repository_spec};

use crate::hook::own::{Around, Named};

/// How many instances one agent keeps at most.
pub const MAX_INSTANCES: usize = 1_000;

/// How many hooks stand before a verb at most, and after it.
const MAX_HOOKS: usize = 20;

/// An assignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    /// Its number.
    pub revision: Revision,
    /// The term it was made in.
    pub term: Term,
    /// The agent's instances.
    pub instances: BTreeMap<InstanceName, AssignedInstance>,
    /// The repositories that they use.
    pub repositories: BTreeMap<Name, RepositoryPlace>,
    /// Serial numbers of revoked certificates.
    pub revoked: Vec<String>,
    /// What could not be understood.
    pub problems: Vec<String>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedInstance {
    /// Its component.
    pub component: ComponentId,
    /// Its epoch; 0: none is known.
    pub epoch: Epoch,
    /// Its reign, where one is known.
    pub reign: Option<ReignId>,
    /// Whether it holds what the writer no longer has.
    pub superseded: bool,
    /// The name of its repository.
    pub repository: Option<Name>,
    /// The hooks that its component names.
    pub hooks: Named,
    /// What it is.
    pub kind: Kind,
    /// The other instances of its component.
    pub peers: Vec<Peer>,
}

/// Another instance of a component: whose receipts count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub instance: Name,
    /// The agent that keeps it.
    pub agent: Name,
    /// SHA-256 of that agent's public key, 64 hexadecimal digits. `None`: it has not joined.
    pub key_fingerprint: Option<String>,
}

/// What an instance is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A PostgreSQL cluster.
    Postgres(v1::PostgresSpec),
    /// A folder of files.
    Files(PathBuf),
}

/// Where a repository is, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPlace {
    /// Where.
    pub location: Location,
    /// Which.
    pub pin: Pin,
}

/// Parses an assignment; never fails as a whole.
#[must_use]
pub fn parse(message: &link::Assignment) -> Assignment {
    let mut assignment = Assignment {
        revision: Revision(message.revision),
        term: Term(message.term),
        revoked: message.revoked_serials.iter().take(crate::memory::MAX_REVOKED).cloned().collect(),
        ..Assignment::default()
    };
    for repository in &message.repositories {
        match repository_from_proto(repository) {
            Ok((name, place)) => drop(assignment.repositories.insert(name, place)),
            Err(fault) => assignment.problems.push(format!("repository {:?}: {fault}", repository.name)),
        }
    }
    if message.instances.len() > MAX_INSTANCES {
        assignment.problems.push(format!("{} instances are assigned; one agent keeps {MAX_INSTANCES} at most", message.instances.len()));
    }
    for instance in message.instances.iter().take(MAX_INSTANCES) {
        match instance_from_proto(instance) {
            Ok((name, parsed)) => drop(assignment.instances.insert(name, parsed)),
            Err(fault) => assignment.problems.push(format!("instance {}/{}: {fault}", instance.component, instance.instance)),
        }
    }
    assignment
}

fn instance_from_proto(instance: &link::AssignedInstance) -> Result<(InstanceName, AssignedInstance), Fault> {
    let name = InstanceName {
        component: name_from_proto(&instance.component, "component")?,
        instance: name_from_proto(&instance.instance, "instance")?,
    };
    let spec = required(instance.spec.as_ref(), "spec")?;
    let kind = match required(spec.engine.as_ref(), "spec.engine")? {
        instance_spec::Engine::Postgres(postgres) => Kind::Postgres(postgres.clone()),
        instance_spec::Engine::Files(files) => {
            let path = PathBuf::from(&files.path);
            if !path.is_absolute() || path.parent().is_none() {
                return Err(refused(format!("files.path: {:?} is no absolute path below /", files.path)));
            }
            Kind::Files(path)
        }
    };
    let parsed = AssignedInstance {
        component: id_from_proto(&instance.component_id, "component_id")?,
        epoch: Epoch(instance.epoch),
        reign: optional_id_from_proto(&instance.reign_id, "reign_id")?,
        superseded: instance.superseded,
        repository: optional_name_from_proto(&instance.repository, "repository")?,
        hooks: named_from_proto(instance.hooks.as_ref())?,
        kind,
        peers: instance.peers.iter().take(MAX_INSTANCES).map(peer_from_proto).collect::<Result<_, _>>()?,
    };
    Ok((name, parsed))
}

fn peer_from_proto(peer: &link::Peer) -> Result<Peer, Fault> {
    Ok(Peer {
        instance: name_from_proto(&peer.instance, "peers.instance")?,
        agent: name_from_proto(&peer.agent, "peers.agent")?,
        key_fingerprint: (!peer.key_fingerprint.is_empty()).then(|| peer.key_fingerprint.clone()),
    })
}

fn named_from_proto(hooks: Option<&v1::ComponentHooks>) -> Result<Named, Fault> {
    let Some(hooks) = hooks else { return Ok(Named::default()) };
    Ok(Named {
        backup: around_from_proto(&hooks.before_backup, &hooks.after_backup)?,
        restore: around_from_proto(&hooks.before_restore, &hooks.after_restore)?,
        verify: around_from_proto(&hooks.before_verify, &hooks.after_verify)?,
    })
}

/// Names of hooks.
///
/// # Errors
/// Where one is no name, or there are too many.
pub fn around_from_proto(before: &[String], after: &[String]) -> Result<Around, Fault> {
    if before.len().max(after.len()) > MAX_HOOKS {
        return Err(refused(format!("{} hooks are named; {MAX_HOOKS} is the bound", before.len().max(after.len()))));
    }
    let names = |names: &[String]| names.iter().map(|name| name_from_proto(name, "hooks")).collect::<Result<Vec<_>, Fault>>();
    Ok(Around { before: names(before)?, after: names(after)? })
}

fn repository_from_proto(repository: &link::AssignedRepository) -> Result<(Name, RepositoryPlace), Fault> {
    let name = name_from_proto(&repository.name, "name")?;
    let spec = required(repository.spec.as_ref(), "spec")?;
    Ok((name, place_from_proto(spec)?))
}

fn place_from_proto(spec: &v1::RepositorySpec) -> Result<RepositoryPlace, Fault> {
    let location = match required(spec.location.as_ref(), "location")? {
        repository_spec::Location::Folder(folder) => {
            let path = PathBuf::from(&folder.path);
            if !path.is_absolute() {
                return Err(refused(format!("folder.path: {:?} is no absolute path", folder.path)));
            }
            Location::Folder { path }
        }
        repository_spec::Location::S3(s3) => Location::S3(S3Location {
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            region: if s3.region.is_empty() { "us-east-1".to_owned() } else { s3.region.clone() },
            endpoint: Some(s3.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
            path_style: s3.path_style,
            ca_file: Some(PathBuf::from(&s3.ca_file)).filter(|file| !file.as_os_str().is_empty()),
            credentials: match s3.credentials_file.as_str() {
                "" => Credentials::Environment,
                file => Credentials::File(PathBuf::from(file)),
            },
        }),
    };
    let mut public_key = [0; 32];
    hex::decode_to_slice(&spec.public_key, &mut public_key)
        .map_err(|_| refused("public_key: expected 64 hexadecimal digits, as `muster repo init` printed them".to_owned()))?;
    let id: RepositoryId = id_from_proto(&spec.repository_id, "repository_id")?;
    Ok(RepositoryPlace { location, pin: Pin { id, public_key } })
}

fn refused(message: String) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(component: &str, path: &str) -> link::AssignedInstance {
        let engine = Some(instance_spec::Engine::Files(v1::FilesSpec { path: path.into() }));
        link::AssignedInstance {
            component: component.into(),
            component_id: "ab".repeat(16),
            instance: "here".into(),
            repository: "primary".into(),
            spec: Some(v1::InstanceSpec { engine, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn what_cannot_be_understood_is_told_and_the_rest_is_in_force() {
        let folder = repository_spec::Location::Folder(v1::FolderLocation { path: "/srv/repo".into() });
        let spec = v1::RepositorySpec { repository_id: "cd".repeat(16), public_key: "ef".repeat(32), location: Some(folder) };
        let short = v1::RepositorySpec { public_key: "ef".into(), ..spec.clone() };
        let repository = |name: &str, spec| link::AssignedRepository { name: name.into(), spec: Some(spec) };
        let message = link::Assignment {
            revision: 7,
            term: 2,
            instances: vec![files("good", "/srv/files"), files("relative", "srv"), files("Bad Name", "/srv"), files("root", "/")],
            repositories: vec![repository("primary", spec), repository("broken", short)],
            revoked_serials: vec!["aa".into()],
        };
        let assignment = parse(&message);
        assert_eq!(assignment.instances.len(), 1);
        assert_eq!(assignment.repositories.len(), 1);
        assert_eq!(assignment.problems.len(), 4, "{:?}", assignment.problems);
        assert!(assignment.problems.iter().any(|problem| problem.contains("broken") && problem.contains("muster repo init")));
    }
}
