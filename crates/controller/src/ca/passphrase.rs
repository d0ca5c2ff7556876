//! Where the passphrase of the CA's key comes from: a file that the configuration or a flag names, or systemd's credential.

use std::ffi::OsString;
use std::path::PathBuf;

/// The credential's name: `LoadCredentialEncrypted=muster-ca-passphrase:…` in the unit.
pub const CREDENTIAL: &str = "muster-ca-passphrase";

/// The file, as the environment and what was configured say. `None`: there is no passphrase.
#[must_use]
pub fn file(configured: Option<PathBuf>, credentials: Option<OsString>) -> Option<PathBuf> {
    configured.or_else(|| credentials.map(|folder| PathBuf::from(folder).join(CREDENTIAL)).filter(|file| file.exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_wins_and_a_credential_counts_where_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = || Some(folder.path().as_os_str().to_owned());
        assert_eq!(file(None, None), None);
        assert_eq!(file(None, credentials()), None);
        std::fs::write(folder.path().join(CREDENTIAL), "x").unwrap();
        assert_eq!(file(None, credentials()), Some(folder.path().join(CREDENTIAL)));
        assert_eq!(file(Some("/p".into()), credentials()), Some("/p".into()));
    }
}
