//! `global/pg_control`: which cluster this is, where its checkpoint lies, how it was built (`catalog/pg_control.h`).
//!
//! Pure: bytes in, values out. A file whose checksum is wrong is torn or damaged and gives nothing.

use muster_common::position::Lsn;

/// The server's state as `pg_control` has it (`DBState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Being started up.
    Startup,
    /// Stopped cleanly as a primary.
    ShutDown,
    /// Stopped cleanly as a standby.
    ShutDownInRecovery,
    /// Writing its shutdown checkpoint.
    ShuttingDown,
    /// Replaying after a crash.
    InCrashRecovery,
    /// Replaying an archive or a stream.
    InArchiveRecovery,
    /// Running as a primary, or killed as one.
    InProduction,
}

/// What Muster needs of `pg_control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// The cluster's random identifier.
    pub system_id: u64,
    /// The format's version: 1300 for PostgreSQL 13 to 16, 1700 for 17, 1800 for 18.
    pub version: u32,
    /// The catalogue's version; stands in the names of tablespace folders.
    pub catalog_version: u32,
    /// The server's state.
    pub state: State,
    /// The last checkpoint.
    pub checkpoint: Lsn,
    /// Where replay begins.
    pub redo: Lsn,
    /// The timeline of the last checkpoint.
    pub timeline: u32,
    /// How far a standby must replay before it is consistent; 0 on a primary.
    pub min_recovery_point: Lsn,
    /// The timeline of that.
    pub min_recovery_timeline: u32,
    /// Page size in bytes.
    pub block_size: u32,
    /// Pages in a relation's segment file.
    pub segment_pages: u32,
    /// Bytes in a WAL page.
    pub wal_block_size: u32,
    /// Bytes in a WAL segment file.
    pub wal_segment_size: u32,
    /// 0 where pages have no checksums.
    pub checksum_version: u32,
    /// Whether changed hint bits are logged (`wal_log_hints`).
    pub logs_hints: bool,
}

/// Why a control file gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlFileError {
    /// Shorter than its format.
    #[error("pg_control has {0} bytes only")]
    Short(usize),
    /// A format that this build does not know.
    #[error("pg_control has format {0}; this version of Muster knows 1300 (PostgreSQL 13 to 16), 1700 (17) and 1800 (18)")]
    Format(u32),
    /// Torn or damaged.
    #[error("pg_control's checksum is wrong")]
    Checksum,
    /// A value that no server writes.
    #[error("pg_control says {what} {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

/// Reads a control file.
///
/// # Errors
/// Where it is short, of a foreign format, torn, or holds what no server writes.
pub fn parse(bytes: &[u8]) -> Result<ControlFile, ControlFileError> {
    let short = || ControlFileError::Short(bytes.len());
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(short);
    let long = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(short);
    let version = word(8)?;
    // 18 put one bool before the 32 random bytes, which moves the checksum behind them.
    let checksum_at = match version {
        // 17 put the WAL level into what was padding: nothing moved.
        1300 | 1700 => 288,
        1800 => 292,
        other => return Err(ControlFileError::Format(other)),
    };
    if word(checksum_at)? != crc32c::crc32c(bytes.get(..checksum_at).ok_or_else(short)?) {
        return Err(ControlFileError::Checksum);
    }
    let size = |what, value: u32, from: u32, to: u32| {
        let good = value.is_power_of_two() && (from..=to).contains(&value);
        if good { Ok(value) } else { Err(ControlFileError::Value { what, value: value.into() }) }
    };
    Ok(ControlFile {
        system_id: long(0)?,
        version,
        catalog_version: word(12)?,
        state: state(word(16)?)?,
        checkpoint: Lsn(long(32)?),
        redo: Lsn(long(40)?),
        timeline: word(48)?,
        min_recovery_point: Lsn(long(136)?),
        min_recovery_timeline: word(144)?,
        block_size: size("block size", word(216)?, 1024, 32_768)?,
        segment_pages: size("pages a segment", word(220)?, 1, 1 << 30)?,
        wal_block_size: size("WAL block size", word(224)?, 1024, 65_536)?,
        wal_segment_size: size("WAL segment size", word(228)?, 1 << 20, 1 << 30)?,
        checksum_version: word(252)?,
        logs_hints: bytes.get(176).ok_or_else(short)? == &1,
    })
}

fn state(number: u32) -> Result<State, ControlFileError> {
    Ok(match number {
        0 => State::Startup,
        1 => State::ShutDown,
        2 => State::ShutDownInRecovery,
        3 => State::ShuttingDown,
        4 => State::InCrashRecovery,
        5 => State::InArchiveRecovery,
        6 => State::InProduction,
        other => return Err(ControlFileError::Value { what: "state", value: other.into() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 292 bytes of a fresh cluster's file (PostgreSQL 15.20; `pg_controldata` told the values below).
    const FRESH: &str = concat!(
        "b42d86a1b672046b140500002577",
        "0d0c0100000000000000b772046b00000000b029750100000000b0297501000000000100000001000000",
        "0100000000000000d402000000000000053500000100000000000000cc020000010000000100000001000000010000000000000000b772046b",
        "00000000"
    );

    /// A file with these values at their places and a right checksum.
    fn made(version: u32) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &7_711_414_590_684_671_412_u64.to_le_bytes());
        put(8, &version.to_le_bytes());
        put(12, &202_209_061_u32.to_le_bytes());
        put(16, &6_u32.to_le_bytes());
        put(32, &0x175_29B0_u64.to_le_bytes());
        put(40, &0x175_2978_u64.to_le_bytes());
        put(48, &3_u32.to_le_bytes());
        put(136, &0x200_0000_u64.to_le_bytes());
        put(144, &2_u32.to_le_bytes());
        for (at, value) in [(216, 8192_u32), (220, 131_072), (224, 8192), (228, 1 << 24), (252, 1)] {
            put(at, &value.to_le_bytes());
        }
        let end = if version == 1800 { 292 } else { 288 };
        let sum = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_control_file_is_read_in_both_formats() {
        for version in [1300, 1700, 1800] {
            let read = parse(&made(version)).unwrap();
            assert_eq!((read.system_id, read.state, read.timeline), (7_711_414_590_684_671_412, State::InProduction, 3));
            assert_eq!((read.redo, read.min_recovery_point, read.min_recovery_timeline), (Lsn(0x175_2978), Lsn(0x200_0000), 2));
            assert_eq!((read.block_size, read.wal_segment_size, read.checksum_version), (8192, 1 << 24, 1));
        }
    }

    #[test]
    fn a_torn_short_or_foreign_control_file_gives_nothing() {
        let mut torn = made(1300);
        torn[100] ^= 1;
        assert_eq!(parse(&torn), Err(ControlFileError::Checksum));
        assert_eq!(parse(&made(1300)[..200]), Err(ControlFileError::Short(200)));
        assert_eq!(parse(&[]), Err(ControlFileError::Short(0)));
        assert_eq!(parse(&made(1900)), Err(ControlFileError::Format(1900)));
        // The head of a real file, cut: its values stand where they are looked for.
        let head = hex::decode(FRESH).unwrap();
        assert_eq!(u64::from_le_bytes(head[32..40].try_into().unwrap()), 0x175_29B0);
        assert_eq!(parse(&head), Err(ControlFileError::Short(head.len())));
    }
}
