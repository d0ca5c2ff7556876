//! Golden files: bytes that a released version wrote and that every later version must read. Each file under a folder
//! `golden/` stands with its SHA-256 in `tests/golden.sha256`; a line there is added with the file and never changed.

use std::collections::BTreeMap;
use std::process::Command;

use crate::tree::{files, none, root, text};

const LIST: &str = "tests/golden.sha256";

fn hash(path: &str) -> String {
    let summed = Command::new("sha256sum").arg("--").arg(root().join(path)).output().expect("sha256sum is part of coreutils");
    assert!(summed.status.success(), "sha256sum {path}: {}", String::from_utf8_lossy(&summed.stderr));
    String::from_utf8(summed.stdout).expect("hashes are text").chars().take_while(char::is_ascii_hexdigit).collect()
}

/// Path to hash, from lines like those of `sha256sum`; a line that begins with `#` names the version that follows.
fn listed() -> BTreeMap<String, String> {
    let list = text(LIST).expect("the list is text");
    let lines = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (hash, path) = line.split_once("  ").unwrap_or_else(|| panic!("{LIST}: {line:?} is not `<sha256>  <path>`"));
            (path.to_owned(), hash.to_owned())
        })
        .collect()
}

#[test]
fn golden_files_never_change() {
    let listed = listed();
    let mut problems = Vec::new();
    for (path, expected) in &listed {
        if !root().join(path).is_file() {
            problems.push(format!("{path} is gone"));
        } else if hash(path) != *expected {
            problems.push(format!("{path} has changed: make a new file for the new version instead"));
        }
    }
    for path in files().into_iter().filter(|path| path.contains("/golden/") && !path.ends_with(".md") && !path.ends_with(".rs")) {
        if !listed.contains_key(&path) {
            problems.push(format!("{path} is not listed; add this line to {LIST}: {}  {path}", hash(&path)));
        }
    }
    none("golden files", &problems);
}
