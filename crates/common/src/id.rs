//! Ids: 16 random bytes, written as 32 lower-case hexadecimal digits, one type for each thing that has one.
//!
//! This module draws no random bytes: whoever makes an id hands them in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what} id; expected 32 lower-case hexadecimal digits")]
pub struct InvalidId {
    what: &'static str,
    text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes, which the caller drew at random.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId { what: $what, text: text.chars().take(64).collect() };
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(invalid());
                }
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid())?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// An operation: one durable run of what was asked for.
    OperationId, "operation";
    /// A command: what a step sends to an agent.
    CommandId, "command";
    /// A component. Names are labels; keys and paths in a repository go by this.
    ComponentId, "component";
    /// A recovery point.
    PointId, "point";
    /// A pack in a repository.
    PackId, "pack";
    /// A key object in a repository.
    KeyId, "key";
    /// A mark in a repository: what prune means to remove.
    MarkId, "mark";
    /// A hold in a repository: what must stay.
    HoldId, "hold";
    /// A repository.
    RepositoryId, "repository";
    /// A controller's store: tells a restored or doubled controller from its original.
    StoreId, "store";
    /// A boot of a machine or of a run folder.
    BootId, "boot";
    /// One reign: tells two of one number apart.
    ReignId, "reign";
    /// One session between an agent and a controller.
    SessionId, "session";
    /// A machine, as `/etc/machine-id` has it (machine-id(5)).
    MachineId, "machine";
    /// A controller's rule: drawn at each start, tells two rules of one term apart.
    RuleId, "rule";
    /// Drawn once by who pledges, so that an answer to this pledge is told from an answer to an earlier one.
    Nonce, "nonce";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_lower_case_hex_and_read_back() {
        let id = PointId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn upper_case_short_and_foreign_texts_are_no_ids() {
        for text in ["", "ab", &"AB".repeat(16), &"zz".repeat(16), &"ab".repeat(17)] {
            assert!(text.parse::<PointId>().is_err(), "{text}");
        }
    }
}
