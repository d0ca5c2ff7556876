//! What a DNS server's refusal means, each told in its own words with what to do about it.
//!
//! Knows codes (RFC 1035, 2136, 8945), no socket. Secrets never reach it: a key is told by its name.

use std::net::SocketAddr;

use muster_common::fault::{ErrorKind, Fault};

use crate::domain::Domain;

/// Whom was asked, for what, with which key: what a refusal is told with.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The server.
    pub server: SocketAddr,
    /// The zone that was to be changed or read.
    pub zone: Domain,
    /// The name in it.
    pub name: Domain,
    /// The key's name; `None` where the question was not signed.
    pub key: Option<Domain>,
}

/// Why a server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// REFUSED.
    #[error("REFUSED: its policy forbids it")]
    Refused,
    /// NOTAUTH without a word about the key: the server is not the zone's primary or not its server at all.
    #[error("NOTAUTH: it is not authoritative for the zone")]
    NotAuth,
    /// NOTZONE.
    #[error("NOTZONE: the name does not lie in that zone")]
    NotZone,
    /// YXRRSET, NXRRSET, YXDOMAIN, NXDOMAIN of an update: a prerequisite does not hold.
    #[error("{code}: it does not stand there any more as it was read")]
    Changed {
        /// The code's name.
        code: &'static str,
    },
    /// SERVFAIL.
    #[error("SERVFAIL: it cannot serve or change the zone just now")]
    ServFail,
    /// NOTIMP or FORMERR.
    #[error("{code}: it does not take updates")]
    NotUnderstood {
        /// The code's name.
        code: &'static str,
    },
    /// TSIG error BADKEY.
    #[error("BADKEY: it knows no such key")]
    BadKey,
    /// TSIG error BADSIG.
    #[error("BADSIG: it has another secret for this key")]
    BadSig,
    /// TSIG error BADTIME, with both clocks in seconds of the epoch. The server's is `None` where it did not tell.
    #[error("BADTIME: the clocks are too far apart")]
    BadTime {
        /// Ours.
        own: u64,
        /// The server's.
        server: Option<u64>,
    },
    /// The answer to a signed question carries no signature.
    #[error("the answer is not signed")]
    Unsigned,
    /// The answer's signature is not of our key.
    #[error("the answer's signature is not of our key")]
    Forged,
    /// The server answers from a cache or by referral.
    #[error("the answer is not authoritative")]
    NotAuthoritative,
    /// Another code.
    #[error("it answered with the code {0}")]
    Code(u16),
    /// No answer in time.
    #[error("no answer within {0} ms")]
    Silent(u64),
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

impl Refusal {
    /// Whether the server may have done it all the same: no word of it came back that can be trusted.
    #[must_use]
    pub const fn leaves_doubt(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Unreachable(_) | Self::Unsigned | Self::Forged | Self::Unreadable(_) => true,
            Self::Refused
            | Self::NotAuth
            | Self::NotZone
            | Self::Changed { .. }
            | Self::ServFail
            | Self::NotUnderstood { .. }
            | Self::BadKey
            | Self::BadSig
            | Self::BadTime { .. }
            | Self::NotAuthoritative
            | Self::Code(_) => false,
        }
    }

    /// As an operator sees it; `doing` begins it: `change orders.example.com`.
    #[must_use]
    pub fn fault(&self, doing: &str, asked: &Asked) -> Fault {
        let fault = Fault::refused(self.kind(), format!("{doing} at {}: {self}", asked.server)).hint(self.hint(asked));
        match self {
            Self::BadTime { own, server } => {
                let server = server.map_or_else(|| "not told".to_owned(), told);
                fault.evidence(format!("this machine's clock: {}; the server's: {server}", told(*own)))
            }
            Self::Refused
            | Self::NotAuth
            | Self::NotZone
            | Self::Changed { .. }
            | Self::ServFail
            | Self::NotUnderstood { .. }
            | Self::BadKey
            | Self::BadSig
            | Self::Unsigned
            | Self::Forged
            | Self::NotAuthoritative
            | Self::Code(_)
            | Self::Silent(_)
            | Self::Unreachable(_)
            | Self::Unreadable(_) => fault,
        }
    }

    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused | Self::BadKey | Self::BadSig => ErrorKind::PermissionDenied,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::NotAuth | Self::NotZone | Self::BadTime { .. } | Self::NotAuthoritative => ErrorKind::FailedPrecondition,
            Self::NotUnderstood { .. } => ErrorKind::NotAvailable,
            Self::Unsigned | Self::Forged => ErrorKind::Unauthenticated,
            Self::ServFail | Self::Code(_) | Self::Silent(_) | Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::Unreadable(_) => ErrorKind::Incompatible,
        }
    }

    fn hint(&self, asked: &Asked) -> String {
        let Asked { server, zone, name, key } = asked;
        let key = key.as_ref().map_or("none", Domain::as_str);
        let ip = server.ip();
        match self {
            Self::Refused => format!(
                "allow key {key} to change A, AAAA, CNAME of {name} and TXT of {}: BIND `update-policy {{ grant {key} name {name} A AAAA CNAME; grant {key} name {} TXT; }};`, Knot an `acl` with `action: [query, update]` for that key",
                name.mark(),
                name.mark()
            ),
            Self::NotAuth => format!("see who is the primary of {zone}: `dig SOA {zone} @{ip}`; the route's server must be it"),
            Self::NotZone => format!("see which zone {name} lies in: `dig SOA {name}`; set the route's zone to it"),
            Self::Changed { .. } => {
                format!("somebody else changed it: `dig {name} @{ip}` and `dig TXT {} @{ip}` show what stands", name.mark())
            }
            Self::ServFail => format!(
                "read the server's log; BIND: `rndc zonestatus {zone}`, and its journal must be writable; Knot: `knotc zone-status {zone}`"
            ),
            Self::NotUnderstood { .. } => {
                format!("{server} is no server that takes RFC 2136 updates; name the zone's primary, or use a program as provider")
            }
            Self::BadKey => {
                format!("the server needs the key {key} with the same algorithm: BIND `rndc tsig-list`, Knot `knotc conf-read key`")
            }
            Self::BadSig => format!("the secret of {key} differs: put the server's into the route's tsigKeyFile"),
            Self::BadTime { .. } => {
                "set the clock that is wrong: `timedatectl` on both machines; they may be 300 s apart at most".to_owned()
            }
            Self::Unsigned => format!(
                "something between answers in the server's place, or it does not sign for {key}; ask it directly: `dig SOA {zone} @{ip} -k KEYFILE`"
            ),
            Self::Forged => format!(
                "something between changed the answer, or the secret of {key} differs; ask it directly: `dig SOA {zone} @{ip} -k KEYFILE`"
            ),
            Self::NotAuthoritative => format!("{server} answers for others; name a server of {zone} itself: `dig NS {zone}`"),
            Self::Code(_) => "read the server's log".to_owned(),
            Self::Silent(_) => format!(
                "see whether it runs and whether a firewall is between: `dig SOA {zone} @{ip} -p {}`, and with `+tcp`",
                server.port()
            ),
            Self::Unreachable(_) => format!("see whether it runs and listens there: `dig +tcp SOA {zone} @{ip} -p {}`", server.port()),
            Self::Unreadable(_) => format!("see what answers there: `dig SOA {zone} @{ip} -p {}`", server.port()),
        }
    }
}

fn told(seconds: u64) -> String {
    // Civil date from days, after Howard Hinnant's algorithm for the proleptic Gregorian calendar.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day = days % 146_097;
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest % 3_600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_text_and_a_hint_of_its_own() {
        let asked = Asked {
            server: ([10, 0, 0, 53], 53).into(),
            zone: "example.com".parse().expect("a name"),
            name: "orders.example.com".parse().expect("a name"),
            key: Some("mover".parse().expect("a name")),
        };
        let all = [
            Refusal::Refused,
            Refusal::NotAuth,
            Refusal::NotZone,
            Refusal::Changed { code: "NXRRSET" },
            Refusal::ServFail,
            Refusal::NotUnderstood { code: "NOTIMP" },
            Refusal::BadKey,
            Refusal::BadSig,
            Refusal::BadTime { own: 0, server: Some(86_400) },
            Refusal::Unsigned,
            Refusal::Forged,
            Refusal::NotAuthoritative,
            Refusal::Code(23),
            Refusal::Silent(2_000),
            Refusal::Unreachable("connection refused".into()),
            Refusal::Unreadable("it ends early".into()),
        ];
        let faults: Vec<_> = all.iter().map(|refusal| refusal.fault("change orders.example.com", &asked)).collect();
        for (at, fault) in faults.iter().enumerate() {
            assert!(!fault.hint.is_empty() && fault.message.contains("10.0.0.53:53"), "{fault}");
            assert!(faults.iter().skip(at + 1).all(|other| other.message != fault.message && other.hint != fault.hint), "{fault}");
        }
    }

    #[test]
    fn both_clocks_are_told() {
        assert_eq!(told(0), "1970-01-01T00:00:00Z");
        assert_eq!(told(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(told(1_795_500_000), "2026-11-24T06:00:00Z");
    }
}
