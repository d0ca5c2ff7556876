//! A world: a folder for everything that one scenario needs, and the end of all of it when the scenario is over.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::account::{self, RunAs};
use crate::janitor::Janitor;
use crate::network::Place;
use crate::process::{Launch, Output, Process};

/// How many last lines of each log are shown where a scenario fails.
const TAIL: usize = 40;

/// A folder that worlds of this machine share: port locks, the template of PostgreSQL.
///
/// # Errors
/// Where it cannot be made.
pub fn shared_folder(name: &str) -> Result<PathBuf> {
    let base = Path::new("/tmp/muster-testbed");
    for folder in [base.to_owned(), base.join(name)] {
        if !folder.is_dir() {
            std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
            // Everybody may add, only owners may remove: the same as /tmp.
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777))
                .with_context(|| format!("open {} for all", folder.display()))?;
        }
    }
    Ok(base.join(name))
}

/// Handle of a world; clones are the same one. The last to go takes all with it.
#[derive(Clone, Debug)]
pub struct World {
    inner: Arc<Inner>,
    place: Option<Place>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    janitor: Mutex<Janitor>,
    stays: bool,
}

impl World {
    /// A world that ends with its scenario.
    ///
    /// # Errors
    /// Where its folder cannot be made.
    pub fn new() -> Result<Self> {
        Self::make(false)
    }

    /// A world whose processes outlive this one, if [`World::leave`] is called in the end.
    ///
    /// # Errors
    /// Where its folder cannot be made.
    pub fn that_may_stay() -> Result<Self> {
        Self::make(true)
    }

    fn make(stays: bool) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("mu-").rand_bytes(5).tempdir_in("/tmp").context("make a folder in /tmp")?.keep();
        let janitor = Mutex::new(Janitor::watch(&root)?);
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).context("open the world's folder for other users")?;
        let world = Self { inner: Arc::new(Inner { root, janitor, stays }), place: None };
        for folder in ["log", "home", "bin"] {
            world.folder(folder, RunAs::Caller)?;
        }
        Ok(world)
    }

    /// The same world, seen from a place: what is started from here on runs in the place's network.
    #[must_use]
    pub fn at(&self, place: &Place) -> Self {
        Self { inner: Arc::clone(&self.inner), place: Some(place.clone()) }
    }

    /// The address that servers of this world listen at: the place's, else the machine's loopback.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.place.as_ref().map_or(Ipv4Addr::LOCALHOST, Place::address)
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Makes a folder (and those above it) which belongs to `owner`, closed to others where that is `postgres`.
    ///
    /// # Errors
    /// Where it cannot be made or given away.
    pub fn folder(&self, name: &str, owner: RunAs) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        if owner == RunAs::Postgres {
            self.give_to_postgres(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).with_context(|| format!("close {}", path.display()))?;
        }
        Ok(path)
    }

    /// A folder of `postgres` in memory, as /run is: what a boot empties.
    ///
    /// # Errors
    /// Where it cannot be made or given away.
    pub fn memory(&self, name: &str) -> Result<PathBuf> {
        let root = Path::new("/dev/shm").join(self.root().file_name().context("a world's folder has a name")?);
        let path = root.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).with_context(|| format!("open {}", root.display()))?;
        self.give_to_postgres(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).with_context(|| format!("close {}", path.display()))?;
        Ok(path)
    }

    /// Makes `postgres` the owner of one file or folder.
    ///
    /// # Errors
    /// Where this process may not.
    pub fn give_to_postgres(&self, path: &Path) -> Result<()> {
        let account = account::postgres()?;
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)).with_context(|| format!("give {} to postgres", path.display()))
    }

    /// A file system of its own of `bytes`, mounted at a folder of `postgres`: a disk that gets full. Only root can mount one.
    ///
    /// # Errors
    /// Where this process may not mount.
    pub async fn small_disk(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.folder(name, RunAs::Postgres)?;
        let account = account::postgres()?;
        let options = format!("size={bytes},uid={},gid={},mode=0700", account.uid, account.gid);
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs", &path.display().to_string()];
        self.run(RunAs::Caller, "/bin/mount", &arguments, Duration::from_secs(10)).await?.success().context("mount a small disk")?;
        Ok(path)
    }

    /// Writes a file which belongs to `owner`, with `mode`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn file(&self, name: &str, text: &str, owner: RunAs, mode: u32) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {}", path.display()))?;
        if owner == RunAs::Postgres {
            self.give_to_postgres(&path)?;
        }
        Ok(path)
    }

    /// A copy of one of our programs that every user can run, from where this build put it.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let copy = self.path("bin").join(name);
        if copy.exists() {
            return Ok(copy);
        }
        let built = build_folder()?.join(name);
        if !built.is_file() {
            return Err(anyhow!("{} was not built: cargo build --workspace --all-targets", built.display()));
        }
        if std::fs::hard_link(&built, &copy).is_err() {
            std::fs::copy(&built, &copy).with_context(|| format!("copy {}", built.display()))?;
        }
        Ok(copy)
    }

    /// What every process here starts from: the program, a clean environment, the world as home.
    #[must_use]
    pub fn launch(&self, name: &str, program: impl Into<PathBuf>, run_as: RunAs) -> Launch {
        let environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME".to_owned(), self.path("home").display().to_string()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
        ]);
        Launch {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment,
            run_as,
            folder: self.root().to_owned(),
            log: self.path("log").join(format!("{name}.log")),
            dies_with_us: !self.inner.stays,
            namespace: self.place.as_ref().map(Place::namespace),
        }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// Where it cannot be started or does not end within `bound`.
    pub async fn run(&self, run_as: RunAs, program: &str, arguments: &[&str], bound: Duration) -> Result<Output> {
        let name = Path::new(program).file_name().map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned());
        let mut launch = self.launch(&name, program, run_as);
        launch.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        launch.run(bound).await
    }

    /// Starts a program and leaves it running.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, name: &str, run_as: RunAs, program: impl Into<PathBuf>, arguments: &[&str]) -> Result<Process> {
        let mut launch = self.launch(name, program, run_as);
        launch.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        launch.start()
    }

    /// The last lines of every log, for whoever has to find out why a scenario failed.
    #[must_use]
    pub fn tails(&self) -> String {
        let mut logs: Vec<_> = std::fs::read_dir(self.path("log")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        logs.sort();
        let mut tails = String::new();
        for log in logs {
            let bytes = std::fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
            tails.push_str(&format!("---- {} ({} lines)\n{}\n", log.display(), lines.len(), last.join("\n")));
        }
        tails
    }

    /// Leaves everything running and says which script ends it. Only for a world that may stay.
    ///
    /// # Errors
    /// Where this world's processes die with this one, or the script cannot be written.
    pub fn leave(&self) -> Result<PathBuf> {
        if !self.inner.stays {
            return Err(anyhow!("this world ends with its scenario"));
        }
        self.inner.janitor.lock().map_err(|_| anyhow!("a thread panicked with the janitor"))?.leave(self.root())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let swept = match self.janitor.get_mut() {
            Ok(janitor) => janitor.sweep(),
            Err(poisoned) => poisoned.into_inner().sweep(),
        };
        if let Err(error) = swept {
            eprintln!("testbed: {} was not cleaned up: {error:#}", self.root.display());
        }
    }
}

/// Where cargo put the programs: beside this test's own program, or one folder above it.
fn build_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("MUSTER_PROGRAMS") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().ok_or_else(|| anyhow!("{} is in no folder", own.display()))?;
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    Ok(above.unwrap_or(folder).to_owned())
}
