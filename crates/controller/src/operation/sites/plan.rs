//! Which components a site's move is about, and in which order they begin. Pure.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::counter::Epoch;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::{InstanceName, Name};
use muster_wire::nearest::did_you_mean;
use muster_wire::proto::v1::{ComponentSpec, InstanceSpec, Priority};

use crate::operation::asked::AskedSite;
use crate::operation::done::hooks::Around;
use crate::operation::kinds::Settled;
use crate::operation::sites::task::{Planned, Task};
use crate::operation::state;

/// The most that are moved at once.
pub const MOST_AT_ONCE: u32 = 100;
/// Moved at once where nobody said otherwise.
const AT_ONCE: u32 = 8;

/// What is declared and known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Every component.
    pub components: BTreeMap<Name, ComponentSpec>,
    /// Who writes each, as it is recorded.
    pub writers: BTreeMap<Name, Name>,
    /// Every site.
    pub sites: BTreeSet<Name>,
}

/// Settles a request.
///
/// # Errors
/// Where a site is unknown, nothing is to be moved, or dependencies go in a circle.
pub fn settle(asked: &AskedSite, known: &Known) -> Result<Settled, Fault> {
    for site in [Some(&asked.site), asked.to_site.as_ref()].into_iter().flatten() {
        if !known.sites.contains(site) {
            let near = did_you_mean(site.as_str(), known.sites.iter().map(Name::as_str));
            let near = if near.is_empty() { "`muster get sites` lists them".to_owned() } else { near };
            return Err(Fault::refused(ErrorKind::NotFound, format!("there is no site {site}")).hint(near));
        }
    }
    let title = format!("move everything away from {}", asked.site);
    let wrong = |why: String, hint: &str| Err(Fault::refused(ErrorKind::InvalidArgument, format!("{title}: {why}")).hint(hint));
    if asked.to_site.as_ref() == Some(&asked.site) {
        return wrong(format!("{} is the site that is left", asked.site), "name another one");
    }
    if asked.at_once > MOST_AT_ONCE {
        return wrong(format!("{} at once; {MOST_AT_ONCE} is the bound", asked.at_once), "fewer, or nothing for 8");
    }
    let here: BTreeMap<&Name, &ComponentSpec> =
        known.components.iter().filter(|(name, spec)| writes_at(name, spec, &asked.site, known)).collect();
    let Some((first, _)) = here.iter().next() else {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{title}: no component's writer stands there"))
            .hint("`muster status` shows who writes where"));
    };
    let components = ordered(&here, &asked.site).map_err(|circle| {
        let names: Vec<&str> = circle.iter().map(Name::as_str).collect();
        Fault::refused(ErrorKind::FailedPrecondition, format!("{title}: these depend on each other in a circle: {}", names.join(", ")))
            .hint("mend `dependsOn` of one of them, then `muster apply`")
    })?;
    let agent = agent(here.get(*first).copied(), &asked.site)
        .ok_or_else(|| Fault::refused(ErrorKind::Internal, format!("{title}: {first} has no agent")).hint("report this as a defect"))?;
    Ok(Settled {
        target: InstanceName { component: asked.site.clone(), instance: asked.site.clone() },
        agent,
        repository: None,
        epoch: Epoch(0),
        hooks: Around::default(),
        task: state::Task::Site(Box::new(Task {
            site: asked.site.clone(),
            to_site: asked.to_site.clone(),
            how: asked.how.clone(),
            on_failure: asked.on_failure,
            at_once: if asked.at_once == 0 { AT_ONCE } else { asked.at_once },
            components,
        })),
    })
}

/// The name of an instance; without one it is called as its site.
#[must_use]
pub fn called(instance: &InstanceSpec) -> &str {
    if instance.name.is_empty() { &instance.site } else { &instance.name }
}

fn writes_at(component: &Name, spec: &ComponentSpec, site: &Name, known: &Known) -> bool {
    let writer = known.writers.get(component).map(Name::as_str);
    spec.instances.iter().any(|instance| instance.site == site.as_str() && Some(called(instance)) == writer)
}

/// Whose session it is told with: an agent elsewhere, where there is one.
fn agent(spec: Option<&ComponentSpec>, site: &Name) -> Option<Name> {
    let instances = &spec?.instances;
    let elsewhere = instances.iter().find(|instance| instance.site != site.as_str());
    elsewhere.or_else(|| instances.first())?.agent.parse().ok()
}

/// By priority, each after what it depends on. The error: those that depend on each other.
fn ordered(here: &BTreeMap<&Name, &ComponentSpec>, site: &Name) -> Result<Vec<Planned>, Vec<Name>> {
    let after = |spec: &ComponentSpec| -> Vec<Name> {
        // What is not moved is where it is.
        spec.depends_on.iter().filter_map(|name| name.parse().ok()).filter(|name| here.contains_key(name)).collect()
    };
    let mut open: BTreeMap<&Name, (&ComponentSpec, Vec<Name>)> = here.iter().map(|(name, spec)| (*name, (*spec, after(spec)))).collect();
    let mut planned: Vec<Planned> = Vec::new();
    while !open.is_empty() {
        let is_free = |after: &[Name]| after.iter().all(|name| planned.iter().any(|before| before.component == *name));
        // The last of equal ones wins: names are in order, so they are looked at from the end.
        let next = open.iter().rev().filter(|(_, (_, after))| is_free(after)).max_by_key(|(_, (spec, _))| rank(spec.priority()));
        let Some(next) = next.map(|(name, _)| *name) else { return Err(open.keys().map(|name| (*name).clone()).collect()) };
        let Some((spec, after)) = open.remove(next) else { break };
        let at_site = spec.instances.iter().filter(|instance| instance.site == site.as_str());
        let here = at_site.filter_map(|instance| called(instance).parse().ok()).collect();
        planned.push(Planned { component: next.clone(), after, here });
    }
    Ok(planned)
}

const fn rank(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 1,
        Priority::Unspecified | Priority::Medium => 2,
        Priority::High => 3,
        Priority::Critical => 4,
    }
}

#[cfg(test)]
mod tests {
    use crate::operation::sites::task::{How, OnFailure};

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn component(priority: Priority, depends_on: &[&str]) -> ComponentSpec {
        let instance = |site: &str| InstanceSpec { site: site.into(), agent: format!("{site}-agent"), ..InstanceSpec::default() };
        ComponentSpec {
            priority: priority.into(),
            depends_on: depends_on.iter().map(ToString::to_string).collect(),
            instances: vec![instance("istanbul"), instance("ankara")],
            ..ComponentSpec::default()
        }
    }

    fn known(components: Vec<(&str, ComponentSpec, &str)>) -> Known {
        Known {
            writers: components.iter().map(|(component, _, writer)| (name(component), name(writer))).collect(),
            components: components.into_iter().map(|(component, spec, _)| (name(component), spec)).collect(),
            sites: BTreeSet::from([name("istanbul"), name("ankara")]),
        }
    }

    fn asked(site: &str) -> AskedSite {
        AskedSite { site: name(site), to_site: None, how: How::Switchover { stop_limit: None }, on_failure: OnFailure::Stop, at_once: 0 }
    }

    fn order(asked: &AskedSite, known: &Known) -> Result<Vec<String>, Fault> {
        let state::Task::Site(task) = settle(asked, known)?.task else { panic!("another task") };
        Ok(task.components.iter().map(|planned| planned.component.to_string()).collect())
    }

    #[test]
    fn who_writes_there_is_moved_by_priority_and_each_after_what_it_depends_on() {
        let known = known(vec![
            ("app-db", component(Priority::Critical, &["users-db", "elsewhere-db"]), "istanbul"),
            ("big-db", component(Priority::High, &[]), "istanbul"),
            ("elsewhere-db", component(Priority::Critical, &[]), "ankara"),
            ("logs-db", component(Priority::Low, &[]), "istanbul"),
            ("a-db", component(Priority::Unspecified, &[]), "istanbul"),
            ("users-db", component(Priority::Medium, &[]), "istanbul"),
        ]);
        assert_eq!(order(&asked("istanbul"), &known).unwrap(), ["big-db", "a-db", "users-db", "app-db", "logs-db"]);
        assert_eq!(order(&asked("ankara"), &known).unwrap(), ["elsewhere-db"]);
        let settled = settle(&asked("istanbul"), &known).unwrap();
        assert_eq!((settled.agent, settled.task.kind().name()), (name("ankara-agent"), "switchover-site"));
    }

    #[test]
    fn an_unknown_site_nothing_to_move_and_a_circle_are_refused_with_what_to_type() {
        let circle = known(vec![
            ("a-db", component(Priority::Low, &["b-db"]), "istanbul"),
            ("b-db", component(Priority::Low, &["a-db"]), "istanbul"),
        ]);
        let told = |asked: &AskedSite| order(asked, &circle).unwrap_err();
        assert!(told(&asked("istanbul")).message.contains("a circle: a-db, b-db"));
        assert!(told(&asked("ankara")).message.contains("no component's writer"));
        assert!(told(&asked("istanbull")).hint.contains("istanbul"));
        assert!(told(&AskedSite { to_site: Some(name("istanbul")), ..asked("istanbul") }).message.contains("is the site that is left"));
        assert!(told(&AskedSite { at_once: 101, ..asked("istanbul") }).message.contains("101 at once"));
    }
}
