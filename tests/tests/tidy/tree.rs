//! The project's files as git sees them: tracked ones and new ones that are not ignored. Knows nothing about their meaning.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the project's root").to_owned()
}

/// Paths relative to the root, sorted, with `/` between folders.
pub fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the project's files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let mut files: Vec<_> = text.split_terminator('\0').filter(|path| root().join(path).is_file()).map(str::to_owned).collect();
    files.sort();
    assert!(files.len() > 20, "git shows only {} files: is this the project's own repository?", files.len());
    files
}

/// A file's text, or nothing where it is not text (a golden file, an image).
pub fn text(path: &str) -> Option<String> {
    let bytes = std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"));
    String::from_utf8(bytes).ok()
}

/// Fails with every problem at once, so that one run shows all there is to do.
#[track_caller]
pub fn none(what: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}
