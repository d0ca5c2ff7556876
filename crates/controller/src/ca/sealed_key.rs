//! The file of a CA's key: PEM as it is, or sealed by a passphrase and armoured, so that both are text.
//!
//! It knows no folder. What always holds: a file is replaced whole; a file that others may read is refused; neither the key nor the
//! passphrase reaches an error.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use muster_identity::key::{KEY_MODE, KeyPair};
use muster_repository::keys::KdfCost;
use muster_repository::sealed::{open_with_passphrase, seal_with_passphrase};
use muster_repository::secret::Secret;
use muster_service::files;

const BEGIN: &str = "-----BEGIN MUSTER SEALED KEY-----";
const END: &str = "-----END MUSTER SEALED KEY-----";
/// The longest key file, in bytes.
const MAX_BYTES: u64 = 16 << 10;

/// What is told where a sealed key meets no passphrase.
pub const NO_PASSPHRASE: &str = "the CA's key is sealed by a passphrase, and none is given; HINT: name its file as caPassphraseFile in the \
    configuration or as --ca-passphrase-file, or hand it over as the systemd credential muster-ca-passphrase";

/// Whether the file's key is sealed.
///
/// # Errors
/// Where it cannot be read.
pub fn is_sealed(path: &Path) -> Result<bool> {
    Ok(files::read_text(path, MAX_BYTES)?.starts_with(BEGIN))
}

/// Reads a key, sealed or not.
///
/// # Errors
/// Where it is sealed and `passphrase` is none or another, where others may read it, and where it is broken.
pub fn read(path: &Path, passphrase: Option<&Secret>) -> Result<KeyPair> {
    let text = files::read_text(path, MAX_BYTES)?;
    let mode = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "key file {} has mode {mode:03o}: others may read it; HINT: chmod 600 {}", path.display(), path.display());
    if !text.starts_with(BEGIN) {
        return Ok(KeyPair::from_pem(&text, &path.display().to_string())?);
    }
    let Some(passphrase) = passphrase else { bail!(NO_PASSPHRASE) };
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let sealed = BASE64.decode(body).with_context(|| format!("{} is damaged; HINT: bring it back from a backup", path.display()))?;
    let plain = open_with_passphrase(passphrase, &sealed)
        .with_context(|| format!("open {}; HINT: is it the passphrase that `init` or `ca encrypt` sealed it with last?", path.display()))?;
    let pem = std::str::from_utf8(&plain).map_err(|_| anyhow::anyhow!("{} holds no key in PEM", path.display()))?;
    Ok(KeyPair::from_pem(pem, &path.display().to_string())?)
}

/// What a file holds with this key: sealed where there is a passphrase.
///
/// # Errors
/// Where the system gives no randomness.
pub fn content(key: &KeyPair, passphrase: Option<&Secret>) -> Result<String> {
    let Some(passphrase) = passphrase else { return Ok(key.to_pem()) };
    let sealed = seal_with_passphrase(passphrase, KdfCost::STANDARD, key.to_pem().into_bytes()).context("seal the CA's key")?;
    let mut text = format!("{BEGIN}\n");
    for line in BASE64.encode(sealed).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    Ok(text)
}

/// Writes a new key's file, durably; one that is there is never replaced.
///
/// # Errors
/// Where it is there or cannot be written.
pub fn create(path: &Path, key: &KeyPair, passphrase: Option<&Secret>) -> Result<()> {
    Ok(files::create_atomically(path, content(key, passphrase)?.as_bytes(), KEY_MODE)?)
}

/// Replaces a key's file by the same key sealed by another passphrase: at every moment there is one of the two, whole.
///
/// # Errors
/// Where it cannot be opened, or not be written; then the old one stays.
pub fn reseal(path: &Path, present: Option<&Secret>, new: &Secret) -> Result<()> {
    let key = read(path, present)?;
    let text = content(&key, Some(new))?;
    muster_failpoint::hit("controller.ca.reseal")?;
    Ok(files::write_atomically(path, text.as_bytes(), KEY_MODE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_is_opened_by_its_passphrase_and_resealed_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        let (first, second) = (Secret::new("correct horse"), Secret::new("another horse"));
        let key = KeyPair::generate().unwrap();
        create(&path, &key, None).unwrap();
        assert!(!is_sealed(&path).unwrap());
        reseal(&path, None, &first).unwrap();
        assert!(is_sealed(&path).unwrap());
        assert!(!fs::read_to_string(&path).unwrap().contains("PRIVATE"));
        assert_eq!(read(&path, Some(&first)).unwrap().fingerprint(), key.fingerprint());
        assert!(read(&path, None).unwrap_err().to_string().contains("HINT"));
        assert!(format!("{:#}", read(&path, Some(&second)).unwrap_err()).contains("HINT"));
        assert!(reseal(&path, Some(&second), &first).is_err(), "the old passphrase is needed");
        reseal(&path, Some(&first), &second).unwrap();
        assert_eq!(read(&path, Some(&second)).unwrap().fingerprint(), key.fingerprint());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path, Some(&second)).unwrap_err().to_string().contains("chmod 600"));
    }
}
