//! `ca`: what is done to the CA's files on the controller's machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use muster_service::clock;

use crate::ca::folder::CaFolder;
use crate::config::{self, Flags};

/// What `ca` takes.
#[derive(Debug, clap::Args)]
pub struct Ca {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Seals the CA's key by a passphrase, or by another one, in place. The controller may be running; a later start needs the new one.
    ///
    /// Example: muster-controller ca encrypt --config /etc/muster/controller.yaml --new-passphrase-file /etc/muster/ca.passphrase
    Encrypt(Encrypt),
    /// Begins to replace the CA by one that was made elsewhere. A running controller takes it in within two seconds. For one that the controller
    /// makes itself: `muster ca rotate`.
    ///
    /// Example: muster-controller ca rotate --config /etc/muster/controller.yaml --ca-certificate chain.pem --ca-key ca.key
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    flags: Flags,
    /// The new CA's certificate, those above it, the root last, in PEM.
    #[arg(long, value_name = "FILE")]
    ca_certificate: PathBuf,
    /// Its key: P-256, PKCS#8 in PEM, mode 600.
    #[arg(long, value_name = "FILE")]
    ca_key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Encrypt {
    #[command(flatten)]
    flags: Flags,
    /// The file whose first line is the new passphrase, 12 bytes or more. The configured one opens the key as it is now.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: PathBuf,
}

impl Ca {
    /// Does it.
    ///
    /// # Errors
    /// Where there is no CA, the present passphrase is another, or a file cannot be written.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Encrypt(asked) => asked.run(),
            Verb::Rotate(asked) => asked.run(),
        }
    }
}

impl Rotate {
    fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        let folder = CaFolder::of(&config);
        let domain = folder.load().context("load the CA")?.in_force.trust_domain().clone();
        let new = folder.begin_given_rotation(&self.ca_certificate, &self.ca_key, &domain, clock::now())?;
        println!("the new CA {} is beside the old one; a running controller trusts it and signs by it within 2 seconds", new.fingerprint());
        println!("next: muster ca status");
        Ok(())
    }
}

impl Encrypt {
    fn run(self) -> Result<()> {
        let asked = self;
        let config = config::load(&asked.flags)?;
        for path in CaFolder::of(&config).encrypt(&asked.new_passphrase_file)? {
            println!("sealed {}", path.display());
        }
        println!(
            "next: name the new file as caPassphraseFile in the configuration, or hand it over as a systemd credential, before the next start"
        );
        println!("what the key's file held before may still be found on the disk, and in older backups of the controller");
        Ok(())
    }
}
