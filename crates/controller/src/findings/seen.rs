//! Which changes of roles, versions and epochs are worth a line of history: pure. What always holds: a role is told when it stood for its
//! time; what could not be seen is no role; the first sight of an instance is no change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::name::{InstanceName, Name};
use muster_wire::proto::v1::{InstanceRole, RoleChange};

use crate::findings::damping::Moment;
use crate::findings::world::{Instance, World};
use crate::store::shards::Kept;
use crate::store::sightings::Sighting;

/// A role must stand for so long before it is told.
const STANDS: Duration = Duration::from_secs(3);

/// What is followed from look to look.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// A role that differs from the stored one, and since when.
    differs: BTreeMap<InstanceName, (InstanceRole, Duration)>,
    reigns: BTreeMap<Name, (Epoch, Name)>,
}

/// What a look at an instance changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighted {
    /// Which instance.
    pub instance: InstanceName,
    /// To be kept.
    pub sighting: Sighting,
    /// To be told. `None`: it was seen for the first time.
    pub told: Option<RoleChange>,
}

impl Watched {
    /// What changed of each instance that is seen now.
    pub fn instances(&mut self, now: Moment, world: &World, kept: &BTreeMap<InstanceName, Sighting>) -> Vec<Sighted> {
        let instances = world.components.iter().flat_map(|component| &component.instances);
        instances.filter_map(|instance| self.instance(now, instance, kept.get(&instance.name))).collect()
    }

    fn instance(&mut self, now: Moment, instance: &Instance, kept: Option<&Sighting>) -> Option<Sighted> {
        let seen = instance.seen.as_ref()?;
        let before = kept.cloned().unwrap_or_default();
        let mut after = before.clone();
        let mut told = Vec::new();
        if seen.role as i32 == before.role || word(seen.role).is_none() {
            self.differs.remove(&instance.name);
        } else {
            let entry = self.differs.entry(instance.name.clone()).or_insert((seen.role, now.up));
            if entry.0 != seen.role {
                *entry = (seen.role, now.up);
            }
            if kept.is_none() || now.up.saturating_sub(entry.1) >= STANDS {
                self.differs.remove(&instance.name);
                let was = InstanceRole::try_from(before.role).ok().and_then(word);
                told.extend(was.zip(word(seen.role)).map(|(was, is)| format!("was {was}, is {is}")));
                after.role = seen.role as i32;
            }
        }
        if !seen.version.is_empty() && seen.version != before.version {
            if !before.version.is_empty() {
                told.push(format!("version was {}, is {}", before.version, seen.version));
                after.version_before.clone_from(&before.version);
            }
            after.version.clone_from(&seen.version);
            after.version_since = now.wall;
        }
        if after == before {
            return None;
        }
        let told = (!told.is_empty()).then(|| change(&instance.name.component, &instance.name.instance, told.join("; ")));
        Some(Sighted { instance: instance.name.clone(), sighting: after, told })
    }

    /// Epochs that began since the last look.
    pub fn reigns(&mut self, shards: &BTreeMap<Name, Kept>) -> Vec<RoleChange> {
        let mut told = Vec::new();
        for (component, kept) in shards {
            let Some(reign) = kept.record.as_ref().map(|record| &record.reign) else { continue };
            let now = (reign.epoch, reign.writer.clone());
            let before = self.reigns.insert(component.clone(), now.clone());
            if before.is_some_and(|before| before != now) {
                told.push(change(component, &reign.writer, format!("epoch {} began: {} is the writer", reign.epoch, reign.writer)));
            }
        }
        told
    }
}

fn change(component: &Name, instance: &Name, text: String) -> RoleChange {
    RoleChange { component: component.to_string(), instance: instance.to_string(), text }
}

/// A role that is one, in words.
const fn word(role: InstanceRole) -> Option<&'static str> {
    match role {
        InstanceRole::Unspecified | InstanceRole::Unknown => None,
        InstanceRole::ReadWrite => Some("read-write"),
        InstanceRole::Standby => Some("standby"),
        InstanceRole::Down => Some("down"),
    }
}

/// Instances that are kept and declared no longer.
#[must_use]
pub fn forgotten(world: &World, kept: &BTreeMap<InstanceName, Sighting>) -> Vec<InstanceName> {
    let declared: BTreeSet<&InstanceName> = world.components.iter().flat_map(|c| &c.instances).map(|instance| &instance.name).collect();
    kept.keys().filter(|name| !declared.contains(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use muster_common::time::Timestamp;

    use super::*;
    use crate::findings::world::{Component, Seen, Stored};

    fn world(role: InstanceRole, version: &str) -> World {
        let name: InstanceName = "orders-db/istanbul".parse().unwrap();
        let seen = Seen { role, version: version.into(), ..Seen::default() };
        let instance = Instance {
            name: name.clone(),
            site: "istanbul".parse().unwrap(),
            agent: "a".parse().unwrap(),
            superseded: false,
            seen: Some(seen),
            version_changed: None,
        };
        let component = Component {
            name: name.component,
            rpo: None,
            rto: None,
            backup_every: None,
            verify_every: None,
            declared: Timestamp(0),
            paused: None,
            later_reign: None,
            missing: Vec::new(),
            has_repository: true,
            has_one_writer: true,
            stored: Stored::default(),
            instances: vec![instance],
        };
        World { components: vec![component], ..World::default() }
    }

    /// Looks once a second; gives what was told and when.
    fn run(looks: &[(InstanceRole, &str)]) -> Vec<(usize, String)> {
        let (mut watched, mut kept, mut told) = (Watched::default(), BTreeMap::new(), Vec::new());
        for (second, (role, version)) in looks.iter().enumerate() {
            let now = Moment { wall: Timestamp(second as i64 * 1_000_000), up: Duration::from_secs(second as u64) };
            for sighted in watched.instances(now, &world(*role, version), &kept) {
                kept.insert(sighted.instance, sighted.sighting);
                told.extend(sighted.told.map(|told| (second, told.text)));
            }
        }
        told
    }

    #[test]
    fn a_role_is_told_when_it_stood_for_its_time_and_a_version_at_once() {
        use InstanceRole::{Down, ReadWrite, Unknown};
        let mut looks = vec![(ReadWrite, "15.14"); 3];
        looks.extend([(Down, ""), (ReadWrite, "15.14"), (Unknown, ""), (ReadWrite, "15.14")]);
        assert_eq!(run(&looks), []);
        looks.extend([(Down, ""); 6]);
        looks.push((Down, "16.2"));
        let told = [(10, "was read-write, is down".to_owned()), (13, "version was 15.14, is 16.2".to_owned())];
        assert_eq!(run(&looks), told);
    }

    #[test]
    fn what_is_declared_no_longer_is_forgotten() {
        let kept = BTreeMap::from([
            ("orders-db/istanbul".parse().unwrap(), Sighting::default()),
            ("orders-db/ankara".parse().unwrap(), Sighting::default()),
        ]);
        assert_eq!(forgotten(&world(InstanceRole::Down, ""), &kept), ["orders-db/ankara".parse().unwrap()]);
    }
}
