//! `restore`: the controller's store and CA from their backup, into empty places.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use muster_repository::sealed;
use muster_repository::shelf::{MOST_BYTES, Shelf};

use crate::config::{self, Flags};
use crate::own_backup::bring_back::bring_back;
use crate::own_backup::take::passphrase;

/// What `restore` takes.
#[derive(Debug, clap::Args)]
pub struct Restore {
    #[command(flatten)]
    flags: Flags,
    /// The backup: a file, or the name of one in the configured place.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The file of the passphrase that sealed it [default: the configured one].
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Restore {
    /// Brings it back.
    ///
    /// # Errors
    /// Where the passphrase is another, something is there already, or the backup is damaged or newer than this build.
    pub fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        let file = self.passphrase_file.or_else(|| config.backup.as_ref().map(|plan| plan.passphrase_file.clone()));
        let passphrase = passphrase(&file.context("no passphrase; HINT: give --passphrase-file")?)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start the runtime")?;
        let back = runtime.block_on(async {
            let bytes = if self.from.exists() {
                let size = std::fs::metadata(&self.from).context("look at the backup")?.len();
                ensure!(size <= MOST_BYTES, "{} has {size} bytes, more than {MOST_BYTES}", self.from.display());
                std::fs::read(&self.from).with_context(|| format!("read {}", self.from.display()))?
            } else {
                let place = config.backup.as_ref().map(|plan| &plan.location);
                let place = place.with_context(|| format!("there is no file {}", self.from.display()))?;
                let name = self.from.to_str().context("the name of the backup")?;
                Shelf::open(place)?.get(name).await.with_context(|| format!("read {name} in {place}"))?.to_vec()
            };
            let plain = tokio::task::spawn_blocking(move || sealed::open_with_passphrase(&passphrase, &bytes)).await.context("open")??;
            bring_back(&config, &plain).await
        })?;
        let at = jiff::Timestamp::from_microsecond(back.head.taken.0).map(|at| at.to_string()).unwrap_or_default();
        println!("brought back the controller of {at}, term {}: {} rows, and its CA", back.head.term, back.rows);
        println!("next: start it. It takes itself for behind its agents, asks them first, and repeats nothing; make sure that no other");
        println!("controller of this CA runs, and make join tokens anew");
        Ok(())
    }
}
