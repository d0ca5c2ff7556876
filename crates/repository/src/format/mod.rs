//! Format version 1, byte by byte: pure functions over bytes, no I/O. Each parser refuses what it does not know.

pub(crate) mod bytes;
pub(crate) mod clear;
pub(crate) mod frame;
pub(crate) mod layout;
pub(crate) mod map;
pub(crate) mod message;
pub(crate) mod object;
pub(crate) mod signed;
pub(crate) mod subkeys;
pub(crate) mod table;

/// The version that this build writes, and the highest that it reads.
pub(crate) const VERSION: u8 = 1;
/// What `min_reader` is set to in what this build writes.
pub(crate) const MIN_READER: u32 = 1;

/// What is wrong with bytes. The caller knows which object they came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// They are damaged or forged.
    #[error("{0}")]
    Wrong(String),
    /// They were written for a newer reader.
    #[error("needs a reader of version {0}")]
    Newer(u32),
}

impl Malformed {
    pub(crate) fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }

    /// The error that names the object.
    pub(crate) fn at(self, object: impl Into<String>) -> crate::error::Error {
        self.at_offset(object, None)
    }

    /// The error that names the object and the place in it.
    pub(crate) fn at_offset(self, object: impl Into<String>, offset: Option<u64>) -> crate::error::Error {
        match self {
            Self::Wrong(what) => crate::error::Damage { object: object.into(), offset, what }.into(),
            Self::Newer(needed) => crate::error::Error::Newer { object: object.into(), needed, ours: u32::from(VERSION) },
        }
    }
}

/// Refuses what says that only a newer reader understands it.
pub(crate) fn check_reader(min_reader: u32) -> Result<(), Malformed> {
    if min_reader > u32::from(VERSION) { Err(Malformed::Newer(min_reader)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
