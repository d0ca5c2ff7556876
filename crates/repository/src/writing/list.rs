//! The list of files of a point: rows behind their lengths, cut into frames as they come.

use std::collections::HashSet;

use prost::Message;

use crate::entry::{FileEntry, FileKind, FolderEntry, Group, RelPath, SymlinkEntry};
use crate::error::Error;
use crate::format::message::{Entry, FrameRef};
use crate::reading::{FORM_FILE, FORM_FOLDER, FORM_SYMLINK, fingerprint, group_numbers};

/// A list frame is stored when it has this many bytes; a row fits behind it.
const PIECE: usize = 200 * 1024;
/// The most list frames of a point: fifty million files.
const MAX_PIECES: usize = 65_536;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) folders: u64,
    pub(super) symlinks: u64,
}

#[derive(Default)]
pub(super) struct List {
    pub(super) totals: Totals,
    pub(super) pieces: Vec<FrameRef>,
    buffer: Vec<u8>,
    claimed: HashSet<u128>,
}

/// Where a file's bytes are found.
#[derive(Clone, Debug)]
pub(super) enum Root {
    Empty,
    Frame(FrameRef),
    Leaf(FrameRef),
    Node(FrameRef),
}

impl List {
    /// Refuses a path that the point has already.
    pub(super) fn claim(&mut self, group: Group, path: &RelPath) -> Result<(), Error> {
        if self.claimed.insert(fingerprint(group, path)) { Ok(()) } else { Err(Error::Invalid(format!("{path} is in the point already"))) }
    }

    /// A file that could not be read may come again.
    pub(super) fn release(&mut self, group: Group, path: &RelPath) {
        self.claimed.remove(&fingerprint(group, path));
    }

    /// Adds a row; a piece that is full is to be stored.
    pub(super) fn add(&mut self, row: &[u8]) -> Option<Vec<u8>> {
        self.buffer.extend_from_slice(row);
        if self.buffer.len() >= PIECE { self.rest() } else { None }
    }

    /// What was not stored yet.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }

    /// A piece was stored.
    pub(super) fn placed(&mut self, piece: FrameRef) -> Result<(), Error> {
        if self.pieces.len() >= MAX_PIECES {
            return Err(Error::Invalid(format!("a point lists at most {MAX_PIECES} frames of files")));
        }
        self.pieces.push(piece);
        Ok(())
    }
}

pub(super) fn file_row(entry: &FileEntry, size: u64, root: Root) -> Vec<u8> {
    let (group, tablespace) = group_numbers(entry.group);
    let (root, frame) = match root {
        Root::Empty => (0, None),
        Root::Frame(frame) => (1, Some(frame)),
        Root::Leaf(frame) => (2, Some(frame)),
        Root::Node(frame) => (3, Some(frame)),
    };
    let block_size = match entry.kind {
        FileKind::Pages { block_size } => block_size,
        FileKind::Plain => 0,
    };
    Entry {
        path: entry.path.as_bytes().to_vec(),
        form: FORM_FILE,
        mode: entry.mode,
        mtime: entry.mtime.0,
        group,
        tablespace,
        size,
        block_size,
        root,
        frame,
        ..Entry::default()
    }
    .encode_length_delimited_to_vec()
}

pub(super) fn folder_row(entry: &FolderEntry) -> Vec<u8> {
    let (group, tablespace) = group_numbers(entry.group);
    let path = entry.path.as_bytes().to_vec();
    Entry { path, form: FORM_FOLDER, mode: entry.mode, group, tablespace, ..Entry::default() }.encode_length_delimited_to_vec()
}

pub(super) fn symlink_row(entry: &SymlinkEntry) -> Vec<u8> {
    let (group, tablespace) = group_numbers(entry.group);
    let (path, target) = (entry.path.as_bytes().to_vec(), entry.target.clone());
    Entry { path, form: FORM_SYMLINK, group, tablespace, target, ..Entry::default() }.encode_length_delimited_to_vec()
}
