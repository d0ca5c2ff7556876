//! Whether a declared schedule makes sense: alone, and with the components that it names.

use std::collections::BTreeSet;

use muster_common::name::Name;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::schedule_spec::Work;
use muster_wire::proto::v1::{MissedRuns, ScheduleSpec};

use super::form::Problems;
use super::references::meant;
use super::{Declared, Kind};
use crate::schedule::timing::Timing;

/// The most components of one schedule.
pub const MOST_COMPONENTS: usize = 100;
/// The longest label of a backup, in bytes.
const MOST_LABEL: usize = 200;
/// The most parts that a check reads the data in.
const MOST_PARTS: u32 = 1_000;

/// Adds what is wrong with it, seen alone.
pub(super) fn check(spec: &ScheduleSpec, problems: &mut Problems) {
    if spec.components.is_empty() || spec.components.len() > MOST_COMPONENTS {
        problems.add("components", format!("{} of them; expected 1 to {MOST_COMPONENTS}", spec.components.len()));
    }
    let mut seen = BTreeSet::new();
    for (n, component) in spec.components.iter().take(MOST_COMPONENTS).enumerate() {
        problems.name(&format!("components[{n}]"), component);
        if !seen.insert(component) {
            problems.add(&format!("components[{n}]"), format!("{component:?} is there twice"));
        }
    }
    if let Err(wrong) = Timing::read(spec) {
        problems.add(wrong.field, wrong.reason);
    }
    if MissedRuns::try_from(spec.missed).is_err() {
        problems.add("missed", "of a newer version; expected SKIP, ONCE or ALL");
    }
    match &spec.work {
        None => problems.add("work", "missing; expected backup, verify, check or prune, for example `backup: {}`"),
        Some(Work::Backup(backup)) => {
            optional_instance("backup.instance", &backup.instance, problems);
            if backup.label.len() > MOST_LABEL || backup.label.chars().any(char::is_control) {
                problems.add("backup.label", format!("expected at most {MOST_LABEL} bytes without control characters"));
            }
            if backup.compression_level > 19 {
                problems.add("backup.compressionLevel", "expected 1 to 19");
            }
        }
        Some(Work::Verify(verify)) => optional_instance("verify.instance", &verify.instance, problems),
        Some(Work::Prune(prune)) => optional_instance("prune.instance", &prune.instance, problems),
        Some(Work::Check(check)) => {
            optional_instance("check.instance", &check.instance, problems);
            if check.read_data_parts > MOST_PARTS {
                problems.add("check.readDataParts", format!("expected at most {MOST_PARTS}"));
            }
        }
    }
}

fn optional_instance(field: &str, instance: &str, problems: &mut Problems) {
    if !instance.is_empty() {
        problems.name(field, instance);
    }
}

/// What is wrong with schedules beside what they name.
#[must_use]
pub fn problems(declared: &Declared) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, spec) in schedules(declared) {
        for component in &spec.components {
            let found = declared.iter().find(|(kind, known, _)| *kind == Kind::Component && known.as_str() == component);
            match found.and_then(|(_, _, resource)| resource.spec.as_ref()) {
                Some(Spec::Component(found)) if found.repository.is_empty() => {
                    problems.push(format!("schedule {name}: component {component} has no repository, so that nothing of it is backed up"));
                }
                Some(Spec::Component(found)) if found.retention.is_none() && matches!(spec.work, Some(Work::Prune(_))) => {
                    problems.push(format!(
                        "schedule {name}: component {component} has no retention, so that a prune of it would keep everything"
                    ));
                }
                Some(Spec::Component(_) | Spec::Site(_) | Spec::Repository(_) | Spec::Schedule(_) | Spec::Route(_)) => {}
                None => {
                    let near = meant(component, declared.names(Kind::Component));
                    problems.push(format!("schedule {name}: component {component:?} is not declared{near}"));
                }
            }
        }
    }
    problems
}

/// Every schedule.
pub fn schedules(declared: &Declared) -> impl Iterator<Item = (&Name, &ScheduleSpec)> {
    declared.iter().filter_map(|(_, name, resource)| match &resource.spec {
        Some(Spec::Schedule(spec)) => Some((name, spec)),
        Some(Spec::Site(_) | Spec::Repository(_) | Spec::Component(_) | Spec::Route(_)) | None => None,
    })
}

/// The schedules that name a component.
pub fn of_component<'a>(declared: &'a Declared, component: &'a Name) -> impl Iterator<Item = &'a Name> {
    schedules(declared).filter(|(_, spec)| spec.components.iter().any(|named| named == component.as_str())).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::schedule_spec::When;
    use muster_wire::proto::v1::{ComponentSpec, Resource, ScheduledBackup};

    use super::*;
    use crate::inventory::form;

    fn nightly() -> ScheduleSpec {
        ScheduleSpec {
            components: vec!["docs".into()],
            when: Some(When::Cron("0 2 * * *".into())),
            work: Some(Work::Backup(ScheduledBackup::default())),
            ..ScheduleSpec::default()
        }
    }

    fn told(spec: ScheduleSpec) -> Vec<String> {
        form::problems(&Spec::Schedule(spec))
    }

    #[test]
    fn what_is_wrong_with_a_schedule_is_told_with_its_field() {
        assert_eq!(told(nightly()), Vec::<String>::new());
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let backup = |backup| Some(Work::Backup(backup));
        for (spec, field) in [
            (ScheduleSpec { components: Vec::new(), ..nightly() }, "components"),
            (ScheduleSpec { components: vec!["docs".into(), "docs".into()], ..nightly() }, "components[1]"),
            (ScheduleSpec { when: None, ..nightly() }, "cron"),
            (ScheduleSpec { when: Some(When::Cron("0 2 * *".into())), ..nightly() }, "cron"),
            (ScheduleSpec { when: Some(When::Cron("0 0 2 * * *".into())), ..nightly() }, "cron"),
            (ScheduleSpec { when: Some(When::Cron("0 0 30 2 *".into())), ..nightly() }, "cron"),
            (ScheduleSpec { zone: "Europe/Istambul".into(), ..nightly() }, "zone"),
            (ScheduleSpec { when: seconds(5).map(When::Every), ..nightly() }, "every"),
            (ScheduleSpec { when: seconds(-60).map(When::Every), ..nightly() }, "every"),
            (ScheduleSpec { when: seconds(3_600).map(When::Every), zone: "UTC".into(), ..nightly() }, "zone"),
            (ScheduleSpec { when: seconds(60).map(When::Every), jitter: seconds(60), ..nightly() }, "jitter"),
            (ScheduleSpec { jitter: seconds(86_401), ..nightly() }, "jitter"),
            (ScheduleSpec { missed: 77, ..nightly() }, "missed"),
            (ScheduleSpec { work: None, ..nightly() }, "work"),
            (
                ScheduleSpec { work: backup(ScheduledBackup { label: "a\nb".into(), ..ScheduledBackup::default() }), ..nightly() },
                "backup.label",
            ),
        ] {
            let told = told(spec.clone());
            assert!(told.iter().any(|problem| problem.starts_with(&format!("{field}: "))), "{field}: {told:?}");
        }
    }

    #[test]
    fn a_schedule_names_declared_components_that_have_a_repository() {
        let mut declared = Declared::default();
        let mut add = |name: &str, spec| declared.insert(Resource { name: name.into(), spec: Some(spec), ..Resource::default() }).unwrap();
        add("dcos", Spec::Component(ComponentSpec { repository: "primary".into(), ..ComponentSpec::default() }));
        add("bare", Spec::Component(ComponentSpec::default()));
        add("nightly", Spec::Schedule(nightly()));
        add("weekly", Spec::Schedule(ScheduleSpec { components: vec!["bare".into()], ..nightly() }));
        let told = problems(&declared);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("did you mean dcos?") && told[1].contains("has no repository"), "{told:?}");
        assert_eq!(of_component(&declared, &"bare".parse().unwrap()).map(Name::as_str).collect::<Vec<_>>(), ["weekly"]);
    }
}
