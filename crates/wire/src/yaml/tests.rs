//! What is read and written, and what each kind of mistake is told.

use proptest::prelude::*;

use super::*;
use crate::proto::v1::{
    ComponentSpec, FilesSpec, FolderLocation, InstanceSpec, Objectives, PgCtlControl, PostgresSpec, Priority, RepositorySpec, S3Location,
    SiteSpec, instance_spec, postgres_spec, repository_spec,
};

const WHOLE: &str = r#"# Everything that a first world has.
kind: Site
name: istanbul
---
kind: Repository
name: primary
spec:
  repositoryId: 000102030405060708090a0b0c0d0e0f
  publicKey: "00"
  s3: {bucket: muster, path_style: true}
---
---
kind: Component
name: orders-db
spec:
  priority: CRITICAL
  objectives: {rto: 30m, rpo: 1h}
  repository: primary
  instances:
  - {site: istanbul, agent: istanbul-db1, postgres: {address: "10.1.0.5:5432", dataDirectory: /srv/pg, user: muster, pgCtl: {}}}
  - site: ankara
    agent: ankara-db1
    postgres:
      address: 10.2.0.5:5432
      data_directory: /srv/pg
      pg_ctl: {options: "-c fsync=off"}
"#;

fn wrong(text: &str) -> String {
    parse(text, "a.yaml").unwrap_err().to_string()
}

#[test]
fn a_file_of_several_documents_is_read() {
    let resources = parse(WHOLE, "world.yaml").unwrap();
    let kinds: Vec<_> = resources.iter().map(|r| (kind_name(kind_of(r).unwrap()), r.name.as_str())).collect();
    assert_eq!(kinds, [("Site", "istanbul"), ("Repository", "primary"), ("Component", "orders-db")]);
    let Some(Spec::Component(component)) = &resources[2].spec else { panic!("{resources:?}") };
    assert_eq!(component.priority(), Priority::Critical);
    let objectives = component.objectives.unwrap();
    assert_eq!((objectives.rto.unwrap().seconds, objectives.rpo.unwrap().seconds), (1_800, 3_600));
    let Some(instance_spec::Engine::Postgres(postgres)) = &component.instances[1].engine else { panic!("{component:?}") };
    assert_eq!((postgres.address.as_str(), postgres.data_directory.as_str()), ("10.2.0.5:5432", "/srv/pg"));
    let Some(postgres_spec::Control::PgCtl(control)) = &postgres.control else { panic!("{postgres:?}") };
    assert_eq!(control.options, "-c fsync=off");
}

#[test]
fn an_unknown_field_is_told_with_its_place_what_was_expected_and_the_nearest() {
    assert_eq!(
        wrong("kind: Component\nname: a\nspec:\n  prioritty: LOW\n"),
        "a.yaml:4:3: spec: unknown field \"prioritty\"; expected priority, objectives, repository, instances, verify, retention, expects, hooks, dependsOn; did you mean \"priority\"?"
    );
    let text = wrong("kind: Component\nname: a\nspec:\n  instances:\n  - site: x\n    postgres: {dataDirectroy: /a}\n");
    assert!(text.starts_with("a.yaml:6:16: spec.instances[0].postgres: unknown field \"dataDirectroy\"; expected address, "), "{text}");
    assert!(text.ends_with("did you mean \"dataDirectory\"?"), "{text}");
}

#[test]
fn an_unknown_kind_enum_value_or_key_is_told_with_the_nearest() {
    for (text, expected) in [
        (
            "kind: Componnt\nname: a\n",
            "a.yaml:1:7: unknown kind \"Componnt\"; expected Site, Repository, Component, Schedule, Route; did you mean \"Component\"?",
        ),
        (
            "kind: Component\nname: a\nspec:\n  priority: CRITICIAL\n",
            "a.yaml:4:13: spec.priority: expected one of LOW, MEDIUM, HIGH, CRITICAL, found \"CRITICIAL\"; did you mean \"CRITICAL\"?",
        ),
        ("kind: Site\nnmae: a\n", "a.yaml:2:1: unknown key \"nmae\"; expected kind, name, spec; did you mean \"name\"?"),
        ("name: a\n", "a.yaml:1:1: kind is missing; expected kind, name, spec"),
        ("kind: Site\n", "a.yaml:1:1: name is missing; expected kind, name, spec"),
        ("kind: Site\nname: Istanbul\n", "a.yaml:2:7: name: \"Istanbul\" is no name; expected 1 to 63 of a-z, 0-9 and inner '-'"),
        ("kind: Site\nname: 7\n", "a.yaml:2:7: name: expected a text, found 7"),
        ("- a\n- b\n", "a.yaml:1:1: expected a mapping of kind, name, spec; found a list"),
        ("hello\n", "a.yaml:1:1: expected a mapping of kind, name, spec; found \"hello\""),
    ] {
        assert_eq!(wrong(text), expected);
    }
}

#[test]
fn a_bad_duration_number_or_shape_is_told_with_what_was_expected() {
    let component = |body: &str| wrong(&format!("kind: Component\nname: a\nspec:\n{body}"));
    for (body, expected) in [
        (
            "  objectives: {rto: 30 minutes}\n",
            "a.yaml:4:21: spec.objectives.rto: expected a duration, for example 45s, 30m, 1h30m or 7d; found \"30 minutes\"",
        ),
        ("  objectives: {rto: 30}\n", "a.yaml:4:21: spec.objectives.rto: expected a duration, for example 45s, 30m, 1h30m or 7d; found 30"),
        (
            "  objectives: {rto: -30m}\n",
            "a.yaml:4:21: spec.objectives.rto: expected a duration, for example 45s, 30m, 1h30m or 7d; found \"-30m\"",
        ),
        ("  objectives: soon\n", "a.yaml:4:15: spec.objectives: expected a mapping of rto, rpo, found \"soon\""),
        ("  instances: {}\n", "a.yaml:4:14: spec.instances: expected a list, found a mapping"),
        ("  repository: 7\n", "a.yaml:4:15: spec.repository: expected a text, found 7; write it in quotes"),
        (
            "  instances:\n  - postgres: {pgCtl: }\n",
            "a.yaml:5:21: spec.instances[0].postgres.pgCtl: has no value; leave the field out, or write {}",
        ),
        ("  priority: 4\n", "a.yaml:4:13: spec.priority: expected one of LOW, MEDIUM, HIGH, CRITICAL, found 4"),
        (
            "  objectives: {rto: 9999999999999d}\n",
            "a.yaml:4:21: spec.objectives.rto: expected a duration, for example 45s, 30m, 1h30m or 7d; found \"9999999999999d\"",
        ),
    ] {
        assert_eq!(component(body), expected);
    }
}

#[test]
fn what_is_given_twice_is_refused_at_its_second_place() {
    let text = wrong("kind: Component\nname: a\nspec:\n  priority: LOW\n  priority: HIGH\n");
    assert!(text.starts_with("a.yaml:5:3: ") && text.contains("priority"), "{text}");
    assert_eq!(
        wrong("kind: Component\nname: a\nspec:\n  instances:\n  - postgres: {dataDirectory: /a, data_directory: /b}\n"),
        "a.yaml:5:35: spec.instances[0].postgres: \"data_directory\" is given twice, first as \"dataDirectory\""
    );
    assert_eq!(
        wrong("kind: Repository\nname: a\nspec:\n  folder: {path: /a}\n  s3: {bucket: b}\n"),
        "a.yaml:5:3: spec: \"folder\" and \"s3\" exclude each other"
    );
    assert_eq!(wrong("kind: Site\nname: a\n---\nkind: Site\nname: a\n"), "a.yaml:4:1: Site \"a\" is declared twice in this file");
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    for text in ["kind: [\n", "kind: Site\n name: a\n", "kind: Site\nname: \"a\n", "a: *b\n", "\tkind: Site\n"] {
        let error = parse(text, "a.yaml").unwrap_err();
        assert!(error.line > 0 && error.column > 0, "{text:?}: {error}");
        assert!(!error.message.is_empty() && !error.message.contains('\n'), "{text:?}: {error}");
    }
}

#[test]
fn an_empty_text_holds_no_resources() {
    assert_eq!(parse("", "a.yaml").unwrap(), []);
    assert_eq!(parse("# nothing\n---\n", "a.yaml").unwrap(), []);
}

#[test]
fn deep_huge_and_self_multiplying_texts_are_refused() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (letter, before) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb.push_str(&format!("{letter}: &{letter} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
    }
    for depth in [20, 30, 60, 1_000] {
        drop(parse(&"[".repeat(depth), "a.yaml"));
        assert!(parse(&format!("{}1{}", "[".repeat(depth), "]".repeat(depth)), "a.yaml").is_err());
        assert!(parse(&(0..depth).map(|at| format!("{}a:\n", " ".repeat(at))).collect::<String>(), "a.yaml").is_err());
    }
    for text in [
        "[".repeat(100_000),
        "a: ".repeat(100_000),
        bomb,
        "#".repeat(MAX_BYTES + 1),
        "kind: Site\nname: a\n---\n".repeat(MAX_RESOURCES + 1),
    ] {
        assert!(parse(&text, "a.yaml").is_err(), "{:.40}", text);
    }
}

#[test]
fn a_component_is_written_in_the_order_of_its_proto_and_in_short_forms() {
    let resources = parse(WHOLE, "world.yaml").unwrap();
    assert_eq!(
        to_yaml(&resources[2]).unwrap(),
        "kind: Component\nname: orders-db\nspec:\n  priority: CRITICAL\n  objectives:\n    rto: 30m\n    rpo: 1h\n  repository: primary\n  \
         instances:\n  - site: istanbul\n    agent: istanbul-db1\n    postgres:\n      address: 10.1.0.5:5432\n      dataDirectory: /srv/pg\n      \
         user: muster\n      pgCtl: {}\n  - site: ankara\n    agent: ankara-db1\n    postgres:\n      address: 10.2.0.5:5432\n      \
         dataDirectory: /srv/pg\n      pgCtl:\n        options: -c fsync=off\n"
    );
}

#[test]
fn kinds_are_named_as_people_name_them() {
    for text in ["component", "Component", "components", "COMPONENTS"] {
        assert_eq!(kind_from_name(text).unwrap(), ResourceKind::Component);
    }
    assert_eq!(kind_from_name("repositories").unwrap(), ResourceKind::Repository);
    let fault = kind_from_name("sites2").unwrap_err();
    assert_eq!(fault.message, "unknown kind \"sites2\"; expected Site, Repository, Component, Schedule, Route; did you mean \"Site\"?");
}

/// The strategies are boxed: nested ones fill a test thread's stack.
/// Any text that YAML can hold, with those that look like something else.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("yes".to_owned()),
        Just("0x10".to_owned()),
        Just("1e3".to_owned()),
        Just("~".to_owned()),
        Just("2026-01-01".to_owned()),
        Just(" a: b # c\n".to_owned()),
        Just("*x".to_owned()),
        "[a-z0-9/:.]{0,12}",
        "\\PC{0,12}",
    ]
    .boxed()
}

fn length() -> impl Strategy<Value = Option<prost_types::Duration>> {
    let seconds = prop_oneof![0_i64..200_000, 0_i64..=315_576_000_000];
    proptest::option::of(
        (seconds, prop_oneof![Just(0), 0_i32..1_000_000_000]).prop_map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
    )
}

fn instance() -> BoxedStrategy<InstanceSpec> {
    let postgres = (text(), text(), text(), proptest::option::of((text(), text()))).prop_map(|(address, data_directory, user, control)| {
        instance_spec::Engine::Postgres(PostgresSpec {
            address,
            data_directory,
            user,
            control: control.map(|(options, log_file)| postgres_spec::Control::PgCtl(PgCtlControl { options, log_file })),
            ..PostgresSpec::default()
        })
    });
    let files = text().prop_map(|path| instance_spec::Engine::Files(FilesSpec { path }));
    (text(), text(), text(), proptest::option::of(prop_oneof![postgres, files]))
        .prop_map(|(name, site, agent, engine)| InstanceSpec { name, site, agent, engine })
        .boxed()
}

fn spec() -> BoxedStrategy<Spec> {
    let site = text().prop_map(|description| Spec::Site(SiteSpec { description }));
    let folder = text().prop_map(|path| repository_spec::Location::Folder(FolderLocation { path }));
    let s3 = (text(), text(), any::<bool>()).prop_map(|(bucket, endpoint, path_style)| {
        repository_spec::Location::S3(S3Location { bucket, endpoint, path_style, ..S3Location::default() })
    });
    let repository = (text(), text(), proptest::option::of(prop_oneof![folder, s3]))
        .prop_map(|(repository_id, public_key, location)| Spec::Repository(RepositorySpec { repository_id, public_key, location }));
    let objectives = proptest::option::of((length(), length()).prop_map(|(rto, rpo)| Objectives { rto, rpo }));
    let component = (0_i32..=4, objectives, text(), proptest::collection::vec(instance(), 0..3)).prop_map(
        |(priority, objectives, repository, instances)| {
            Spec::Component(ComponentSpec { priority, objectives, repository, instances, ..ComponentSpec::default() })
        },
    );
    prop_oneof![site.boxed(), repository.boxed(), component.boxed()].boxed()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", spec in spec()) {
        let resource = Resource { name, spec: Some(spec), ..Resource::default() };
        let text = to_yaml(&resource).unwrap();
        let read = parse(&text, "a.yaml").map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(read, vec![resource], "{}", text);
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "[ -~\\n]{0,120}") {
        drop(parse(&text, "a.yaml"));
    }

    #[test]
    fn a_damaged_file_is_judged_without_panic(at in 0..WHOLE.len(), letter in "\\PC") {
        if WHOLE.is_char_boundary(at) {
            let mut text = WHOLE.to_owned();
            text.insert_str(at, &letter);
            drop(parse(&text, "a.yaml"));
        }
    }
}
