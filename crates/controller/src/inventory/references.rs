//! Whether all resources make sense together: what refers to what, and what is claimed twice.
//!
//! It sees the whole of what would be declared, so that one transaction may bring a site and what stands at it.

use std::collections::BTreeMap;

use muster_common::name::Name;
use muster_wire::nearest::nearest;
use muster_wire::proto::v1::instance_spec::Engine;

use super::{Declared, DeclaredInstance, Kind, MOST_NEAR};

/// What is wrong with the whole, each as one sentence. `sites_of_agents` are the sites that agents have already joined or were invited at.
#[must_use]
pub fn problems(declared: &Declared, sites_of_agents: &BTreeMap<Name, Name>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut places: BTreeMap<(Name, String), String> = BTreeMap::new();
    let mut agents = sites_of_agents.clone();
    for instance in declared.instances() {
        missing(declared, &instance, Kind::Site, instance.site.as_str(), &mut problems);
        let site = agents.entry(instance.agent.clone()).or_insert_with(|| instance.site.clone());
        if *site != instance.site {
            problems.push(format!(
                "component {}: instance {} names agent {} at site {}, but that agent stands at {site}",
                instance.name.component, instance.name.instance, instance.agent, instance.site
            ));
        }
        if let Some(place) = place(&instance)
            && let Some(other) = places.insert((instance.agent.clone(), place.clone()), instance.name.to_string())
        {
            problems.push(format!("instances {other} and {} both are {place} of agent {}", instance.name, instance.agent));
        }
    }
    problems.extend(super::schedule::problems(declared));
    problems.extend(super::route::problems(declared));
    for (kind, name, resource) in declared.iter() {
        if let Some(muster_wire::proto::v1::resource::Spec::Component(spec)) = &resource.spec
            && !spec.repository.is_empty()
            && !declared.has(Kind::Repository, &spec.repository)
        {
            let near = meant(&spec.repository, declared.names(Kind::Repository));
            problems.push(format!("{kind} {name}: repository {:?} is not declared{near}", spec.repository));
        }
    }
    problems
}

fn missing(declared: &Declared, instance: &DeclaredInstance<'_>, kind: Kind, name: &str, problems: &mut Vec<String>) {
    if !declared.has(kind, name) {
        let near = meant(name, declared.names(kind));
        problems.push(format!(
            "component {}: instance {}: {kind} {name:?} is not declared{near}",
            instance.name.component, instance.name.instance
        ));
    }
}

pub(super) fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = nearest(name, known, MOST_NEAR);
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

fn place(instance: &DeclaredInstance<'_>) -> Option<String> {
    let path = match instance.spec.engine.as_ref()? {
        Engine::Postgres(postgres) => &postgres.data_directory,
        Engine::Files(files) => &files.path,
    };
    Some(path.trim_end_matches('/').to_owned())
}

/// What uses a repository, stands at a site or is about a component, each as `component orders-db`.
#[must_use]
pub fn users(declared: &Declared, kind: Kind, name: &Name) -> Vec<String> {
    let mut users: Vec<String> = match kind {
        Kind::Site => declared.instances().filter(|i| i.site == *name).map(|i| format!("component {}", i.name.component)).collect(),
        Kind::Repository => declared
            .iter()
            .filter_map(|(_, component, resource)| match &resource.spec {
                Some(muster_wire::proto::v1::resource::Spec::Component(spec)) if spec.repository == name.as_str() => {
                    Some(format!("component {component}"))
                }
                Some(_) | None => None,
            })
            .collect(),
        Kind::Component => {
            let schedules = super::schedule::of_component(declared, name).map(|schedule| format!("schedule {schedule}"));
            schedules.chain(super::route::of_component(declared, name).map(|(route, _)| format!("route {route}"))).collect()
        }
        Kind::Schedule | Kind::Route => Vec::new(),
    };
    users.dedup();
    users
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::resource::Spec;
    use muster_wire::proto::v1::{ComponentSpec, FilesSpec, InstanceSpec, Resource, SiteSpec};

    use super::*;

    fn resource(name: &str, spec: Spec) -> Resource {
        Resource { name: name.into(), spec: Some(spec), ..Resource::default() }
    }

    fn instance(site: &str, agent: &str, path: &str) -> InstanceSpec {
        InstanceSpec {
            site: site.into(),
            agent: agent.into(),
            engine: Some(Engine::Files(FilesSpec { path: path.into() })),
            ..InstanceSpec::default()
        }
    }

    fn world(resources: Vec<Resource>) -> Declared {
        let mut declared = Declared::default();
        for resource in resources {
            declared.insert(resource).unwrap();
        }
        declared
    }

    #[test]
    fn sites_and_repositories_that_are_not_declared_are_told_with_the_nearest() {
        let component =
            ComponentSpec { repository: "primry".into(), instances: vec![instance("istambul", "a", "/x")], ..ComponentSpec::default() };
        let declared = world(vec![
            resource("istanbul", Spec::Site(SiteSpec::default())),
            resource("primary", Spec::Repository(muster_wire::proto::v1::RepositorySpec::default())),
            resource("orders", Spec::Component(component)),
        ]);
        let told = problems(&declared, &BTreeMap::new());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("did you mean istanbul?") && told[1].contains("did you mean primary?"), "{told:?}");
    }

    #[test]
    fn one_place_and_one_agent_are_not_claimed_twice() {
        let of = |instances| Spec::Component(ComponentSpec { instances, ..ComponentSpec::default() });
        let sites = ["x", "y"].map(|site| resource(site, Spec::Site(SiteSpec::default())));
        let mut resources = sites.to_vec();
        resources.push(resource("a", of(vec![instance("x", "one", "/srv/a")])));
        resources.push(resource("b", of(vec![instance("x", "one", "/srv/a/"), instance("y", "one", "/srv/b")])));
        let told = problems(&world(resources), &BTreeMap::new());
        assert!(told.iter().any(|p| p.contains("instances a/x and b/x both are /srv/a")), "{told:?}");
        assert!(told.iter().any(|p| p.contains("that agent stands at x")), "{told:?}");
    }

    #[test]
    fn an_agent_that_joined_at_another_site_is_not_taken() {
        let declared = world(vec![
            resource("x", Spec::Site(SiteSpec::default())),
            resource("a", Spec::Component(ComponentSpec { instances: vec![instance("x", "one", "/srv/a")], ..ComponentSpec::default() })),
        ]);
        let joined = BTreeMap::from([("one".parse().unwrap(), "y".parse().unwrap())]);
        assert!(problems(&declared, &joined)[0].contains("stands at y"));
        assert_eq!(users(&declared, Kind::Site, &"x".parse().unwrap()), ["component a"]);
    }
}
