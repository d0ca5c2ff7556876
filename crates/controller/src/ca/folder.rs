//! The folder of the CA: made, given, read, its key sealed.
//!
//! It signs nothing. What always holds: a key is written before the certificate that names it, so that a folder which a killed process left
//! half made is gone on with; nothing that is there is replaced but a key by itself under another passphrase.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use muster_common::time::Timestamp;
use muster_identity::authority::{Authority, AuthorityError, CERTIFICATE_FILE, KEY_FILE, MAX_BYTES};
use muster_identity::given;
use muster_identity::identity::TrustDomain;
use muster_identity::key::KeyPair;
use muster_repository::secret::Secret;
use muster_service::files;

use crate::ca::sealed_key;
use crate::config::Config;
use crate::own_backup::take::passphrase;

/// A CA's folder and where its passphrase is.
#[derive(Clone, Debug)]
pub struct CaFolder {
    folder: PathBuf,
    passphrase_file: Option<PathBuf>,
}

impl CaFolder {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { folder: config.authority_folder(), passphrase_file: config.ca_passphrase_file.clone() }
    }

    /// Whether there is a CA.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.folder.join(CERTIFICATE_FILE).exists()
    }

    fn passphrase(&self) -> Result<Option<Secret>> {
        self.passphrase_file.as_deref().map(passphrase).transpose().context("read the passphrase of the CA's key")
    }

    /// Makes a CA.
    ///
    /// # Errors
    /// Where there is one, or a file cannot be written.
    pub fn create(&self, trust_domain: &TrustDomain, now: Timestamp) -> Result<Authority> {
        let passphrase = self.begin()?;
        let key_path = self.folder.join(KEY_FILE);
        if !key_path.exists() {
            sealed_key::create(&key_path, &KeyPair::generate()?, passphrase.as_ref())?;
        }
        let key = sealed_key::read(&key_path, passphrase.as_ref())?;
        let pem = Authority::self_signed(trust_domain, &key, now)?;
        self.finish(&pem, key)
    }

    /// Takes a CA that was made elsewhere: its chain (itself first, the root last) and its key, both in PEM.
    ///
    /// # Errors
    /// Where there is one, it is not fit, or a file cannot be written.
    pub fn take_given(&self, chain: &Path, key: &Path, trust_domain: &TrustDomain, now: Timestamp) -> Result<Authority> {
        let passphrase = self.begin()?;
        let pem = files::read_text(chain, MAX_BYTES).context("--ca-certificate")?;
        given::judge(&pem, KeyPair::load(key).context("--ca-key")?, trust_domain, chain, now).context("the given CA")?;
        let key_path = self.folder.join(KEY_FILE);
        let given = KeyPair::load(key).context("--ca-key")?;
        if key_path.exists() {
            let there = sealed_key::read(&key_path, passphrase.as_ref())?;
            let path = key_path.display();
            ensure!(
                there.fingerprint() == given.fingerprint(),
                "{path} is another key, without a certificate: nothing was signed by it; HINT: move it away"
            );
        } else {
            sealed_key::create(&key_path, &given, passphrase.as_ref())?;
        }
        self.finish(&pem, given)
    }

    fn begin(&self) -> Result<Option<Secret>> {
        files::create_private_folder(&self.folder)?;
        if self.exists() {
            bail!(AuthorityError::Exists(self.folder.clone()));
        }
        self.passphrase()
    }

    fn finish(&self, pem: &str, key: KeyPair) -> Result<Authority> {
        muster_failpoint::hit("controller.ca.key_written")?;
        let authority = Authority::from_pem(pem, key, &self.folder)?;
        files::create_atomically(&self.folder.join(CERTIFICATE_FILE), pem.as_bytes(), 0o644)?;
        Ok(authority)
    }

    /// Reads the CA.
    ///
    /// # Errors
    /// Where it is missing or broken, and where its key is sealed and no or another passphrase is given.
    pub fn load(&self) -> Result<Authority> {
        let pem = files::read_text(&self.folder.join(CERTIFICATE_FILE), MAX_BYTES)?;
        let key = sealed_key::read(&self.folder.join(KEY_FILE), self.passphrase()?.as_ref())?;
        Ok(Authority::from_pem(&pem, key, &self.folder)?)
    }

    /// Seals the CA's key by the passphrase of `new`, whether it was sealed before or not. Gives the files.
    ///
    /// # Errors
    /// Where the present passphrase is another, or a file cannot be written: then it stays as it was.
    pub fn encrypt(&self, new: &Path) -> Result<Vec<PathBuf>> {
        let new = passphrase(new).context("--new-passphrase-file")?;
        let present = self.passphrase()?;
        let mut done = Vec::new();
        for path in self.keys() {
            // Told to go on after it was cut off between two keys, it finds the first one sealed by the new one.
            if !(sealed_key::is_sealed(&path)? && sealed_key::read(&path, Some(&new)).is_ok()) {
                sealed_key::reseal(&path, present.as_ref(), &new)?;
            }
            done.push(path);
        }
        ensure!(!done.is_empty(), "there is no CA in {}; HINT: `muster-controller init` makes one", self.folder.display());
        Ok(done)
    }

    fn keys(&self) -> Vec<PathBuf> {
        [KEY_FILE].iter().map(|name| self.folder.join(name)).filter(|path| path.exists()).collect()
    }
}
