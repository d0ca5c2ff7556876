//! Walks a data directory and its tablespaces: what a backup takes, in an order that keeps all readers busy.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use muster_common::time::Timestamp;
use muster_repository::entry::{FileEntry, FileKind, FolderEntry, Group, RelPath, SymlinkEntry};

use crate::exclude::{self, RelationFile, Verdict};
use crate::point::Tablespace;

/// Folders deeper than this are refused: PostgreSQL has five levels.
const MAX_DEPTH: usize = 64;

/// A file to read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// How it stands in the point.
    pub entry: FileEntry,
    /// Set where it holds a relation's pages.
    pub relation: Option<RelationFile>,
}

/// What a backup takes.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files, the largest first.
    pub files: Vec<Source>,
    /// Folders, parents before children.
    pub folders: Vec<FolderEntry>,
    /// Symbolic links of the data directory that are no tablespaces.
    pub symlinks: Vec<SymlinkEntry>,
    /// Tablespaces outside of the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// Bytes of all files as they were listed.
    pub bytes: u64,
}

/// Why a folder could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The operating system refused.
    #[error("list {}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A path that no point takes.
    #[error("{0}")]
    Path(String),
}

/// One folder tree that is walked.
struct Root<'a> {
    top: &'a Path,
    group: Group,
    in_tablespace: bool,
    block_size: u32,
}

/// Lists a data directory whose pages have `block_size` bytes and whose tablespaces use the folder `version_folder`.
///
/// # Errors
/// Where a folder cannot be read. Files that vanish meanwhile are left out.
pub fn list(data: &Path, block_size: u32, catalog_version: u32, major: u32) -> Result<Listing, ListError> {
    let mut listing = Listing::default();
    let root = Root { top: data, group: Group::Data, in_tablespace: false, block_size };
    walk(&root, "", 0, &mut listing)?;
    let version_folder = format!("PG_{major}_{catalog_version}");
    for (oid, location) in tablespaces(data)? {
        let location_text = location
            .to_str()
            .ok_or_else(|| ListError::Path(format!("tablespace {oid} lies at {}, which is no UTF-8", location.display())))?;
        let group = Group::Tablespace(oid);
        let root = Root { top: &location, group, in_tablespace: true, block_size };
        let meta = std::fs::metadata(location.join(&version_folder))
            .map_err(|source| ListError::Io { path: location.join(&version_folder), source })?;
        listing.folders.push(FolderEntry { path: rel(&version_folder)?, mode: mode(&meta), group });
        walk(&root, &version_folder, 1, &mut listing)?;
        listing.tablespaces.push(Tablespace { oid, location: location_text.to_owned(), version_folder: version_folder.clone() });
    }
    listing.files.sort_by_key(|file| std::cmp::Reverse(file.entry.size_hint));
    Ok(listing)
}

/// The tablespaces outside of a data directory: symbolic links in `pg_tblspc` named by an OID.
///
/// # Errors
/// Where the folder cannot be read.
pub fn tablespaces(data: &Path) -> Result<Vec<(u32, PathBuf)>, ListError> {
    let folder = data.join("pg_tblspc");
    let failed = |source| ListError::Io { path: folder.clone(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let oid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(oid) = oid.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_symlink())) {
            found.push((oid, std::fs::read_link(entry.path()).map_err(failed)?));
        }
    }
    found.sort();
    Ok(found)
}

fn walk(root: &Root<'_>, folder: &str, depth: usize, listing: &mut Listing) -> Result<(), ListError> {
    let path = root.top.join(folder);
    let failed = |source| ListError::Io { path: path.clone(), source };
    if depth > MAX_DEPTH {
        return Err(ListError::Path(format!("{} is nested more than {MAX_DEPTH} deep", path.display())));
    }
    let entries: Vec<DirEntry> = match std::fs::read_dir(&path) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed)?,
        // A database that is dropped meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let unlogged = if exclude::holds_relations(folder, root.in_tablespace) {
        let names: Vec<_> = entries.iter().map(DirEntry::file_name).collect();
        exclude::unlogged(names.iter().filter_map(|name| name.to_str()))
    } else {
        BTreeSet::new()
    };
    for entry in &entries {
        add(root, folder, depth, entry, &unlogged, listing)?;
    }
    Ok(())
}

fn add(
    root: &Root<'_>,
    folder: &str,
    depth: usize,
    entry: &DirEntry,
    unlogged: &BTreeSet<u32>,
    listing: &mut Listing,
) -> Result<(), ListError> {
    let meta = match entry.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ListError::Io { path: entry.path(), source }),
    };
    let name = entry.file_name();
    // A name that is no UTF-8 is nobody's but the operator's: it is taken as it is.
    let verdict = name.to_str().map_or(Verdict::Plain, |name| exclude::judge(folder, name, root.in_tablespace, unlogged));
    let path = inside(folder, name.as_bytes())?;
    let relation = match verdict {
        Verdict::LeaveOut | Verdict::ControlFile => return Ok(()),
        Verdict::KeepEmpty => {
            let mode = if meta.is_dir() { mode(&meta) } else { 0o700 };
            listing.folders.push(FolderEntry { path, mode, group: root.group });
            return keep_empty(root, name.to_str().unwrap_or_default(), listing);
        }
        Verdict::Relation(relation) => Some(relation),
        Verdict::Plain => None,
    };
    if meta.is_symlink() {
        let target = std::fs::read_link(entry.path()).map_err(|source| ListError::Io { path: entry.path(), source })?;
        if folder != "pg_tblspc" || root.in_tablespace {
            listing.symlinks.push(SymlinkEntry { path, target: target.as_os_str().as_bytes().to_vec(), group: root.group });
        }
    } else if meta.is_dir() {
        listing.folders.push(FolderEntry { path, mode: mode(&meta), group: root.group });
        if let Some(name) = name.to_str() {
            let inner = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            walk(root, &inner, depth + 1, listing)?;
        }
    } else if meta.is_file() {
        let kind = if relation.is_some() { FileKind::Pages { block_size: root.block_size } } else { FileKind::Plain };
        listing.bytes += meta.len();
        let entry_of = FileEntry { path, kind, mode: mode(&meta), mtime: mtime(&meta), size_hint: meta.len(), group: root.group };
        listing.files.push(Source { path: entry.path(), entry: entry_of, relation });
    }
    Ok(())
}

/// `pg_wal` is restored with its empty `archive_status`.
fn keep_empty(root: &Root<'_>, name: &str, listing: &mut Listing) -> Result<(), ListError> {
    if name == "pg_wal" {
        listing.folders.push(FolderEntry { path: rel("pg_wal/archive_status")?, mode: 0o700, group: root.group });
    }
    Ok(())
}

fn inside(folder: &str, name: &[u8]) -> Result<RelPath, ListError> {
    let mut bytes = folder.as_bytes().to_vec();
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name);
    RelPath::new(bytes).map_err(|error| ListError::Path(error.to_string()))
}

fn rel(path: &str) -> Result<RelPath, ListError> {
    inside("", path.as_bytes())
}

pub(super) fn mode(meta: &std::fs::Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

pub(super) fn mtime(meta: &std::fs::Metadata) -> Timestamp {
    Timestamp(meta.mtime().saturating_mul(1_000_000).saturating_add(meta.mtime_nsec() / 1_000))
}
