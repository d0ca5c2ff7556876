//! The control file of one instance: `keeper/<component>.<instance>` in the state folder, never in the data directory.
//!
//! ```text
//! MUSTER-CONTROL 1 crc32c:1a2b3c4d 812\n{"control":{…},"upstream":{…}}
//! ```
//!
//! It is replaced whole: temporary file, fsync, rename, fsync of the folder. What always holds: a damaged one is never taken for none.

use std::path::{Path, PathBuf};

use muster_common::name::InstanceName;
use muster_failover::control::Control;
use muster_failover::directive::Upstream;
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError, Format};

const FORMAT: Format = Format { magic: "MUSTER-CONTROL", version: 1 };

/// What the control file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Role, reign, pledges: what the pure core decides by.
    pub control: Control,
    /// Whom a follower follows.
    pub upstream: Option<Upstream>,
}

/// Where it lies.
#[must_use]
pub fn path(folder: &Path, instance: &InstanceName) -> PathBuf {
    folder.join(format!("{}.{}", instance.component, instance.instance))
}

/// Reads it; `None` where there is none. Blocks.
///
/// # Errors
/// Where it cannot be read, is damaged, or a newer agent wrote it.
pub fn read(path: &Path) -> Result<Option<Record>, DurableError> {
    durable::read_json(path, FORMAT)
}

/// Makes it durable. Blocks.
///
/// # Errors
/// Where the disk refuses: the one before stands.
pub fn write(path: &Path, record: &Record) -> Result<(), DurableError> {
    durable::write_json(path, FORMAT, record)
}

/// Sets a damaged one aside, for whoever looks into it later. Blocks.
///
/// # Errors
/// Where the disk refuses.
pub fn set_aside(path: &Path) -> Result<(), DurableError> {
    let failed = |source| DurableError::Disk { path: path.to_owned(), source };
    match std::fs::rename(path, path.with_extension("damaged")) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
