//! Every process of a server, whatever became of its postmaster: they work in its data directory, or have files of it open.
//!
//! Backends have process groups of their own: a busy one commits and acknowledges seconds after the postmaster died and the port
//! closed. What lives in another PID namespace is not seen here.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::data_directory::is_postgres;
use muster_common::fault::{ErrorKind, Fault};
use rustix::process::{Pid, Signal, kill_process};

/// How often is looked again.
const AGAIN: Duration = Duration::from_millis(20);

/// The processes of the server in `data`: all of this user that work there, and servers elsewhere with files of it open.
///
/// # Errors
/// Where the processes of this machine cannot be listed.
pub fn of(data: &Path) -> Result<BTreeSet<i32>, Fault> {
    let data = match data.canonicalize() {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(crate::keep::io("look at", data, &error)),
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entries = std::fs::read_dir("/proc").map_err(|error| crate::keep::io("list the processes in", Path::new("/proc"), &error))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids.filter(|pid| *pid != own && works_in(*pid, &data)).collect())
}

/// Another user's process tells nothing of itself, nor does one that has ended and was not yet waited for.
fn works_in(pid: i32, data: &Path) -> bool {
    let Ok(folder) = std::fs::read_link(format!("/proc/{pid}/cwd")) else { return false };
    folder == data || (is_postgres(pid) && has_files_of(pid, data))
}

fn has_files_of(pid: i32, data: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.starts_with(data))
}

/// Processes of a program that was given `data` as an argument.
#[must_use]
pub fn running(program: &str, data: &Path) -> BTreeSet<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let named = words.next().is_some_and(|word| word == program.as_bytes() || word.ends_with(format!("/{program}").as_bytes()));
        named && words.any(|word| word == data.as_os_str().as_encoded_bytes())
    };
    pids.filter(is).collect()
}

/// Sends a signal. A process that has ended meanwhile is fine.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(process) = Pid::from_raw(pid).filter(|_| pid > 1)
        && let Err(error) = kill_process(process, signal)
    {
        tracing::debug!(pid, %error, "a signal was not delivered");
    }
}

/// Waits until `there` finds nothing any more. What is still there after `patience` is returned. Blocks.
///
/// # Errors
/// As `there`.
pub fn gone(patience: Duration, there: impl Fn() -> Result<BTreeSet<i32>, Fault>) -> Result<BTreeSet<i32>, Fault> {
    let begun = Instant::now();
    loop {
        let left = there()?;
        if left.is_empty() || begun.elapsed() >= patience {
            return Ok(left);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Kills every process of the server in `data`, until there is none. Blocks.
///
/// # Errors
/// Where one stays: in an uninterruptible wait, or somebody starts it over and over.
pub fn kill_all(data: &Path, patience: Duration) -> Result<(), Fault> {
    let left = gone(patience, || {
        let left = of(data)?;
        for pid in &left {
            signal(*pid, Signal::KILL);
        }
        Ok(left)
    })?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Fault::failed(ErrorKind::FailedPrecondition, format!("fence the server in {}: processes {left:?} do not end", data.display()))
        .hint("see what holds them (ps -o pid,stat,wchan,args; a stuck disk, a debugger); until they are gone nothing is proved: power the machine off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_works_in_the_data_directory_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (data, other) = (folder.path().join("data"), folder.path().join("other"));
        std::fs::create_dir(&data).unwrap();
        std::fs::create_dir(&other).unwrap();
        let start = |at: &Path| std::process::Command::new("/bin/sleep").arg("60").current_dir(at).spawn().unwrap();
        let (mut inside, mut outside) = (start(&data), start(&other));
        let waited = std::thread::spawn(move || inside.wait().unwrap());
        kill_all(&data, Duration::from_secs(10)).unwrap();
        assert!(!waited.join().unwrap().success());
        assert!(outside.try_wait().unwrap().is_none());
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
