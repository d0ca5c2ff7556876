//! Where a controller listens: `host`, `host:port`, `[v6]:port`.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The port of a controller where none is said.
pub const DEFAULT_PORT: u16 = 7400;

/// A host (a DNS name or an address) and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no endpoint; expected host, host:port or [address]:port")]
pub struct InvalidEndpoint {
    text: String,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint { text: text.chars().take(120).collect() };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(invalid)?,
            None => match text.find(':') {
                // More than one colon outside brackets: a bare IPv6 address.
                Some(at) if text.rfind(':') == Some(at) => text.split_at(at),
                Some(_) | None => (text, ""),
            },
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?,
            None if port.is_empty() => DEFAULT_PORT,
            None => return Err(invalid()),
        };
        ServerName::try_from(host).map_err(|_| invalid())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        for (text, shown) in [
            ("controller.example.org", "controller.example.org:7400"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("[::1]:7500", "[::1]:7500"),
            ("[::1]", "[::1]:7400"),
            ("fe80::1", "[fe80::1]:7400"),
            ("localhost:7400", "localhost:7400"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
        }
        for text in ["", ":7400", "a:0", "a:65536", "a:x", "[::1", "[::1]x", "https://a", "a b", "a/b"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
