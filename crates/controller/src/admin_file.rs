//! How `admin-cert` tells a controller, which may be running and has the store locked, of an operator that it made: a file in the state
//! folder, which the controller takes in at its start or within two seconds, and removes.
//!
//! It holds no secret: the certificate's number and key's fingerprint. Whoever can write it could sign certificates himself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_identity::caller::Role;
use muster_service::files;
use serde::{Deserialize, Serialize};

/// The longest such file, in bytes.
const MOST_BYTES: u64 = 64 << 10;
/// The format's version.
const VERSION: u32 = 1;

/// One operator that was made on the controller's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminFile {
    /// The format: 1.
    pub version: u32,
    /// The operator.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Its certificate's number.
    pub serial: String,
    /// Of its key.
    pub key_fingerprint: String,
    /// Of the CA that signed it. Empty: made by a build that did not tell.
    #[serde(default)]
    pub authority: String,
    /// When the certificate ends.
    pub until: Timestamp,
}

impl AdminFile {
    /// A file of this build's format.
    #[must_use]
    pub fn new(name: Name, role: Role, issued: &muster_identity::authority::Issued) -> Self {
        Self {
            version: VERSION,
            name,
            role,
            serial: issued.serial.to_string(),
            key_fingerprint: issued.key_fingerprint.to_string(),
            authority: issued.authority.to_string(),
            until: issued.not_after,
        }
    }

    /// Leaves it for the controller.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn leave(&self, state_directory: &Path) -> Result<()> {
        let folder = folder(state_directory);
        files::create_private_folder(&folder)?;
        let text = serde_json::to_vec(self).context("write as JSON")?;
        Ok(files::write_atomically(&folder.join(format!("{}.json", self.serial)), &text, 0o600)?)
    }

    /// The files that wait to be taken in.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn waiting(state_directory: &Path) -> Result<Vec<PathBuf>> {
        let folder = folder(state_directory);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|end| end == "json") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Reads one.
    ///
    /// # Errors
    /// Where it cannot be read or is of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let file: Self = serde_json::from_str(&files::read_text(path, MOST_BYTES)?).context("read as JSON")?;
        anyhow::ensure!(file.version == VERSION, "version {}; this build reads {VERSION}", file.version);
        Ok(file)
    }
}

fn folder(state_directory: &Path) -> PathBuf {
    state_directory.join("admins")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_left_is_found_and_read_back() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(AdminFile::waiting(state.path()).unwrap(), Vec::<PathBuf>::new());
        let file = AdminFile {
            version: VERSION,
            name: "ada".parse().unwrap(),
            role: Role::Admin,
            serial: "01".into(),
            key_fingerprint: "02".into(),
            authority: "03".into(),
            until: Timestamp(3),
        };
        file.leave(state.path()).unwrap();
        let waiting = AdminFile::waiting(state.path()).unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(AdminFile::read(&waiting[0]).unwrap(), file);
        std::fs::write(&waiting[0], b"{}").unwrap();
        assert!(AdminFile::read(&waiting[0]).is_err());
    }
}
