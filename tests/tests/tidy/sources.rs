//! How source files look: their length, their opening, and what they may not name.

use crate::tree::{files, none, text};

/// The longest a source file may be without an excuse.
const LONGEST: usize = 500;

/// Files that are longer, each with the reason why splitting it would make it worse.
const EXCUSED: &[(&str, &str)] = &[];

fn rust_files() -> Vec<String> {
    files().into_iter().filter(|path| path.ends_with(".rs")).collect()
}

#[test]
fn no_source_file_is_long_without_an_excuse() {
    let mut problems = Vec::new();
    for path in rust_files() {
        let lines = text(&path).expect("sources are text").lines().count();
        if lines > LONGEST && !EXCUSED.iter().any(|(excused, _)| *excused == path) {
            problems.push(format!("{path} has {lines} lines"));
        }
    }
    none(&format!("source files of more than {LONGEST} lines: split them, or write an excuse in tests/tests/tidy/sources.rs"), &problems);
}

#[test]
fn every_excuse_is_still_needed() {
    let present = rust_files();
    let mut problems = Vec::new();
    for (path, excuse) in EXCUSED {
        let long = present.iter().any(|file| file == path) && text(path).is_some_and(|source| source.lines().count() > LONGEST);
        if !long || excuse.len() < 20 {
            problems.push(format!("{path}: {excuse:?}"));
        }
    }
    none("excuses for files that are gone or short, or excuses that say nothing", &problems);
}

#[test]
fn every_source_file_opens_by_saying_what_it_is_for() {
    let mut problems = Vec::new();
    for path in rust_files() {
        let source = text(&path).expect("sources are text");
        let first = source.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 14 {
            problems.push(format!("{path} opens with {first:?}"));
        }
    }
    none("source files that do not open with `//! ` and a sentence", &problems);
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let mut problems = Vec::new();
    for path in files().into_iter().filter(|path| path.ends_with("/Cargo.toml")) {
        let manifest = text(&path).expect("manifests are text");
        if !manifest.contains("[lints]\nworkspace = true") && !manifest.contains("unsafe_code = \"forbid\"") {
            problems.push(path);
        }
    }
    none("crates that neither take the workspace's lints nor forbid unsafe code", &problems);
}

/// Folders of somebody's machine. Written in two halves so that this file does not name them.
fn machine_folders() -> [String; 3] {
    [concat!("/ro", "ot"), concat!("/wo", "rk"), concat!("/ho", "me/")].map(str::to_owned)
}

/// Where `folder` stands in `line` as the beginning of an absolute path.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        let begins = before.is_none_or(|c| !(c.is_alphanumeric() || "_.-/~}*>)".contains(c)));
        let ends = folder.ends_with('/') || after.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '-'));
        begins && ends
    })
}

#[test]
fn no_file_names_a_machines_own_path() {
    let mut problems = Vec::new();
    for path in files() {
        let Some(source) = text(&path) else { continue };
        for (number, line) in source.lines().enumerate() {
            if machine_folders().iter().any(|folder| names_folder(line, folder)) {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("paths of somebody's machine", &problems);
}

#[test]
fn the_project_stands_alone() {
    let outside = concat!("../", "shared");
    let mut problems = Vec::new();
    for path in files() {
        if text(&path).is_some_and(|source| source.contains(outside)) {
            problems.push(path);
        }
    }
    none("files that refer to something outside the project", &problems);
}

#[test]
fn a_machines_path_is_recognised_and_a_word_that_contains_it_is_not() {
    let [root, work, home] = machine_folders();
    for (line, folder, named) in [
        (format!("cp x {root}/y"), &root, true),
        (format!("\"{work}\""), &work, true),
        (format!("see {home}me/x"), &home, true),
        (format!("target{work}space"), &work, false),
        (format!("{work}space"), &work, false),
        (format!("https://example.org{root}/x"), &root, false),
    ] {
        assert_eq!(names_folder(&line, folder), named, "{line}");
    }
}
