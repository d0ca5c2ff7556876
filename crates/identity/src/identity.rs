//! Names of identities: `spiffe://<trust domain>/agent/<site>/<name>`, `…/operator/<name>`, `…/controller`.
//!
//! The form is SPIFFE's (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>); nothing else of SPIFFE is used.

use std::fmt;
use std::str::FromStr;

use muster_common::name::Name;

/// The longest trust domain, in bytes (SPIFFE-ID, 2.3).
const MAX_TRUST_DOMAIN: usize = 255;

/// Whose identities these are: every CA has one. `muster` where nobody chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `spiffe://<trust domain>`: the identity of the CA itself.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("spiffe://{}", self.0)
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("muster".to_owned())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no trust domain; expected 1 to {MAX_TRUST_DOMAIN} of a-z, 0-9, '.', '-' and '_'")]
pub struct InvalidTrustDomain {
    text: String,
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;

    fn from_str(text: &str) -> Result<Self, InvalidTrustDomain> {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if (1..=MAX_TRUST_DOMAIN).contains(&text.len()) && text.bytes().all(ok) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTrustDomain { text: text.chars().take(80).collect() })
        }
    }
}

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The process beside the data of a site.
    Agent {
        /// Its data centre.
        site: Name,
        /// Its name, unique in its site.
        agent: Name,
    },
    /// A person or a program that calls the API.
    Operator {
        /// Its name.
        name: Name,
    },
    /// The controller itself.
    Controller,
}

/// A URI that names none of our identities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} names no identity of trust domain {trust_domain}")]
pub struct NotOurs {
    uri: String,
    trust_domain: TrustDomain,
}

impl Identity {
    /// The URI that stands in the certificate.
    #[must_use]
    pub fn uri(&self, trust_domain: &TrustDomain) -> String {
        match self {
            Self::Agent { site, agent } => format!("spiffe://{trust_domain}/agent/{site}/{agent}"),
            Self::Operator { name } => format!("spiffe://{trust_domain}/operator/{name}"),
            Self::Controller => format!("spiffe://{trust_domain}/controller"),
        }
    }

    /// Reads such a URI, to the letter.
    ///
    /// # Errors
    /// Where it belongs to another trust domain or is anything else.
    pub fn from_uri(uri: &str, trust_domain: &TrustDomain) -> Result<Self, NotOurs> {
        let parsed = || {
            let path = uri.strip_prefix(&trust_domain.uri())?.strip_prefix('/')?;
            let parts: Vec<&str> = path.split('/').collect();
            match parts.as_slice() {
                ["agent", site, agent] => Some(Self::Agent { site: site.parse().ok()?, agent: agent.parse().ok()? }),
                ["operator", name] => Some(Self::Operator { name: name.parse().ok()? }),
                ["controller"] => Some(Self::Controller),
                _ => None,
            }
        };
        parsed().ok_or_else(|| NotOurs { uri: uri.chars().take(200).collect(), trust_domain: trust_domain.clone() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { site, agent } => write!(f, "agent {site}/{agent}"),
            Self::Operator { name } => write!(f, "operator {name}"),
            Self::Controller => f.write_str("controller"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Identity> {
        vec![
            Identity::Agent { site: "istanbul".parse().unwrap(), agent: "istanbul-db1".parse().unwrap() },
            Identity::Operator { name: "ayse".parse().unwrap() },
            Identity::Controller,
        ]
    }

    #[test]
    fn an_identity_is_read_back_from_its_uri() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        for identity in all() {
            assert_eq!(Identity::from_uri(&identity.uri(&domain), &domain), Ok(identity));
        }
    }

    #[test]
    fn foreign_and_crooked_uris_name_nobody() {
        let domain = TrustDomain::default();
        for uri in [
            "",
            "spiffe://muster",
            "spiffe://muster/",
            "spiffe://other/controller",
            "spiffe://musterx/controller",
            "spiffe://muster.evil/controller",
            "spiffe://muster/controller/",
            "spiffe://muster/Controller",
            "spiffe://muster/agent/a",
            "spiffe://muster/agent/a/b/c",
            "spiffe://muster/agent//b",
            "spiffe://muster/agent/a/..",
            "spiffe://muster/operator/a%2fb",
            "spiffe://muster/operator/a?role=admin",
            "https://muster/controller",
        ] {
            assert!(Identity::from_uri(uri, &domain).is_err(), "{uri}");
        }
    }

    #[test]
    fn trust_domains_are_plain() {
        for bad in ["", "a/b", "A", "ä", "a b", &"a".repeat(256)] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad}");
        }
    }
}
