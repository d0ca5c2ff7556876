//! A component as acceptance sees it: what is declared, who is connected, what was seen last. Plain data; reading it is `handle`'s.

use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::{InstanceName, Name};
use muster_wire::convert::{name_from_proto, optional_name_from_proto};
use muster_wire::nearest::did_you_mean;
use muster_wire::proto::v1::{ComponentSpec, Condition, InstanceRole};

use crate::agents::observations::Seen;
use crate::operation::done::hooks::Named;
use crate::store::shards::Kept;

/// An observation that is older tells nothing of now.
pub const FRESH: Duration = Duration::from_secs(30);

/// A component and its instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Its name.
    pub component: Name,
    /// The repository that its points go to.
    pub repository: Option<Name>,
    /// The hooks that it names.
    pub hooks: Named,
    /// Its instances, as declared.
    pub instances: Vec<Instance>,
    /// Who writes, as far as it is known.
    pub shard: Kept,
}

/// One instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name within the component.
    pub name: Name,
    /// The agent beside it.
    pub agent: Name,
    /// Whether that agent is connected.
    pub connected: bool,
    /// What it does, by the last look that is fresh.
    pub role: InstanceRole,
    /// What does not hold and refuses work, by the last full look.
    pub blocking: Vec<Condition>,
    /// Whether it holds what the writer no longer has.
    pub superseded: bool,
}

impl Fleet {
    /// Puts together what is declared with what was seen.
    ///
    /// # Errors
    /// Where the declaration holds what is no name.
    pub fn assemble(
        component: &Name,
        spec: &ComponentSpec,
        shard: Kept,
        connected: impl Fn(&Name) -> bool,
        seen: impl Fn(&InstanceName) -> Option<Seen>,
        now: Instant,
    ) -> Result<Self, Fault> {
        let mut instances = Vec::new();
        for declared in &spec.instances {
            let name = name_from_proto(if declared.name.is_empty() { &declared.site } else { &declared.name }, "instance.name")?;
            let agent = name_from_proto(&declared.agent, "instance.agent")?;
            let last = seen(&InstanceName { component: component.clone(), instance: name.clone() });
            let fresh = last.as_ref().filter(|seen| seen.age(now) <= FRESH);
            instances.push(Instance {
                connected: connected(&agent),
                role: fresh.map_or(InstanceRole::Unspecified, |seen| seen.observation.role()),
                blocking: fresh.map(|seen| blocking(&seen.observation.conditions)).unwrap_or_default(),
                superseded: shard.record.as_ref().is_some_and(|record| record.superseded.contains(&name)),
                name,
                agent,
            });
        }
        let repository = optional_name_from_proto(&spec.repository, "component.repository")?;
        Ok(Self { component: component.clone(), repository, hooks: Named::read(spec.hooks.as_ref())?, instances, shard })
    }

    /// An instance by its name.
    ///
    /// # Errors
    /// Where there is none; names the nearest.
    pub fn instance(&self, name: &Name) -> Result<&Instance, Fault> {
        self.instances.iter().find(|instance| instance.name == *name).ok_or_else(|| {
            let names = self.instances.iter().map(|instance| instance.name.as_str());
            Fault::refused(ErrorKind::NotFound, format!("component {} has no instance {name}", self.component))
                .evidence(format!("it has: {}", names.clone().collect::<Vec<_>>().join(", ")))
                .hint(match did_you_mean(name.as_str(), names) {
                    near if near.is_empty() => format!("name one that it has: muster status {}", self.component),
                    near => near,
                })
        })
    }

    /// The repository that points go to.
    ///
    /// # Errors
    /// Where the component has none.
    pub fn repository(&self) -> Result<&Name, Fault> {
        self.repository.as_ref().ok_or_else(|| {
            Fault::refused(ErrorKind::FailedPrecondition, format!("component {} has no repository", self.component))
                .hint("declare one: kind Repository, then `repository: <name>` in the component's spec, then `muster apply`")
        })
    }

    /// The instance as texts name it.
    #[must_use]
    pub fn full_name(&self, instance: &Instance) -> InstanceName {
        InstanceName { component: self.component.clone(), instance: instance.name.clone() }
    }
}

impl Instance {
    /// Refuses work where a condition forbids it.
    ///
    /// # Errors
    /// With every such condition, and the hint of the first.
    pub fn refuse_on(&self, title: &str, counts: impl Fn(&Condition) -> bool) -> Result<(), Fault> {
        let against: Vec<_> = self.blocking.iter().filter(|condition| counts(condition)).collect();
        let Some(first) = against.first() else { return Ok(()) };
        let refused = Fault::refused(ErrorKind::FailedPrecondition, format!("{title}: {}", first.message)).hint(first.hint.clone());
        Err(against.iter().fold(refused, |fault, condition| fault.evidence(format!("{}: {}", condition.name, condition.message))))
    }
}

fn blocking(conditions: &[Condition]) -> Vec<Condition> {
    conditions.iter().filter(|condition| condition.blocking && !condition.ok).cloned().collect()
}
