//! Starting and stopping a server by `pg_ctl`, and proof that it is stopped.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};

use crate::config::{Control, PostgresConfig};
use crate::control::unit::{Order, ServerUnit, Started};
use crate::data_directory::{self, Postmaster};

/// A fast shutdown may take so long (a checkpoint of everything) before it becomes an immediate one.
const FAST_SECONDS: u32 = 120;
/// An immediate one is over in no time, or something is very wrong.
const IMMEDIATE_SECONDS: u32 = 60;
/// `pg_ctl` waits so long for the first sign of a server; replay is waited for elsewhere.
const START_SECONDS: u32 = 600;
/// How much of the log's end is shown.
const TAIL: u64 = 2_000;

/// A server's programs and data.
#[derive(Clone, Debug)]
pub struct PgCtl {
    bin: PathBuf,
    data: PathBuf,
    log: PathBuf,
    options: String,
    /// A program and its arguments that the server is started within. Empty: none.
    within: Vec<String>,
    /// The unit that it is started in. None: a session of its own, as `pg_ctl` makes it.
    unit: Option<ServerUnit>,
}

/// The folder of the programs for a major version.
///
/// # Errors
/// Where there is no `pg_ctl` in it.
pub fn bin_directory(config: &PostgresConfig, major: u32) -> Result<PathBuf, Fault> {
    let bin = config.bin_directory.clone().unwrap_or_else(|| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    if bin.join("pg_ctl").is_file() && bin.join("postgres").is_file() {
        return Ok(bin);
    }
    Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} has no pg_ctl and postgres", bin.display()))
        .hint(format!("install PostgreSQL {major} on this machine, or set the instance's binDirectory")))
}

/// The major version of the programs in `bin`.
///
/// # Errors
/// Where they cannot be asked.
pub async fn program_major(bin: &Path) -> Result<u32, Fault> {
    let output = tokio::process::Command::new(bin.join("postgres")).arg("--version").stdin(Stdio::null()).output().await;
    let failed = |why: String| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("{}/postgres --version: {why}", bin.display()))
            .hint("correct the instance's binDirectory")
    };
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = number.and_then(|word| word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    major.ok_or_else(|| failed(format!("{text:?} names no version")))
}

impl PgCtl {
    /// The server with its data in `data`. `more` are options besides the configured ones.
    #[must_use]
    pub fn new(config: &PostgresConfig, bin: PathBuf, data: &Path, more: &[String]) -> Self {
        let Control::PgCtl { options, .. } = &config.control;
        let mut all = more.to_vec();
        if data == config.data_directory && !options.is_empty() {
            all.push(options.clone());
        }
        Self {
            bin,
            data: data.to_owned(),
            log: config.log_file(data),
            options: all.join(" "),
            within: Vec::new(),
            unit: config.server_unit.clone(),
        }
    }

    /// The same, started within another program, which runs what stands behind its arguments.
    #[must_use]
    pub fn within(mut self, program: Vec<String>) -> Self {
        self.within = program;
        self.unit = None;
        self
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How long the log is now, so that later only what is new is shown.
    #[must_use]
    pub fn log_length(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |meta| meta.len())
    }

    /// The end of what the log got since it had `from` bytes.
    #[must_use]
    pub fn log_tail(&self, from: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = std::fs::File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(from.min(length).max(length.saturating_sub(TAIL))))?;
            let mut bytes = Vec::new();
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_else(|error| format!("{}: {error}", self.log.display()))
    }

    fn command(&self) -> tokio::process::Command {
        let program = self.bin.join("pg_ctl");
        let mut command = match self.within.split_first() {
            Some((first, more)) => {
                let mut command = tokio::process::Command::new(first);
                command.args(more).arg(program);
                command
            }
            None => tokio::process::Command::new(program),
        };
        command.arg("-D").arg(&self.data);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        for name in ["HOME", "TZ"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the server. It lives on when this process ends.
    ///
    /// # Errors
    /// Where it ended before it said that it runs: with the end of its log.
    pub async fn start(&self) -> Result<(), Fault> {
        let before = self.log_length();
        if let Some(unit) = &self.unit {
            let order = Order {
                postgres: self.bin.join("postgres"),
                data: self.data.clone(),
                options: self.options.clone(),
                log: self.log.clone(),
            };
            let within = Duration::from_secs(START_SECONDS.into());
            match unit.start(&order, within).await.map_err(|fault| fault.evidence(self.log_tail(before)))? {
                Started::Ready => return Ok(()),
                // A server that runs is worth more than a unit of its own: no polkit, or no such unit.
                Started::Refused(why) => tracing::warn!(data = %self.data.display(), "the server starts in the agent's own unit: {why}"),
            }
        }
        let mut command = self.command();
        command.arg("-l").arg(&self.log).args(["-w", "-t", &START_SECONDS.to_string()]);
        if !self.options.is_empty() {
            command.arg("-o").arg(&self.options);
        }
        let output = command.arg("start").output().await;
        let failed = |why: &str| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("start the server in {}: {why}", self.data.display()))
                .hint(format!("the server's log {} tells more", self.log.display()))
        };
        let output = output.map_err(|error| failed(&error.to_string()))?;
        if output.status.success() { Ok(()) } else { Err(failed("pg_ctl gave up").evidence(self.log_tail(before))) }
    }

    /// Tells the server to read its configuration again.
    ///
    /// # Errors
    /// Where `pg_ctl` fails.
    pub async fn reload(&self) -> Result<(), Fault> {
        let output = self.command().arg("reload").output().await;
        let failed = |why: String| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("reload the server in {}: {why}", self.data.display()))
                .hint("run pg_ctl reload by hand")
        };
        let output = output.map_err(|error| failed(error.to_string()))?;
        if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
    }

    /// Stops the server, if one runs: fast, then immediately; and waits until no process of it is left.
    ///
    /// # Errors
    /// Where processes are left.
    pub async fn stop(&self) -> Result<(), Fault> {
        for (mode, seconds) in [("fast", FAST_SECONDS), ("immediate", IMMEDIATE_SECONDS)] {
            if !self.is_held()? {
                break;
            }
            let output = self.command().args(["-m", mode, "-w", "-t", &seconds.to_string(), "stop"]).output().await;
            match output {
                Ok(output) if output.status.success() => break,
                Ok(output) => {
                    tracing::warn!(data = %self.data.display(), mode, "pg_ctl stop: {}", String::from_utf8_lossy(&output.stderr).trim())
                }
                Err(error) => tracing::warn!(data = %self.data.display(), mode, "pg_ctl stop: {error}"),
            }
        }
        // A backend can outlive its postmaster for a moment.
        for _ in 0..300 {
            let left = processes_in(&self.data);
            if left.is_empty() && !self.is_held()? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Fault::failed(
            ErrorKind::FailedPrecondition,
            format!("stop the server in {}: processes {:?} are still there", self.data.display(), processes_in(&self.data)),
        )
        .hint("see what holds them (a stuck disk, a debugger) and end them by hand"))
    }

    fn is_held(&self) -> Result<bool, Fault> {
        let held = data_directory::postmaster(&self.data).map_err(|error| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("see whether a server runs: {error}"))
                .hint("run the agent as the owner of the data directory")
        })?;
        Ok(matches!(held, Postmaster::Alive { .. }))
    }
}

/// Processes of the server that works in a data directory.
#[must_use]
pub fn processes_in(data: &Path) -> Vec<u32> {
    let Ok(data) = data.canonicalize() else { return Vec::new() };
    server_processes(|cwd| cwd == data)
}

/// Processes of servers that work where `works_in` says: every process of a server does so in its data directory (`ChangeToDataDir`).
pub fn server_processes(works_in: impl Fn(&Path) -> bool) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let there = |pid: &u32| {
        let postgres = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "postgres");
        postgres && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| works_in(&cwd))
    };
    entries.flatten().filter_map(pid).filter(there).collect()
}
