//! Whether one resource is well formed, seen alone: names, numbers, paths, addresses.
//!
//! It knows nothing of the other resources, and asks nobody: what only an agent can see becomes a condition later.

use std::collections::BTreeSet;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::RepositoryId;
use muster_common::name::Name;
use muster_wire::proto::v1::instance_spec::Engine;
use muster_wire::proto::v1::postgres_spec::Control;
use muster_wire::proto::v1::repository_spec::Location;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{
    ComponentHooks, ComponentSpec, InstanceSpec, Objectives, PostgresSpec, PostgresTls, Priority, RepositorySpec, Resource, RetentionSpec,
    S3Location, VerifySpec,
};

use super::{Kind, instance_name};

/// The most instances of one component.
pub const MOST_INSTANCES: usize = 32;
/// The most components that one depends on.
const MOST_DEPENDENCIES: usize = 100;
/// The most hooks before a verb, and after it.
const MOST_HOOKS: usize = 20;
/// Assertions of one component, the bytes of one statement, and of all statements and answers together.
const MOST_ASSERTIONS: usize = 100;
const MOST_SQL: usize = 8 * 1024;
const MOST_ASSERTION_BYTES: usize = 64 * 1024;
/// The longest text in a spec, in bytes.
pub const MOST_TEXT: usize = 4_096;

/// What is wrong, each as `field: reason`.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, field: &str, reason: impl AsRef<str>) {
        self.0.push(format!("{field}: {}", reason.as_ref()));
    }

    /// As sentences.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }

    pub(super) fn text(&mut self, field: &str, text: &str) {
        if text.len() > MOST_TEXT {
            self.add(field, format!("{} bytes; {MOST_TEXT} is the bound", text.len()));
        } else if text.contains('\0') || text.contains('\n') {
            self.add(field, "holds a line end or a zero byte");
        }
    }

    pub(super) fn path(&mut self, field: &str, path: &str) {
        self.text(field, path);
        if !path.starts_with('/') {
            self.add(field, format!("{path:?} is no absolute path"));
        } else if path.split('/').any(|part| part == ".." || part == ".") {
            self.add(field, format!("{path:?} holds a . or .. part"));
        }
    }

    fn optional_path(&mut self, field: &str, path: &str) {
        if !path.is_empty() {
            self.path(field, path);
        }
    }

    pub(super) fn name(&mut self, field: &str, name: &str) {
        if let Err(error) = name.parse::<Name>() {
            self.add(field, error.to_string());
        }
    }
}

/// A resource's kind and name.
///
/// # Errors
/// `InvalidArgument` where it has no spec or its name is none.
pub fn identify(resource: &Resource) -> Result<(Kind, Name), Fault> {
    let shown: String = resource.name.chars().take(80).collect();
    let spec = resource.spec.as_ref().ok_or_else(|| {
        Fault::refused(ErrorKind::InvalidArgument, format!("resource {shown:?} has no spec"))
            .hint("give it one of site, repository, component, schedule, route")
    })?;
    let kind = Kind::of(spec);
    let name = resource
        .name
        .parse()
        .map_err(|error| Fault::refused(ErrorKind::InvalidArgument, format!("{kind} {shown:?}: {error}")).hint("choose another name"))?;
    Ok((kind, name))
}

/// What is wrong with the spec alone.
#[must_use]
pub fn problems(spec: &Spec) -> Vec<String> {
    let mut problems = Problems::default();
    match spec {
        Spec::Site(site) => problems.text("description", &site.description),
        Spec::Repository(repository) => check_repository(repository, &mut problems),
        Spec::Component(component) => check_component(component, &mut problems),
        Spec::Schedule(schedule) => super::schedule::check(schedule, &mut problems),
        Spec::Route(route) => super::route::check(route, &mut problems),
    }
    problems.into_vec()
}

fn check_repository(spec: &RepositorySpec, problems: &mut Problems) {
    if spec.repository_id.parse::<RepositoryId>().is_err() {
        problems.add("repositoryId", "expected the 32 hexadecimal digits that `muster repo init` printed");
    }
    if !is_hex(&spec.public_key, 64) {
        problems.add("publicKey", "expected the 64 hexadecimal digits that `muster repo init` printed");
    }
    match &spec.location {
        None => problems.add("location", "missing; expected folder or s3"),
        Some(Location::Folder(folder)) => problems.path("folder.path", &folder.path),
        Some(Location::S3(s3)) => check_s3(s3, problems),
    }
}

fn check_s3(s3: &S3Location, problems: &mut Problems) {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !(3..=63).contains(&s3.bucket.len()) || !s3.bucket.bytes().all(letters) {
        problems.add("s3.bucket", format!("{:?} is no bucket's name: 3 to 63 of a-z, 0-9, '-' and '.'", s3.bucket));
    }
    problems.text("s3.prefix", &s3.prefix);
    if s3.prefix.starts_with('/') || s3.prefix.split('/').any(|part| part == ".." || part == ".") {
        problems.add("s3.prefix", format!("{:?} starts with / or holds a . or .. part", s3.prefix));
    }
    problems.text("s3.region", &s3.region);
    if !s3.endpoint.is_empty() {
        problems.text("s3.endpoint", &s3.endpoint);
        let host = s3.endpoint.strip_prefix("https://").or_else(|| s3.endpoint.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains('@')) {
            problems.add("s3.endpoint", "expected http://HOST[:PORT] or https://HOST[:PORT] without credentials");
        }
    }
    problems.optional_path("s3.caFile", &s3.ca_file);
    problems.optional_path("s3.credentialsFile", &s3.credentials_file);
}

fn check_component(spec: &ComponentSpec, problems: &mut Problems) {
    if Priority::try_from(spec.priority).is_err() {
        problems.add("priority", "of a newer version; expected LOW, MEDIUM, HIGH or CRITICAL");
    }
    if let Some(objectives) = &spec.objectives {
        check_objectives(objectives, problems);
    }
    if let Some(expects) = &spec.expects {
        for (field, every) in [("expects.backupEvery", &expects.backup_every), ("expects.verifyEvery", &expects.verify_every)] {
            if every.as_ref().is_some_and(|every| every.seconds < 60 || every.nanos < 0 || every.seconds > 366 * 86_400) {
                problems.add(field, "expected 1m to 366d");
            }
        }
    }
    if !spec.repository.is_empty() {
        problems.name("repository", &spec.repository);
    }
    if spec.instances.len() > MOST_INSTANCES {
        problems.add("instances", format!("{} of them; {MOST_INSTANCES} is the bound", spec.instances.len()));
    }
    let mut labels = BTreeSet::new();
    for (n, instance) in spec.instances.iter().enumerate() {
        check_instance(instance, &format!("instances[{n}]"), problems);
        if !labels.insert(instance_name(instance)) {
            problems.add(
                &format!("instances[{n}].name"),
                format!("{:?} is there twice; give instances of one site names of their own", instance_name(instance)),
            );
        }
    }
    if let Some(retention) = &spec.retention {
        check_retention(retention, problems);
    }
    if let Some(verify) = &spec.verify {
        check_verify(verify, problems);
    }
    if let Some(hooks) = &spec.hooks {
        check_hooks(hooks, problems);
    }
    if spec.depends_on.len() > MOST_DEPENDENCIES {
        problems.add("dependsOn", format!("{} of them; {MOST_DEPENDENCIES} is the bound", spec.depends_on.len()));
    }
    for (n, name) in spec.depends_on.iter().enumerate() {
        problems.name(&format!("dependsOn[{n}]"), name);
    }
    let engines: BTreeSet<&str> = spec.instances.iter().filter_map(|i| i.engine.as_ref()).map(engine_name).collect();
    if engines.len() > 1 {
        let told: Vec<&str> = engines.into_iter().collect();
        problems.add("instances", format!("of more than one engine: {}", told.join(", ")));
    }
}

fn check_hooks(spec: &ComponentHooks, problems: &mut Problems) {
    let lists = [
        ("hooks.beforeBackup", &spec.before_backup),
        ("hooks.afterBackup", &spec.after_backup),
        ("hooks.beforeRestore", &spec.before_restore),
        ("hooks.afterRestore", &spec.after_restore),
        ("hooks.beforeVerify", &spec.before_verify),
        ("hooks.afterVerify", &spec.after_verify),
    ];
    for (field, names) in lists {
        if names.len() > MOST_HOOKS {
            problems.add(field, format!("{} of them; {MOST_HOOKS} is the bound", names.len()));
        }
        for (n, name) in names.iter().enumerate() {
            problems.name(&format!("{field}[{n}]"), name);
        }
    }
}

fn check_verify(spec: &VerifySpec, problems: &mut Problems) {
    if spec.assertions.len() > MOST_ASSERTIONS {
        problems.add("verify.assertions", format!("{} of them; {MOST_ASSERTIONS} is the bound", spec.assertions.len()));
    }
    if spec.assertions.iter().map(|assertion| assertion.sql.len() + assertion.expect.len()).sum::<usize>() > MOST_ASSERTION_BYTES {
        problems.add("verify.assertions", format!("statements and answers are longer than {MOST_ASSERTION_BYTES} bytes together"));
    }
    let mut names = BTreeSet::new();
    for (n, assertion) in spec.assertions.iter().take(MOST_ASSERTIONS).enumerate() {
        let at = format!("verify.assertions[{n}]");
        problems.text(&format!("{at}.name"), &assertion.name);
        problems.text(&format!("{at}.database"), &assertion.database);
        if assertion.sql.trim().is_empty() || assertion.sql.len() > MOST_SQL || assertion.sql.contains('\0') {
            problems.add(&format!("{at}.sql"), format!("expected one statement of at most {MOST_SQL} bytes"));
        }
        if !assertion.name.is_empty() && !names.insert(assertion.name.as_str()) {
            problems.add(&format!("{at}.name"), format!("{:?} is there twice", assertion.name));
        }
    }
    let timeout = spec.statement_timeout.as_ref();
    if timeout.is_some_and(|timeout| !(1..=86_400).contains(&timeout.seconds) || timeout.nanos < 0) {
        problems.add("verify.statementTimeout", "expected 1s to 24h");
    }
}

/// The engine's name as fields are called.
#[must_use]
pub const fn engine_name(engine: &Engine) -> &'static str {
    match engine {
        Engine::Postgres(_) => "postgres",
        Engine::Files(_) => "files",
    }
}

fn check_retention(spec: &RetentionSpec, problems: &mut Problems) {
    let within = spec.keep_within.as_ref();
    if within.is_some_and(|within| !(3_600..=3_155_760_000).contains(&within.seconds) || within.nanos < 0) {
        problems.add("retention.keepWithin", "expected 1h to a hundred years");
    }
    if within.is_none() && spec.keep_last == 0 {
        problems.add("retention", "keeps everything; give keepWithin or keepLast, or leave it out");
    }
}

fn check_objectives(objectives: &Objectives, problems: &mut Problems) {
    for (field, duration) in [("objectives.rto", &objectives.rto), ("objectives.rpo", &objectives.rpo)] {
        if duration.as_ref().is_some_and(|d| d.seconds < 0 || d.nanos < 0 || (d.seconds == 0 && d.nanos == 0) || d.seconds > 315_576_000) {
            problems.add(field, "expected more than nothing and at most ten years");
        }
    }
}

fn check_instance(instance: &InstanceSpec, at: &str, problems: &mut Problems) {
    if !instance.name.is_empty() {
        problems.name(&format!("{at}.name"), &instance.name);
    }
    problems.name(&format!("{at}.site"), &instance.site);
    problems.name(&format!("{at}.agent"), &instance.agent);
    match &instance.engine {
        None => problems.add(at, "has no engine; expected postgres or files"),
        Some(Engine::Files(files)) => problems.path(&format!("{at}.files.path"), &files.path),
        Some(Engine::Postgres(postgres)) => check_postgres(postgres, &format!("{at}.postgres"), problems),
    }
}

fn check_postgres(postgres: &PostgresSpec, at: &str, problems: &mut Problems) {
    if let Err(reason) = check_address(&postgres.address) {
        problems.add(&format!("{at}.address"), reason);
    }
    problems.path(&format!("{at}.dataDirectory"), &postgres.data_directory);
    problems.text(&format!("{at}.user"), &postgres.user);
    problems.text(&format!("{at}.database"), &postgres.database);
    problems.optional_path(&format!("{at}.passwordFile"), &postgres.password_file);
    problems.optional_path(&format!("{at}.binDirectory"), &postgres.bin_directory);
    problems.optional_path(&format!("{at}.configFile"), &postgres.config_file);
    if PostgresTls::try_from(postgres.tls).is_err() {
        problems.add(&format!("{at}.tls"), "of a newer version");
    }
    match &postgres.control {
        None => {}
        Some(Control::PgCtl(control)) => {
            problems.text(&format!("{at}.pgCtl.options"), &control.options);
            problems.optional_path(&format!("{at}.pgCtl.logFile"), &control.log_file);
        }
    }
}

/// `host:port`, `[v6]:port`, or an absolute socket folder and port.
fn check_address(address: &str) -> Result<(), String> {
    let wrong = || format!("{address:?} is no address; expected for example 10.1.0.5:5432, [fd00::5]:5432 or /run/postgresql:5432");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    if port.parse::<u16>().ok().is_none_or(|port| port == 0) || address.len() > 255 {
        return Err(wrong());
    }
    let host_ok = if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        v6.parse::<std::net::Ipv6Addr>().is_ok()
    } else if host.starts_with('/') {
        !host.split('/').any(|part| part == ".." || part == ".")
    } else {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
    };
    if host_ok { Ok(()) } else { Err(wrong()) }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{FilesSpec, FolderLocation, SiteSpec, VerifyAssertion};

    use super::*;

    fn postgres(address: &str, data: &str) -> InstanceSpec {
        InstanceSpec {
            site: "istanbul".into(),
            agent: "istanbul-db1".into(),
            engine: Some(Engine::Postgres(PostgresSpec {
                address: address.into(),
                data_directory: data.into(),
                ..PostgresSpec::default()
            })),
            ..InstanceSpec::default()
        }
    }

    fn component(instances: Vec<InstanceSpec>) -> Spec {
        Spec::Component(ComponentSpec { instances, ..ComponentSpec::default() })
    }

    fn asserting(sql: &str, times: usize) -> Spec {
        let assertion = VerifyAssertion { name: "orders".into(), sql: sql.into(), ..VerifyAssertion::default() };
        let verify = VerifySpec { assertions: vec![assertion; times], statement_timeout: None };
        Spec::Component(ComponentSpec { verify: Some(verify), ..ComponentSpec::default() })
    }

    #[test]
    fn a_good_component_has_no_problems() {
        for address in ["10.1.0.5:5432", "[::1]:5432", "/run/postgresql:5432", "db.example:1"] {
            assert_eq!(problems(&component(vec![postgres(address, "/srv/pg")])), Vec::<String>::new(), "{address}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        let files =
            InstanceSpec { engine: Some(Engine::Files(FilesSpec { path: "/srv/x".into() })), name: "b".into(), ..postgres("a:1", "/x") };
        for (spec, field, word) in [
            (component(vec![postgres("10.1.0.5", "/srv/pg")]), "instances[0].postgres.address", "no address"),
            (component(vec![postgres("a:0", "/srv/pg")]), "instances[0].postgres.address", "no address"),
            (component(vec![postgres("a:1", "srv/pg")]), "instances[0].postgres.dataDirectory", "absolute"),
            (component(vec![postgres("a:1", "/srv/../etc")]), "instances[0].postgres.dataDirectory", ".."),
            (component(vec![postgres("a:1", "/x"), postgres("b:1", "/y")]), "instances[1].name", "twice"),
            (component(vec![postgres("a:1", "/x"), files]), "instances", "more than one engine"),
            (component(vec![InstanceSpec { engine: None, ..postgres("a:1", "/x") }]), "instances[0]", "no engine"),
            (component(vec![InstanceSpec { agent: "A".into(), ..postgres("a:1", "/x") }]), "instances[0].agent", "no name"),
            (asserting("select 1", 2), "verify.assertions[1].name", "twice"),
            (asserting(" ", 1), "verify.assertions[0].sql", "one statement"),
            (asserting("select 1", 101), "verify.assertions", "bound"),
            (Spec::Site(SiteSpec { description: "a\nb".into() }), "description", "line end"),
        ] {
            let told = problems(&spec);
            assert!(told.iter().any(|p| p.starts_with(&format!("{field}: ")) && p.contains(word)), "{field}: {told:?}");
        }
    }

    #[test]
    fn a_repository_needs_id_key_and_place() {
        let good = RepositorySpec {
            repository_id: "ab".repeat(16),
            public_key: "cd".repeat(32),
            location: Some(Location::Folder(FolderLocation { path: "/srv/backups".into() })),
        };
        assert_eq!(problems(&Spec::Repository(good.clone())), Vec::<String>::new());
        let told = problems(&Spec::Repository(RepositorySpec::default()));
        assert_eq!(told.len(), 3, "{told:?}");
        let s3 = S3Location { bucket: "UP".into(), endpoint: "https://user:secret@host".into(), ..S3Location::default() };
        let told = problems(&Spec::Repository(RepositorySpec { location: Some(Location::S3(s3)), ..good }));
        assert!(told.len() == 2 && !told.join(" ").contains("secret"), "{told:?}");
    }
}
