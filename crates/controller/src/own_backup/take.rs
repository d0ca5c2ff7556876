//! Takes a backup of the controller: one moment of the store and the CA's files, sealed by a passphrase, put in its place and read back.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use muster_common::time::Timestamp;
use muster_repository::keys::KdfCost;
use muster_repository::location::Location;
use muster_repository::sealed;
use muster_repository::secret::Secret;
use muster_repository::shelf::{MOST_BYTES, Shelf};
use muster_service::files;

use crate::own_backup::content::{Head, KeptFile, Writer};
use crate::store::{Connection, meta, schema, tables};

/// The longest file of the CA, in bytes.
const MOST_FILE: u64 = 64 << 10;
/// The longest passphrase file, in bytes.
const MOST_PASSPHRASE: u64 = 4 << 10;
/// The shortest passphrase, in bytes.
const LEAST_PASSPHRASE: usize = 12;

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The file's name.
    pub name: String,
    /// Its bytes, sealed.
    pub bytes: u64,
    /// When.
    pub at: Timestamp,
}

/// The passphrase of a file: its first line.
///
/// # Errors
/// Where it cannot be read or is too short.
pub fn passphrase(file: &Path) -> Result<Secret> {
    let text = files::read_text(file, MOST_PASSPHRASE)?;
    let line = text.lines().next().unwrap_or("");
    ensure!(line.len() >= LEAST_PASSPHRASE, "{}: the passphrase has fewer than {LEAST_PASSPHRASE} bytes", file.display());
    Ok(Secret::new(line))
}

/// Takes one and puts it in its place.
///
/// # Errors
/// Where the store or the CA cannot be read, or the place refuses.
pub async fn take(
    mut reading: Connection,
    authority_folder: &Path,
    location: &Location,
    passphrase: Secret,
    cost: KdfCost,
    now: Timestamp,
) -> Result<Taken> {
    let (head, plain) = content(&mut reading, authority_folder, now).await?;
    drop(reading);
    let name = name_of(&head)?;
    let sealed = tokio::task::spawn_blocking(move || sealed::seal_with_passphrase(&passphrase, cost, plain)).await.context("seal")??;
    let bytes = sealed.len() as u64;
    ensure!(bytes <= MOST_BYTES, "the backup has {bytes} bytes, more than {MOST_BYTES}; HINT: keep less history (docs: bounds)");
    Shelf::open(location)?.put(&name, sealed).await.with_context(|| format!("write the backup to {location}"))?;
    Ok(Taken { name, bytes, at: now })
}

async fn content(reading: &mut Connection, authority_folder: &Path, now: Timestamp) -> Result<(Head, Vec<u8>)> {
    let schema = schema::version(reading).await?;
    let (store_id, term) = meta::identity(reading).await?;
    let head = Head::new(now, store_id, term.0, schema);
    let mut writer = Writer::begin(&head)?;
    for file in authority_files(authority_folder)? {
        writer.file(file)?;
    }
    for table in tables::all(reading).await? {
        writer.table(&table)?;
        let mut read = 0;
        loop {
            let rows = tables::page(reading, &table, read).await?;
            if rows.is_empty() {
                break;
            }
            read += rows.len() as u64;
            rows.iter().try_for_each(|row| writer.row(row))?;
        }
        writer.end_table()?;
    }
    Ok((head, writer.end()?))
}

/// The CA's files, by name.
fn authority_files(folder: &Path) -> Result<Vec<KeptFile>> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list the CA's folder {}", folder.display()))? {
        let entry = entry.context("list the CA's folder")?;
        let (name, facts) = (entry.file_name(), entry.metadata().context("look at a file of the CA")?);
        let Some(name) = name.to_str().filter(|name| facts.is_file() && !name.starts_with('.')) else { continue };
        let text = files::read_text(&entry.path(), MOST_FILE)?;
        kept.push(KeptFile::new(name.to_owned(), facts.permissions().mode() & 0o777, text.as_bytes()));
    }
    ensure!(!kept.is_empty(), "the CA's folder {} is empty", folder.display());
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kept)
}

/// `controller-<store>-<instant>-term<term>.sealed`: by name they stand in the order of time.
fn name_of(head: &Head) -> Result<String> {
    let at = jiff::Timestamp::from_microsecond(head.taken.0).context("the clock")?;
    let store: String = head.store_id.chars().take(8).collect();
    Ok(format!("controller-{store}-{}-term{}.sealed", at.strftime("%Y%m%dT%H%M%S%6fZ"), head.term))
}
