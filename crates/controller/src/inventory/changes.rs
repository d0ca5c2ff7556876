//! What applying resources to what is declared would do: a pure function, used for the dry run and for the real one.
//!
//! What always holds: all of a request or nothing of it; what is the same keeps its etag, id and times.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::json;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{Change, ComponentSpec, Difference, Resource};

use super::{Declared, Kind, MOST_RESOURCES, difference, form, instance_name, references};

/// The most resources of one request.
pub const MOST_APPLIED: usize = 1_000;
/// The most problems that one refusal tells.
const MOST_PROBLEMS: usize = 20;

/// What a change is judged by, beside the declarations themselves.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The sites of agents that have joined or were invited.
    pub sites_of_agents: BTreeMap<Name, Name>,
    /// Instances on which an operation runs now, with its id.
    pub busy: BTreeMap<InstanceName, String>,
    /// The time.
    pub now: Timestamp,
}

/// What applying would do.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All that would be declared.
    pub declared: Declared,
    /// A difference for each resource of the request.
    pub differences: Vec<Difference>,
}

/// Computes what applying `resources` to `present` does. `draw` gives 16 new random bytes at each call.
///
/// # Errors
/// All that is wrong with the request, in one fault.
pub fn apply(
    present: &Declared,
    resources: Vec<Resource>,
    world: &Circumstances,
    mut draw: impl FnMut() -> [u8; 16],
) -> Result<Outcome, Fault> {
    if resources.len() > MOST_APPLIED {
        return Err(Fault::refused(
            ErrorKind::ResourceExhausted,
            format!("apply {} resources: {MOST_APPLIED} is the bound of one request", resources.len()),
        )
        .hint("apply them in several files"));
    }
    let mut declared = present.clone();
    let mut differences = Vec::with_capacity(resources.len());
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for asked in resources {
        let (kind, name) = form::identify(&asked)?;
        if !seen.insert((kind, name.clone())) {
            problems.push(format!("{kind} {name} is there twice in the request"));
            continue;
        }
        let Some(spec) = asked.spec.clone() else { continue };
        problems.extend(form::problems(&spec).into_iter().map(|problem| format!("{kind} {name}: {problem}")));
        let before = present.get(kind, &name);
        check_etag(kind, &name, &asked.etag, before)?;
        check_id(kind, &name, &asked.id, before, &declared)?;
        check_change(kind, &name, before, &spec, world)?;
        let difference = change(kind, &name, before, (asked.id, spec), world.now, &mut draw)?;
        if let Some(resource) = &difference.resource {
            declared.insert(resource.clone())?;
        }
        differences.push(difference);
    }
    if declared.len() > MOST_RESOURCES {
        problems.push(format!("{} resources would be declared; {MOST_RESOURCES} is the bound", declared.len()));
    }
    // Names that are none would only be told twice.
    if problems.is_empty() {
        problems.extend(references::problems(&declared, &world.sites_of_agents));
    }
    refuse(problems)?;
    Ok(Outcome { declared, differences })
}

/// Computes what is declared without one resource, and hands it out.
///
/// # Errors
/// Where it does not exist, its etag is another one, something refers to it, or an operation runs on it.
pub fn delete(present: &Declared, kind: Kind, name: &str, etag: &str, world: &Circumstances) -> Result<(Declared, Resource), Fault> {
    let resource = present.find(kind, name)?;
    let (_, name) = form::identify(resource)?;
    check_etag(kind, &name, etag, Some(resource))?;
    let users = references::users(present, kind, &name);
    if !users.is_empty() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("delete {kind} {name}: it is used by {}", users.join(", ")))
            .hint("change or delete these first"));
    }
    if kind == Kind::Component
        && let Some((instance, operation)) = world.busy.iter().find(|(instance, _)| instance.component == name)
    {
        return Err(holder(&format!("delete {kind} {name}"), instance, operation));
    }
    let mut declared = present.clone();
    let removed = declared.remove(kind, &name).unwrap_or_else(|| resource.clone());
    Ok((declared, removed))
}

fn check_etag(kind: Kind, name: &Name, given: &str, before: Option<&Resource>) -> Result<(), Fault> {
    let present = before.map_or("", |resource| resource.etag.as_str());
    if given.is_empty() || given == present {
        return Ok(());
    }
    let message = match before {
        None => format!("{kind} {name}: an etag was given, but it does not exist"),
        Some(_) => format!("{kind} {name} changed meanwhile: its etag is {present}, not {given:.40}"),
    };
    Err(Fault::refused(ErrorKind::Conflict, message)
        .hint(format!("read it again (`muster get {kind} {name}`), then apply your change to that")))
}

/// An id is given back to a controller that was made anew: a component's points and keys in the repository go by it.
fn check_id(kind: Kind, name: &Name, given: &str, before: Option<&Resource>, declared: &Declared) -> Result<(), Fault> {
    if given.is_empty() || before.is_some_and(|before| before.id == given) {
        return Ok(());
    }
    let problem = if let Some(before) = before {
        format!("its id is {}, not {given:.40}", before.id)
    } else if given.len() != 32 || !given.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
        format!("the id {given:.40} is not 32 hexadecimal digits")
    } else if let Some(other) = declared.iter().find(|(_, _, other)| other.id == given) {
        format!("the id {given} is {} {}'s", other.0, other.1)
    } else {
        return Ok(());
    };
    Err(Fault::refused(ErrorKind::Conflict, format!("{kind} {name}: {problem}"))
        .hint("leave the id out: it is given back only to what this controller does not know yet"))
}

/// What of a component must not change, or not now.
fn check_change(kind: Kind, name: &Name, before: Option<&Resource>, spec: &Spec, world: &Circumstances) -> Result<(), Fault> {
    let Some(Spec::Component(before)) = before.and_then(|resource| resource.spec.as_ref()) else { return Ok(()) };
    let Spec::Component(after) = spec else { return Ok(()) };
    if let (Some(old), Some(new)) = (engine_of(before), engine_of(after))
        && old != new
    {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{kind} {name}: its engine is {old} and cannot become {new}"))
            .hint("declare a component with another name, or delete this one first"));
    }
    for (instance, operation) in world.busy.iter().filter(|(instance, _)| instance.component == *name) {
        let of = |spec: &ComponentSpec| spec.instances.iter().find(|i| instance_name(i) == instance.instance.as_str()).cloned();
        if of(before) != of(after) || before.repository != after.repository {
            return Err(holder(&format!("change {kind} {name}"), instance, operation));
        }
    }
    Ok(())
}

fn engine_of(component: &ComponentSpec) -> Option<&'static str> {
    component.instances.first().and_then(|instance| instance.engine.as_ref()).map(form::engine_name)
}

fn holder(what: &str, instance: &InstanceName, operation: &str) -> Fault {
    let short: String = operation.chars().take(12).collect();
    Fault::refused(ErrorKind::Conflict, format!("{what}: operation {short} runs on {instance}"))
        .hint(format!("wait for it (`muster wait {short}`) or stop it (`muster cancel {short}`)"))
}

fn change(
    kind: Kind,
    name: &Name,
    before: Option<&Resource>,
    (id, spec): (String, Spec),
    now: Timestamp,
    draw: &mut impl FnMut() -> [u8; 16],
) -> Result<Difference, Fault> {
    let of = |change: Change, fields: Vec<String>, resource: Resource| Difference {
        kind: kind.to_proto().into(),
        name: name.to_string(),
        change: change.into(),
        fields,
        resource: Some(resource),
    };
    let now = Some(timestamp_to_proto(now));
    let Some(before) = before else {
        let resource = Resource {
            name: name.to_string(),
            etag: new_etag(draw()),
            id: if id.is_empty() { hex::encode(draw()) } else { id },
            created_at: now,
            updated_at: now,
            conditions: Vec::new(),
            spec: Some(spec),
        };
        return Ok(of(Change::Created, Vec::new(), resource));
    };
    if before.spec.as_ref() == Some(&spec) {
        return Ok(of(Change::Unchanged, Vec::new(), before.clone()));
    }
    let after = Resource { etag: new_etag(draw()), updated_at: now, spec: Some(spec), ..before.clone() };
    let fields = difference::fields(&spec_json(before)?, &spec_json(&after)?);
    Ok(of(Change::Updated, fields, after))
}

fn new_etag(random: [u8; 16]) -> String {
    hex::encode(random.split_at(8).0)
}

/// The JSON form of the spec alone, so that paths start at the spec as they do in YAML.
fn spec_json(resource: &Resource) -> Result<serde_json::Value, Fault> {
    let value = match &resource.spec {
        Some(Spec::Site(spec)) => json::to_value(spec, "muster.v1.SiteSpec"),
        Some(Spec::Repository(spec)) => json::to_value(spec, "muster.v1.RepositorySpec"),
        Some(Spec::Component(spec)) => json::to_value(spec, "muster.v1.ComponentSpec"),
        Some(Spec::Schedule(spec)) => json::to_value(spec, "muster.v1.ScheduleSpec"),
        Some(Spec::Route(spec)) => json::to_value(spec, "muster.v1.RouteSpec"),
        None => Ok(serde_json::Value::Null),
    };
    // Durations out of their range were refused before.
    value.map_err(|error| Fault::refused(ErrorKind::Internal, error.to_string()).hint("report this as a defect"))
}

fn refuse(mut problems: Vec<String>) -> Result<(), Fault> {
    let count = problems.len();
    if count == 0 {
        return Ok(());
    }
    let first = problems.remove(0);
    let message = if count == 1 { first } else { format!("{first} (and {} more problems)", count - 1) };
    let mut fault = Fault::refused(ErrorKind::InvalidArgument, message).hint("nothing was applied; correct it and apply again");
    fault.evidence = problems.into_iter().take(MOST_PROBLEMS).collect();
    Err(fault)
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::instance_spec::Engine;
    use muster_wire::proto::v1::{FilesSpec, InstanceSpec, PostgresSpec, SiteSpec};

    use super::*;

    #[test]
    fn an_id_is_given_back_to_what_is_not_known_yet_and_to_nothing_else() {
        let (mut number, id) = (0_u8, "ab".repeat(16));
        let mut draw = || {
            number += 1;
            [number; 16]
        };
        let world = Circumstances::default();
        let with = |name: &str, id: &str| Resource { id: id.to_owned(), ..site(name, "") };
        let declared = apply(&Declared::default(), vec![with("a", &id)], &world, &mut draw).unwrap().declared;
        assert_eq!(declared.get(Kind::Site, &"a".parse().unwrap()).unwrap().id, id);
        // The same again, and without it, changes nothing.
        for again in [with("a", &id), with("a", "")] {
            let outcome = apply(&declared, vec![again], &world, &mut draw).unwrap();
            assert_eq!(outcome.differences[0].change(), Change::Unchanged);
        }
        for (wrong, told) in [
            (with("a", &"cd".repeat(16)), "its id is abab"),
            (with("b", &id), "is site a's"),
            (with("b", "AB"), "is not 32 hexadecimal digits"),
        ] {
            let refused = apply(&declared, vec![wrong], &world, &mut draw).unwrap_err();
            assert!(refused.message.contains(told) && !refused.hint.is_empty(), "{refused}");
        }
    }

    fn site(name: &str, description: &str) -> Resource {
        Resource { name: name.into(), spec: Some(Spec::Site(SiteSpec { description: description.into() })), ..Resource::default() }
    }

    fn component(name: &str, engine: Engine) -> Resource {
        let instance = InstanceSpec { site: "istanbul".into(), agent: "a".into(), engine: Some(engine), ..InstanceSpec::default() };
        let spec = ComponentSpec { instances: vec![instance], ..ComponentSpec::default() };
        Resource { name: name.into(), spec: Some(Spec::Component(spec)), ..Resource::default() }
    }

    fn files(path: &str) -> Engine {
        Engine::Files(FilesSpec { path: path.into() })
    }

    fn run(present: &Declared, resources: Vec<Resource>) -> Result<Outcome, Fault> {
        run_in(present, resources, &Circumstances { now: Timestamp(1_000_000), ..Circumstances::default() })
    }

    fn run_in(present: &Declared, resources: Vec<Resource>, world: &Circumstances) -> Result<Outcome, Fault> {
        let mut next = present.len() as u8 * 10;
        apply(present, resources, world, || {
            next += 1;
            [next; 16]
        })
    }

    fn changes(outcome: &Outcome) -> Vec<Change> {
        outcome.differences.iter().map(Difference::change).collect()
    }

    #[test]
    fn what_is_new_changed_and_the_same_is_told_apart() {
        let first = run(&Declared::default(), vec![site("istanbul", ""), component("docs", files("/srv/a"))]).unwrap();
        assert_eq!(changes(&first), [Change::Created, Change::Created]);
        let second = run(&first.declared, vec![site("istanbul", ""), component("docs", files("/srv/b"))]).unwrap();
        assert_eq!(changes(&second), [Change::Unchanged, Change::Updated]);
        assert_eq!(second.differences[1].fields, ["instances[0].files.path: /srv/a -> /srv/b"]);
        let of = |outcome: &Outcome, n: usize| outcome.differences[n].resource.clone().unwrap();
        assert_eq!(of(&first, 0), of(&second, 0));
        assert_eq!(of(&first, 1).id, of(&second, 1).id);
        assert_ne!(of(&first, 1).etag, of(&second, 1).etag);
    }

    #[test]
    fn an_etag_that_is_not_the_present_one_is_a_conflict() {
        let first = run(&Declared::default(), vec![site("istanbul", "")]).unwrap();
        let etag = first.differences[0].resource.clone().unwrap().etag;
        assert!(run(&first.declared, vec![Resource { etag, ..site("istanbul", "x") }]).is_ok());
        for (declared, etag) in [(&first.declared, "ffff"), (&Declared::default(), "ffff")] {
            let fault = run(declared, vec![Resource { etag: etag.into(), ..site("istanbul", "x") }]).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::Conflict);
        }
    }

    #[test]
    fn a_request_is_refused_whole_and_tells_all_that_is_wrong() {
        let fault =
            run(&Declared::default(), vec![site("istanbul", "a\nb"), site("istanbul", ""), component("docs", files("srv"))]).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::InvalidArgument);
        assert_eq!(fault.evidence.len(), 2, "{fault}");
        let fault = run(&Declared::default(), vec![component("docs", files("/srv"))]).unwrap_err();
        assert!(fault.message.contains("site \"istanbul\" is not declared"), "{fault}");
        let many = (0..=MOST_APPLIED).map(|n| site(&format!("s{n}"), "")).collect();
        assert_eq!(run(&Declared::default(), many).unwrap_err().kind, ErrorKind::ResourceExhausted);
    }

    #[test]
    fn a_component_keeps_its_engine_and_a_busy_instance_its_place() {
        let first = run(&Declared::default(), vec![site("istanbul", ""), component("docs", files("/srv/a"))]).unwrap();
        let postgres = Engine::Postgres(PostgresSpec { address: "a:1".into(), data_directory: "/x".into(), ..PostgresSpec::default() });
        assert!(run(&first.declared, vec![component("docs", postgres)]).unwrap_err().message.contains("cannot become postgres"));
        let busy = BTreeMap::from([("docs/istanbul".parse().unwrap(), "ab".repeat(16))]);
        let world = Circumstances { busy, ..Circumstances::default() };
        let fault = run_in(&first.declared, vec![component("docs", files("/srv/b"))], &world).unwrap_err();
        assert!(fault.kind == ErrorKind::Conflict && fault.hint.contains("muster cancel abababababab"), "{fault}");
        assert!(run_in(&first.declared, vec![component("docs", files("/srv/a"))], &world).is_ok());
        assert_eq!(delete(&first.declared, Kind::Component, "docs", "", &world).unwrap_err().kind, ErrorKind::Conflict);
    }

    #[test]
    fn what_is_used_is_not_deleted() {
        let world = Circumstances::default();
        let first = run(&Declared::default(), vec![site("istanbul", ""), component("docs", files("/srv/a"))]).unwrap();
        let fault = delete(&first.declared, Kind::Site, "istanbul", "", &world).unwrap_err();
        assert!(fault.message.contains("used by component docs"), "{fault}");
        let (second, removed) = delete(&first.declared, Kind::Component, "docs", "", &world).unwrap();
        assert_eq!(removed.name, "docs");
        assert!(delete(&second, Kind::Site, "istanbul", "ffff", &world).is_err());
        assert!(delete(&second, Kind::Site, "istanbul", "", &world).unwrap().0.is_empty());
        assert!(delete(&second, Kind::Site, "istambul", "", &world).unwrap_err().hint.contains("istanbul"));
    }
}
