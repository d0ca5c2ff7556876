//! What a verification leaves when its agent is killed: a server that runs on in scratch, and the folder of its socket.
//!
//! Both are found by the scratch folder and the command alone, so that the next process can end and remove them without
//! knowing what was verified. Only processes named postgres whose working directory lies in the folder are ended.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::CommandId;
use rustix::process::{Pid, Signal, kill_process};

use crate::control::pg_ctl;
use crate::restore::folders::{self, io_fault};

/// An immediate shutdown is over in no time.
const QUIT: Duration = Duration::from_secs(10);
/// After that, the kernel ends it.
const KILLED: Duration = Duration::from_secs(10);
/// A socket's path has 107 bytes; its name takes up to 20, the folder's own 39.
const LONGEST_TEMPORARY: usize = 45;

/// The folder of the socket of a command's copy. Short, since a socket's path is bounded.
#[must_use]
pub fn socket_folder(command: CommandId) -> PathBuf {
    let temporary = std::env::temp_dir();
    let short = temporary.is_absolute() && temporary.as_os_str().len() <= LONGEST_TEMPORARY;
    let above = if short { temporary } else { PathBuf::from("/tmp") };
    above.join(format!("muster-{command}"))
}

/// Makes a folder that this user alone can enter; one that is somebody else's is refused.
///
/// # Errors
/// Where it cannot be made, or is not this user's own.
pub fn make_private(path: &Path) -> Result<(), Fault> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(path).map_err(|error| io_fault("look at", path, &error))?;
            if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0 {
                return Ok(());
            }
            Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} is there and not this user's own", path.display()))
                .hint("remove it and verify again"))
        }
        Err(error) => Err(io_fault("make", path, &error)),
    }
}

/// Ends the servers that run anywhere below `scratch` and removes the folder of the command's socket. Blocks; a process
/// that has ended already is fine.
///
/// # Errors
/// Where processes stay.
pub fn end(scratch: &Path, sockets: &Path) -> Result<(), Fault> {
    for (signal, patience) in [(Signal::QUIT, QUIT), (Signal::KILL, KILLED)] {
        let began = Instant::now();
        let mut asked = Vec::new();
        loop {
            let left = servers_below(scratch);
            if left.is_empty() {
                return folders::remove(sockets);
            }
            for pid in left.into_iter().filter(|pid| !asked.contains(pid)).collect::<Vec<_>>() {
                asked.push(pid);
                tracing::info!(%pid, scratch = %scratch.display(), "ending a server that a verification left");
                if let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw)
                    && let Err(error) = kill_process(process, signal)
                {
                    tracing::debug!(%pid, %error, "it has ended meanwhile");
                }
            }
            if began.elapsed() >= patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Err(Fault::failed(
        ErrorKind::FailedPrecondition,
        format!("end the server in {}: processes {:?} are still there", scratch.display(), servers_below(scratch)),
    )
    .hint("see what holds them (a stuck disk, a debugger) and end them by hand"))
}

/// Processes of servers whose data lies below a folder.
fn servers_below(folder: &Path) -> Vec<u32> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    pg_ctl::server_processes(|cwd| cwd.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_work_below_the_folder_are_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("scratch"), folder.path().join("data"));
        // A process that is named as a server is.
        let program = folder.path().join("postgres");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let start = |at: &Path| {
            std::fs::create_dir_all(at).unwrap();
            std::process::Command::new(&program).arg("60").current_dir(at).spawn().unwrap()
        };
        let (mut left, mut other) = (start(&inside.join("data")), start(&outside));
        let sockets = folder.path().join("sockets");
        make_private(&sockets).unwrap();
        make_private(&sockets).unwrap();
        let began = Instant::now();
        while servers_below(&inside).is_empty() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let reaper = std::thread::spawn(move || left.wait().unwrap());
        end(&inside, &sockets).unwrap();
        assert!(!reaper.join().unwrap().success() && !sockets.exists());
        assert!(other.try_wait().unwrap().is_none());
        end(&inside, &sockets).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        std::fs::DirBuilder::new().mode(0o755).create(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(make_private(&path).unwrap_err().kind, ErrorKind::FailedPrecondition);
    }
}
