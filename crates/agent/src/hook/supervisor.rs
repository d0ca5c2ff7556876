//! The process that stands between the agent and a hook: `muster-agent run-hook FOLDER`. It outlives an agent that is killed or upgraded,
//! so that a hook runs once, to its end or its timeout, whatever becomes of the agent.
//!
//! ```text
//! spec      what to run                                     (the agent, before it starts this)
//! lock      held by this process for as long as it lives
//! started   it began: from here on the hook may have run    (this process, before it starts the program)
//! stop      somebody asked it to stop                       (the agent)
//! ended     how it ended                                    (this process, after all of it)
//! ```
//!
//! What always holds: a program is started only after `started` is durable, and never where `started` stands already. When it takes
//! too long or is stopped, all that descends from it is ended: this process is a session leader, and orphans below it become its children.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use muster_common::{duration, redact};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError, Format};
use crate::hook::processes;
use crate::state::boot_id;

const SPEC: Format = Format { magic: "MUSTER-HOOK", version: 1 };
const STARTED: Format = Format { magic: "MUSTER-HOOK-STARTED", version: 1 };
const ENDED: Format = Format { magic: "MUSTER-HOOK-ENDED", version: 1 };

/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long what is to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is waited for after the program has ended: what it left running may hold the pipe.
const DRAIN: Duration = Duration::from_millis(500);
/// How much of the output is kept, in bytes, lines, and characters of a line.
const MOST_OUTPUT: usize = 32 << 10;
const MOST_LINES: usize = 100;
const MOST_LINE: usize = 500;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its environment.
    pub environment: Vec<(String, String)>,
    /// User and group, where they are not the agent's.
    pub account: Option<(u32, u32)>,
    /// When it is killed, in milliseconds.
    pub timeout_ms: u64,
}

/// That it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The session that it runs in.
    pub session: u32,
    /// The machine's boot.
    pub boot: String,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What kind of end.
    pub how: How,
    /// The exit code, where there is one.
    pub code: Option<i32>,
    /// In words.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The last lines of what it said.
    pub output: Vec<String>,
}

/// What kind of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Exit code 0.
    Succeeded,
    /// Another one, a signal, the timeout, or it could not be started.
    Failed,
    /// It was stopped.
    Stopped,
}

/// Makes what to run durable.
///
/// # Errors
/// The disk's.
pub fn write_spec(folder: &Path, spec: &Spec) -> Result<(), DurableError> {
    durable::write_json(&folder.join("spec"), SPEC, spec)
}

/// Whether a run began.
///
/// # Errors
/// The disk's.
pub fn read_started(folder: &Path) -> Result<Option<Started>, DurableError> {
    durable::read_json(&folder.join("started"), STARTED)
}

/// How the run ended. `None`: it has not.
///
/// # Errors
/// The disk's.
pub fn read_ended(folder: &Path) -> Result<Option<Ended>, DurableError> {
    durable::read_json(&folder.join("ended"), ENDED)
}

/// The file that asks a run to stop.
#[must_use]
pub fn stop_file(folder: &Path) -> PathBuf {
    folder.join("stop")
}

/// Takes the lock of a run. `None`: its supervisor lives.
///
/// # Errors
/// The disk's.
pub fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs the hook of a folder to its end.
///
/// # Errors
/// What keeps it from even saying how it ended.
pub fn supervise(folder: &Path) -> anyhow::Result<()> {
    let Some(_lock) = lock(folder)? else { return Ok(()) };
    if read_started(folder)?.is_some() || read_ended(folder)?.is_some() {
        return Ok(());
    }
    let Some(spec) = durable::read_json::<Spec>(&folder.join("spec"), SPEC)? else { return Ok(()) };
    // It leads a session of its own unless whoever started it saw to that.
    if let Err(error) = rustix::process::setsid()
        && error != rustix::io::Errno::PERM
    {
        return Err(io::Error::from(error).into());
    }
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(io::Error::from)?;
    let started = Started { session: u32::try_from(own.as_raw_nonzero().get())?, boot: boot_id() };
    durable::write_json(&folder.join("started"), STARTED, &started)?;
    let began = Instant::now();
    let ended = run(&spec, folder, began);
    Ok(durable::write_json(&folder.join("ended"), ENDED, &ended)?)
}

fn run(spec: &Spec, folder: &Path, began: Instant) -> Ended {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (how, code, detail) = match start(spec) {
        Ok((mut child, out)) => {
            let drained = drain(out, &tail);
            let judged = watch(&mut child, spec, folder, began);
            let waited = Instant::now();
            while drained.as_ref().is_some_and(|reader| !reader.is_finished()) && waited.elapsed() < DRAIN {
                std::thread::sleep(LOOK);
            }
            judged
        }
        Err(error) => (How::Failed, None, format!("it could not be started: {error}")),
    };
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let output = tail.lock().unwrap_or_else(PoisonError::into_inner).lines();
    Ended { how, code, detail, took_ms, output }
}

fn start(spec: &Spec) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.arguments).env_clear().envs(spec.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    if let Some((uid, gid)) = spec.account {
        command.uid(uid).gid(gid);
    }
    Ok((command.spawn()?, reader))
}

fn watch(child: &mut Child, spec: &Spec, folder: &Path, began: Instant) -> (How, Option<i32>, String) {
    let timeout = Duration::from_millis(spec.timeout_ms);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return judged(status),
            Ok(None) => {}
            Err(error) => return (How::Failed, None, format!("it could not be watched: {error}")),
        }
        let late = began.elapsed() >= timeout;
        if late || stop_file(folder).exists() {
            let own = std::process::id();
            let left = processes::end(|| processes::below(own), GRACE);
            reap();
            let left = if left.is_empty() { String::new() } else { format!("; processes {left:?} of it could not be ended") };
            return match late {
                true => (
                    How::Failed,
                    None,
                    format!("killed after {}, its timeout, with all that it had started{left}", duration::show(timeout)),
                ),
                false => (How::Stopped, None, format!("stopped, with all that it had started{left}")),
            };
        }
        std::thread::sleep(LOOK);
    }
}

/// What was ended, and became a child of this process, is not left as a zombie.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

fn judged(status: ExitStatus) -> (How, Option<i32>, String) {
    match (status.code(), status.signal()) {
        (Some(0), _) => (How::Succeeded, Some(0), "exit code 0".to_owned()),
        (Some(code), _) => (How::Failed, Some(code), format!("exit code {code}")),
        (None, Some(signal)) => (How::Failed, None, format!("ended by signal {signal}")),
        (None, None) => (How::Failed, None, "it ended in an unknown way".to_owned()),
    }
}

fn drain(mut out: PipeReader, tail: &Arc<Mutex<Tail>>) -> Option<std::thread::JoinHandle<()>> {
    let tail = Arc::clone(tail);
    let reader = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = out.read(&mut buffer) {
            tail.lock().unwrap_or_else(PoisonError::into_inner).push(buffer.get(..read).unwrap_or_default());
        }
    });
    reader.ok()
}

/// The end of what was said.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(MOST_OUTPUT);
        if over > 0 {
            self.bytes.drain(..over);
            self.cut = true;
        }
    }

    fn lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = redact::redact(&String::from_utf8_lossy(&bytes));
        // What is left of a line whose beginning is gone could be the rest of a secret.
        let lines: Vec<&str> = text.lines().skip(usize::from(self.cut)).collect();
        let clean = |line: &&str| line.chars().filter(|c| !c.is_control() || *c == '\t').take(MOST_LINE).collect();
        lines.iter().skip(lines.len().saturating_sub(MOST_LINES)).map(clean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(script: &str, timeout_ms: u64) -> Spec {
        let environment = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("MUSTER_VERB".to_owned(), "backup".to_owned())];
        Spec { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()], environment, account: None, timeout_ms }
    }

    fn ran(script: &str) -> Ended {
        let folder = tempfile::tempdir().unwrap();
        run(&spec(script, 60_000), folder.path(), Instant::now())
    }

    #[test]
    fn what_it_says_and_how_it_ends_is_told_and_its_environment_is_what_was_given() {
        let ended = ran("echo one; echo two >&2; env | sort; exit 3");
        assert_eq!((ended.how, ended.code, ended.detail.as_str()), (How::Failed, Some(3), "exit code 3"));
        let told: Vec<&str> = ended.output.iter().map(String::as_str).filter(|line| !line.starts_with('_')).collect();
        assert_eq!(told, ["one", "two", "MUSTER_VERB=backup", "PATH=/usr/bin:/bin", "PWD=/"]);
        assert_eq!(ran("kill -9 $$").detail, "ended by signal 9");
        assert_eq!(ran("true").how, How::Succeeded);
    }

    #[test]
    fn only_the_end_of_much_output_is_kept_and_secrets_are_not() {
        let ended = ran("i=0; while [ $i -lt 3000 ]; do echo line $i of a long story; i=$((i+1)); done; echo password=hunter2");
        assert_eq!(ended.output.len(), MOST_LINES);
        assert_eq!(ended.output[MOST_LINES - 2], "line 2999 of a long story");
        assert!(!ended.output[MOST_LINES - 1].contains("hunter2"), "{:?}", ended.output[MOST_LINES - 1]);
    }

    #[test]
    fn what_it_leaves_running_does_not_keep_it() {
        let began = Instant::now();
        let ended = ran("sleep 300 & echo $!");
        assert_eq!(ended.how, How::Succeeded);
        assert!(began.elapsed() < Duration::from_secs(30));
        let left: i32 = ended.output[0].parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(left).unwrap(), rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn a_program_that_cannot_be_started_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let ended = run(&Spec { program: "/nowhere/hook".into(), ..spec("", 1_000) }, folder.path(), Instant::now());
        assert!(ended.detail.contains("could not be started"), "{}", ended.detail);
    }
}
