//! `backup`: the controller's store and CA, sealed, into the configured place; the controller may be running.

use anyhow::{Context, Result};

use crate::config::{self, Flags};
use crate::own_backup::keeper::Keeper;
use crate::store::Snapshot;

/// What `backup` takes.
#[derive(Debug, clap::Args)]
pub struct Backup {
    #[command(flatten)]
    flags: Flags,
}

impl Backup {
    /// Takes one.
    ///
    /// # Errors
    /// Where the configuration says no place, or the store, the CA or the place cannot be used.
    pub fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        let keeper = Keeper::of(&config);
        let plan =
            keeper.plan().context("the configuration says no place for backups; HINT: add `backup: {folder: …, passphraseFile: …}`")?;
        let place = plan.location.to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start the runtime")?;
        let taken = runtime.block_on(async {
            let snapshot = Snapshot::open(&config.store_place()?).await.map_err(|error| anyhow::anyhow!(error.fault()))?;
            let reading = snapshot.read().await.map_err(|error| anyhow::anyhow!(error.fault()))?;
            keeper.take(reading).await
        })?;
        println!("backed up to {place}: {} ({} bytes), read back", taken.name, taken.bytes);
        println!("it opens with the passphrase and nothing else: keep that where this machine's loss does not take it");
        Ok(())
    }
}
