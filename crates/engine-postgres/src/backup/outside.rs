//! Configuration that lies outside of the data directory (Debian keeps it below /etc): found by following what the
//! server's own files include. It becomes part of the point.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use muster_repository::entry::{FileEntry, FileKind, Group, RelPath};

use crate::backup::listing::{ListError, Source, mode, mtime};
use crate::data_directory::read_small;

/// More files than this are refused: an include that goes round is cut by the set of those seen.
const MAX_FILES: usize = 200;

/// The files to take, besides those in `data`: `first` (postgresql.conf, pg_hba.conf, pg_ident.conf) and what they include.
///
/// # Errors
/// Where one that is there cannot be read, or there are too many.
pub fn list(data: &Path, first: &[PathBuf]) -> Result<Vec<Source>, ListError> {
    let mut seen = BTreeSet::new();
    let mut queue: Vec<PathBuf> = first.to_vec();
    let mut sources = Vec::new();
    while let Some(path) = queue.pop() {
        let path = without_dots(&path);
        let inside =
            path.starts_with(data) || path.canonicalize().is_ok_and(|real| data.canonicalize().is_ok_and(|data| real.starts_with(data)));
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MAX_FILES {
            return Err(ListError::Path(format!("the configuration consists of more than {MAX_FILES} files")));
        }
        let bytes = match read_small(&path) {
            Ok(bytes) => bytes,
            Err(crate::data_directory::DataDirectoryError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ListError::Path(error.to_string())),
        };
        queue.extend(included(&path, &String::from_utf8_lossy(&bytes)).map_err(|source| ListError::Io { path: path.clone(), source })?);
        if !inside {
            sources.push(source(&path)?);
        }
    }
    Ok(sources)
}

/// `/a/b/../c` as `/a/c`: a point takes no `..`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

fn source(path: &Path) -> Result<Source, ListError> {
    let meta = std::fs::metadata(path).map_err(|source| ListError::Io { path: path.to_owned(), source })?;
    let bytes = path.as_os_str().as_bytes();
    let rel = RelPath::new(bytes.strip_prefix(b"/").unwrap_or(bytes)).map_err(|error| ListError::Path(error.to_string()))?;
    let entry =
        FileEntry { path: rel, kind: FileKind::Plain, mode: mode(&meta), mtime: mtime(&meta), size_hint: meta.len(), group: Group::Config };
    Ok(Source { path: path.to_owned(), entry, relation: None })
}

/// The files that `include`, `include_if_exists` and `include_dir` lines name, relative ones beside `file`.
fn included(file: &Path, text: &str) -> io::Result<Vec<PathBuf>> {
    let folder = file.parent().unwrap_or(file);
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((directive, value)) = directive(line) else { continue };
        let path = folder.join(value);
        if directive != "include_dir" {
            found.push(path);
            continue;
        }
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.take(MAX_FILES) {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.ends_with(".conf") && !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The folders that `include_dir` lines name by a relative path. A server whose folder is not there does not start, though it may be empty, and
/// of an empty folder nothing is in a point.
pub fn relative_folders(text: &str) -> impl Iterator<Item = &Path> {
    let named = text.lines().filter_map(directive).filter(|(directive, _)| *directive == "include_dir");
    named
        .map(|(_, value)| Path::new(value))
        .filter(|path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)))
}

/// `include 'x'`, `include_dir = 'conf.d'` and the like; nothing else.
fn directive(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let end = line.find(|c: char| !c.is_ascii_alphabetic() && c != '_')?;
    let (name, rest) = line.split_at(end);
    if !["include", "include_if_exists", "include_dir"].contains(&name) {
        return None;
    }
    let rest = rest.trim_start().trim_start_matches('=').trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next()?,
        None => rest.split([' ', '\t', '#']).next()?,
    };
    (!value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_followed_and_only_what_lies_outside_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (data, etc) = (folder.path().join("data"), folder.path().join("etc"));
        std::fs::create_dir_all(etc.join("conf.d")).unwrap();
        std::fs::create_dir(&data).unwrap();
        let main = etc.join("postgresql.conf");
        std::fs::write(
            &main,
            "port = 1\ninclude_dir = 'conf.d' # all\n#include 'no.conf'\ninclude_if_exists 'absent.conf'\ninclude 'postgresql.conf'\n",
        )
        .unwrap();
        std::fs::write(etc.join("conf.d/a.conf"), format!("include '{}'", data.join("inner.conf").display())).unwrap();
        std::fs::write(etc.join("conf.d/b.txt"), "").unwrap();
        std::fs::write(data.join("inner.conf"), "include '../etc/more.conf'").unwrap();
        std::fs::write(etc.join("more.conf"), "").unwrap();
        let taken = list(&data, &[main.clone(), etc.join("pg_hba.conf")]).unwrap();
        let mut paths: Vec<_> = taken.iter().map(|source| source.path.canonicalize().unwrap()).collect();
        paths.sort();
        assert_eq!(paths, [etc.join("conf.d/a.conf"), etc.join("more.conf"), main]);
        assert!(taken.iter().all(|source| source.entry.group == Group::Config && !source.entry.path.as_bytes().starts_with(b"/")));
    }
}
