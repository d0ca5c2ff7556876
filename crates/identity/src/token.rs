//! Join tokens: `muster1.<base64url of JSON>`, given to an agent once. It carries where the controllers are, the fingerprint of their CA
//! and a secret. Site and agent are kept by the controller, beside the secret's hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::endpoint::Endpoint;
use crate::fingerprint::Fingerprint;

const PREFIX: &str = "muster1.";
/// The longest token, in bytes.
const MAX_BYTES: usize = 8 << 10;
/// The most endpoints of a token.
const MAX_ENDPOINTS: usize = 16;

/// 32 random bytes that only the token and, hashed, the controller's store have.
#[derive(Clone)]
pub struct JoinSecret([u8; 32]);

/// SHA-256 of a join secret: what is stored and looked up. The secret has 256 random bits, so no slow hash is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// What an agent needs to join.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// Where the controllers are; at least one.
    pub endpoints: Vec<Endpoint>,
    /// The CA that the controller's chain must contain.
    pub authority: Fingerprint,
    /// What Enroll is asked with.
    pub secret: JoinSecret,
}

/// A text that is no join token. It never shows the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It starts otherwise.
    #[error("no join token: it starts with {PREFIX:?}")]
    Prefix,
    /// Cut off or changed on its way.
    #[error("the join token is damaged ({0}). HINT: copy it whole, on one line")]
    Damaged(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    endpoints: Vec<String>,
    authority: String,
    secret: String,
}

impl JoinSecret {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::rng().random())
    }

    /// As Enroll carries it: 64 hexadecimal digits. Not for logs.
    #[must_use]
    pub fn reveal(&self) -> String {
        hex::encode(self.0)
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::new().chain_update(b"muster join secret 1\n").chain_update(self.0).finalize().into())
    }
}

impl FromStr for JoinSecret {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidToken::Damaged("secret"))?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(…)")
    }
}

impl TokenHash {
    /// As stored: 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Compares with a stored hash in constant time. A stored text that is none matches nothing.
    #[must_use]
    pub fn matches(&self, stored: &str) -> bool {
        let mut bytes = [0; 32];
        hex::decode_to_slice(stored, &mut bytes).is_ok() && bool::from(bytes.ct_eq(&self.0))
    }
}

impl JoinToken {
    /// The text that is shown once and pasted into the agent's configuration. Not for logs.
    #[must_use]
    pub fn reveal(&self) -> String {
        let content = Content {
            endpoints: self.endpoints.iter().map(ToString::to_string).collect(),
            authority: self.authority.to_string(),
            secret: self.secret.reveal(),
        };
        // Three strings and a list of strings: JSON cannot refuse them.
        let json = serde_json::to_vec(&content).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken::Prefix)?;
        if encoded.len() > MAX_BYTES {
            return Err(InvalidToken::Damaged("too long"));
        }
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Damaged("base64"))?;
        let content: Content = serde_json::from_slice(&json).map_err(|_| InvalidToken::Damaged("content"))?;
        if content.endpoints.is_empty() || content.endpoints.len() > MAX_ENDPOINTS {
            return Err(InvalidToken::Damaged("number of endpoints"));
        }
        let endpoints: Result<Vec<Endpoint>, _> = content.endpoints.iter().map(|text| text.parse()).collect();
        Ok(Self {
            endpoints: endpoints.map_err(|_| InvalidToken::Damaged("endpoint"))?,
            authority: content.authority.parse().map_err(|_| InvalidToken::Damaged("fingerprint"))?,
            secret: content.secret.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            endpoints: vec!["10.0.0.1:7400".parse().unwrap(), "[::1]:7400".parse().unwrap()],
            authority: Fingerprint::of(b"ca"),
            secret: JoinSecret::generate(),
        }
    }

    #[test]
    fn a_token_is_read_back_from_its_text_and_its_secret_from_its_hash() {
        let token = token();
        let read: JoinToken = format!("  {}\n", token.reveal()).parse().unwrap();
        assert_eq!(read.endpoints, token.endpoints);
        assert_eq!(read.authority, token.authority);
        assert!(read.secret.hash().matches(&token.secret.hash().to_hex()));
        assert!(!JoinSecret::generate().hash().matches(&token.secret.hash().to_hex()));
        assert!(!token.secret.hash().matches("nonsense"));
    }

    #[test]
    fn a_token_that_was_cut_off_or_changed_is_refused_without_showing_it() {
        let text = token().reveal();
        for cut in 0..text.len() {
            let error = text[..cut].parse::<JoinToken>().unwrap_err().to_string();
            assert!(cut < 20 || !error.contains(&text[10..cut]), "{error}");
        }
        assert_eq!("secret".parse::<JoinToken>().unwrap_err(), InvalidToken::Prefix);
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = token();
        assert!(!format!("{token:?}").contains(&token.secret.reveal()));
    }
}
