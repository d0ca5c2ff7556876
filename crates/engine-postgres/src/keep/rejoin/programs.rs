//! The programs of a rejoin: a recovery that nobody can connect to, a checkpoint on the writer, `pg_rewind`.
//!
//! All of them run with a configuration of the agent's own, without the permit, and none outlives a rejoin that is begun again.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::Upstream;
use muster_engine::work::Work;
use rustix::process::Signal;

use crate::config::PostgresConfig;
use crate::keep::{permit, position, processes};
use crate::restore::folders;

/// A crash recovery reads all log since the last checkpoint.
const RECOVERY: Duration = Duration::from_secs(3_600);
const CHECKPOINT: Duration = Duration::from_secs(600);
/// A program that was told to end is gone by then.
const ENDED: Duration = Duration::from_secs(10);

/// `pg_rewind` and what it needs.
#[derive(Clone, Debug)]
pub struct Rewind {
    /// The programs' folder.
    pub bin: PathBuf,
    /// The data that are rewound.
    pub data: PathBuf,
    /// The folder beside them.
    pub aside: PathBuf,
}

/// The programs for data that are not there yet: of the configured folder, or of the writer's version.
///
/// # Errors
/// Where the writer does not tell its version, or there are none for it.
pub async fn any_bin(own: &PostgresConfig, upstream: &Upstream) -> Result<PathBuf, Fault> {
    if let Some(bin) = &own.bin_directory {
        return Ok(bin.clone());
    }
    let version = crate::keep::upstream::version(own, upstream).await.ok_or_else(|| {
        Fault::refused(ErrorKind::Unavailable, "the writer does not tell its version").hint("set the instance's binDirectory")
    })?;
    crate::control::pg_ctl::bin_directory(own, version)
}

/// Ends what an earlier attempt left running when its agent was killed.
///
/// # Errors
/// Where it does not end.
pub fn end_left(data: &Path) -> Result<(), Fault> {
    let left = processes::gone(ENDED, || {
        let mut left = processes::running("pg_rewind", data);
        left.extend(processes::running("pg_basebackup", data));
        for pid in &left {
            processes::signal(*pid, Signal::KILL);
        }
        Ok(left)
    })?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Fault::failed(
        ErrorKind::FailedPrecondition,
        format!("an earlier pg_rewind or pg_basebackup of {} does not end: {left:?}", data.display()),
    )
    .hint("see what holds it (a stuck disk, a debugger) and end it by hand"))
}

/// `pg_rewind` needs checksums or hint bits in the log.
///
/// # Errors
/// Where neither is there.
pub fn refuse_what_cannot_be_rewound(data: &Path) -> Result<(), Fault> {
    let control = position::control(data)?;
    if control.checksum_version != 0 || control.logs_hints {
        return Ok(());
    }
    Err(Fault::refused(
        ErrorKind::FailedPrecondition,
        format!("{} has neither checksums nor wal_log_hints: it cannot be rewound", data.display()),
    )
    .hint("move the data aside, make the folder again, empty, and rejoin: it is copied from the writer; and turn checksums on for the next time (pg_checksums --enable)"))
}

impl Rewind {
    /// Brings a killed server's data to a clean stop: it recovers, alone and unreachable, and ends.
    ///
    /// # Errors
    /// Where it cannot recover.
    pub async fn recover(&self) -> Result<(), Fault> {
        folders::remove(&self.data.join("standby.signal"))?;
        folders::remove(&self.data.join("recovery.signal"))?;
        folders::remove(&self.data.join("postmaster.pid"))?;
        let configuration = self.configuration()?;
        let mut command = self.program("postgres");
        command.args(["--single", "-D"]).arg(&self.data).arg("-c").arg(format!("config_file={}", configuration.display()));
        // Prepared transactions in the log need their places, whatever the server's own configuration says.
        command.args(["-c", "archive_mode=off", "-c", "max_prepared_transactions=10000"]);
        // The checkpoint that ends the recovery must not remove the log back to the one before the fork, which the rewind reads.
        command.args(["-c", "wal_keep_size=1000000"]);
        let output = run(command.arg("template1"), RECOVERY, "recover the data on their own line").await?;
        if output.status.success() && position::is_clean(&position::control(&self.data)?) {
            return Ok(());
        }
        Err(failed("recover the data on their own line", &output))
    }

    /// A checkpoint on the writer: right after its promotion its control file still names the timeline before.
    ///
    /// # Errors
    /// Where it cannot be asked for, and none has come since the promotion.
    pub async fn checkpoint(&self, own: &PostgresConfig, upstream: &Upstream, timeline: u32) -> Result<(), Fault> {
        let doing = "have the writer make a checkpoint";
        let ask = |sql: &str| {
            let mut command = self.program("psql");
            command.args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d"]).arg(conninfo(own, upstream)).args(["-c", sql]);
            command
        };
        let output = run(&mut ask("CHECKPOINT"), CHECKPOINT, doing).await?;
        if output.status.success() {
            return Ok(());
        }
        let known = run(&mut ask("SELECT timeline_id FROM pg_control_checkpoint()"), CHECKPOINT, doing).await?;
        if String::from_utf8_lossy(&known.stdout).trim() == timeline.to_string() {
            return Ok(());
        }
        Err(failed(doing, &output).hint(format!(
            "on the writer, as a superuser: GRANT pg_checkpoint TO {user}; and for pg_rewind: GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO {user}; and a line for it in pg_hba.conf",
            user = crate::rights::identifier(&upstream.user)
        )))
    }

    /// Rewinds.
    ///
    /// # Errors
    /// Where `pg_rewind` fails, or is told to stop; the data stay half-made then.
    pub async fn run(&self, work: &Work, own: &PostgresConfig, upstream: &Upstream) -> Result<(), Fault> {
        let configuration = self.configuration()?;
        let mut command = self.program("pg_rewind");
        command.arg("-D").arg(&self.data).arg("--source-server").arg(conninfo(own, upstream));
        command.arg("--no-ensure-shutdown").arg(format!("--config-file={}", configuration.display()));
        let doing = "rewind it to the writer's line";
        let output = tokio::select! {
            output = run(&mut command, Duration::MAX, doing) => output?,
            () = work.cancel.cancelled() => {
                return Err(Fault::failed(ErrorKind::Cancelled, "the rejoin was stopped").hint("muster rejoin NAME goes on with it"));
            }
        };
        if output.status.success() {
            return Ok(());
        }
        Err(failed(doing, &output)
            .hint("muster rejoin NAME tries again; where it cannot work, move the data and the note beside them aside, make the folder again, empty, and rejoin: it is copied from the writer"))
    }

    /// Fills the empty data directory from the writer; the control file comes last.
    ///
    /// # Errors
    /// Where `pg_basebackup` fails, or is told to stop.
    pub async fn copy(&self, work: &Work, own: &PostgresConfig, upstream: &Upstream) -> Result<(), Fault> {
        let mut command = self.program("pg_basebackup");
        command.arg("-D").arg(&self.data).arg("-d").arg(conninfo(own, upstream)).args(["-X", "stream", "-c", "fast", "-w"]);
        if let Some(slot) = &upstream.slot {
            command.arg("-S").arg(slot);
        }
        let doing = "copy the writer";
        let output = tokio::select! {
            output = run(&mut command, Duration::MAX, doing) => output?,
            () = work.cancel.cancelled() => {
                return Err(Fault::failed(ErrorKind::Cancelled, "the copy was stopped").hint("muster rejoin NAME begins it anew"));
            }
        };
        if output.status.success() { Ok(()) } else { Err(failed(doing, &output).hint("muster rejoin NAME begins it anew")) }
    }

    fn configuration(&self) -> Result<PathBuf, Fault> {
        let path = self.aside.join("private.conf");
        folders::write(&path, b"listen_addresses = ''\nunix_socket_directories = ''\n")?;
        Ok(path)
    }

    fn program(&self, name: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.bin.join(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/").kill_on_drop(true);
        for name in ["HOME", "TZ"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// An ordinary connection to the writer, for programs.
fn conninfo(own: &PostgresConfig, upstream: &Upstream) -> String {
    let database = own.database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("{} dbname='{database}'", permit::conninfo(upstream))
}

async fn run(command: &mut tokio::process::Command, patience: Duration, doing: &str) -> Result<Output, Fault> {
    let stalled = || {
        Fault::failed(ErrorKind::Stalled, format!("{doing}: it took longer than {} s", patience.as_secs()))
            .hint("see what it waits for, then rejoin again")
    };
    let output = tokio::time::timeout(patience, command.output()).await.map_err(|_| stalled())?;
    output.map_err(|error| {
        Fault::failed(ErrorKind::FailedPrecondition, format!("{doing}: {error}")).hint("correct the instance's binDirectory")
    })
}

/// The end of what a program said.
fn failed(doing: &str, output: &Output) -> Fault {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    let told = lines.into_iter().rev().collect::<Vec<_>>().join("; ");
    Fault::failed(ErrorKind::FailedPrecondition, format!("{doing}: {told}")).hint("muster rejoin NAME tries again")
}
