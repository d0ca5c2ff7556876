//! The `restore_command`'s helper: hands the server a file of a restore's own log, or says that there is none.
//!
//! Its exit code decides whether a restore is whole. 0: handed over. 44: not in the list that was frozen when the restore
//! was planned. Everything else: a failure. The wrapper in the server's configuration maps 44 to 1 (the server goes on) and
//! all others to 255 (the server stops): an ordinary failure must never look like the end of the log.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The folder inside of a restored data directory that holds what a restore still needs.
pub const FOLDER: &str = "muster.restore";
/// In it: the log files.
pub const LOG_FOLDER: &str = "wal";
/// In it: the names of all files that there are, a line each.
pub const FROZEN: &str = "frozen";
/// In it: a byte for each file that was handed over, for progress.
pub const SERVED: &str = "served";
/// Not in the list.
pub const ABSENT: u8 = 44;
/// Anything that went wrong.
pub const FAILED: u8 = 255;

/// The `restore_command` for a helper `program`. It runs in the data directory.
#[must_use]
pub fn restore_command(program: &[String]) -> String {
    let words: Vec<String> = program.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    // `%` begins a placeholder of the server's.
    let program = words.join(" ").replace('%', "%%");
    format!("{program} {FOLDER} \"%f\" \"%p\"; case $? in 0) exit 0;; {ABSENT}) exit 1;; *) exit {FAILED};; esac")
}

/// Runs the helper with its arguments: folder, name, destination.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    let done = std::panic::catch_unwind(|| serve(arguments));
    match done {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::from(ABSENT),
        Ok(Err(error)) => {
            // Standard error is the server's log. Where even that fails nobody hears it, and the code tells.
            writeln!(io::stderr(), "muster: restore_command: {error}").ok();
            ExitCode::from(FAILED)
        }
        Err(_) => ExitCode::from(FAILED),
    }
}

/// Copies a file; `false` where it is not in the list.
fn serve(arguments: &[OsString]) -> io::Result<bool> {
    let [folder, name, destination] = arguments else {
        return Err(io::Error::other("expected a folder, a name and a destination"));
    };
    let (folder, destination) = (Path::new(folder), PathBuf::from(destination));
    let name = name
        .to_str()
        .filter(|name| is_log_file(name))
        .ok_or_else(|| io::Error::other(format!("{} is no name of a log file", name.display())))?;
    let frozen = std::fs::read_to_string(folder.join(FROZEN))?;
    if !frozen.ends_with("end\n") {
        return Err(io::Error::other("the list of log files is not whole"));
    }
    if !frozen.lines().any(|line| line == name) {
        return Ok(false);
    }
    let mut source = File::open(folder.join(LOG_FOLDER).join(name))?;
    let wanted = source.metadata()?.len();
    let copied = io::copy(&mut source, &mut File::create(&destination)?)?;
    if copied != wanted {
        return Err(io::Error::other(format!("{copied} of {wanted} bytes were copied")));
    }
    File::options().create(true).append(true).open(folder.join(SERVED))?.write_all(b".")?;
    Ok(true)
}

/// Segments, histories, backup labels: letters, digits and dots.
fn is_log_file(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(frozen: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(LOG_FOLDER)).unwrap();
        std::fs::write(folder.path().join(LOG_FOLDER).join("00000002.history"), "1\t0/3000000\tx\n").unwrap();
        std::fs::write(folder.path().join(FROZEN), frozen).unwrap();
        folder
    }

    fn get(folder: &Path, name: &str) -> String {
        let to = folder.join("to");
        let code = run(&[folder.into(), name.into(), to.clone().into()]);
        let code = format!("{code:?}");
        if code == format!("{:?}", ExitCode::SUCCESS) { std::fs::read_to_string(to).unwrap() } else { code }
    }

    #[test]
    fn a_listed_file_is_handed_over_again_and_again_and_an_unlisted_one_is_absent() {
        let folder = folder("00000002.history\nend\n");
        for _ in 0..2 {
            assert_eq!(get(folder.path(), "00000002.history"), "1\t0/3000000\tx\n");
        }
        assert_eq!(get(folder.path(), "00000003.history"), format!("{:?}", ExitCode::from(ABSENT)));
        assert_eq!(std::fs::read(folder.path().join(SERVED)).unwrap(), b"..");
    }

    #[test]
    fn whatever_goes_wrong_is_never_taken_for_absent() {
        let failed = format!("{:?}", ExitCode::from(FAILED));
        let cut = folder("00000002.history\n");
        assert_eq!(get(cut.path(), "00000003.history"), failed);
        let lost = folder("00000002.history\n000000010000000000000001\nend\n");
        assert_eq!(get(lost.path(), "000000010000000000000001"), failed);
        assert_eq!(get(lost.path(), "../x"), failed);
        assert_eq!(get(Path::new("/nonexistent"), "00000002.history"), failed);
        assert_eq!(format!("{:?}", run(&[])), failed);
    }

    #[test]
    fn the_command_quotes_the_helper_and_maps_its_codes() {
        let command = restore_command(&["/opt/a b/it's%".into(), "wal-get".into()]);
        assert_eq!(
            command,
            "'/opt/a b/it'\\''s%%' 'wal-get' muster.restore \"%f\" \"%p\"; case $? in 0) exit 0;; 44) exit 1;; *) exit 255;; esac"
        );
        for (code, expected) in [(0, 0), (44, 1), (1, 255), (101, 255), (127, 255)] {
            let script = restore_command(&["/bin/sh".into(), "-c".into(), format!("exit {code}")]);
            let status = std::process::Command::new("/bin/sh").arg("-c").arg(script).status().unwrap();
            assert_eq!(status.code(), Some(expected));
        }
    }
}
