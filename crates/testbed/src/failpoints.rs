//! Where a process is to die, fail or wait. The places are named in the code of the programs; they exist in debug builds only.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::eventually::until;
use crate::process::Launch;
use crate::world::World;

/// The setting of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failpoints {
    parts: Vec<String>,
}

impl Failpoints {
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// `kill -9` to itself the first time that it passes `place`.
    #[must_use]
    pub fn kill_at(place: &str) -> Self {
        Self::none().and(format!("{place}=kill@1"))
    }

    /// Adds one, as `MUSTER_FAILPOINTS` takes it.
    #[must_use]
    pub fn and(mut self, part: String) -> Self {
        self.parts.push(part);
        self
    }

    pub(crate) fn add_to(&self, launch: &mut Launch) {
        if !self.parts.is_empty() {
            launch.environment.insert("MUSTER_FAILPOINTS".to_owned(), self.parts.join(";"));
        }
    }
}

/// A place where a process waits until it is let go.
#[derive(Clone, Debug)]
pub struct Hold {
    place: String,
    path: PathBuf,
}

impl Hold {
    /// Holds whoever passes `place` for the first time.
    ///
    /// # Errors
    /// Where the folder of the signs cannot be made.
    pub fn at(world: &World, place: &str) -> Result<Self> {
        let folder = world.folder("hold", crate::account::RunAs::Caller)?;
        // The process may run as another user, and makes its sign itself.
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).context("open the folder of holds")?;
        Ok(Self { place: place.to_owned(), path: folder.join(format!("{place}-{}", rand::random::<u32>())) })
    }

    #[must_use]
    pub fn failpoints(&self) -> Failpoints {
        Failpoints::none().and(format!("{}=hold:{}@1", self.place, self.path.display()))
    }

    /// Waits until the process stands there.
    ///
    /// # Errors
    /// Where it does not come within `bound`.
    pub async fn reached(&self, bound: Duration) -> Result<()> {
        let sign = PathBuf::from(format!("{}.hit", self.path.display()));
        until(&format!("a process to pass {}", self.place), bound, async || Ok(sign.exists())).await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Where the sign cannot be made.
    pub fn release(&self) -> Result<()> {
        let sign = format!("{}.go", self.path.display());
        std::fs::write(&sign, "").with_context(|| format!("write {sign}"))
    }
}
