//! What a recovery point of PostgreSQL knows besides its files: the engine's own message inside of a point.
//!
//! Format version 1; fields are only ever added. `docs/guides/postgresql.md` tells what each is for.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::{Fork, Lsn, PostgresPosition};
use prost::Message;

/// The kind that a point's details carry.
pub const KIND: &str = "postgres.physical";
/// The version of the message below.
pub const VERSION: u32 = 1;

/// The message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PostgresPoint {
    /// [`VERSION`]; a higher one is refused.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// `backup_label` as `pg_backup_stop` gave it.
    #[prost(string, tag = "2")]
    pub backup_label: String,
    /// The tablespaces.
    #[prost(message, repeated, tag = "3")]
    pub tablespaces: Vec<Tablespace>,
    /// Where replay begins.
    #[prost(uint64, tag = "4")]
    pub start_lsn: u64,
    /// What `pg_backup_stop` answered.
    #[prost(uint64, tag = "5")]
    pub stop_lsn: u64,
    /// The start of the last record that is replayed: the recovery target.
    #[prost(uint64, tag = "6")]
    pub target_lsn: u64,
    /// The end of that record: the position that the point restores to.
    #[prost(uint64, tag = "7")]
    pub end_lsn: u64,
    /// The timeline of all of it.
    #[prost(uint32, tag = "8")]
    pub timeline: u32,
    /// How that timeline came about, oldest first.
    #[prost(message, repeated, tag = "9")]
    pub history: Vec<HistoryRow>,
    /// The cluster's identifier.
    #[prost(fixed64, tag = "10")]
    pub system_id: u64,
    /// The server's version as a number: 150020.
    #[prost(uint32, tag = "11")]
    pub server_version: u32,
    /// The catalogue's version.
    #[prost(uint32, tag = "12")]
    pub catalog_version: u32,
    /// Bytes of a WAL segment.
    #[prost(uint32, tag = "13")]
    pub wal_segment_size: u32,
    /// 0: pages had no checksums.
    #[prost(uint32, tag = "14")]
    pub checksum_version: u32,
    /// `global/pg_control`, read before `pg_backup_stop`.
    #[prost(bytes = "vec", tag = "15")]
    pub control_file: Vec<u8>,
    /// Whether it was taken from a standby.
    #[prost(bool, tag = "16")]
    pub from_standby: bool,
    /// The data directory that it was taken from.
    #[prost(string, tag = "17")]
    pub data_directory: String,
    /// Where the server found its `postgresql.conf`.
    #[prost(string, tag = "18")]
    pub config_file: String,
    /// Where it found its `pg_hba.conf`.
    #[prost(string, tag = "19")]
    pub hba_file: String,
    /// Where it found its `pg_ident.conf`.
    #[prost(string, tag = "20")]
    pub ident_file: String,
}

/// A tablespace that lies outside of the data directory.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Tablespace {
    /// Its OID: the name of its link in `pg_tblspc`.
    #[prost(uint32, tag = "1")]
    pub oid: u32,
    /// The folder that the link pointed at.
    #[prost(string, tag = "2")]
    pub location: String,
    /// The folder in it that the cluster's version uses: `PG_15_202209061`.
    #[prost(string, tag = "3")]
    pub version_folder: String,
}

/// Where one timeline left its parent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HistoryRow {
    /// The parent.
    #[prost(uint32, tag = "1")]
    pub timeline: u32,
    /// The first byte that is no longer the parent's.
    #[prost(uint64, tag = "2")]
    pub at: u64,
}

impl PostgresPoint {
    /// Reads the message out of a point.
    ///
    /// # Errors
    /// Where it is none, or of a newer version.
    pub fn read(bytes: &[u8], kind: &str) -> Result<Self, Fault> {
        if kind != KIND {
            return Err(Fault::refused(ErrorKind::InvalidArgument, format!("the recovery point is of kind {kind:?}, not {KIND:?}"))
                .hint("choose a point of this component: muster points NAME"));
        }
        let point = Self::decode(bytes).map_err(|error| {
            Fault::refused(ErrorKind::DataLoss, format!("the recovery point's PostgreSQL part cannot be read: {error}"))
                .hint("take another point")
        })?;
        if point.version == VERSION {
            return Ok(point);
        }
        Err(Fault::refused(
            ErrorKind::Incompatible,
            format!("the recovery point's PostgreSQL part has version {}; this build reads {VERSION}", point.version),
        )
        .hint("upgrade this side"))
    }

    /// The position that a restore of it reaches.
    #[must_use]
    pub fn position(&self) -> PostgresPosition {
        let history = self.history.iter().map(|row| Fork { timeline: row.timeline, at: Lsn(row.at) }).collect();
        PostgresPosition { system_id: self.system_id, timeline: self.timeline, history, lsn: Lsn(self.end_lsn) }
    }

    /// The server's major version.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.server_version / 10_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_another_kind_or_a_newer_version_is_refused() {
        let point = PostgresPoint {
            version: 1,
            end_lsn: 7,
            timeline: 2,
            history: vec![HistoryRow { timeline: 1, at: 5 }],
            ..PostgresPoint::default()
        };
        let read = PostgresPoint::read(&point.encode_to_vec(), KIND).unwrap();
        assert_eq!(read, point);
        assert_eq!(read.position().history, [Fork { timeline: 1, at: Lsn(5) }]);
        assert_eq!(PostgresPoint::read(&point.encode_to_vec(), "files").unwrap_err().kind, ErrorKind::InvalidArgument);
        let newer = PostgresPoint { version: 2, ..point };
        assert_eq!(PostgresPoint::read(&newer.encode_to_vec(), KIND).unwrap_err().kind, ErrorKind::Incompatible);
        assert_eq!(PostgresPoint::read(&[0xff; 9], KIND).unwrap_err().kind, ErrorKind::DataLoss);
    }
}
