//! `StatusService`: findings that stand, and what happened: operations, findings and changes of roles in one list.

use futures::StreamExt;
use futures::stream::BoxStream;
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::convert::{optional_name_from_proto, timestamp_to_proto};
use muster_wire::page;
use muster_wire::proto::v1::history_entry::Entry;
use muster_wire::proto::v1::{
    HistoryEntry, ListFindingsRequest, ListFindingsResponse, ListHistoryRequest, ListHistoryResponse, WatchFindingsRequest,
    WatchFindingsResponse,
};
use tonic::Status;

use super::{Api, status};
use crate::operation::journal;
use crate::store::{history, operations};

const HISTORY: &str = "StatusService.ListHistory";

/// Where an entry stands among all: by its time, entries of the history's own before operations, then by number. Newest first is greatest
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: Timestamp,
    /// 0: an operation; 1: of the history's own.
    source: u8,
    number: u64,
}

impl Place {
    fn read(cursor: &str) -> Option<Self> {
        let mut parts = cursor.splitn(3, ' ');
        let place =
            Self { at: Timestamp(parts.next()?.parse().ok()?), source: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? };
        Some(place)
    }

    fn write(self) -> String {
        format!("{} {} {}", self.at.0, self.source, self.number)
    }

    /// Where a list of one source goes on below this place.
    fn of_source(self, source: u8) -> (Timestamp, u64) {
        match source.cmp(&self.source) {
            // Of the same instant all of them are still to come.
            std::cmp::Ordering::Less => (self.at, u64::MAX),
            std::cmp::Ordering::Equal => (self.at, self.number),
            // Of the same instant all of them were there.
            std::cmp::Ordering::Greater => (self.at, 0),
        }
    }
}

impl Api {
    pub(super) fn findings_list(&self, message: &ListFindingsRequest) -> Result<ListFindingsResponse, Fault> {
        self.known_component(&message.component)?;
        let (findings, newest) = self.findings.list(&message.component);
        Ok(ListFindingsResponse { findings, last_event: newest.0 })
    }

    pub(super) async fn findings_watch(
        &self,
        message: WatchFindingsRequest,
    ) -> Result<BoxStream<'static, Result<WatchFindingsResponse, Status>>, Fault> {
        self.known_component(&message.component)?;
        let after = EventNumber(message.after_event);
        let events = self.findings.watch(self.agents.store.clone(), message.component, after).await?;
        Ok(events.map(|event| event.map(|event| WatchFindingsResponse { event: Some(event) }).map_err(status)).boxed())
    }

    fn known_component(&self, component: &str) -> Result<(), Fault> {
        if !component.is_empty() {
            self.agents.assigner.declared().component(component)?;
        }
        Ok(())
    }

    pub(super) async fn history_page(&self, message: ListHistoryRequest) -> Result<ListHistoryResponse, Fault> {
        let component = optional_name_from_proto(&message.component, "component")?;
        let before = match page::decode(HISTORY, &message.page_token)? {
            Some(cursor) => Place::read(&cursor).ok_or_else(|| {
                Fault::refused(ErrorKind::InvalidArgument, "page_token: it cannot be read").hint("ask for the first page")
            })?,
            None => Place { at: Timestamp(i64::MAX), source: u8::MAX, number: u64::MAX },
        };
        let size = page::size(message.page_size, 50, 500);
        let mut entries = self.history_before(component.as_ref(), before, size.saturating_add(1)).await?;
        entries.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let more = entries.len() > size;
        entries.truncate(size);
        let next = entries.last().filter(|_| more).map(|(place, _)| page::encode(HISTORY, &place.write()));
        Ok(ListHistoryResponse {
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    async fn history_before(&self, component: Option<&Name>, before: Place, limit: usize) -> Result<Vec<(Place, HistoryEntry)>, Fault> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let mut read = self.agents.store.read().await?;
        let own = history::list(&mut read, component, before.of_source(1), limit).await?;
        let rows = operations::by_age(&mut read, component, before.of_source(0), limit).await?;
        drop(read);
        let mut entries: Vec<_> = own.into_iter().map(|(at, number, entry)| (Place { at, source: 1, number }, entry)).collect();
        for row in &rows {
            let entry = Entry::Operation(self.agents.operations.live(row.id, journal::read(row)?.shown()));
            let entry = HistoryEntry { at: Some(timestamp_to_proto(row.created)), entry: Some(entry) };
            entries.push((Place { at: row.created, source: 0, number: row.number }, entry));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_last_ended_in_both_sources() {
        let place = Place { at: Timestamp(7), source: 1, number: 3 };
        assert_eq!(Place::read(&place.write()), Some(place));
        assert_eq!(place.of_source(1), (Timestamp(7), 3));
        assert_eq!(place.of_source(0), (Timestamp(7), u64::MAX));
        assert_eq!(Place { source: 0, ..place }.of_source(1), (Timestamp(7), 0));
        for nonsense in ["", "7", "7 1", "a b c", "7 1 3 4"] {
            assert_eq!(Place::read(nonsense), None, "{nonsense}");
        }
    }
}
