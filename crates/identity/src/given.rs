//! A CA that somebody else made for this controller: judged before anything is signed by it.
//!
//! It writes nothing. What always holds: a CA that passes was made for this trust domain, and leaves that it signs are good both for
//! whoever trusts it and for whoever trusts the root that was given with it; that is tried, with a key that is thrown away.

use std::path::Path;
use std::time::Duration;

use muster_common::name::Name;
use muster_common::time::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::X509Certificate;

use crate::authority::{Authority, AuthorityError};
use crate::certificate::{self, CertificateError};
use crate::csr::{Csr, CsrError};
use crate::identity::TrustDomain;
use crate::key::{KeyError, KeyPair};
use crate::verifier;

/// A given CA and all above it must be good for so long at least: two lives of the controller's own certificate.
pub const LEAST_LIFE: Duration = Duration::from_secs(180 * 86_400);

/// The longest chain, the root included.
const MOST_CHAIN: usize = 8;

/// Why a given CA is not taken.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// A certificate cannot be read or names no trust domain.
    #[error("{0}. HINT: a CA for Muster carries `subjectAltName = URI:spiffe://TRUST-DOMAIN` and nothing else as URI")]
    Certificate(#[from] CertificateError),
    /// Its key is none of ours, or cannot be read.
    #[error("{0}. HINT: a P-256 key in PKCS#8 is taken: `openssl pkcs8 -topk8 -nocrypt -in old.key -out new.key` rewrites an EC key")]
    Key(#[from] KeyError),
    /// Made for others.
    #[error(
        "the CA is for spiffe://{found}, and the configuration says trustDomain: {expected}. HINT: change trustDomain, or ask for a CA of that name"
    )]
    TrustDomain {
        /// What stands in it.
        found: TrustDomain,
        /// What the configuration says.
        expected: TrustDomain,
    },
    /// One of the chain may not sign certificates.
    #[error(
        "certificate {0} of the chain may not sign others (CA:TRUE and keyCertSign are needed). HINT: the first one is the CA, then those above it, the root last"
    )]
    NotAuthority(usize),
    /// The order is another.
    #[error("certificate {0} of the chain was not issued by the one behind it. HINT: the CA first, then each one's issuer, the root last")]
    Order(usize),
    /// It does not end in a root.
    #[error("the chain does not end in its root. HINT: append the root's certificate to the file")]
    NoRoot,
    /// Too long, or nothing.
    #[error("a chain of {0} certificates; 1 to {MOST_CHAIN} are taken")]
    Length(usize),
    /// Not yet valid, or not for long.
    #[error("certificate {which} of the chain is good for {days} days from now on; {} are needed. HINT: ask for one that lives longer", LEAST_LIFE.as_secs() / 86_400)]
    Life {
        /// Its place, from 1.
        which: usize,
        /// How many days are left; 0 where it is over or has not begun.
        days: u64,
    },
    /// What it signs is not good.
    #[error(
        "a certificate that this CA signs is refused by whoever trusts {whom}: {source}. HINT: path length, name constraints and key usages must allow leaves for clients and servers"
    )]
    Trial {
        /// The CA itself or the root.
        whom: &'static str,
        /// What was said.
        #[source]
        source: webpki::Error,
    },
    /// The two do not belong together, or it could not sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The trial's request.
    #[error(transparent)]
    Request(#[from] CsrError),
}

/// Judges a CA of a chain in PEM (the CA first, the root last) and its key. `place` names the files in errors.
///
/// # Errors
/// See [`GivenError`].
pub fn judge(chain: &str, key: KeyPair, trust_domain: &TrustDomain, place: &Path, now: Timestamp) -> Result<Authority, GivenError> {
    let ders = certificate::chain_from_pem(chain)?;
    if ders.len() > MOST_CHAIN {
        return Err(GivenError::Length(ders.len()));
    }
    let parsed = ders.iter().map(|der| certificate::parse(der)).collect::<Result<Vec<_>, _>>()?;
    for (place, (this, above)) in parsed.iter().zip(parsed.iter().skip(1).map(Some).chain([None])).enumerate() {
        one(place + 1, this, above, now)?;
    }
    let found = ders.first().map(|der| certificate::trust_domain_of(der)).transpose()?;
    if let Some(found) = found.filter(|found| found != trust_domain) {
        return Err(GivenError::TrustDomain { found, expected: trust_domain.clone() });
    }
    let authority = Authority::from_pem(chain, key, place)?;
    try_it(&authority, &ders, now)?;
    Ok(authority)
}

fn one(which: usize, this: &X509Certificate<'_>, above: Option<&X509Certificate<'_>>, now: Timestamp) -> Result<(), GivenError> {
    let signs = this.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
    if !this.is_ca() || !signs {
        return Err(GivenError::NotAuthority(which));
    }
    let (begins, ends) = (this.validity().not_before.timestamp(), this.validity().not_after.timestamp());
    let left = if certificate::timestamp(begins) > now { Duration::ZERO } else { certificate::timestamp(ends).since(now) };
    if left < LEAST_LIFE {
        return Err(GivenError::Life { which, days: left.as_secs() / 86_400 });
    }
    match above {
        Some(above) if above.subject().as_raw() == this.issuer().as_raw() => Ok(()),
        Some(_) => Err(GivenError::Order(which)),
        None if this.subject().as_raw() == this.issuer().as_raw() => Ok(()),
        None => Err(GivenError::NoRoot),
    }
}

/// Signs a leaf of each kind and looks at it as agents, the controller, and foreign clients that know the root alone will.
fn try_it(authority: &Authority, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<(), GivenError> {
    let csr = Csr::parse(&Csr::request(&KeyPair::generate()?)?)?;
    let trial: Name = "trial".parse().map_err(|_| CertificateError::Unreadable("trial".to_owned()))?;
    let names = ["trial.example.org".to_owned(), "127.0.0.1".to_owned()];
    let life = Duration::from_secs(3_600);
    let agent = authority.issue_agent(&csr, &trial, &trial, now, life)?.pem;
    let controller = authority.issue_controller(&csr, &names, now, life)?.pem;
    let seconds = u64::try_from(now.0.div_euclid(1_000_000)).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let root = chain.last().unwrap_or(authority.certificate());
    for (pem, usage) in [(&agent, KeyUsage::client_auth()), (&controller, KeyUsage::server_auth())] {
        let shown = certificate::chain_from_pem(pem)?;
        let Some((leaf, between)) = shown.split_first() else { continue };
        for (whom, anchor) in [("the CA itself", authority.certificate()), ("the root", root)] {
            let judged = || {
                let anchors = [anchor_from_trusted_cert(anchor)?];
                let leaf = EndEntityCert::try_from(leaf)?;
                leaf.verify_for_usage(verifier::algorithms().all, &anchors, between, at, usage, None, None).map(|_| ())
            };
            judged().map_err(|source| GivenError::Trial { whom, source })?;
        }
    }
    Ok(())
}
