//! What operators declare: the resources, whether they make sense together, what changes between two versions of one.
//!
//! Beside `kept` it is pure: it knows no store, no gRPC call and no agent. The specs are the wire's own messages, since they are data and nothing else.

pub mod changes;
pub mod difference;
pub mod form;
pub mod kept;
pub mod references;
pub mod route;
pub mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::{InstanceName, Name};
use muster_wire::nearest::nearest;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{ComponentSpec, InstanceSpec, Resource, ResourceKind};

/// The most resources that one controller keeps.
pub const MOST_RESOURCES: usize = 10_000;

/// The most nearest names that a refusal tells.
pub const MOST_NEAR: usize = 3;

/// The kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A data centre.
    Site,
    /// Where backups are kept.
    Repository,
    /// A thing that must survive.
    Component,
    /// What is done by itself at its time.
    Schedule,
    /// A name that follows the writer.
    Route,
}

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Site, Self::Repository, Self::Component, Self::Schedule, Self::Route];

    /// As it is stored and told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Repository => "repository",
            Self::Component => "component",
            Self::Schedule => "schedule",
            Self::Route => "route",
        }
    }

    /// Of a wire message; `None` where it is unspecified or of a newer version.
    #[must_use]
    pub fn from_proto(kind: i32) -> Option<Self> {
        match ResourceKind::try_from(kind).ok()? {
            ResourceKind::Unspecified => None,
            ResourceKind::Site => Some(Self::Site),
            ResourceKind::Repository => Some(Self::Repository),
            ResourceKind::Component => Some(Self::Component),
            ResourceKind::Schedule => Some(Self::Schedule),
            ResourceKind::Route => Some(Self::Route),
        }
    }

    /// For a wire message.
    #[must_use]
    pub const fn to_proto(self) -> ResourceKind {
        match self {
            Self::Site => ResourceKind::Site,
            Self::Repository => ResourceKind::Repository,
            Self::Component => ResourceKind::Component,
            Self::Schedule => ResourceKind::Schedule,
            Self::Route => ResourceKind::Route,
        }
    }

    /// Of a declared spec.
    #[must_use]
    pub const fn of(spec: &Spec) -> Self {
        match spec {
            Spec::Site(_) => Self::Site,
            Spec::Repository(_) => Self::Repository,
            Spec::Component(_) => Self::Component,
            Spec::Schedule(_) => Self::Schedule,
            Spec::Route(_) => Self::Route,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is declared at one moment. Every resource in it has a valid name and a spec of its kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    resources: BTreeMap<(Kind, Name), Resource>,
    /// The components that each agent keeps an instance of: whoever asks for one agent's must not look through all.
    kept_by: BTreeMap<Name, BTreeSet<Name>>,
}

/// One instance as it is declared.
#[derive(Clone, Debug)]
pub struct DeclaredInstance<'a> {
    /// Its full name; an instance without a name is called as its site.
    pub name: InstanceName,
    /// Its site.
    pub site: Name,
    /// The agent that keeps it.
    pub agent: Name,
    /// What it is.
    pub spec: &'a InstanceSpec,
    /// The component's declaration.
    pub component: &'a ComponentSpec,
    /// The component's id.
    pub component_id: &'a str,
}

impl Declared {
    /// Puts a resource in, in place of the one of its kind and name.
    ///
    /// # Errors
    /// Where it has no spec or no valid name.
    pub fn insert(&mut self, resource: Resource) -> Result<(), Fault> {
        let (kind, name) = form::identify(&resource)?;
        self.remove(kind, &name);
        for agent in keepers(&resource) {
            self.kept_by.entry(agent).or_default().insert(name.clone());
        }
        self.resources.insert((kind, name), resource);
        Ok(())
    }

    /// Takes a resource out.
    pub fn remove(&mut self, kind: Kind, name: &Name) -> Option<Resource> {
        let removed = self.resources.remove(&(kind, name.clone()))?;
        for agent in keepers(&removed) {
            if let Some(components) = self.kept_by.get_mut(&agent) {
                components.remove(name);
                if components.is_empty() {
                    self.kept_by.remove(&agent);
                }
            }
        }
        Some(removed)
    }

    /// The resource of this kind and name.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &Name) -> Option<&Resource> {
        self.resources.get(&(kind, name.clone()))
    }

    /// Whether there is a resource of this kind and name.
    #[must_use]
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        name.parse().is_ok_and(|name| self.resources.contains_key(&(kind, name)))
    }

    /// The resource of this kind and name, or the refusal that tells the nearest names.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find(&self, kind: Kind, name: &str) -> Result<&Resource, Fault> {
        let known = name.parse::<Name>().ok().and_then(|name| self.resources.get(&(kind, name)));
        known.ok_or_else(|| not_found(kind.as_str(), name, self.names(kind)))
    }

    /// The component of this name, or the refusal that tells the nearest names.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn component(&self, name: &str) -> Result<&ComponentSpec, Fault> {
        match &self.find(Kind::Component, name)?.spec {
            Some(Spec::Component(spec)) => Ok(spec),
            Some(Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_)) | None => {
                Err(not_found("component", name, self.names(Kind::Component)))
            }
        }
    }

    /// All resources, ordered by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Name, &Resource)> {
        self.resources.iter().map(|((kind, name), resource)| (*kind, name, resource))
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The names of a kind, in order.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.resources.keys().skip_while(move |(k, _)| *k < kind).take_while(move |(k, _)| *k == kind).map(|(_, name)| name.as_str())
    }

    /// All instances of all components. Those whose names were never valid are left out: `references` refuses them before they are kept.
    pub fn instances(&self) -> impl Iterator<Item = DeclaredInstance<'_>> {
        self.resources.iter().flat_map(|((_, name), resource)| instances(name, resource))
    }

    /// The instances of one component.
    pub fn instances_of(&self, component: &Name) -> impl Iterator<Item = DeclaredInstance<'_>> {
        self.resources
            .get_key_value(&(Kind::Component, component.clone()))
            .into_iter()
            .flat_map(|((_, name), resource)| instances(name, resource))
    }

    /// The instances that one agent keeps, in the order of [`Declared::instances`].
    pub fn instances_kept_by<'a>(&'a self, agent: &'a Name) -> impl Iterator<Item = DeclaredInstance<'a>> {
        let components = self.kept_by.get(agent).into_iter().flatten();
        components.flat_map(|component| self.instances_of(component)).filter(move |instance| instance.agent == *agent)
    }

    /// The agents that keep anything, in order.
    pub fn agents(&self) -> impl Iterator<Item = &Name> {
        self.kept_by.keys()
    }

    /// One instance of a component, or the refusal that tells the nearest names.
    ///
    /// # Errors
    /// `NotFound` where there is no such component or instance.
    pub fn instance(&self, component: &str, instance: &str) -> Result<DeclaredInstance<'_>, Fault> {
        self.component(component)?;
        let of_it: Vec<_> = component.parse().ok().map(|name| self.instances_of(&name).collect()).unwrap_or_default();
        match of_it.iter().find(|i| i.name.instance.as_str() == instance) {
            Some(found) => Ok(found.clone()),
            None => Err(not_found(&format!("instance of {component}"), instance, of_it.iter().map(|i| i.name.instance.as_str()))),
        }
    }
}

/// The instances of a resource: none where it is no component.
fn instances<'a>(name: &'a Name, resource: &'a Resource) -> impl Iterator<Item = DeclaredInstance<'a>> {
    let component = match &resource.spec {
        Some(Spec::Component(component)) => Some(component),
        Some(Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_)) | None => None,
    };
    component.into_iter().flat_map(move |component| {
        component.instances.iter().filter_map(move |spec| {
            Some(DeclaredInstance {
                name: InstanceName { component: name.clone(), instance: instance_name(spec).parse().ok()? },
                site: spec.site.parse().ok()?,
                agent: spec.agent.parse().ok()?,
                spec,
                component,
                component_id: &resource.id,
            })
        })
    })
}

/// The agents that keep an instance of a resource.
fn keepers(resource: &Resource) -> BTreeSet<Name> {
    match &resource.spec {
        Some(Spec::Component(component)) => component.instances.iter().filter_map(|spec| spec.agent.parse().ok()).collect(),
        Some(Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_)) | None => BTreeSet::new(),
    }
}

/// An instance's label: its own, or its site's name.
#[must_use]
pub fn instance_name(spec: &InstanceSpec) -> &str {
    if spec.name.is_empty() { &spec.site } else { &spec.name }
}

/// The refusal of a name that does not exist; its hint tells the nearest ones that do.
pub fn not_found<'a>(what: &str, name: &str, existing: impl IntoIterator<Item = &'a str>) -> Fault {
    let name: String = name.chars().take(80).collect();
    let existing: Vec<&str> = existing.into_iter().collect();
    let near = nearest(&name, existing.iter().copied(), MOST_NEAR);
    let hint = match (near.is_empty(), existing.is_empty()) {
        (false, _) => format!("did you mean {}?", near.join(" or ")),
        (true, true) => format!("there is no {what} yet; declare it with `muster apply -f FILE`"),
        (true, false) => {
            let some: Vec<&str> = existing.iter().copied().take(5).collect();
            let more = if existing.len() > some.len() { format!(" and {} more", existing.len() - some.len()) } else { String::new() };
            format!("there are: {}{more}", some.join(", "))
        }
    };
    Fault::refused(ErrorKind::NotFound, format!("there is no {what} {name:?}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_exist_is_told_with_the_nearest_ones() {
        let existing = ["orders-db", "orders-cache", "billing"];
        let hint = |name| not_found("component", name, existing).hint;
        assert_eq!(hint("order-db"), "did you mean orders-db?");
        assert_eq!(hint("orders"), "did you mean orders-db or orders-cache?");
        assert_eq!(hint("zzz"), "there are: orders-db, orders-cache, billing");
        assert!(not_found("component", "x", []).hint.contains("muster apply"));
    }
}
