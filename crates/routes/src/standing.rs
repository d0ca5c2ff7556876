//! What stands at a name: where it points, how long that is remembered, and the reign beside it.
//!
//! Pure data. The TTL is no part of a comparison of targets: RFC 2136 prerequisites do not look at it (section 2.4.2).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use muster_common::counter::Epoch;
use muster_failover::reign::Mark;
use serde::{Deserialize, Serialize};

use crate::domain::Domain;

/// The most addresses of one site: all of them fit into one answer without a second try over TCP.
pub const MOST_ADDRESSES: usize = 16;

/// The TXT begins with this word.
const WORD: &str = "muster";

/// Where a name points. Never without a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A and AAAA.
    Addresses(BTreeSet<IpAddr>),
    /// CNAME.
    Alias(Domain),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => f.write_str(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            Self::Alias(domain) => write!(f, "{domain}."),
        }
    }
}

/// The records at a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Where it points.
    pub target: Target,
    /// How long a resolver may remember it, in seconds; the longest, where A and AAAA differ.
    pub ttl: u32,
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (TTL {} s)", self.target, self.ttl)
    }
}

/// What the TXT at `_muster.<name>` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Marked {
    /// There is none: the name is nobody's.
    Nothing,
    /// It names a reign.
    Reign(Mark),
    /// It says something else, or more than one thing.
    Foreign(Vec<String>),
}

impl Marked {
    /// From the texts found.
    #[must_use]
    pub fn of(texts: Vec<String>) -> Self {
        match texts.as_slice() {
            [] => Self::Nothing,
            [text] => match read_mark(text) {
                Some(mark) => Self::Reign(mark),
                None => Self::Foreign(texts),
            },
            [_, _, ..] => Self::Foreign(texts),
        }
    }

    /// The texts that it was made from.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Reign(mark) => vec![write_mark(*mark)],
            Self::Foreign(texts) => texts.clone(),
        }
    }
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no reign"),
            Self::Reign(mark) => write!(f, "{mark}"),
            Self::Foreign(texts) => write!(f, "a foreign text: {}", texts.join(" | ").chars().take(120).collect::<String>()),
        }
    }
}

/// What stands at a name and beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its records; `None` where it has neither address nor CNAME.
    pub records: Option<Records>,
    /// The reign beside it.
    pub mark: Marked,
}

impl Standing {
    /// Whether both point at the same and are of the same reign; TTLs are not looked at.
    #[must_use]
    pub fn same_but_ttl(&self, other: &Self) -> bool {
        self.mark == other.mark && self.records.as_ref().map(|r| &r.target) == other.records.as_ref().map(|r| &r.target)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.records {
            Some(records) => write!(f, "{records}, {}", self.mark),
            None => write!(f, "nothing, {}", self.mark),
        }
    }
}

/// A mark as the TXT has it: `muster epoch=7 reign=<32 hexadecimal digits>`.
#[must_use]
pub fn write_mark(mark: Mark) -> String {
    format!("{WORD} epoch={} reign={}", mark.epoch.0, mark.id)
}

/// The mark that a text names; `None` where it was not written by [`write_mark`]. Only the very same bytes are ours: what
/// is compared in a prerequisite is the text.
#[must_use]
pub fn read_mark(text: &str) -> Option<Mark> {
    let mut words = text.split(' ');
    words.next().filter(|word| *word == WORD)?;
    let epoch = words.next()?.strip_prefix("epoch=")?.parse().ok()?;
    let id = words.next()?.strip_prefix("reign=")?.parse().ok()?;
    let mark = Mark { epoch: Epoch(epoch), id };
    (write_mark(mark) == text).then_some(mark)
}

#[cfg(test)]
mod tests {
    use muster_common::id::ReignId;

    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let mark = Mark { epoch: Epoch(7), id: ReignId::from_bytes([0xab; 16]) };
        let text = write_mark(mark);
        assert_eq!(text, format!("muster epoch=7 reign={}", "ab".repeat(16)));
        assert_eq!(read_mark(&text), Some(mark));
        for foreign in ["", "muster", "muster epoch=7", &format!("{text} more"), &text.replace('7', "07"), &text.to_uppercase()] {
            assert_eq!(read_mark(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn two_texts_are_foreign_even_where_one_of_them_is_ours() {
        let text = write_mark(Mark { epoch: Epoch(7), id: ReignId::from_bytes([1; 16]) });
        assert!(matches!(Marked::of(vec![text.clone(), "hello".to_owned()]), Marked::Foreign(_)));
        assert!(matches!(Marked::of(vec![text]), Marked::Reign(_)));
    }
}
