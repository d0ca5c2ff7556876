//! The messages of physical replication (PostgreSQL manual, "Streaming Replication Protocol"). Pure: bytes in, messages out.
//!
//! `postgres-protocol` knows everything but the three messages of a copy in both directions; those are framed here.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_common::position::Lsn;
use postgres_protocol::message::backend::Message;

use crate::rights::identifier;

/// A message longer than this is refused: WAL comes in pieces of 128 KiB, history files are small.
pub const MAX_MESSAGE: usize = 16 << 20;
/// PostgreSQL counts microseconds from 2000-01-01; Unix from 1970-01-01.
const EPOCH_2000_MICROS: i64 = 946_684_800_000_000;

/// A message from the server.
pub enum Incoming {
    /// The stream begins (`CopyBothResponse`).
    StreamBegins,
    /// A piece of WAL (`XLogData`).
    Wal {
        /// Where its first byte lies.
        start: Lsn,
        /// The server's end of WAL.
        server_end: Lsn,
        /// The bytes.
        data: Bytes,
    },
    /// A sign of life.
    Keepalive {
        /// The server's end of WAL.
        server_end: Lsn,
        /// It wants an answer at once.
        reply: bool,
    },
    /// The server sends no more: the timeline ended, or the stream was closed.
    StreamEnds,
    /// Anything else.
    Other(Message),
}

/// A message that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Longer than any that is expected.
    #[error("the server sent a message of {0} bytes; at most {MAX_MESSAGE} are taken")]
    TooLong(usize),
    /// A copy message of an unknown kind or length.
    #[error("the server sent a replication message that is none")]
    Malformed,
    /// What the general parser refused.
    #[error("the server sent a malformed message: {0}")]
    General(#[from] std::io::Error),
}

/// Takes the first whole message out of `buffer`; `None` where more bytes are needed.
///
/// # Errors
/// Where the bytes cannot be a message.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
    let (Some(tag), Some(length)) = (buffer.first().copied(), buffer.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes))
    else {
        return Ok(None);
    };
    let length = length as usize;
    if length > MAX_MESSAGE {
        return Err(ProtocolError::TooLong(length));
    }
    if length < 4 {
        return Err(ProtocolError::Malformed);
    }
    if buffer.len() < length + 1 {
        buffer.reserve(length + 1 - buffer.len());
        return Ok(None);
    }
    match tag {
        b'W' => {
            buffer.advance(length + 1);
            Ok(Some(Incoming::StreamBegins))
        }
        b'c' => {
            buffer.advance(length + 1);
            Ok(Some(Incoming::StreamEnds))
        }
        b'd' => {
            let mut message = buffer.split_to(length + 1).freeze();
            message.advance(5);
            copied(message).map(Some).ok_or(ProtocolError::Malformed)
        }
        _ => Ok(Message::parse(buffer)?.map(Incoming::Other)),
    }
}

fn copied(mut body: Bytes) -> Option<Incoming> {
    match body.try_get_u8().ok()? {
        b'w' => {
            let (start, server_end) = (Lsn(body.try_get_u64().ok()?), Lsn(body.try_get_u64().ok()?));
            body.try_get_i64().ok()?;
            Some(Incoming::Wal { start, server_end, data: body })
        }
        b'k' => {
            let server_end = Lsn(body.try_get_u64().ok()?);
            body.try_get_i64().ok()?;
            Some(Incoming::Keepalive { server_end, reply: body.try_get_u8().ok()? != 0 })
        }
        _ => None,
    }
}

/// A standby status update: how far this side has written, and what it calls flushed and applied. 0 there means nothing:
/// a synchronous commit never counts such a client.
pub fn status_update(written: Lsn, flushed: Lsn, unix_micros: i64, out: &mut BytesMut) {
    out.put_u8(b'd');
    out.put_u32(4 + 1 + 8 * 4 + 1);
    out.put_u8(b'r');
    out.put_u64(written.0);
    out.put_u64(flushed.0);
    out.put_u64(flushed.0);
    out.put_i64(unix_micros.saturating_sub(EPOCH_2000_MICROS));
    out.put_u8(0);
}

/// Makes a slot that ends with the connection and holds WAL from now on.
#[must_use]
pub fn create_temporary_slot(name: &str) -> String {
    format!("CREATE_REPLICATION_SLOT {} TEMPORARY PHYSICAL RESERVE_WAL", identifier(name))
}

/// Streams `timeline` from `start`.
#[must_use]
pub fn start_replication(slot: &str, start: Lsn, timeline: u32) -> String {
    format!("START_REPLICATION SLOT {} PHYSICAL {start} TIMELINE {timeline}", identifier(slot))
}

/// Asks for a timeline's history file.
#[must_use]
pub fn timeline_history(timeline: u32) -> String {
    format!("TIMELINE_HISTORY {timeline}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u8(tag);
        out.put_u32(4 + u32::try_from(body.len()).unwrap());
        out.put_slice(body);
        out
    }

    #[test]
    fn wal_and_keepalives_are_read_however_they_arrive() {
        let mut body = vec![b'w'];
        body.extend(0x0300_0000_u64.to_be_bytes());
        body.extend(0x0300_0100_u64.to_be_bytes());
        body.extend(5_i64.to_be_bytes());
        body.extend(b"bytes of wal");
        let mut whole = message(b'd', &body);
        let mut keepalive = vec![b'k'];
        keepalive.extend(7_u64.to_be_bytes());
        keepalive.extend(5_i64.to_be_bytes());
        keepalive.push(1);
        whole.extend_from_slice(&message(b'd', &keepalive));
        whole.extend_from_slice(&message(b'c', &[]));
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in whole {
            buffer.put_u8(byte);
            while let Some(incoming) = decode(&mut buffer).unwrap() {
                seen.push(match incoming {
                    Incoming::Wal { start, server_end, data } => format!("wal {start} {server_end} {}", String::from_utf8_lossy(&data)),
                    Incoming::Keepalive { server_end, reply } => format!("keepalive {server_end} {reply}"),
                    Incoming::StreamEnds => "ends".into(),
                    Incoming::StreamBegins | Incoming::Other(_) => panic!("not sent"),
                });
            }
        }
        assert_eq!(seen, ["wal 0/3000000 0/3000100 bytes of wal", "keepalive 0/7 true", "ends"]);
    }

    #[test]
    fn messages_that_are_too_long_or_none_are_refused() {
        let mut long = BytesMut::from(&[b'd', 0x7f, 0, 0, 0][..]);
        assert!(matches!(decode(&mut long), Err(ProtocolError::TooLong(_))));
        assert!(matches!(decode(&mut message(b'd', b"?x")), Err(ProtocolError::Malformed)));
        assert!(matches!(decode(&mut message(b'd', b"w")), Err(ProtocolError::Malformed)));
        assert!(matches!(decode(&mut BytesMut::from(&[b'd', 0, 0, 0, 1][..])), Err(ProtocolError::Malformed)));
    }

    #[test]
    fn commands_quote_what_they_name() {
        assert_eq!(create_temporary_slot("a\"b"), "CREATE_REPLICATION_SLOT \"a\"\"b\" TEMPORARY PHYSICAL RESERVE_WAL");
        assert_eq!(start_replication("m", Lsn(0x0300_0000), 2), "START_REPLICATION SLOT \"m\" PHYSICAL 0/3000000 TIMELINE 2");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }
}
