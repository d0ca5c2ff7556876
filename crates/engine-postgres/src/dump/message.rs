//! What a logical point knows besides its files: the engine's own message inside of a point of kind `postgres.dump`.
//!
//! Format version 1; fields are only ever added.

use muster_common::fault::{ErrorKind, Fault};
use prost::Message;

/// The version of the message below.
pub const VERSION: u32 = 1;

/// The message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DumpPoint {
    /// [`VERSION`]; a higher one is refused.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The server's version as a number: 150020.
    #[prost(uint32, tag = "2")]
    pub server_version: u32,
    /// The databases, in the order of their names.
    #[prost(message, repeated, tag = "3")]
    pub databases: Vec<Dumped>,
    /// The patterns of schemas that it is confined to. Empty: all.
    #[prost(string, repeated, tag = "4")]
    pub schemas: Vec<String>,
    /// The patterns of tables that it is confined to. Empty: all.
    #[prost(string, repeated, tag = "5")]
    pub tables: Vec<String>,
    /// Whether the passwords of roles are in it.
    #[prost(bool, tag = "6")]
    pub role_passwords: bool,
}

/// One database.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Dumped {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The file of its dump in the point.
    #[prost(string, tag = "2")]
    pub file: String,
    /// Its encoding, by name.
    #[prost(string, tag = "3")]
    pub encoding: String,
    /// `LC_COLLATE`.
    #[prost(string, tag = "4")]
    pub collate: String,
    /// `LC_CTYPE`.
    #[prost(string, tag = "5")]
    pub ctype: String,
}

impl DumpPoint {
    /// Reads the message out of a point.
    ///
    /// # Errors
    /// Where it is none, or of a newer version.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let point = Self::decode(bytes).map_err(|error| {
            Fault::refused(ErrorKind::DataLoss, format!("the dump's own part of the point cannot be read: {error}"))
                .hint("take another one")
        })?;
        if point.version == VERSION {
            return Ok(point);
        }
        Err(Fault::refused(
            ErrorKind::Incompatible,
            format!("the dump's own part of the point has version {}; this build reads {VERSION}", point.version),
        )
        .hint("upgrade this side"))
    }
}

/// The name of a database's file: letters, digits, `-` and `_` as they are, every other byte as `%` and two digits.
#[must_use]
pub fn file_name(database: &str) -> String {
    let mut name = String::new();
    for byte in database.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name.push_str(".dump");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_file_is_a_plain_name_and_no_two_are_the_same() {
        assert_eq!(file_name("shop"), "shop.dump");
        assert_eq!(file_name("../a b/ü"), "%2E%2E%2Fa%20b%2F%C3%BC.dump");
        assert_ne!(file_name("a%2F"), file_name("a/"));
    }

    #[test]
    fn a_newer_version_is_refused() {
        let point = DumpPoint { version: VERSION, role_passwords: true, ..DumpPoint::default() };
        assert_eq!(DumpPoint::read(&point.encode_to_vec()).unwrap(), point);
        let newer = DumpPoint { version: 2, ..point };
        assert_eq!(DumpPoint::read(&newer.encode_to_vec()).unwrap_err().kind, ErrorKind::Incompatible);
    }
}
