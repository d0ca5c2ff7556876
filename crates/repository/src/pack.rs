//! Packs: being filled by a writer, and found again by their tables.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use muster_common::id::{ComponentId, PackId};
use tokio::sync::OnceCell;

use crate::error::{Damage, Error};
use crate::format::frame::{FrameKind, Opener, Sealed};
use crate::format::subkeys::{DataKeys, FrameName, KeySet};
use crate::format::table::{MAX_PACK, Row, TRAILER, Table, Trailer, open_digests, seal_digests, seal_table};
use crate::format::{Malformed, layout};
use crate::keys::random;
use crate::repository::Repository;
use crate::store::lock;

/// A pack is closed when its frames reach this.
pub(crate) const PACK_TARGET: usize = 32 << 20;
/// What a pack's buffer is made for: frames, one frame more, both tables.
pub(crate) const PACK_BUFFER: usize = PACK_TARGET + (2 << 20);
/// The most frames in a pack.
const MAX_FRAMES: usize = 16_384;
/// The most rows of its digest table: 16 MiB.
const MAX_DIGESTS: usize = 1 << 20;

/// A pack that is being filled. One writer owns it.
pub(crate) struct OpenPack {
    pub(crate) id: PackId,
    buffer: BytesMut,
    rows: Vec<Row>,
    digests: Vec<[u8; 16]>,
}

impl OpenPack {
    pub(crate) fn new(id: PackId, mut buffer: BytesMut) -> Self {
        buffer.clear();
        buffer.reserve(PACK_BUFFER);
        Self { id, buffer, rows: Vec::new(), digests: Vec::new() }
    }

    /// Adds a frame; `digests` are of its slots and kept for page frames only.
    pub(crate) fn add(&mut self, sealed: &Sealed<'_>, slots: u16, digests: &[[u8; 16]]) -> Result<(), Malformed> {
        let offset = u32::try_from(self.buffer.len()).map_err(|_| Malformed::wrong("pack too long"))?;
        self.buffer.extend_from_slice(sealed.stored);
        self.rows.push(Row { header: sealed.header, offset, slots });
        if sealed.header.kind == FrameKind::Pages {
            self.digests.extend_from_slice(digests);
        }
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= PACK_TARGET || self.rows.len() >= MAX_FRAMES || self.digests.len() >= MAX_DIGESTS
    }

    /// Seals the tables behind the frames.
    pub(crate) fn close(mut self, set: &KeySet, domain: ComponentId) -> Result<(PackId, Bytes), Error> {
        let (table_salt, digest_salt) = (random()?, random()?);
        let seal = || {
            Ok::<_, Malformed>((
                seal_table(set, table_salt, domain, self.id, &self.rows)?,
                seal_digests(set, digest_salt, domain, self.id, &self.digests)?,
            ))
        };
        let defect = |wrong: Malformed| Error::Defect(wrong.to_string());
        let (table, digests) = seal().map_err(defect)?;
        let start = self.buffer.len() as u64;
        let middle = start + table.len() as u64;
        let trailer = Trailer { frames: start..middle, digests: middle..middle + digests.len() as u64 };
        self.buffer.extend_from_slice(&table);
        self.buffer.extend_from_slice(&digests);
        self.buffer.extend_from_slice(&trailer.encode().map_err(defect)?);
        Ok((self.id, self.buffer.freeze()))
    }
}

/// The frame tables of a domain's packs: fetched once, kept within a bound, and on disk where there is a cache folder.
///
/// What lies in the cache folder is the sealed table as the pack has it, so that it proves itself; what does not open is
/// thrown away and fetched again.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) repository: Repository,
    pub(crate) keys: DataKeys,
    cache: Option<Arc<PathBuf>>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    tables: HashMap<PackId, Arc<OnceCell<Arc<Table>>>>,
    order: VecDeque<PackId>,
    weight: usize,
}

/// How much memory kept tables may take, in bytes.
const MAX_KEPT: usize = 32 << 20;

impl Tables {
    pub(crate) fn new(repository: Repository, keys: DataKeys, cache: Option<PathBuf>) -> Self {
        Self { repository, keys, cache: cache.map(Arc::new), kept: Arc::default() }
    }

    pub(crate) fn domain(&self) -> ComponentId {
        self.keys.component()
    }

    pub(crate) fn path(&self, pack: PackId) -> String {
        layout::pack(self.domain(), pack)
    }

    /// The table of a pack, kept for the next who asks; several who ask at once wait for one request.
    pub(crate) async fn get(&self, pack: PackId) -> Result<Arc<Table>, Error> {
        let cell = lock(&self.kept).tables.entry(pack).or_default().clone();
        if let Some(table) = cell.get() {
            return Ok(table.clone());
        }
        let mut fresh = false;
        let read = async {
            fresh = true;
            self.read(pack, None).await.map(Arc::new)
        };
        let table = cell.get_or_try_init(|| read).await?.clone();
        if fresh {
            self.keep(pack, &table);
        }
        Ok(table)
    }

    fn keep(&self, pack: PackId, table: &Table) {
        let mut kept = lock(&self.kept);
        kept.order.push_back(pack);
        kept.weight += table.weight();
        while kept.weight > MAX_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            let gone = kept.tables.remove(&oldest).and_then(|cell| cell.get().map(|table| table.weight()));
            kept.weight = kept.weight.saturating_sub(gone.unwrap_or(0));
        }
    }

    /// The table of a pack, not kept. `size` spares a request where it is known.
    pub(crate) async fn read(&self, pack: PackId, size: Option<u64>) -> Result<Table, Error> {
        if let Some(table) = self.read_cached(pack).await {
            return Ok(table);
        }
        let path = self.path(pack);
        let trailer = self.trailer(pack, size).await?;
        let sealed = self.repository.store().get_range(&path, trailer.frames.clone()).await?;
        let table = Table::open(&self.keys, self.domain(), pack, trailer.frames.start, &sealed)
            .map_err(|wrong| wrong.at_offset(path, Some(trailer.frames.start)))?;
        self.write_cached(pack, trailer.frames.start, &sealed).await;
        Ok(table)
    }

    pub(crate) async fn trailer(&self, pack: PackId, size: Option<u64>) -> Result<Trailer, Error> {
        let path = self.path(pack);
        let size = match size {
            Some(size) => size,
            None => self.repository.store().size(&path).await?,
        };
        if size < TRAILER as u64 || size > MAX_PACK {
            return Err(Damage { object: path, offset: None, what: format!("a pack of {size} bytes") }.into());
        }
        let at = size - TRAILER as u64;
        let bytes = self.repository.store().get_range(&path, at..size).await?;
        let decode = || Trailer::decode(bytes.first_chunk().ok_or_else(|| Malformed::wrong("ends early"))?, size);
        decode().map_err(|wrong| wrong.at_offset(path, Some(at)))
    }

    /// The digests of a pack's page frames, by row.
    pub(crate) async fn digests(&self, pack: PackId, trailer: &Trailer) -> Result<Vec<[u8; 16]>, Error> {
        let path = self.path(pack);
        let sealed = self.repository.store().get_range(&path, trailer.digests.clone()).await?;
        open_digests(&self.keys, self.domain(), pack, &sealed).map_err(|wrong| wrong.at_offset(path, Some(trailer.digests.start)))
    }

    fn cached_path(&self, pack: PackId) -> Option<PathBuf> {
        let cache = self.cache.as_ref()?;
        Some(cache.join(self.repository.pin().id.to_string()).join("tables").join(pack.to_string()))
    }

    async fn read_cached(&self, pack: PackId) -> Option<Table> {
        let path = self.cached_path(pack)?;
        let bytes = tokio::fs::read(&path).await.ok()?;
        let opened = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| Malformed::wrong("ends early"))
            .and_then(|(end, sealed)| Table::open(&self.keys, self.domain(), pack, u64::from_le_bytes(*end), sealed));
        match opened {
            Ok(table) => Some(table),
            Err(wrong) => {
                tracing::warn!(%pack, "threw a cached table away: {wrong}");
                if let Err(error) = tokio::fs::remove_file(&path).await {
                    tracing::warn!(path = %path.display(), "a bad cached table stays: {error}");
                }
                None
            }
        }
    }

    /// A cache that cannot be written only costs time.
    async fn write_cached(&self, pack: PackId, frames_end: u64, sealed: &[u8]) {
        let Some(path) = self.cached_path(pack) else { return };
        let bytes = [&frames_end.to_le_bytes(), sealed].concat();
        let write = async {
            if let Some(folder) = path.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            let temporary = path.with_extension("new");
            tokio::fs::write(&temporary, bytes).await?;
            tokio::fs::rename(&temporary, &path).await
        };
        if let Err(error) = write.await {
            tracing::warn!(path = %path.display(), "cache a table: {error}");
        }
    }
}

/// A frame that was read by itself.
pub(crate) struct ReadFrame {
    pub(crate) plain: Vec<u8>,
}

impl Tables {
    /// The row of a frame, as its pack has it.
    pub(crate) async fn row(&self, pack: PackId, name: FrameName) -> Result<Row, Error> {
        let table = self.get(pack).await?;
        let absent = || Damage { object: self.path(pack), offset: None, what: format!("has no frame {name:?}") };
        Ok(*table.find(name).ok_or_else(absent)?)
    }

    /// One frame of `kind`, authenticated and named anew.
    pub(crate) async fn frame(&self, pack: PackId, name: FrameName, kind: FrameKind) -> Result<ReadFrame, Error> {
        let row = self.row(pack, name).await?;
        let path = self.path(pack);
        let stored = self.repository.store().get_range(&path, row.range()).await?;
        let opened = if row.header.kind == kind {
            Opener::new()
                .and_then(|mut opener| opener.open(&self.keys, &row.header, row.slots, &stored).map(|opened| opened.plain.to_vec()))
        } else {
            Err(Malformed::wrong(format!("a frame of another kind where a {kind:?} is expected")))
        };
        opened.map(|plain| ReadFrame { plain }).map_err(|wrong| {
            let error = wrong.at_offset(path, Some(u64::from(row.offset)));
            if let Error::Damaged(damage) = &error {
                self.repository.distrust(damage);
            }
            error
        })
    }
}
