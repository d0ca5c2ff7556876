//! `init`: the state folder, the CA, the controller's certificate.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_identity::authority::Authority;
use muster_service::{clock, files};

use crate::ca::folder::CaFolder;
use crate::config::{self, Config, Flags};
use crate::own_certificate;

/// What `init` takes.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    flags: Flags,
    /// A CA that was made elsewhere for this controller: its certificate, those above it, the root last, in PEM. It names
    /// URI:spiffe://TRUST-DOMAIN. Without it one is made.
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_certificate: Option<PathBuf>,
    /// That CA's key: P-256, PKCS#8 in PEM, mode 600. It is copied (and sealed where there is a passphrase): remove the original.
    #[arg(long, value_name = "FILE", requires = "ca_certificate")]
    ca_key: Option<PathBuf>,
}

impl Init {
    /// Makes them.
    ///
    /// # Errors
    /// Where there is a CA already, or a file cannot be written.
    pub fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        let authority = match (&self.ca_certificate, &self.ca_key) {
            (Some(chain), Some(key)) => take_given(&config, chain, key)?,
            (None, _) | (_, None) => make(&config)?,
        };
        println!("made {} with a CA of fingerprint {}", config.state_directory.display(), authority.fingerprint());
        let with = self.flags.config.map_or_else(
            || format!("--state-directory {}", config.state_directory.display()),
            |file| format!("--config {}", file.display()),
        );
        println!("next: muster-controller admin-cert {with} --name YOU --out you.yaml; muster-controller run {with}");
        Ok(())
    }
}

/// Makes the state folder, the CA and the controller's certificate.
///
/// # Errors
/// Where there is a CA already, or a file cannot be written.
pub fn make(config: &Config) -> Result<Authority> {
    files::create_private_folder(&config.state_directory)?;
    let now = clock::now();
    let authority = CaFolder::of(config).create(&config.trust_domain, now).context("make the CA")?;
    own_certificate::renewed_where_due(config, &authority, now).context("make the controller's certificate")?;
    Ok(authority)
}

/// Makes the state folder and the controller's certificate under a CA that was made elsewhere.
///
/// # Errors
/// Where there is a CA already, the given one is not fit, or a file cannot be written.
pub fn take_given(config: &Config, chain: &Path, key: &Path) -> Result<Authority> {
    files::create_private_folder(&config.state_directory)?;
    let now = clock::now();
    let authority = CaFolder::of(config).take_given(chain, key, &config.trust_domain, now)?;
    own_certificate::renewed_where_due(config, &authority, now).context("make the controller's certificate")?;
    Ok(authority)
}
