//! Names of the DNS as this crate carries them: lower case, absolute, without the last dot.
//!
//! Knows no server. A value of [`Domain`] can always be encoded, also with `_muster.` before it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The label of its own below which a name's reign stands: beside a CNAME nothing may stand (RFC 1034, 3.6.2).
const MARK_LABEL: &str = "_muster";

/// The most characters of a name (RFC 1035, 2.3.4: 255 octets on the wire), less what [`MARK_LABEL`] needs.
const MOST: usize = 253 - 8;

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of the DNS: {why}")]
pub struct InvalidDomain {
    text: String,
    why: &'static str,
}

/// A name of the DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// As it is written, without the last dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its reign stands.
    #[must_use]
    pub fn mark(&self) -> Self {
        Self(format!("{MARK_LABEL}.{}", self.0))
    }

    /// Whether it is `zone` or lies below it.
    #[must_use]
    pub fn is_in(&self, zone: &Self) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl TryFrom<String> for Domain {
    type Error = InvalidDomain;

    fn try_from(text: String) -> Result<Self, InvalidDomain> {
        text.parse()
    }
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let invalid = |why| InvalidDomain { text: text.chars().take(80).collect(), why };
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(invalid("it is empty"));
        }
        if name.len() > MOST {
            return Err(invalid("it has more than 245 characters"));
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(invalid("between its dots stand 1 to 63 characters"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                return Err(invalid("it has letters, digits, - and _ only; write an international name as xn--…"));
            }
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_in_lower_case_without_its_last_dot() {
        let name: Domain = "Orders.Example.COM.".parse().expect("a name");
        assert_eq!(name.as_str(), "orders.example.com");
        assert_eq!(name.mark().as_str(), "_muster.orders.example.com");
    }

    #[test]
    fn a_name_lies_in_its_zone_by_whole_labels() {
        let domain = |text: &str| text.parse::<Domain>().expect("a name");
        assert!(domain("orders.example.com").is_in(&domain("example.com")));
        assert!(domain("example.com").is_in(&domain("example.com")));
        assert!(!domain("badexample.com").is_in(&domain("example.com")));
        assert!(!domain("com").is_in(&domain("example.com")));
    }

    #[test]
    fn what_cannot_be_encoded_is_no_name() {
        for text in ["", ".", "a..b", "-.ü", "a b", "*.example.com", &"a".repeat(64), &["abcdefgh"; 30].join(".")] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }
}
