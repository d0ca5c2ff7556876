//! The shell that cleans up after a world. It waits for the end of its standard input, which comes when the world is dropped
//! and also when this process is killed in any way; then it kills every process whose working folder or program lies in
//! the world's folder, unmounts what is mounted there and removes the folder, and the one of its name in memory. A server that an agent started by itself is caught so too.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result};

/// Kills everything in `$1` and removes it. Three rounds: a process may start another between the look and the kill.
const SWEEP: &str = r#"
for round in 1 2 3; do
    pids=$(find /proc/[0-9]*/cwd /proc/[0-9]*/exe -maxdepth 0 \( -lname "$1" -o -lname "$1/*" \) 2>/dev/null | cut -d/ -f3 | sort -u)
    [ -n "$pids" ] || break
    for pid in $pids; do
        [ "$pid" = $$ ] || kill -9 "$pid" 2>/dev/null
    done
    sleep 0.05
done
cut -d' ' -f2 /proc/mounts | grep -F "$1/" | while read -r mounted; do umount -l "$mounted"; done
rm -rf -- "$1" || { sleep 0.5; rm -rf -- "$1"; }
rm -rf -- "/dev/shm/$(basename "$1")"
"#;

/// The end of input asks for the sweep; the word `keep` sends the janitor home.
const WAIT: &str = r#"
trap '' INT TERM HUP QUIT
cd /
read -r word
[ "$word" = keep ] && exit 0
"#;

/// Watches one folder.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
    input: Option<ChildStdin>,
}

impl Janitor {
    /// Starts to watch `folder`.
    ///
    /// # Errors
    /// Where no shell can be started.
    pub fn watch(folder: &Path) -> Result<Self> {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{WAIT}{SWEEP}"))
            .arg("muster-testbed-janitor")
            .arg(folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the shell that cleans up")?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Kills all and removes the folder; returns when that is done.
    ///
    /// # Errors
    /// Where the shell cannot be waited for.
    pub fn sweep(&mut self) -> Result<()> {
        drop(self.input.take());
        self.child.wait().context("wait for the shell that cleans up")?;
        Ok(())
    }

    /// Leaves everything as it is and writes a script which cleans up when its user wants it.
    ///
    /// # Errors
    /// Where the script cannot be written or the shell has gone.
    pub fn leave(&mut self, folder: &Path) -> Result<PathBuf> {
        let script = folder.join("stop");
        let text =
            format!("#!/bin/sh\n# Ends this world: kills what runs in it and removes it.\ncd /\nset -- '{}'\n{SWEEP}", folder.display());
        std::fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).context("make the script runnable")?;
        if let Some(mut input) = self.input.take() {
            input.write_all(b"keep\n").context("send the janitor home")?;
        }
        self.child.wait().context("wait for the shell that cleans up")?;
        Ok(script)
    }
}
