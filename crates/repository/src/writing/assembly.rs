//! What the threads of one point share: the names that are known, the pack that is being filled, the packs that are needed.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use muster_common::id::PackId;

use crate::error::Error;
use crate::format::frame::Sealed;
use crate::format::subkeys::{DataKeys, FrameName};
use crate::format::table::Table;
use crate::keys::random;
use crate::pack::OpenPack;

/// Packs that exist at once: one that is filled, three on their way.
pub(super) const FULL_PACKS: usize = 4;
/// The most packs that one point leans on: what its clear header takes.
const MAX_PACKS: usize = 1_000_000;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: PackId,
    /// The pack's place in the point's clear list.
    pub(super) index: u32,
}

struct Pack {
    id: PackId,
    size: u64,
    index: Option<u32>,
}

pub(super) struct Assembly {
    keys: DataKeys,
    known: HashMap<FrameName, u32>,
    packs: Vec<Pack>,
    needed: Vec<u32>,
    open: Option<(u32, OpenPack)>,
    free: crossbeam_channel::Receiver<BytesMut>,
    full: Option<tokio::sync::mpsc::Sender<(PackId, Bytes)>>,
    pub(super) bytes_stored: u64,
}

fn defect(what: &str) -> Error {
    Error::Defect(what.to_owned())
}

impl Assembly {
    pub(super) fn new(
        keys: DataKeys,
        free: crossbeam_channel::Receiver<BytesMut>,
        full: tokio::sync::mpsc::Sender<(PackId, Bytes)>,
    ) -> Self {
        let (known, packs, needed) = (HashMap::new(), Vec::new(), Vec::new());
        Self { keys, known, packs, needed, open: None, free, full: Some(full), bytes_stored: 0 }
    }

    /// Takes over the names of a pack that is there already.
    pub(super) fn learn(&mut self, id: PackId, size: u64, table: &Table) -> Result<(), Error> {
        let at = self.new_pack(id, size)?;
        for row in &table.rows {
            self.known.entry(row.header.name).or_insert(at);
        }
        Ok(())
    }

    fn new_pack(&mut self, id: PackId, size: u64) -> Result<u32, Error> {
        let at = u32::try_from(self.packs.len()).ok().filter(|_| self.packs.len() < MAX_PACKS);
        let at = at.ok_or_else(|| Error::Invalid(format!("a point leans on {MAX_PACKS} packs at most")))?;
        self.packs.push(Pack { id, size, index: None });
        Ok(at)
    }

    fn need(&mut self, at: u32) -> Result<Place, Error> {
        let next = u32::try_from(self.needed.len()).map_err(|_| defect("too many packs"))?;
        let pack = self.packs.get_mut(at as usize).ok_or_else(|| defect("a pack that was never opened"))?;
        let index = *pack.index.get_or_insert_with(|| {
            self.needed.push(at);
            next
        });
        Ok(Place { pack: pack.id, index })
    }

    /// Where the frame of this name is, if it is anywhere. The point needs that pack from then on.
    pub(super) fn find(&mut self, name: FrameName) -> Result<Option<Place>, Error> {
        self.known.get(&name).copied().map(|at| self.need(at)).transpose()
    }

    /// Adds a sealed frame to the open pack, unless another thread was quicker. `true`: it was added. Waits while all
    /// buffers are on their way; `check` ends the wait.
    pub(super) fn append(
        &mut self,
        sealed: &Sealed<'_>,
        slots: u16,
        digests: &[[u8; 16]],
        check: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(Place, bool), Error> {
        let name = sealed.header.name;
        if let Some(place) = self.find(name)? {
            return Ok((place, false));
        }
        let (at, mut pack) = match self.open.take() {
            Some(open) => open,
            None => {
                let buffer = self.wait_for_buffer(check)?;
                let id = PackId::from_bytes(random()?);
                (self.new_pack(id, 0)?, OpenPack::new(id, buffer))
            }
        };
        let added = pack.add(sealed, slots, digests);
        let full = pack.is_full();
        self.open = Some((at, pack));
        added.map_err(|wrong| Error::Defect(wrong.to_string()))?;
        self.known.insert(name, at);
        self.bytes_stored += sealed.stored.len() as u64;
        let place = self.need(at)?;
        if full {
            self.close_pack()?;
        }
        Ok((place, true))
    }

    fn wait_for_buffer(&self, check: &dyn Fn() -> Result<(), Error>) -> Result<BytesMut, Error> {
        loop {
            check()?;
            match self.free.recv_timeout(Duration::from_millis(50)) {
                Ok(buffer) => return Ok(buffer),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
            }
        }
    }

    /// Seals the open pack's tables and hands it to the uploads.
    pub(super) fn close_pack(&mut self) -> Result<(), Error> {
        let Some((at, pack)) = self.open.take() else { return Ok(()) };
        let set = self.keys.current().map_err(|wrong| Error::Defect(wrong.to_string()))?;
        let (id, bytes) = pack.close(set, self.keys.component())?;
        if let Some(pack) = self.packs.get_mut(at as usize) {
            pack.size = bytes.len() as u64;
        }
        // There are as many places in the queue as there are buffers: it is never full.
        let queue = self.full.as_ref().ok_or(Error::Cancelled)?;
        queue.try_send((id, bytes)).map_err(|_| defect("the queue of packs is full"))
    }

    /// No pack follows.
    pub(super) fn hang_up(&mut self) {
        self.full = None;
    }

    /// The packs that the point needs, in the order of its clear list, with their sizes.
    pub(super) fn needed(&self) -> impl Iterator<Item = (PackId, u64)> {
        self.needed.iter().filter_map(|at| self.packs.get(*at as usize)).map(|pack| (pack.id, pack.size))
    }
}
