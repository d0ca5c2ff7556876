//! Reading a point: its summary, its list of files, and the maps of its files.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use muster_common::id::{ComponentId, PackId, PointId};
use muster_common::time::Timestamp;
use prost::Message;

use crate::entry::{FileEntry, FileKind, FolderEntry, Group, RelPath, SymlinkEntry};
use crate::error::{Damage, Error, StoreErrorKind};
use crate::format::Malformed;
use crate::format::bytes::rows16;
use crate::format::frame::{FrameKind, MAX_PLAIN};
use crate::format::map::{Child, Leaf, Node, Piece};
use crate::format::message::{Entry, FrameRef, PointBody};
use crate::format::object::{Envelope, ObjectKind};
use crate::format::subkeys::{Digest, FrameName};
use crate::keys::DataKeys;
use crate::pack::Tables;
use crate::repository::{AT_ONCE, MAX_POINT, Repository, parse_point_header};
use crate::writing::{BadPage, PointDetails};

pub(crate) const FORM_FILE: u32 = 1;
pub(crate) const FORM_FOLDER: u32 = 2;
pub(crate) const FORM_SYMLINK: u32 = 3;

/// The number of a group, and of its tablespace.
pub(crate) fn group_numbers(group: Group) -> (u32, u32) {
    match group {
        Group::Data => (1, 0),
        Group::Tablespace(oid) => (2, oid),
        Group::Config => (3, 0),
        Group::Wal => (4, 0),
    }
}

/// 128 bits of a hash: a path that was seen takes no more memory than that.
pub(crate) fn fingerprint(group: Group, path: &RelPath) -> u128 {
    let (group, tablespace) = group_numbers(group);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&group.to_le_bytes()).update(&tablespace.to_le_bytes()).update(path.as_bytes());
    u128::from_le_bytes(hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default())
}

fn group_of(group: u32, tablespace: u32) -> Result<Group, Malformed> {
    match (group, tablespace) {
        (1, 0) => Ok(Group::Data),
        (2, oid) => Ok(Group::Tablespace(oid)),
        (3, 0) => Ok(Group::Config),
        (4, 0) => Ok(Group::Wal),
        (group, _) => Err(Malformed::wrong(format!("a file of group {group}"))),
    }
}

/// What a point is, without its list of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointSummary {
    /// Its component.
    pub component: ComponentId,
    /// Its id.
    pub point: PointId,
    /// The instance that it was taken from.
    pub instance: String,
    /// The point that it was begun with as its parent. It does not need it.
    pub parent: Option<PointId>,
    /// How many files it has.
    pub files: u64,
    /// How many folders.
    pub folders: u64,
    /// How many symbolic links.
    pub symlinks: u64,
    /// Plain bytes of all files.
    pub bytes: u64,
    /// Sealed bytes that it had to store.
    pub bytes_stored: u64,
    /// What its engine said.
    pub details: PointDetails,
}

impl PointSummary {
    pub(crate) fn from_body(component: ComponentId, point: PointId, body: &PointBody) -> Result<Self, Malformed> {
        let bad_page = |page: &crate::format::message::DamagedPage| {
            let path = RelPath::new(page.path.clone()).map_err(|wrong| Malformed::wrong(wrong.to_string()))?;
            Ok(BadPage { path, block: page.block, what: page.what.clone() })
        };
        let parent = match body.parent.as_slice() {
            [] => None,
            id => Some(PointId::from_bytes(id.try_into().map_err(|_| Malformed::wrong("its parent is no id"))?)),
        };
        Ok(Self {
            component,
            point,
            instance: body.instance.clone(),
            parent,
            files: body.files,
            folders: body.folders,
            symlinks: body.symlinks,
            bytes: body.bytes,
            bytes_stored: body.bytes_stored,
            details: PointDetails {
                kind: body.kind.clone(),
                started: Timestamp(body.started),
                finished: Timestamp(body.finished),
                position_text: body.position.clone(),
                label: body.label.clone(),
                settings: body.settings.clone().into_iter().collect::<BTreeMap<_, _>>(),
                engine: body.engine.clone(),
                damaged: body.damaged.iter().map(bad_page).collect::<Result<_, Malformed>>()?,
            },
        })
    }
}

/// A file of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointFile {
    /// Path, kind, mode, time, group; `size_hint` is the size.
    pub entry: FileEntry,
    /// Its length in bytes.
    pub size: u64,
    pub(crate) root: Root,
}

/// Where a file's bytes are found; packs by their place in the point's clear list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Empty,
    Frame { pack: u32, name: FrameName },
    Leaf { pack: u32, name: FrameName },
    Node { pack: u32, name: FrameName },
}

/// A recovery point that was read and verified. Its frames are verified when they are read.
pub struct Point {
    /// What it is.
    pub summary: PointSummary,
    /// Its files, in the order in which they were written.
    pub files: Vec<PointFile>,
    /// Its folders, in the order in which they were added.
    pub folders: Vec<FolderEntry>,
    /// Its symbolic links. Nothing makes them but the caller.
    pub symlinks: Vec<SymlinkEntry>,
    pub(crate) packs: Vec<PackId>,
    pub(crate) tables: Tables,
}

/// A point's header and body, opened.
struct OpenedPoint {
    packs: Vec<PackId>,
    body: PointBody,
}

impl Repository {
    async fn open_point(&self, keys: &DataKeys, component: ComponentId, point: PointId) -> Result<OpenedPoint, Error> {
        let path = crate::format::layout::point(component, point);
        let bytes = self.store().get(&path, MAX_POINT).await.map_err(|error| match error.kind {
            StoreErrorKind::NotFound => Error::NoPoint { component, point },
            _ => error.into(),
        })?;
        let open = || {
            let envelope = Envelope::parse(ObjectKind::Point, &bytes)?;
            let header = parse_point_header(self.pin(), component, point, &envelope)?;
            let body = PointBody::decode(envelope.open(keys, &path)?.as_slice()).map_err(|error| Malformed::wrong(error.to_string()))?;
            let packs: Vec<PackId> = rows16(&header.packs)?.into_iter().map(PackId::from_bytes).collect();
            if packs.iter().collect::<HashSet<_>>().len() != packs.len() {
                return Err(Malformed::wrong("its header names a pack twice"));
            }
            Ok(OpenedPoint { packs, body })
        };
        open().map_err(|wrong: Malformed| wrong.at(&path))
    }

    /// What a point is, without reading its list of files.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::Damaged`], what a store can do.
    pub async fn point_summary(&self, keys: &DataKeys, component: ComponentId, point: PointId) -> Result<PointSummary, Error> {
        let opened = self.open_point(keys, component, point).await?;
        let summary = PointSummary::from_body(component, point, &opened.body);
        summary.map_err(|wrong| wrong.at(crate::format::layout::point(component, point)))
    }

    /// A point with its list of files, verified.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::Damaged`], what a store can do.
    pub async fn read_point(&self, keys: &DataKeys, component: ComponentId, point: PointId) -> Result<Point, Error> {
        let path = crate::format::layout::point(component, point);
        let OpenedPoint { packs, body } = self.open_point(keys, component, point).await?;
        let summary = PointSummary::from_body(component, point, &body).map_err(|wrong| wrong.at(&path))?;
        let tables = Tables::new(self.clone(), keys.clone(), None);
        let mut read = Point { summary, files: Vec::new(), folders: Vec::new(), symlinks: Vec::new(), packs, tables };
        let pieces = body.lists.iter().map(|piece| read.place(piece)).collect::<Result<Vec<_>, _>>().map_err(|wrong| wrong.at(&path))?;
        // A list of a million files is not copied while it grows.
        read.files.reserve_exact(usize::try_from(body.files).unwrap_or(0).min(1 << 20));
        let tables = read.tables.clone();
        let mut frames = stream::iter(pieces)
            .map(|(pack, name)| {
                let tables = tables.clone();
                async move { tables.frame(pack, name, FrameKind::List).await }
            })
            .buffered(AT_ONCE);
        let mut seen = Vec::new();
        while let Some(frame) = frames.try_next().await? {
            read.add_rows(&frame.plain, &mut seen).map_err(|wrong| wrong.at(&path))?;
        }
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Malformed::wrong("its list of files names a path twice").at(path));
        }
        let counts = [read.files.len() as u64, read.folders.len() as u64, read.symlinks.len() as u64];
        if counts != [read.summary.files, read.summary.folders, read.summary.symlinks] {
            return Err(Malformed::wrong("its list of files is not complete").at(path));
        }
        Ok(read)
    }
}

impl Point {
    fn place(&self, frame: &FrameRef) -> Result<(PackId, FrameName), Malformed> {
        let name = frame.name.as_slice().try_into().map_err(|_| Malformed::wrong("a frame without a name"))?;
        Ok((self.pack(frame.pack)?, FrameName(name)))
    }

    pub(crate) fn pack(&self, at: u32) -> Result<PackId, Malformed> {
        self.packs.get(at as usize).copied().ok_or_else(|| Malformed::wrong("a pack that its header does not name"))
    }

    /// What the point's object is called, for messages.
    pub(crate) fn path(&self) -> String {
        crate::format::layout::point(self.summary.component, self.summary.point)
    }

    fn add_rows(&mut self, mut plain: &[u8], seen: &mut Vec<u128>) -> Result<(), Malformed> {
        while !plain.is_empty() {
            let entry = Entry::decode_length_delimited(&mut plain).map_err(|error| Malformed::wrong(format!("list of files: {error}")))?;
            let path = RelPath::new(entry.path.clone()).map_err(|wrong| Malformed::wrong(wrong.to_string()))?;
            let group = group_of(entry.group, entry.tablespace)?;
            seen.push(fingerprint(group, &path));
            match entry.form {
                FORM_FILE => self.files.push(file(&entry, path, group, self.packs.len())?),
                FORM_FOLDER => self.folders.push(FolderEntry { path, mode: entry.mode, group }),
                FORM_SYMLINK => {
                    if entry.target.is_empty() || entry.target.contains(&0) || entry.target.len() > crate::entry::MAX_PATH {
                        return Err(Malformed::wrong(format!("{path} points at an impossible target")));
                    }
                    self.symlinks.push(SymlinkEntry { path, target: entry.target, group });
                }
                other => return Err(Malformed::wrong(format!("{path} is of form {other}"))),
            }
        }
        Ok(())
    }

    /// The whole content of a small file.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is longer than `max` bytes; [`Error::Damaged`]; what a store can do.
    pub async fn read_small(&self, file: usize, max: u64) -> Result<Vec<u8>, Error> {
        let file = self.files.get(file).ok_or_else(|| Error::Invalid(format!("the point has no file number {file}")))?;
        if file.size > max {
            return Err(Error::Invalid(format!("{} has {} bytes; at most {max} are read at once", file.entry.path, file.size)));
        }
        let mut content = Vec::new();
        for leaf in self.leaves(file).await? {
            for piece in self.pieces_of(file, leaf).await?.pieces {
                let kind = frame_kind(file.entry.kind);
                let frame = self.tables.frame(piece.pack, piece.name, kind).await?;
                let (start, end) = (piece.start as usize, piece.start as usize + piece.length as usize);
                let wrong = || Malformed::wrong("a leaf reaches behind its frame").at(self.tables.path(piece.pack));
                content.extend_from_slice(frame.plain.get(start..end).ok_or_else(wrong)?);
            }
        }
        if content.len() as u64 == file.size { Ok(content) } else { Err(self.wrong_length(file, content.len() as u64)) }
    }

    pub(crate) fn wrong_length(&self, file: &PointFile, found: u64) -> Error {
        let what = format!("{} has {found} bytes where {} are listed", file.entry.path, file.size);
        Damage { object: self.path(), offset: None, what }.into()
    }
}

pub(crate) fn frame_kind(kind: FileKind) -> FrameKind {
    match kind {
        FileKind::Pages { .. } => FrameKind::Pages,
        FileKind::Plain => FrameKind::Plain,
    }
}

fn file(entry: &Entry, path: RelPath, group: Group, packs: usize) -> Result<PointFile, Malformed> {
    let kind = if entry.block_size == 0 { FileKind::Plain } else { FileKind::Pages { block_size: entry.block_size } };
    kind.check().map_err(|wrong| Malformed::wrong(wrong.to_string()))?;
    let impossible = || Malformed::wrong(format!("{path} has no root that fits its size"));
    let frame = || {
        let frame = entry.frame.as_ref().filter(|frame| (frame.pack as usize) < packs)?;
        Some((frame.pack, FrameName(frame.name.as_slice().try_into().ok()?)))
    };
    let root = match entry.root {
        0 if entry.size == 0 => Root::Empty,
        1 if (1..=MAX_PLAIN as u64).contains(&entry.size) => {
            frame().map(|(pack, name)| Root::Frame { pack, name }).ok_or_else(impossible)?
        }
        2 if entry.size > 0 => frame().map(|(pack, name)| Root::Leaf { pack, name }).ok_or_else(impossible)?,
        3 if entry.size > 0 => frame().map(|(pack, name)| Root::Node { pack, name }).ok_or_else(impossible)?,
        _ => return Err(impossible()),
    };
    let size = entry.size;
    let entry = FileEntry { path, kind, mode: entry.mode, mtime: Timestamp(entry.mtime), size_hint: size, group };
    Ok(PointFile { entry, size, root })
}

/// A part of a file's map that is read by itself, and where in the file it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafPlace {
    pub(crate) offset: u64,
    pub(crate) at: LeafAt,
}

/// Where a leaf is found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeafAt {
    /// The file is this one frame.
    Frame { pack: PackId, name: FrameName },
    /// A leaf; `bytes` and `digest` as the node above tells them, where there is one.
    Leaf { pack: PackId, name: FrameName, expected: Option<(u64, Digest)> },
}

/// The pieces of one leaf, and what they have to add up to.
pub(crate) struct LeafPieces {
    pub(crate) pieces: Vec<Piece>,
    /// How many rows the digest is over, and the digest; none where the file is one frame, whose name says it all.
    pub(crate) digest: Option<(usize, Digest)>,
}

impl Point {
    /// The leaves of a file, in order.
    pub(crate) async fn leaves(&self, file: &PointFile) -> Result<Vec<LeafPlace>, Error> {
        let at = |at: u32| self.pack(at).map_err(|wrong| wrong.at(self.path()));
        match file.root {
            Root::Empty => Ok(Vec::new()),
            Root::Frame { pack, name } => Ok(vec![LeafPlace { offset: 0, at: LeafAt::Frame { pack: at(pack)?, name } }]),
            Root::Leaf { pack, name } => Ok(vec![LeafPlace { offset: 0, at: LeafAt::Leaf { pack: at(pack)?, name, expected: None } }]),
            Root::Node { pack, name } => {
                let pack = at(pack)?;
                let node = self.node(pack, name).await?;
                let bytes: u64 = node.children.iter().fold(0, |sum, child| sum.saturating_add(child.bytes));
                if bytes != file.size {
                    return Err(self.wrong_length(file, bytes));
                }
                self.leaves_below(pack, node).await
            }
        }
    }

    async fn node(&self, pack: PackId, name: FrameName) -> Result<Node, Error> {
        let frame = self.tables.frame(pack, name, FrameKind::Node).await?;
        Node::decode(&frame.plain).map_err(|wrong| wrong.at(self.tables.path(pack)))
    }

    async fn leaves_below(&self, pack: PackId, root: Node) -> Result<Vec<LeafPlace>, Error> {
        let mut nodes = vec![(pack, root)];
        loop {
            let Some(level) = nodes.first().map(|(_, node)| node.level) else { return Ok(Vec::new()) };
            let mut below = Vec::new();
            for (pack, node) in &nodes {
                if node.level != level {
                    return Err(Malformed::wrong("nodes of several levels side by side").at(self.tables.path(*pack)));
                }
                for child in &node.children {
                    below.push((self.child_pack(*pack, node, child)?, *child));
                }
            }
            if level == 1 {
                let mut offset = 0;
                let leaf = |(pack, child): (PackId, Child)| {
                    let at = LeafAt::Leaf { pack, name: child.name, expected: Some((child.bytes, child.digest)) };
                    let place = LeafPlace { offset, at };
                    offset += child.bytes;
                    place
                };
                return Ok(below.into_iter().map(leaf).collect());
            }
            let mut next = Vec::new();
            for (pack, child) in below {
                let node = self.node(pack, child.name).await?;
                let digests: Vec<[u8; 16]> = node.children.iter().map(|child| child.digest.0).collect();
                let bytes: u64 = node.children.iter().fold(0, |sum, child| sum.saturating_add(child.bytes));
                let set = self.tables.keys.current().map_err(|wrong| wrong.at(self.path()))?;
                if node.level + 1 != level || set.leaf_digest(&digests) != child.digest || bytes != child.bytes {
                    return Err(Malformed::wrong("a node is not what the one above says").at(self.tables.path(pack)));
                }
                next.push((pack, node));
            }
            nodes = next;
        }
    }

    /// A leaf that is shared with an older point may lean on packs that only its own tables name; the point lists them all.
    fn child_pack(&self, pack: PackId, node: &Node, child: &Child) -> Result<PackId, Error> {
        let id = node.packs.get(usize::from(child.pack)).copied();
        id.ok_or_else(|| Malformed::wrong("a child in no pack").at(self.tables.path(pack)))
    }

    /// The pieces of one leaf of `file`.
    pub(crate) async fn pieces_of(&self, file: &PointFile, leaf: LeafPlace) -> Result<LeafPieces, Error> {
        match leaf.at {
            LeafAt::Frame { pack, name } => {
                let row = self.tables.row(pack, name).await?;
                let length = u32::try_from(file.size).unwrap_or(u32::MAX);
                if row.header.plain_len != length || row.header.kind != frame_kind(file.entry.kind) {
                    return Err(self.wrong_length(file, u64::from(row.header.plain_len)));
                }
                let piece = Piece { pack, name, start: 0, length, rows: row.slots, first_row: 0, slot: 0 };
                Ok(LeafPieces { pieces: vec![piece], digest: None })
            }
            LeafAt::Leaf { pack, name, expected } => {
                let frame = self.tables.frame(pack, name, FrameKind::Leaf).await?;
                let leaf = Leaf::decode(&frame.plain).map_err(|wrong| wrong.at(self.tables.path(pack)))?;
                let block_size = match file.entry.kind {
                    FileKind::Pages { block_size } => block_size,
                    FileKind::Plain => 0,
                };
                let (bytes, digest) = expected.unwrap_or((file.size, leaf.digest));
                if leaf.bytes != bytes || leaf.digest != digest || leaf.block_size != block_size {
                    return Err(
                        Malformed::wrong(format!("a leaf of {} is not what its node says", file.entry.path)).at(self.tables.path(pack))
                    );
                }
                let pieces = leaf.pieces().map_err(|wrong| wrong.at(self.tables.path(pack)))?;
                Ok(LeafPieces { pieces, digest: Some((leaf.rows(), leaf.digest)) })
            }
        }
    }
}
