//! Declared resources: in a list, whole, and what applying them did.

use muster_common::fault::Fault;
use muster_common::time::Timestamp;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{Change, Condition, Difference, Resource, instance_spec, repository_spec};
use muster_wire::yaml::{kind_name, kind_of, to_yaml};

use super::amount::{age, counted, instant_or_nothing};
use super::{schedule, table};

/// A table, with a word on each.
#[must_use]
pub fn list(resources: &[Resource], now: Timestamp) -> String {
    if resources.is_empty() {
        return "nothing is declared\nHINT: `muster apply -f FILE` declares; `muster apply --help` shows a file\n".to_owned();
    }
    let row = |resource: &Resource| {
        let broken = resource.conditions.iter().filter(|condition| !condition.ok).count();
        let state = if broken == 0 { String::new() } else { format!("{} not met", counted(broken as u64, "condition")) };
        vec![
            kind_of(resource).map_or("", kind_name).to_owned(),
            resource.name.clone(),
            about(resource),
            age(resource.updated_at.as_ref(), now),
            state,
        ]
    };
    let rows: Vec<_> = resources.iter().map(row).collect();
    table::table(&["KIND", "NAME", "ABOUT", "CHANGED", ""], &rows, "")
}

fn about(resource: &Resource) -> String {
    match &resource.spec {
        None => String::new(),
        Some(Spec::Site(site)) => site.description.clone(),
        Some(Spec::Repository(repository)) => match &repository.location {
            None => String::new(),
            Some(repository_spec::Location::Folder(folder)) => format!("folder {}", folder.path),
            Some(repository_spec::Location::S3(s3)) => format!("bucket {} {}", s3.bucket, s3.endpoint).trim_end().to_owned(),
        },
        Some(Spec::Schedule(spec)) => schedule::about(spec),
        Some(Spec::Route(spec)) => format!("{} follows {}", spec.name, spec.component),
        Some(Spec::Component(component)) => {
            let instances: Vec<&str> =
                component.instances.iter().map(|one| if one.name.is_empty() { one.site.as_str() } else { one.name.as_str() }).collect();
            let engine = component.instances.first().and_then(|one| one.engine.as_ref()).map_or("", engine);
            format!("{engine} at {}", instances.join(", "))
        }
    }
}

const fn engine(engine: &instance_spec::Engine) -> &'static str {
    match engine {
        instance_spec::Engine::Postgres(_) => "postgres",
        instance_spec::Engine::Files(_) => "files",
    }
}

/// Documents that `muster apply` takes back.
///
/// # Errors
/// Where a resource has no spec that this version knows.
pub fn documents(resources: &[Resource]) -> Result<String, Fault> {
    let documents: Vec<String> = resources.iter().map(to_yaml).collect::<Result<_, _>>()?;
    Ok(documents.join("---\n"))
}

/// A resource whole: its document, what the controller knows, its conditions.
///
/// # Errors
/// Where it has no spec that this version knows.
pub fn whole(resource: &Resource, now: Timestamp) -> Result<String, Fault> {
    let rows = [
        ("# etag", resource.etag.clone()),
        ("# declared", instant_or_nothing(resource.created_at.as_ref())),
        ("# changed", format!("{} ({})", instant_or_nothing(resource.updated_at.as_ref()), age(resource.updated_at.as_ref(), now))),
    ];
    Ok(format!("{}{}{}", to_yaml(resource)?, table::labelled(&rows, ""), conditions(&resource.conditions, "", true)))
}

/// Conditions: those that do not hold with what to do, and those that hold where `all` is asked for.
#[must_use]
pub fn conditions(conditions: &[Condition], indent: &str, all: bool) -> String {
    let mut text = String::new();
    for condition in conditions.iter().filter(|condition| !condition.ok || all) {
        let mark = match (condition.ok, condition.blocking) {
            (true, _) => "ok",
            (false, true) => "BLOCKS",
            (false, false) => "!",
        };
        let message = condition.message.trim_end_matches([':', ' ']);
        let colon = if message.is_empty() { "" } else { ": " };
        text.push_str(&format!("{indent}{mark} {}{colon}{message}\n", condition.name));
        if !condition.ok && !condition.hint.is_empty() {
            for line in condition.hint.lines() {
                text.push_str(&format!("{indent}  HINT: {line}\n"));
            }
        }
    }
    text
}

/// What applying did, or would do.
#[must_use]
pub fn differences(differences: &[Difference], dry_run: bool) -> String {
    let mut text = String::new();
    let mut changed = 0;
    for difference in differences {
        let would = match (difference.change(), dry_run) {
            (Change::Created, false) => "created",
            (Change::Created, true) => "would be created",
            (Change::Updated, false) => "updated",
            (Change::Updated, true) => "would be updated",
            (Change::Unchanged, _) => "unchanged",
            (Change::Unspecified, _) => "applied",
        };
        changed += u64::from(difference.change() != Change::Unchanged);
        text.push_str(&format!("{} {} {would}\n", kind_name(difference.kind()), difference.name));
        for field in &difference.fields {
            text.push_str(&format!("  {field}\n"));
        }
    }
    if dry_run {
        text.push_str(&format!("dry run: {} would change; nothing was changed\n", counted(changed, "resource")));
    }
    text
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::ResourceKind;

    use super::*;

    const NOW: Timestamp = Timestamp(1_764_000_000_000_000);

    fn component() -> Resource {
        let text = "kind: Component\nname: orders-db\nspec:\n  instances:\n  - {site: istanbul, agent: a, postgres: {}}\n  - {name: b, agent: b, postgres: {}}\n";
        let mut read = muster_wire::yaml::parse(text, "t").unwrap().remove(0);
        read.conditions = vec![
            Condition { name: "ServerReachable".into(), ok: true, message: "it answers".into(), ..Condition::default() },
            Condition {
                name: "MissingRights".into(),
                blocking: true,
                message: "role muster may not call pg_backup_start".into(),
                hint: "GRANT EXECUTE ON FUNCTION pg_backup_start TO muster;".into(),
                ..Condition::default()
            },
        ];
        read
    }

    #[test]
    fn resources_are_listed_with_a_word_on_each() {
        assert_eq!(
            list(&[component()], NOW),
            "KIND       NAME       ABOUT                    CHANGED\nComponent  orders-db  postgres at istanbul, b  -        1 condition not met\n"
        );
    }

    #[test]
    fn a_described_resource_is_its_document_and_its_conditions() {
        let text = whole(&component(), NOW).unwrap();
        assert!(text.starts_with("kind: Component\nname: orders-db\nspec:\n"), "{text}");
        assert!(
            text.ends_with(
                "ok ServerReachable: it answers\nBLOCKS MissingRights: role muster may not call pg_backup_start\n  \
                 HINT: GRANT EXECUTE ON FUNCTION pg_backup_start TO muster;\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn differences_are_told_field_by_field_and_a_dry_run_says_that_it_was_one() {
        let updated = Difference {
            kind: ResourceKind::Component.into(),
            name: "orders-db".into(),
            change: Change::Updated.into(),
            fields: vec!["priority: LOW -> CRITICAL".into()],
            resource: None,
        };
        let same = Difference {
            kind: ResourceKind::Site.into(),
            name: "ankara".into(),
            change: Change::Unchanged.into(),
            ..Difference::default()
        };
        assert_eq!(
            differences(&[updated.clone(), same], true),
            "Component orders-db would be updated\n  priority: LOW -> CRITICAL\nSite ankara unchanged\ndry run: 1 resource would change; nothing was changed\n"
        );
        assert_eq!(differences(&[updated], false), "Component orders-db updated\n  priority: LOW -> CRITICAL\n");
    }
}
