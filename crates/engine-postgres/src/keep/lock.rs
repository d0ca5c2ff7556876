//! The lock of a stopped server: `postmaster.pid` with the negative number of a process that lives, which no server overrides.
//!
//! A server that had read its configuration before the permit went, and was stalled before it locked its data, dies at it. The
//! process, the holder, is Muster's, of the server's user, in a session of its own; it outlives the agent, and ends when its lock is
//! gone.

use std::fs;
use std::io::{ErrorKind as Io, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::Keeping;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::data_directory::is_postgres;
use crate::keep::{io, processes};

/// How often a holder looks whether its lock is still there.
const LOOK: Duration = Duration::from_millis(500);
/// A holder that got no lock in so long ends.
const UNUSED: Duration = Duration::from_secs(60);

/// What holds the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    Free,
    /// A live holder of Muster's.
    Held(i32),
    /// Nobody, by an empty file, which no server overrides either (`CreateLockFile`): there was no space for a number.
    Empty,
    /// A live server, by its number.
    Server(i32),
    /// A process that is gone, or none of a server's.
    Stale,
}

fn file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// Who holds the lock of `data`.
///
/// # Errors
/// Where the file is there and cannot be read.
pub fn look(keeping: &Keeping, data: &Path) -> Result<Lock, Fault> {
    let path = file(data);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == Io::NotFound => return Ok(Lock::Free),
        Err(error) => return Err(io("read", &path, &error)),
    };
    if text.is_empty() {
        return Ok(Lock::Empty);
    }
    let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).unwrap_or_default();
    Ok(match pid {
        ..0 if is_holder(pid.saturating_neg(), keeping, data) => Lock::Held(pid.saturating_neg()),
        // A single-user server writes its number negative too.
        _ if is_postgres(pid.saturating_abs()) => Lock::Server(pid.saturating_abs()),
        _ => Lock::Stale,
    })
}

/// A live process whose last arguments are a holder's for this data directory.
fn is_holder(pid: i32, keeping: &Keeping, data: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let data = data.as_os_str().as_encoded_bytes();
    let verb = keeping.holder.get(1..).unwrap_or_default().iter().map(|word| word.as_bytes());
    let wanted: Vec<_> = verb.chain([data]).collect();
    words.len() > wanted.len() && words.ends_with(&wanted)
}

/// Takes the lock. `false`: a server has it, or took it meanwhile. Blocks.
///
/// # Errors
/// Where no holder can be started, or the file cannot be written.
pub fn take(keeping: &Keeping, data: &Path) -> Result<bool, Fault> {
    let path = file(data);
    match look(keeping, data)? {
        Lock::Held(_) | Lock::Empty => return Ok(true),
        Lock::Server(_) => return Ok(false),
        Lock::Stale => remove(&path)?,
        Lock::Free => {}
    }
    let Some((program, arguments)) = keeping.holder.split_first() else {
        return Err(Fault::refused(ErrorKind::Internal, "no program is named that holds the lock"));
    };
    let mut command = std::process::Command::new(program);
    command.args(arguments).arg(data).current_dir("/").env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = command.spawn().map_err(|error| {
        Fault::failed(ErrorKind::FailedPrecondition, format!("start {program}, which holds the lock of {}: {error}", data.display()))
            .hint("reinstall muster-agent")
    })?;
    let pid = started.id();
    let mut created = match fs::File::options().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == Io::AlreadyExists => {
            end(i32::try_from(pid).unwrap_or_default());
            return Ok(false);
        }
        Err(error) if error.kind() == Io::NotFound => {
            end(i32::try_from(pid).unwrap_or_default());
            return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("there is no data directory {}", data.display()))
                .hint("mount it; or make it, empty, 0700, of the server's user, and rejoin the instance: it is copied from the writer"));
        }
        Err(error) => return Err(io("lock", &path, &error)),
    };
    let text = format!("-{pid}\n{}\n", data.display());
    match created.write_all(text.as_bytes()).and_then(|()| created.sync_all()) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), Io::StorageFull | Io::QuotaExceeded) => {
            created.set_len(0).map_err(|error| io("lock", &path, &error))?;
            end(i32::try_from(pid).unwrap_or_default());
            Ok(true)
        }
        Err(error) => Err(io("lock", &path, &error)),
    }
}

/// Lets the lock go. Nobody's already is nobody's; a server's stays.
///
/// # Errors
/// Where the file cannot be removed.
pub fn release(keeping: &Keeping, data: &Path) -> Result<(), Fault> {
    match look(keeping, data)? {
        Lock::Held(pid) => {
            remove(&file(data))?;
            end(pid);
            Ok(())
        }
        Lock::Empty => remove(&file(data)),
        Lock::Free | Lock::Server(_) | Lock::Stale => Ok(()),
    }
}

/// Ends a holder, and waits for it where it is this process's child.
fn end(pid: i32) {
    processes::signal(pid, Signal::TERM);
    let Some(child) = Pid::from_raw(pid).filter(|_| pid > 1) else { return };
    for _ in 0..50 {
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != Io::NotFound => Err(io("remove", path, &error)),
        _ => Ok(()),
    }
}

/// What a holder does: it lives while its lock names it. Blocks.
///
/// # Errors
/// Where it cannot leave its parent's session.
pub fn hold(data: &Path) -> Result<(), std::io::Error> {
    // Already the first of a session: started by hand.
    match rustix::process::setsid() {
        Err(rustix::io::Errno::PERM) | Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let own = format!("-{}", rustix::process::getpid().as_raw_nonzero());
    let (begun, path) = (Instant::now(), file(data));
    let mut held = false;
    loop {
        let named = fs::read_to_string(&path).is_ok_and(|text| text.lines().next() == Some(own.as_str()));
        if !named && (held || begun.elapsed() >= UNUSED) {
            return Ok(());
        }
        held |= named;
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_lock_is_one_and_a_number_of_nobodys_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let keeping = Keeping {
            run_folder: "/run/muster".into(),
            component: "orders-db".parse().unwrap(),
            instance: "istanbul".parse().unwrap(),
            holder: vec!["/bin/false".into(), "hold".into()],
        };
        let (data, path) = (folder.path(), folder.path().join("postmaster.pid"));
        assert_eq!(look(&keeping, data).unwrap(), Lock::Free);
        for text in [format!("-{}\n", std::process::id()), "1\n".into(), "-1\n".into(), "what\n".into()] {
            fs::write(&path, text).unwrap();
            assert_eq!(look(&keeping, data).unwrap(), Lock::Stale);
        }
        fs::write(&path, "").unwrap();
        assert_eq!(look(&keeping, data).unwrap(), Lock::Empty);
        assert!(take(&keeping, data).unwrap());
        release(&keeping, data).unwrap();
        assert_eq!(look(&keeping, data).unwrap(), Lock::Free);
    }
}
