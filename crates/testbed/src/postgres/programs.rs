//! Which PostgreSQL is run: Debian's 15, or a newer one from npm where npm is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::account::RunAs;
use crate::world::World;

/// Where Debian puts the programs of version 15, pgbench and `pg_amcheck` among them.
pub const DEBIAN: &str = "/usr/lib/postgresql/15/bin";

/// The programs of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    major: u32,
    folder: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self { major: 15, folder: PathBuf::from(DEBIAN) }
    }
}

impl Programs {
    /// Version 16, 17 or 18. Nothing where this machine has no npm, which the caller has to say aloud.
    ///
    /// # Errors
    /// Where npm is there and the download fails.
    pub async fn from_npm(world: &World, major: u32) -> Result<Option<Self>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/postgres");
        let mut launch = world.launch("npm", script, RunAs::Caller);
        launch.arguments = vec![major.to_string()];
        // npm may be anywhere that the caller knows.
        launch.environment.extend(std::env::var("PATH").map(|path| ("PATH".to_owned(), path)));
        let output = launch.run(Duration::from_secs(300)).await?;
        if output.status.code() == Some(3) {
            return Ok(None);
        }
        let folder = output.success().with_context(|| format!("bring PostgreSQL {major}"))?;
        Ok(Some(Self { major, folder: PathBuf::from(folder.trim()) }))
    }

    /// The same version where one program was not installed: links to all others.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn without(&self, world: &World, missing: &str) -> Result<Self> {
        let folder = world.folder(&format!("programs-without-{missing}"), RunAs::Caller)?;
        for entry in std::fs::read_dir(&self.folder).with_context(|| format!("list {}", self.folder.display()))? {
            let entry = entry?;
            if entry.file_name() != missing {
                std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).context("link a program")?;
            }
        }
        Ok(Self { major: self.major, folder })
    }

    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of them.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn program(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        if !path.is_file() {
            bail!("{} is not there: install postgresql-15 (as root: make setup)", path.display());
        }
        Ok(path.display().to_string())
    }
}
