//! `init`: the state folder, the CA, the controller's certificate.

use anyhow::{Context, Result};
use muster_identity::authority::Authority;
use muster_service::{clock, files};

use crate::config::{self, Config, Flags};
use crate::own_certificate;

/// What `init` takes.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    flags: Flags,
}

impl Init {
    /// Makes them.
    ///
    /// # Errors
    /// Where there is a CA already, or a file cannot be written.
    pub fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        let authority = make(&config)?;
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
    let authority = Authority::create(&config.authority_folder(), &config.trust_domain, now).context("make the CA")?;
    own_certificate::renewed_where_due(config, &authority, now).context("make the controller's certificate")?;
    Ok(authority)
}
