//! What can be typed: a file a command.

pub mod admin_cert;
pub mod backup;
pub mod ca;
pub mod dev;
pub mod init;
pub mod operator_file;
pub mod restore;
pub mod run;
pub mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use muster_service::manual;

/// The exit code of a command that failed.
const FAILED: u8 = 1;
/// The exit code of a configuration that cannot be served with.
const REFUSED_CONFIGURATION: u8 = 2;

/// Muster's controller: journals, decides, commands agents, answers operators.
#[derive(Debug, Parser)]
#[command(name = "muster-controller", disable_version_flag = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the state folder, the CA and the controller's certificate.
    ///
    /// Example: muster-controller init --config /etc/muster/controller.yaml
    Init(init::Init),
    /// Serves.
    ///
    /// Example: muster-controller run --config /etc/muster/controller.yaml
    Run(run::Run),
    /// Makes everything that is missing, an admin and the context of `muster` too, and serves: for a first look.
    ///
    /// Example: muster-controller dev --state-directory /tmp/muster
    Dev(dev::Dev),
    /// Makes an admin's certificate on this machine: the first one, or the way back in. The controller may be running.
    ///
    /// Example: muster-controller admin-cert --config /etc/muster/controller.yaml --name ada --out ada.yaml
    AdminCert(admin_cert::AdminCert),
    /// Backs the controller's store and CA up, sealed by a passphrase, into the configured place. The controller may be running.
    ///
    /// Example: muster-controller backup --config /etc/muster/controller.yaml
    Backup(backup::Backup),
    /// Brings a controller back from its backup, into an empty state folder and an empty store.
    ///
    /// Example: muster-controller restore --config /etc/muster/controller.yaml --from controller-….sealed
    Restore(restore::Restore),
    /// Looks after the CA's files.
    Ca(ca::Ca),
    /// Moves the store while no controller runs on it.
    Store(store::Store),
    /// Prints the version.
    Version,
    /// Writes the manual pages, for packages.
    #[command(hide = true)]
    Manual {
        /// The folder, which must exist.
        folder: PathBuf,
    },
}

/// Runs what was typed.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Init(init) => init.run(),
        Command::Run(run) => run.run(),
        Command::Dev(dev) => dev.run(),
        Command::AdminCert(admin_cert) => admin_cert.run(),
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run(),
        Command::Ca(ca) => ca.run(),
        Command::Store(store) => store.run(),
        Command::Version => {
            println!("muster-controller {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Manual { folder } => manual::write(Cli::command(), "8", &folder).map(|_| ()).map_err(anyhow::Error::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-controller: {error:#}");
            let refused = error.downcast_ref::<crate::config::Refused>().is_some();
            ExitCode::from(if refused { REFUSED_CONFIGURATION } else { FAILED })
        }
    }
}
