//! Each task's own folder, removed with it; no new task starts while they take more than their bound.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_common::size::Size;
use muster_service::files;

/// How many files are counted; a folder with more is over any bound.
const MAX_COUNTED: usize = 1_000_000;

/// The folder of all scratch folders.
#[derive(Clone, Debug)]
pub struct Scratch {
    folder: PathBuf,
    limit: u64,
}

impl Scratch {
    /// Scratch folders below `folder`, with at most `limit` bytes in all when a task starts.
    #[must_use]
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit }
    }

    /// A task's folder: made at its first run, found again at the next. Blocks for the disk.
    ///
    /// # Errors
    /// Where scratch is full, or the folder cannot be made.
    pub fn make(&self, command: CommandId) -> Result<PathBuf, Fault> {
        let path = self.folder.join(command.to_string());
        if !path.exists() {
            let used = used(&self.folder).map_err(|error| cannot("count", &self.folder, &error))?;
            if used >= self.limit {
                let message = format!("start command {command}: scratch holds {}, the bound is {}", Size(used), Size(self.limit));
                return Err(Fault::refused(ErrorKind::ResourceExhausted, message).hint(format!(
                    "wait for other tasks, clean {} or raise `scratchLimit` in the agent's configuration",
                    self.folder.display()
                )));
            }
        }
        files::create_private_folder(&path).map_err(|error| cannot("make", &path, &error))?;
        Ok(path)
    }

    /// Removes a task's folder; `end` ends what still runs in it first. Gone already is done.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(&self, command: CommandId, end: impl Fn(&Path, CommandId) -> Result<(), Fault>) -> io::Result<()> {
        let path = self.folder.join(command.to_string());
        end(&path, command).map_err(io::Error::other)?;
        gone(fs::remove_dir_all(path))
    }

    /// Removes what tasks left that are no longer under way; `end` ends what still runs in a folder first. Who is under way is asked
    /// after the folders were listed: a task that begins meanwhile keeps its own. Blocks for the disk.
    ///
    /// # Errors
    /// What the system said.
    pub fn clean(
        &self,
        under_way: impl FnOnce() -> BTreeSet<CommandId>,
        end: impl Fn(&Path, CommandId) -> Result<(), Fault>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let entries = entries.collect::<io::Result<Vec<_>>>()?;
        let under_way = under_way();
        for entry in entries {
            let command = entry.file_name().to_str().and_then(|name| name.parse::<CommandId>().ok());
            if let Some(command) = command
                && !under_way.contains(&command)
            {
                end(&entry.path(), command).map_err(io::Error::other)?;
                gone(fs::remove_dir_all(entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Empties a cache that has outgrown its bound. To be called before anything uses it: all of it can be read again. Blocks for the disk.
///
/// # Errors
/// What the system said.
pub fn bound_cache(folder: &Path, limit: u64) -> io::Result<()> {
    if used(folder)? > limit {
        tracing::info!(folder = %folder.display(), limit, "the cache has outgrown its bound and is emptied");
        gone(fs::remove_dir_all(folder))?;
    }
    Ok(())
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn cannot(act: &str, path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::refused(ErrorKind::FailedPrecondition, format!("{act} scratch folder {}: {error}", path.display()))
        .hint("make room or correct `scratchDirectory` in the agent's configuration")
}

/// Bytes of all files below a folder, links not followed.
fn used(folder: &Path) -> io::Result<u64> {
    let mut folders = vec![folder.to_owned()];
    let mut bytes: u64 = 0;
    let mut counted = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // A task may end and take its folder away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            counted += 1;
            if counted > MAX_COUNTED {
                return Ok(u64::MAX);
            }
            match fs::symlink_metadata(entry.path()) {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes = bytes.saturating_add(found.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CommandId {
        CommandId::from_bytes([n; 16])
    }

    #[test]
    fn a_full_scratch_lets_no_new_task_start_but_those_under_way_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"), 1_000);
        let first = scratch.make(id(1)).unwrap();
        fs::write(first.join("big"), [0; 1_000]).unwrap();
        let fault = scratch.make(id(2)).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::ResourceExhausted);
        assert!(fault.message.contains("1000 B"), "{fault}");
        assert_eq!(scratch.make(id(1)).unwrap(), first);
        scratch.remove(id(1), |_, _| Ok(())).unwrap();
        scratch.remove(id(1), |_, _| Ok(())).unwrap();
        assert!(scratch.make(id(2)).is_ok());
    }

    #[test]
    fn a_cache_over_its_bound_is_emptied_and_one_within_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        bound_cache(&cache, 10).unwrap();
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("table"), [0; 10]).unwrap();
        bound_cache(&cache, 10).unwrap();
        assert!(cache.exists());
        bound_cache(&cache, 9).unwrap();
        assert!(!cache.exists());
    }

    #[test]
    fn what_no_task_uses_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().to_owned(), 1_000);
        for n in [1, 2] {
            scratch.make(id(n)).unwrap();
        }
        fs::create_dir(folder.path().join("somebody-elses")).unwrap();
        let ended = std::cell::RefCell::new(Vec::new());
        let end = |folder: &Path, command| {
            assert!(folder.is_dir());
            ended.borrow_mut().push(command);
            Ok(())
        };
        scratch.clean(|| BTreeSet::from([id(2)]), end).unwrap();
        assert_eq!(ended.into_inner(), [id(1)]);
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [id(2).to_string(), "somebody-elses".to_owned()]);
    }
}
