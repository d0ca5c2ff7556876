//! Reading a share of the data: each frame of the chosen packs is authenticated and named anew.

use std::collections::HashMap;

use futures::{StreamExt, stream};
use muster_common::id::{ComponentId, PackId};

use super::Check;
use crate::counters::Counters;
use crate::error::{Damage, Error};
use crate::format::frame::Opener;
use crate::format::subkeys::FrameName;
use crate::format::table::{Row, Table};
use crate::pack::Tables;

/// How much is read at once.
const RANGE: u64 = 8 << 20;
/// Ranges that are read and verified at once.
const IN_FLIGHT: usize = 4;

/// The frames that were found bad.
pub(super) type BadFrames = HashMap<(PackId, FrameName), Damage>;

/// What came of some frames that lie end to end: how many bytes, how many frames, which are bad.
type Outcome = (u64, u64, Vec<(FrameName, Error)>);

impl Check<'_> {
    /// Whether the part that was asked for holds this pack: ids are random, so that parts are even.
    fn is_chosen(&self, pack: PackId) -> bool {
        let Some((n, m)) = self.options.read_data else { return false };
        let first: [u8; 8] = pack.as_bytes().first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(first) % u64::from(m) == u64::from(n - 1)
    }

    pub(super) async fn check_data(&mut self, whole: &[(ComponentId, PackId)]) -> Result<BadFrames, Error> {
        let chosen: Vec<_> = whole.iter().copied().filter(|(_, pack)| self.is_chosen(*pack)).collect();
        let total: u64 = chosen.iter().filter_map(|pack| self.sizes.get(pack)).sum();
        Counters::add(&self.counters.bytes_total, total);
        let mut bad = BadFrames::new();
        for (component, pack) in chosen {
            let Some(tables) = self.tables.get(&component).cloned() else { continue };
            let table = tables.read(pack, self.sizes.get(&(component, pack)).copied()).await?;
            let verified = stream::iter(shares(&table)).map(|share| verify(&tables, pack, share)).buffer_unordered(IN_FLIGHT);
            for outcome in verified.collect::<Vec<_>>().await {
                self.take_outcome(component, pack, outcome, &mut bad)?;
            }
        }
        Ok(bad)
    }

    fn take_outcome(
        &mut self,
        component: ComponentId,
        pack: PackId,
        outcome: Result<Outcome, Error>,
        bad: &mut BadFrames,
    ) -> Result<(), Error> {
        let (bytes, frames, wrong) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.note_error(error, &self.points_of(component, pack)),
        };
        Counters::add(&self.counters.bytes_done, bytes);
        self.report.frames_read += frames;
        for (name, error) in wrong {
            if let Error::Damaged(damage) = &error {
                bad.insert((pack, name), damage.clone());
            }
            self.note_error(error, &[])?;
        }
        Ok(())
    }
}

/// The rows of a pack in shares of about one read each.
fn shares(table: &Table) -> Vec<Vec<Row>> {
    let mut shares: Vec<Vec<Row>> = Vec::new();
    for row in &table.rows {
        let fits = |share: &&mut Vec<Row>| share.first().is_some_and(|first| row.range().end - first.range().start <= RANGE);
        match shares.last_mut().filter(fits) {
            Some(share) => share.push(*row),
            None => shares.push(vec![*row]),
        }
    }
    shares
}

async fn verify(tables: &Tables, pack: PackId, rows: Vec<Row>) -> Result<Outcome, Error> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok((0, 0, Vec::new())) };
    let (start, path) = (first.range().start, tables.path(pack));
    let bytes = tables.repository.store().get_range(&path, start..last.range().end).await?;
    let keys = tables.keys.clone();
    let work = move || {
        let mut opener = Opener::new().map_err(|wrong| Error::Defect(wrong.to_string()))?;
        let mut wrong = Vec::new();
        for row in &rows {
            let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
            let stored = bytes.get(at(row.range().start)..at(row.range().end)).unwrap_or_default();
            if let Err(error) = opener.open(&keys, &row.header, row.slots, stored) {
                wrong.push((row.header.name, error.at_offset(path.clone(), Some(u64::from(row.offset)))));
            }
        }
        Ok((bytes.len() as u64, rows.len() as u64, wrong))
    };
    tokio::task::spawn_blocking(work).await.map_err(|ended| Error::Defect(format!("a thread ended: {ended}")))?
}
