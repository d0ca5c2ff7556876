//! The CA of a controller: makes itself, and signs what the controller decided.
//!
//! What always holds: every field of a certificate is made here, only the key comes from the request; a CA signs leaves only (path
//! length 0); serial numbers are 16 random bytes, positive; nothing outlives the CA; each certificate begins two hours ago.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_service::files;
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::certificate::{self, BACKDATE, CertificateError, Serial};
use crate::csr::Csr;
use crate::fingerprint::Fingerprint;
use crate::identity::{Identity, TrustDomain};
use crate::key::{KeyError, KeyPair};

/// How long a CA lives: 20 years of 365 days.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How long an agent's certificate lives where nothing else is set; longer than a controller may be away.
pub const AGENT_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How long an operator's certificate lives where nothing else is set.
pub const OPERATOR_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// How long the controller's own certificate lives where nothing else is set.
pub const CONTROLLER_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// The file of the CA's certificate in its folder.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// The file of the CA's key in its folder, mode 0600.
pub const KEY_FILE: &str = "ca.key";

/// The longest file of a CA, in bytes.
pub const MAX_BYTES: u64 = 64 << 10;

/// A CA with its key in memory.
pub struct Authority {
    issuer: Issuer<'static, rcgen::KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// What stands behind each leaf, in PEM: a given CA's certificate and all above it but the root. Empty: the CA is its own root.
    between: String,
    trust_domain: TrustDomain,
    not_after: Timestamp,
}

/// A certificate that was just signed.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf in PEM, behind it a given CA up to its root; for the controller the CA with its root.
    pub pem: String,
    /// Its number, to be recorded: revocation goes by it.
    pub serial: Serial,
    /// Of its key.
    pub key_fingerprint: Fingerprint,
    /// Of the CA that signed it.
    pub authority: Fingerprint,
    /// Valid from: two hours before it was issued.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// What a CA could not do.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is a CA already.
    #[error("folder {} has a CA already: a second one would lock every agent out. HINT: load it, or name another folder", .0.display())]
    Exists(PathBuf),
    /// The folder or a file.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA's certificate.
    #[error("CA in {}: {source}", folder.display())]
    Certificate {
        /// The CA's folder.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// The key belongs to another certificate.
    #[error("CA in {}: {KEY_FILE} is not the key of {CERTIFICATE_FILE}. HINT: restore both from the same backup", .0.display())]
    Mismatch(PathBuf),
    /// The CA is at its end.
    #[error("the CA ended at {} s since 1970", .0.0 / 1_000_000)]
    Expired(Timestamp),
    /// A name of the controller that is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an address")]
    BadName(String),
    /// The signing itself.
    #[error("sign a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// A time that certificates cannot hold.
    #[error("the time {0:?} cannot stand in a certificate")]
    Time(Timestamp),
}

impl Authority {
    /// Makes a CA in a folder (made too, mode 0700). The key is written first and the certificate last: a folder where a killed process left
    /// a key alone is gone on with, since nothing was signed with it.
    ///
    /// # Errors
    /// [`AuthorityError::Exists`] where there is one.
    pub fn create(folder: &Path, trust_domain: &TrustDomain, now: Timestamp) -> Result<Self, AuthorityError> {
        files::create_private_folder(folder)?;
        let certificate_path = folder.join(CERTIFICATE_FILE);
        if certificate_path.exists() {
            return Err(AuthorityError::Exists(folder.to_owned()));
        }
        let key_path = folder.join(KEY_FILE);
        if !key_path.exists() {
            KeyPair::generate()?.create_file(&key_path)?;
        }
        let key = KeyPair::load(&key_path)?;
        let pem = Self::self_signed(trust_domain, &key, now)?;
        files::create_atomically(&certificate_path, pem.as_bytes(), 0o644)?;
        Self::load(folder)
    }

    /// Reads the CA of a folder whose key is not sealed.
    ///
    /// # Errors
    /// Where a file is missing, broken, readable by others, or the two do not belong together.
    pub fn load(folder: &Path) -> Result<Self, AuthorityError> {
        let pem = files::read_text(&folder.join(CERTIFICATE_FILE), MAX_BYTES)?;
        Self::from_pem(&pem, KeyPair::load(&folder.join(KEY_FILE))?, folder)
    }

    /// A CA of its certificate, in PEM, and its key. Where another CA signed it, that one's certificate stands behind it, up to the root.
    /// `folder` is where both came from, for errors.
    ///
    /// # Errors
    /// Where the certificate is broken, no CA of ours, or of another key.
    pub fn from_pem(pem: &str, key: KeyPair, folder: &Path) -> Result<Self, AuthorityError> {
        let wrong = |source| AuthorityError::Certificate { folder: folder.to_owned(), source };
        let chain = certificate::chain_from_pem(pem).map_err(wrong)?;
        let (certificate, above) = chain.split_first().ok_or_else(|| AuthorityError::Mismatch(folder.to_owned()))?;
        let trust_domain = certificate::trust_domain_of(certificate).map_err(wrong)?;
        if certificate::key_fingerprint_of(certificate).map_err(wrong)? != key.fingerprint() {
            return Err(AuthorityError::Mismatch(folder.to_owned()));
        }
        let mut not_after = certificate::not_after_of(certificate).map_err(wrong)?;
        for certificate in above {
            not_after = not_after.min(certificate::not_after_of(certificate).map_err(wrong)?);
        }
        // Whoever trusts the root alone needs what stands between it and a leaf; the root itself it has.
        let between =
            if above.is_empty() { String::new() } else { certificate::pem_of(chain.split_last().map_or(&[], |(_, below)| below)) };
        let issuer = Issuer::from_ca_cert_der(certificate, key.inner)?;
        Ok(Self { issuer, certificate: certificate.clone(), pem: pem.to_owned(), between, trust_domain, not_after })
    }

    /// A certificate, in PEM, by which this key is a CA of its own.
    ///
    /// # Errors
    /// Where the clock or the system's randomness is of no use.
    pub fn self_signed(trust_domain: &TrustDomain, key: &KeyPair, now: Timestamp) -> Result<String, AuthorityError> {
        Ok(authority_params(trust_domain, key, now)?.self_signed(&key.inner)?.pem())
    }

    /// Its certificate in PEM, and where another CA signed it those above it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate's DER: what join tokens pin.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// When it ends, or the first one above it.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whose identities it signs.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Signs an agent's certificate: clientAuth for the controller, serverAuth for its peers.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn issue_agent(&self, csr: &Csr, site: &Name, agent: &Name, now: Timestamp, life: Duration) -> Result<Issued, AuthorityError> {
        let identity = Identity::Agent { site: site.clone(), agent: agent.clone() };
        self.issue(csr, &identity, vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth], &[], now, life)
    }

    /// Signs an operator's certificate: clientAuth only. The role is the controller's to keep; it is not in here.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn issue_operator(&self, csr: &Csr, name: &Name, now: Timestamp, life: Duration) -> Result<Issued, AuthorityError> {
        self.issue(csr, &Identity::Operator { name: name.clone() }, vec![ExtendedKeyUsagePurpose::ClientAuth], &[], now, life)
    }

    /// Signs the controller's own certificate: serverAuth, for these DNS names and addresses (of use to clients that are not ours), with the
    /// CA in its chain.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn issue_controller(&self, csr: &Csr, names: &[String], now: Timestamp, life: Duration) -> Result<Issued, AuthorityError> {
        let mut issued = self.issue(csr, &Identity::Controller, vec![ExtendedKeyUsagePurpose::ServerAuth], names, now, life)?;
        let leaf = issued.pem.len().saturating_sub(self.between.len());
        issued.pem.truncate(leaf);
        issued.pem.push_str(&self.pem);
        Ok(issued)
    }

    fn issue(
        &self,
        csr: &Csr,
        identity: &Identity,
        usages: Vec<ExtendedKeyUsagePurpose>,
        names: &[String],
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Expired(self.not_after));
        }
        let serial: [u8; 16] = positive_serial();
        let not_before = back(now, BACKDATE);
        let not_after = whole_seconds(now.plus(life).min(self.not_after));
        let mut params = CertificateParams::default();
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = common_name(match identity {
            Identity::Agent { agent: name, .. } | Identity::Operator { name } => name.as_str(),
            Identity::Controller => "muster-controller",
        });
        params.subject_alt_names.push(SanType::URI(identity.uri(&self.trust_domain).try_into()?));
        for name in names {
            params.subject_alt_names.push(alternative_name(name)?);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let mut pem = params.signed_by(csr.public_key(), &self.issuer)?.pem();
        pem.push_str(&self.between);
        Ok(Issued {
            pem,
            serial: Serial::from_bytes(&serial),
            key_fingerprint: csr.key_fingerprint(),
            authority: self.fingerprint(),
            not_before,
            not_after,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {})", self.trust_domain, self.fingerprint())
    }
}

fn authority_params(trust_domain: &TrustDomain, key: &KeyPair, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.not_before = date(back(now, BACKDATE))?;
    params.not_after = date(now.plus(AUTHORITY_LIFE))?;
    params.serial_number = Some(SerialNumber::from_slice(&positive_serial()));
    // OpenSSL takes a leaf for self-signed where its CN is its issuer's: names have no space, so no leaf is called this.
    let short = key.fingerprint().to_string();
    params.distinguished_name = common_name(&format!("Muster CA {}", short.get(..12).unwrap_or_default()));
    params.subject_alt_names.push(SanType::URI(trust_domain.uri().try_into()?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn alternative_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || AuthorityError::BadName(name.chars().take(120).collect());
    rustls_pki_types::DnsName::try_from(name).map_err(|_| bad())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

/// 16 bytes, positive as ASN.1 reads them, with no leading zero.
fn positive_serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::rng().random();
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    serial
}

fn back(now: Timestamp, by: Duration) -> Timestamp {
    whole_seconds(Timestamp(now.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX))))
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(1_000_000) * 1_000_000)
}

fn date(at: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000_000)).map_err(|_| AuthorityError::Time(at))
}
