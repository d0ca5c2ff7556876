//! A clock of one process that can be stepped while it runs: Debian's libfaketime, by a file that holds the offset. What only grows (timers,
//! time-outs) is not touched, as on a machine whose clock is set.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::account::RunAs;
use crate::world::World;

/// Where Debian puts it, below the machine's architecture.
const FOLDER: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir(FOLDER).context("list libraries")?.flatten().map(|entry| entry.path().join(LIBRARY));
    let mut found = folders.filter(|path| path.exists());
    found.next().with_context(|| format!("{LIBRARY} is missing below {FOLDER}: apt-get install libfaketime"))
}

/// The wall clock of whoever is started with [`SteppedClock::environment`].
#[derive(Clone, Debug)]
pub struct SteppedClock {
    file: PathBuf,
    library: PathBuf,
}

impl SteppedClock {
    /// A clock that is right.
    ///
    /// # Errors
    /// Where libfaketime is not installed (`tools/setup` does it) or the file cannot be written.
    pub fn new(world: &World, name: &str) -> Result<Self> {
        Ok(Self { file: world.file(&format!("{name}.clock"), "+0\n", RunAs::Caller, 0o644)?, library: library()? })
    }

    /// What a process has to be started with.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let (file, library) = (self.file.display().to_string(), self.library.display().to_string());
        [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Sets it so many seconds ahead of the machine's; negative: behind.
    ///
    /// # Errors
    /// Where the file cannot be replaced.
    pub fn step(&self, seconds: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).context("write a clock")?;
        std::fs::rename(&new, &self.file).context("step a clock")
    }
}
