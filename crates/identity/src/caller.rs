//! Who calls: what TLS proved, and what the controller's store adds to it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::certificate::PeerCertificate;
use crate::identity::Identity;

/// What is known of a connection. It is in the extensions of every request on it.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The client's certificate, checked against the CA. `None` where it showed none.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// What an operator may do; each may also do what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Backs up, restores, declares resources.
    Operator,
    /// Is the second person; resolves what is unknown.
    Approver,
    /// Tokens, operators, revocation, deletion.
    Admin,
}

impl Role {
    /// All of them, least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; expected viewer, operator, approver or admin")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| InvalidRole(text.chars().take(40).collect()))
    }
}

/// Who calls, once the store was asked for the role. It is in the extensions of every request that passed the gate with a certificate.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// An operator's role. `None` for agents, and for an operator that was removed.
    pub role: Option<Role>,
    /// By which certificate.
    pub certificate: Arc<PeerCertificate>,
    /// From where.
    pub peer: SocketAddr,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identity.fmt(f)
    }
}
