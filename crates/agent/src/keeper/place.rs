//! Where and when the agent is: machine, boot, time since that boot. Tests put other files in the place of the system's.
//!
//! A boot is the kernel's boot id and a random id in the run folder: a container that starts again has the first in common with the one
//! before, and an emptied run folder. While one process lives there is one boot: it puts the id back that somebody removed under it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_common::fault::{self, Fault};
use muster_common::id::{BootId, MachineId};
use muster_failover::here::{Here, Uptime};
use muster_service::files;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

/// The files that tell it.
#[derive(Debug)]
pub struct Place {
    /// 32 hexadecimal digits, as `/etc/machine-id` (machine-id(5)).
    machine_file: PathBuf,
    /// A UUID, as `/proc/sys/kernel/random/boot_id` (random(4)).
    boot_file: PathBuf,
    /// The run folder's own id.
    run_file: PathBuf,
    seen: Mutex<Option<Seen>>,
}

/// What was read before: the kernel's boot id and the run folder's id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kernel: String,
    run: String,
}

impl Place {
    /// With these files; the last lies in the run folder and is made where it is absent.
    #[must_use]
    pub fn new(machine_file: PathBuf, boot_file: PathBuf, run_folder: &std::path::Path) -> Self {
        Self { machine_file, boot_file, run_file: run_folder.join("boot"), seen: Mutex::default() }
    }

    /// Here and now. Blocks for the disk.
    ///
    /// # Errors
    /// Where one of the files cannot be read: nothing is guessed then.
    pub fn here(&self) -> Result<Here, Fault> {
        let machine = read(&self.machine_file)?;
        let machine: MachineId = machine.parse().map_err(|error| unreadable(&self.machine_file, &error))?;
        let kernel = read(&self.boot_file)?;
        let run = self.run_id(&kernel)?;
        let digest = Sha256::digest(format!("{kernel}\n{run}\n"));
        let mut boot = [0; 16];
        boot.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
        Ok(Here { machine, boot: BootId::from_bytes(boot), now: uptime() })
    }

    fn run_id(&self, kernel: &str) -> Result<String, Fault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let run = match fs::read_to_string(&self.run_file) {
            Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Ok(_) => return Err(unreadable(&self.run_file, &"it is empty")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let before = seen.clone().filter(|seen| seen.kernel == kernel);
                let run = before.map_or_else(|| hex::encode(rand::random::<[u8; 16]>()), |seen| seen.run);
                files::write_atomically(&self.run_file, run.as_bytes(), 0o600).map_err(|error| unreadable(&self.run_file, &error))?;
                run
            }
            Err(error) => return Err(unreadable(&self.run_file, &error)),
        };
        *seen = Some(Seen { kernel: kernel.to_owned(), run: run.clone() });
        Ok(run)
    }
}

/// Time since boot, sleep included.
#[must_use]
pub fn uptime() -> Uptime {
    let now = clock_gettime(ClockId::Boottime);
    Uptime(Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0)))
}

fn read(path: &PathBuf) -> Result<String, Fault> {
    let text = fs::read_to_string(path).and_then(|text| {
        let text = text.trim().replace('-', "");
        if text.is_empty() { Err(io::Error::new(ErrorKind::InvalidData, "it is empty")) } else { Ok(text) }
    });
    text.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &std::path::Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::refused(fault::ErrorKind::FailedPrecondition, format!("tell machine and boot apart: {}: {why}", path.display()))
        .hint("give the machine an id (`systemd-machine-id-setup`) and the agent a run folder of its own, then restart the agent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kernel_or_an_emptied_run_folder_is_another_boot_and_a_living_process_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let (machine, boot, run) = (folder.path().join("machine"), folder.path().join("kernel"), folder.path().join("run"));
        fs::create_dir(&run).unwrap();
        fs::write(&machine, "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::write(&boot, "11111111-2222-3333-4444-555555555555\n").unwrap();
        let place = || Place::new(machine.clone(), boot.clone(), &run);
        let first = place();
        let here = first.here().unwrap();
        assert_eq!(place().here().unwrap().boot, here.boot, "a process that starts again finds the same boot");
        fs::remove_file(run.join("boot")).unwrap();
        assert_eq!(first.here().unwrap().boot, here.boot, "nothing booted under a process that lives");
        fs::remove_file(run.join("boot")).unwrap();
        let emptied = place().here().unwrap();
        assert_ne!(emptied.boot, here.boot, "a container started again");
        fs::write(&boot, "99999999-2222-3333-4444-555555555555\n").unwrap();
        assert_ne!(first.here().unwrap().boot, emptied.boot, "the kernel started again");
        fs::remove_file(&machine).unwrap();
        assert!(first.here().unwrap_err().hint.contains("systemd-machine-id-setup"));
    }
}
