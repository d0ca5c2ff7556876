//! What can be read in a data directory without asking the server: its control file, who holds it, histories.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_common::position::Fork;

use crate::control_file::{self, ControlFile, ControlFileError};
use crate::wal::{self, History};

/// A control file is 8 KiB; a history or a pid file is small.
const MAX_SMALL: u64 = 1 << 20;

/// Why a data directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// A file could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The control file stayed torn or is damaged.
    #[error("{}: {source}", path.display())]
    Control {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ControlFileError,
    },
}

/// Reads a small file.
///
/// # Errors
/// Where it cannot be read, or is larger than 1 MiB.
pub fn read_small(path: &Path) -> Result<Vec<u8>, DataDirectoryError> {
    use std::io::Read;
    let failed = |source| DataDirectoryError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_SMALL + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_SMALL {
        return Err(failed(io::Error::other(format!("it is larger than {MAX_SMALL} bytes"))));
    }
    Ok(bytes)
}

/// Reads `global/pg_control`.
///
/// # Errors
/// As [`control_bytes`].
pub fn control_file(data: &Path) -> Result<ControlFile, DataDirectoryError> {
    control_bytes(data).map(|(control, _)| control)
}

/// Reads `global/pg_control` with its bytes. The server overwrites it in place, so a torn read is read again, ten times
/// with 20 ms between.
///
/// # Errors
/// Where there is none, or it stays torn.
pub fn control_bytes(data: &Path) -> Result<(ControlFile, Vec<u8>), DataDirectoryError> {
    let path = data.join("global/pg_control");
    let mut tries = 0;
    loop {
        let bytes = read_small(&path)?;
        match control_file::parse(&bytes) {
            Ok(control) => return Ok((control, bytes)),
            Err(ControlFileError::Checksum | ControlFileError::Short(_)) if tries < 10 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(source) => return Err(DataDirectoryError::Control { path, source }),
        }
    }
}

/// The timelines that `timeline` came by, from its history file in `pg_wal`. Timeline 1 has none.
#[must_use]
pub fn history(data: &Path, timeline: u32) -> Option<History> {
    if timeline <= 1 {
        return Some(History::default());
    }
    let bytes = read_small(&data.join("pg_wal").join(wal::history_name(timeline))).ok()?;
    let history: History = String::from_utf8(bytes).ok()?.parse().ok()?;
    history.0.iter().all(|Fork { timeline: parent, .. }| *parent < timeline).then_some(history)
}

/// The process that holds a data directory, by its `postmaster.pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Postmaster {
    /// There is no such file.
    Absent,
    /// The process that it names is gone.
    Dead {
        /// Its number.
        pid: i32,
    },
    /// The process lives.
    Alive {
        /// Its number.
        pid: i32,
        /// The port that it listens on, where the file tells it already.
        port: Option<u16>,
    },
}

/// Looks whether a server holds the data directory.
///
/// # Errors
/// Where `postmaster.pid` is there and cannot be read.
pub fn postmaster(data: &Path) -> Result<Postmaster, DataDirectoryError> {
    let path = data.join("postmaster.pid");
    let bytes = match read_small(&path) {
        Ok(bytes) => bytes,
        Err(DataDirectoryError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Postmaster::Absent),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    // Line 1 is the process (negative for a stand-alone backend), line 4 the port (`miscadmin.h`, LOCK_FILE_LINE_*).
    let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).map(i32::saturating_abs).unwrap_or_default();
    let port = text.lines().nth(3).and_then(|line| line.trim().parse().ok());
    Ok(if is_postgres(pid) { Postmaster::Alive { pid, port } } else { Postmaster::Dead { pid } })
}

/// A process that lives and is a server: after a reboot the number may belong to anything, and one that has ended keeps its number until
/// its parent has waited for it.
#[must_use]
pub fn is_postgres(pid: i32) -> bool {
    // `pid (name) state …` (proc(5)); the name may have anything in it.
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let Some((head, rest)) = text.rsplit_once(')') else { return false };
    let ended = rest.trim_start().starts_with(['Z', 'X']);
    pid > 0 && !ended && head.split_once('(').is_some_and(|(_, name)| name == "postgres")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_server_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(postmaster(folder.path()).unwrap(), Postmaster::Absent);
        std::fs::write(folder.path().join("postmaster.pid"), "1\n/x\n0\n5432\n").unwrap();
        assert_eq!(postmaster(folder.path()).unwrap(), Postmaster::Dead { pid: 1 });
        assert!(matches!(control_file(folder.path()), Err(DataDirectoryError::Read { .. })));
        std::fs::create_dir(folder.path().join("global")).unwrap();
        std::fs::write(folder.path().join("global/pg_control"), vec![7; 8192]).unwrap();
        assert!(matches!(control_file(folder.path()), Err(DataDirectoryError::Control { source: ControlFileError::Format(_), .. })));
    }
}
