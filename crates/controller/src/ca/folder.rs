//! The folder of the CA: made, given, read, its key sealed; a second CA beside it while the first is being replaced.
//!
//! It signs nothing. What always holds: a key is written before the certificate that names it, so that a folder which a killed process left
//! half made is gone on with; nothing that is there is replaced but a key by itself under another passphrase.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use muster_common::time::Timestamp;
use muster_identity::authority::{Authority, AuthorityError, CERTIFICATE_FILE, KEY_FILE, MAX_BYTES};
use muster_identity::fingerprint::Fingerprint;
use muster_identity::given;
use muster_identity::identity::TrustDomain;
use muster_identity::key::{KEY_MODE, KeyPair};
use muster_identity::trust::Trusted;
use muster_repository::secret::Secret;
use muster_service::files;

use crate::ca::sealed_key;
use crate::config::Config;
use crate::own_backup::take::passphrase;

/// The new CA's certificate and key, while the old one is not retired.
const NEXT_CERTIFICATE_FILE: &str = "next.pem";
const NEXT_KEY_FILE: &str = "next.key";

/// What a folder holds.
#[derive(Debug)]
pub struct Loaded {
    /// The CA.
    pub in_force: Authority,
    /// The new one and since when it is there, while a rotation is open.
    pub next: Option<(Authority, Timestamp)>,
}

impl Loaded {
    /// The CA that signs.
    #[must_use]
    pub fn signs(&self) -> &Authority {
        self.next.as_ref().map_or(&self.in_force, |(next, _)| next)
    }

    /// All that are trusted, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        format!("{}{}", self.in_force.pem(), self.next.as_ref().map_or("", |(next, _)| next.pem()))
    }
}

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

    /// Reads the CA, and the new one while a rotation is open. A retirement that was killed half way is gone on with.
    ///
    /// # Errors
    /// Where it is missing or broken, and where its key is sealed and no or another passphrase is given.
    pub fn load(&self) -> Result<Loaded> {
        let passphrase = self.passphrase()?;
        let key = sealed_key::read(&self.folder.join(KEY_FILE), passphrase.as_ref())?;
        if self.is_half_retired() {
            let pem = files::read_text(&self.folder.join(NEXT_CERTIFICATE_FILE), MAX_BYTES)?;
            // Its key lies in the place of the old one already.
            Authority::from_pem(&pem, sealed_key::read(&self.folder.join(KEY_FILE), passphrase.as_ref())?, &self.folder)?;
            self.put_next_certificate()?;
        }
        let pem = files::read_text(&self.folder.join(CERTIFICATE_FILE), MAX_BYTES)?;
        Ok(Loaded { in_force: Authority::from_pem(&pem, key, &self.folder)?, next: self.load_next()? })
    }

    /// Whether a new CA is there beside the old one.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.folder.join(NEXT_CERTIFICATE_FILE).exists()
    }

    fn is_half_retired(&self) -> bool {
        self.is_rotating() && !self.folder.join(NEXT_KEY_FILE).exists()
    }

    /// Reads the new CA, and since when it is there. `None`: no rotation is open.
    ///
    /// # Errors
    /// Where it is broken, or its key cannot be opened.
    pub fn load_next(&self) -> Result<Option<(Authority, Timestamp)>> {
        if !self.is_rotating() {
            return Ok(None);
        }
        let path = self.folder.join(NEXT_CERTIFICATE_FILE);
        let pem = files::read_text(&path, MAX_BYTES)?;
        let key = sealed_key::read(&self.folder.join(NEXT_KEY_FILE), self.passphrase()?.as_ref())?;
        let written = std::fs::metadata(&path).and_then(|facts| facts.modified()).context("look at the new CA")?;
        let since = written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Some((Authority::from_pem(&pem, key, &self.folder)?, Timestamp(0).plus(since))))
    }

    /// Makes a new CA beside the one that is there. A key that a killed process left is gone on with: nothing was signed with it.
    ///
    /// # Errors
    /// Where a rotation is open, or a file cannot be written.
    pub fn begin_rotation(&self, trust_domain: &TrustDomain, now: Timestamp) -> Result<Authority> {
        let passphrase = self.may_begin()?;
        let path = self.folder.join(NEXT_KEY_FILE);
        if !path.exists() {
            sealed_key::create(&path, &KeyPair::generate()?, passphrase.as_ref())?;
        }
        let key = sealed_key::read(&path, passphrase.as_ref())?;
        let pem = Authority::self_signed(trust_domain, &key, now)?;
        self.put_next(&pem, key)
    }

    /// The same with a CA that was made elsewhere.
    ///
    /// # Errors
    /// Where a rotation is open, the CA is not fit or is the present one, or a file cannot be written.
    pub fn begin_given_rotation(&self, chain: &Path, key: &Path, trust_domain: &TrustDomain, now: Timestamp) -> Result<Authority> {
        let passphrase = self.may_begin()?;
        let pem = files::read_text(chain, MAX_BYTES).context("--ca-certificate")?;
        let judged = given::judge(&pem, KeyPair::load(key).context("--ca-key")?, trust_domain, chain, now).context("the given CA")?;
        let present = files::read_text(&self.folder.join(CERTIFICATE_FILE), MAX_BYTES)?;
        let present = Trusted::from_pem(&present).context("read the present CA")?;
        ensure!(!present.contains(&judged.fingerprint()), "{} is the CA in force already", chain.display());
        // One that a killed process left signed nothing.
        let (path, given) = (self.folder.join(NEXT_KEY_FILE), KeyPair::load(key).context("--ca-key")?);
        files::write_atomically(&path, sealed_key::content(&given, passphrase.as_ref())?.as_bytes(), KEY_MODE)?;
        self.put_next(&pem, given)
    }

    fn may_begin(&self) -> Result<Option<Secret>> {
        ensure!(self.exists(), "there is no CA in {}; HINT: `muster-controller init` makes one", self.folder.display());
        ensure!(!self.is_rotating(), "a rotation is open already; HINT: `muster ca status`");
        self.passphrase()
    }

    fn put_next(&self, pem: &str, key: KeyPair) -> Result<Authority> {
        muster_failpoint::hit("controller.ca.next_key_written")?;
        let authority = Authority::from_pem(pem, key, &self.folder)?;
        files::create_atomically(&self.folder.join(NEXT_CERTIFICATE_FILE), pem.as_bytes(), 0o644)?;
        muster_failpoint::hit("controller.ca.next_written")?;
        Ok(authority)
    }

    /// Puts the new CA in the place of the old one, whose certificate is kept and whose key is gone.
    ///
    /// # Errors
    /// Where a file cannot be moved: then told again, or at the next start, it is gone on with.
    pub fn finish_rotation(&self, old: &Fingerprint) -> Result<()> {
        let keep = self.folder.join(format!("retired-{}.pem", old.to_string().get(..12).unwrap_or_default()));
        let pem = files::read_text(&self.folder.join(CERTIFICATE_FILE), MAX_BYTES)?;
        files::write_atomically(&keep, pem.as_bytes(), 0o644)?;
        if !self.is_half_retired() {
            std::fs::rename(self.folder.join(NEXT_KEY_FILE), self.folder.join(KEY_FILE)).context("put the new CA's key in its place")?;
            files::sync_folder(&self.folder)?;
        }
        muster_failpoint::hit("controller.ca.half_retired")?;
        self.put_next_certificate()
    }

    fn put_next_certificate(&self) -> Result<()> {
        std::fs::rename(self.folder.join(NEXT_CERTIFICATE_FILE), self.folder.join(CERTIFICATE_FILE))
            .context("put the new CA's certificate in its place")?;
        Ok(files::sync_folder(&self.folder)?)
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
        [KEY_FILE, NEXT_KEY_FILE].iter().map(|name| self.folder.join(name)).filter(|path| path.exists()).collect()
    }
}
