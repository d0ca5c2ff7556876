//! The controller's own certificate: signed by its own CA, anew when a third of its life has passed or when its names changed.

use muster_common::time::Timestamp;
use muster_identity::authority::{Authority, AuthorityError, CONTROLLER_LIFE};
use muster_identity::credentials::{CredentialFolder, Credentials, CredentialsError};
use muster_identity::csr::{Csr, CsrError};
use muster_identity::key::KeyError;
use muster_service::files::{self, FileError};

use crate::config::Config;

/// Beside the certificate: the names that it was made for, a line each.
const NAMES_FILE: &str = "names";
const MOST_NAMES_BYTES: u64 = 64 << 10;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum OwnCertificateError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request for it.
    #[error(transparent)]
    Request(#[from] CsrError),
    /// The CA did not sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The files.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The list of names.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The certificate on disk, or a new one where there is none, a third of its life has passed, its names or the CA changed.
///
/// # Errors
/// See [`OwnCertificateError`].
pub fn renewed_where_due(config: &Config, authority: &Authority, now: Timestamp) -> Result<Credentials, OwnCertificateError> {
    let folder = CredentialFolder::at(config.credential_folder());
    let names = config.certificate_names();
    let wanted = names.join("\n");
    let names_file = folder.path().join(NAMES_FILE);
    if folder.is_enrolled() {
        let made_for = match files::read_text(&names_file, MOST_NAMES_BYTES) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => String::new(),
            Err(error) => return Err(error.into()),
        };
        let present = folder.load()?;
        if made_for == wanted && present.own().authority == Some(authority.fingerprint()) && !present.are_due(now) {
            return Ok(present);
        }
    }
    let csr = Csr::parse(&Csr::request(&folder.key()?)?)?;
    let issued = authority.issue_controller(&csr, &names, now, CONTROLLER_LIFE)?;
    let credentials = folder.store(authority.pem(), &issued.pem)?;
    files::write_atomically(&names_file, wanted.as_bytes(), 0o644)?;
    tracing::info!(serial = %issued.serial, names = names.join(", "), "the controller's certificate was issued");
    Ok(credentials)
}

/// A certificate of another CA for the same key and names, kept in memory alone: it is shown as long as a rotation is open.
///
/// # Errors
/// See [`OwnCertificateError`].
pub fn second(config: &Config, authority: &Authority, now: Timestamp) -> Result<Credentials, OwnCertificateError> {
    let key = CredentialFolder::at(config.credential_folder()).key()?;
    let csr = Csr::parse(&Csr::request(&key)?)?;
    let issued = authority.issue_controller(&csr, &config.certificate_names(), now, CONTROLLER_LIFE)?;
    Ok(Credentials::from_pem(authority.pem(), &issued.pem, key)?)
}
