//! Who may know whom. The table is the architecture: a new edge between crates is a decision and is made here.
//! Reads the manifests as lines, which is enough for how this workspace writes them.

use std::collections::BTreeMap;

use crate::tree::{none, root, text};

/// What each crate may use besides `common` and `failpoint`, which all but those two may.
const MAY_USE: &[(&str, &[&str])] = &[
    ("common", &[]),
    ("failpoint", &[]),
    ("failover", &[]),
    ("repository", &[]),
    ("routes", &["failover"]),
    ("identity", &["service"]),
    ("service", &[]),
    ("wire", &["failover"]),
    ("engine", &["failover", "repository"]),
    ("engine-postgres", &["engine", "failover", "repository"]),
    ("engine-files", &["engine", "failover", "repository"]),
    ("controller", &["failover", "repository", "routes", "wire", "identity", "service"]),
    ("agent", &["failover", "repository", "wire", "identity", "service", "engine", "engine-postgres", "engine-files"]),
    ("cli", &["repository", "routes", "wire", "identity", "service", "engine", "engine-postgres", "engine-files"]),
    ("testbed", EVERYTHING),
    ("tests", EVERYTHING),
];

const EVERYTHING: &[&str] = &[
    "failover",
    "repository",
    "routes",
    "wire",
    "identity",
    "service",
    "engine",
    "engine-postgres",
    "engine-files",
    "controller",
    "agent",
    "cli",
    "testbed",
];

/// These stand at the end of the chain; only worlds and tests may use them, and not even another crate's tests.
const USED_BY_NOBODY: &[&str] = &["controller", "agent", "cli", "testbed"];

/// Crates that hold decisions only: no I/O, no runtime, no database.
const PURE: &[&str] = &["common", "failover"];

struct Edge {
    to: String,
    for_tests: bool,
}

/// The dependencies of one manifest.
fn edges(path: &str) -> Vec<Edge> {
    let manifest = text(path).expect("manifests are text");
    let mut section = String::new();
    let mut edges = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if let Some((table, name)) = section.rsplit_once("dependencies.") {
                edges.push(Edge { to: name.to_owned(), for_tests: table.ends_with("dev-") });
            }
        } else if section.ends_with("dependencies")
            && let Some((name, _)) = line.split_once(['=', '.'])
            && !line.starts_with('#')
        {
            edges.push(Edge { to: name.trim().to_owned(), for_tests: section.ends_with("dev-dependencies") });
        }
    }
    edges
}

fn crates() -> BTreeMap<String, Vec<Edge>> {
    let mut crates = BTreeMap::from([("tests".to_owned(), edges("tests/Cargo.toml"))]);
    for entry in std::fs::read_dir(root().join("crates")).expect("crates/ is a folder") {
        let name = entry.expect("a folder's entry").file_name().into_string().expect("names are UTF-8");
        if root().join("crates").join(&name).join("Cargo.toml").is_file() {
            let found = edges(&format!("crates/{name}/Cargo.toml"));
            crates.insert(name, found);
        }
    }
    crates
}

#[test]
fn every_crate_knows_only_whom_it_may_know() {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut problems = Vec::new();
    for (name, edges) in crates() {
        let Some(allowed) = table.get(name.as_str()) else {
            problems.push(format!("crates/{name} has no line in tests/tests/tidy/edges.rs: say there what it may use"));
            continue;
        };
        for edge in edges {
            let Some(to) = edge.to.strip_prefix("muster-") else { continue };
            let vocabulary = matches!(to, "common" | "failpoint") && !matches!(name.as_str(), "common" | "failpoint");
            let forbidden_even_in_tests = USED_BY_NOBODY.contains(&to) && !matches!(name.as_str(), "testbed" | "tests");
            if forbidden_even_in_tests || !(vocabulary || allowed.contains(&to) || edge.for_tests || to == name) {
                problems.push(format!("{name} uses {to}"));
            }
        }
    }
    none("edges that the architecture does not have", &problems);
}

#[test]
fn every_line_of_the_table_is_a_crate() {
    let crates = crates();
    let gone: Vec<_> = MAY_USE.iter().filter(|(name, _)| !crates.contains_key(*name)).map(|(name, _)| (*name).to_owned()).collect();
    none("lines in the table of edges without a crate", &gone);
}

#[test]
fn pure_crates_use_no_runtime_no_wire_and_no_database() {
    let crates = crates();
    let mut problems = Vec::new();
    for name in PURE {
        for edge in crates.get(*name).into_iter().flatten() {
            if ["tokio", "tonic", "sqlx"].iter().any(|banned| edge.to.starts_with(banned)) {
                problems.push(format!("{name} uses {}", edge.to));
            }
        }
    }
    none("pure crates with impure dependencies", &problems);
}

#[test]
fn pure_crates_name_no_clock_and_no_chance() {
    let mut problems = Vec::new();
    for path in crate::tree::files() {
        let pure = PURE.iter().any(|name| path.starts_with(&format!("crates/{name}/src/")));
        if !pure {
            continue;
        }
        let source = text(&path).expect("sources are text");
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            for word in words.filter(|word| ["Instant", "SystemTime", "rand", "tokio", "tonic", "sqlx"].contains(word)) {
                problems.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    none("time and chance are arguments in pure crates", &problems);
}
