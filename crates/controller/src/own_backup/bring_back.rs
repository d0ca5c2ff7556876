//! Brings a controller back from its backup: the CA's files, then the store, both into empty places.
//!
//! What always holds: nothing that is there is replaced; the store is committed as a whole; it says that it ran elsewhere, so that the
//! controller that starts on it takes itself for behind and asks the agents before it goes on with anything. Broken off, it can be repeated.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use muster_service::files;

use crate::audit::watcher;
use crate::config::Config;
use crate::own_backup::content::{Head, KeptFile, Piece, Reader};
use crate::store::error::StoreError;
use crate::store::place::Place;
use crate::store::refill::Refill;

/// What was brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroughtBack {
    /// What the backup said of itself.
    pub head: Head,
    /// The rows of all tables.
    pub rows: u64,
}

/// Brings it back from the opened bytes.
///
/// # Errors
/// Where something is there already, the backup is newer than this build, or it is damaged.
pub async fn bring_back(config: &Config, plain: &[u8]) -> Result<BroughtBack> {
    let place = config.store_place()?;
    let (mut reader, head) = Reader::begin(plain)?;
    files::create_private_folder(&config.state_directory)?;
    let told = |error: StoreError| anyhow::anyhow!(error.fault());
    let refill = begin(&place, &head).await.map_err(told);
    let mut refill = refill?;
    let mut rows = 0;
    loop {
        match reader.piece()? {
            Piece::Head(_) => anyhow::bail!("the backup has two heads"),
            Piece::File(file) => put_file(&config.authority_folder(), &file)?,
            Piece::Table(table) => refill.table(table).await.map_err(told)?,
            Piece::Row(row) => {
                rows += 1;
                refill.row(row).await.map_err(told)?;
            }
            Piece::End => break,
        }
    }
    let at = jiff::Timestamp::from_microsecond(head.taken.0).map(|at| at.to_string()).unwrap_or_default();
    refill.commit(&format!("a backup of {at}")).await.map_err(told)?;
    watcher::put_aside(&config.state_directory)?;
    Ok(BroughtBack { head, rows })
}

async fn begin(place: &Place, head: &Head) -> Result<Refill, StoreError> {
    Refill::begin(place, head.schema).await
}

/// A file of the CA. One that is there with the same bytes was put by an attempt that was broken off.
fn put_file(folder: &Path, file: &KeptFile) -> Result<()> {
    let plain = !file.name.is_empty() && !file.name.contains('/') && !file.name.starts_with('.');
    ensure!(plain, "the backup names the file {:?}", file.name);
    files::create_private_folder(folder)?;
    let (path, bytes) = (folder.join(&file.name), file.bytes()?);
    match std::fs::read(&path) {
        Ok(there) if there == bytes => Ok(()),
        Ok(_) => {
            anyhow::bail!("{} is there already and is another: nothing was replaced; HINT: name an empty --state-directory", path.display())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(files::create_atomically(&path, &bytes, file.mode & 0o700 | 0o600)?)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
