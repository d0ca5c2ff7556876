//! `ca`: what is done to the CA's files on the controller's machine.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

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
        let Verb::Encrypt(asked) = self.verb;
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
