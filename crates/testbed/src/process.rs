//! A process of a world: run as a chosen user, killed when this process dies, its output kept in a file.
//!
//! The kernel's parent-death signal fires when the *thread* that started a child ends, so one thread of this process, which
//! never ends, starts them all. `setpriv` sets the user and the signal: no unsafe code is needed for either.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::account::{self, RunAs};
use crate::eventually::eventually;

/// The variable by which a library is put before all others.
const PRELOAD: &str = "LD_PRELOAD";

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// For messages and for the log file's name.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub run_as: RunAs,
    /// Its working folder; it lies in the world, so that the janitor finds the process.
    pub folder: PathBuf,
    /// Standard output and standard error are appended to this file.
    pub log: PathBuf,
    /// It is killed when this process dies. Off for a world that is to stay.
    pub dies_with_us: bool,
    /// The network namespace that it runs in. `None`: the machine's own.
    pub namespace: Option<PathBuf>,
}

impl Launch {
    /// The whole command with `setpriv` before it, and `nsenter` before that.
    fn command(&self) -> Result<Command> {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display())).args(["--", "setpriv"]);
                command
            }
            None => Command::new("setpriv"),
        };
        if self.run_as == RunAs::Postgres && rustix::process::geteuid().is_root() {
            let account = account::postgres()?;
            command.arg(format!("--reuid={}", account.uid)).arg(format!("--regid={}", account.gid)).arg("--clear-groups");
        }
        if self.dies_with_us {
            command.args(["--pdeathsig", "KILL"]);
        }
        command.arg("--");
        let mut environment = self.environment.clone();
        if let Some(library) = environment.remove(PRELOAD) {
            // For the program alone: what the library makes must belong to the program's user, and `setpriv` is still another one.
            command.arg("/usr/bin/env").arg(format!("{PRELOAD}={library}"));
        }
        command.arg(&self.program).args(&self.arguments).current_dir(&self.folder).env_clear().envs(environment);
        command.process_group(0).stdin(Stdio::null());
        Ok(command)
    }

    /// Gives it these variables of our own environment, where we have them: for tools of the machine, which keep caches below HOME.
    #[must_use]
    pub fn inheriting(mut self, names: &[&str]) -> Self {
        self.environment.extend(names.iter().filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?))));
        self
    }

    /// Starts it and leaves it running.
    ///
    /// # Errors
    /// Where the log cannot be opened or the program cannot be started.
    pub fn start(self) -> Result<Process> {
        let mut command = self.command()?;
        let open = || OpenOptions::new().create(true).append(true).open(&self.log).with_context(|| format!("open {}", self.log.display()));
        command.stdout(open()?).stderr(open()?);
        let child = spawn(command).with_context(|| format!("start {}", self.name))?;
        Process::new(self.name, self.log, child)
    }

    /// Runs it to its end, for at most `bound`, before the eyes of whoever runs this process.
    ///
    /// # Errors
    /// Where it cannot be started, has not ended within the bound, or ends badly.
    pub async fn show(self, bound: Duration) -> Result<()> {
        let mut command = self.command()?;
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let child = spawn(command).with_context(|| format!("start {}", self.name))?;
        let status = Process::new(self.name, self.log, child)?.ended(bound).await?;
        if status.success() { Ok(()) } else { bail!("it ended with {status}") }
    }

    /// Runs it to its end, for at most `bound`; the output is returned and not logged. It may be large, but not endless.
    ///
    /// # Errors
    /// Where it cannot be started or has not ended within the bound, when it is killed.
    pub async fn run(self, bound: Duration) -> Result<Output> {
        let mut command = self.command()?;
        let mut captured = tempfile::tempfile().context("make a file for the output")?;
        let mut complaints = tempfile::tempfile().context("make a file for the complaints")?;
        command.stdout(captured.try_clone()?).stderr(complaints.try_clone()?);
        let child = spawn(command).with_context(|| format!("start {}", self.name))?;
        let process = Process::new(self.name, self.log, child)?;
        let status = process.ended(bound).await;
        let mut output =
            |status| -> Result<Output> { Ok(Output { status, stdout: read_all(&mut captured)?, stderr: read_all(&mut complaints)? }) };
        match status {
            Ok(status) => output(status),
            Err(error) => {
                process.kill()?;
                let seen = output(ExitStatus::from_raw(9))?;
                Err(error.context(format!("standard output: {}\nstandard error: {}", seen.stdout, seen.stderr)))
            }
        }
    }
}

fn read_all(file: &mut std::fs::File) -> Result<String> {
    use std::io::{Read as _, Seek as _};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What it wrote, where it ended well.
    ///
    /// # Errors
    /// Where it ended otherwise: with all that it said.
    pub fn success(self) -> Result<String> {
        if !self.status.success() {
            bail!("{}\nstandard output: {}\nstandard error: {}", self.status, self.stdout.trim_end(), self.stderr.trim_end());
        }
        Ok(self.stdout)
    }
}

/// A process that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: Pid,
    child: Mutex<Child>,
}

impl Process {
    fn new(name: String, log: PathBuf, child: Child) -> Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| anyhow!("{name} has no process id"))?;
        Ok(Self { name, log, pid, child: Mutex::new(child) })
    }

    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or nothing while it runs.
    ///
    /// # Errors
    /// Where the kernel does not know the process.
    pub fn status(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child.lock().map_err(|_| anyhow!("a thread panicked with {}", self.name))?;
        child.try_wait().with_context(|| format!("ask after {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it still runs after `bound`.
    pub async fn ended(&self, bound: Duration) -> Result<ExitStatus> {
        eventually(&format!("the end of {}", self.name), bound, async || self.status()).await
    }

    /// Sends a signal. A process that has ended already is no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The process is not reaped before `status` says so, so that its id cannot be another's by now.
        if self.status()?.is_some() {
            return Ok(());
        }
        kill_process(self.pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let mut child = self.child.lock().map_err(|_| anyhow!("a thread panicked with {}", self.name))?;
        child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// It is stopped where it is (SIGSTOP): it holds its sockets and answers nobody.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// It goes on.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Errors
    /// Where it still runs after `bound`.
    pub async fn terminate(&self, bound: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended(bound).await
    }

    /// The whole of what it wrote so far (and its forerunners of the same name).
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn written(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("testbed: {} could not be killed: {error:#}", self.name);
        }
    }
}

type Order = (Command, SyncSender<std::io::Result<Child>>);

/// Starts a command on the thread that never ends.
fn spawn(command: Command) -> Result<Child> {
    static NURSERY: OnceLock<Sender<Order>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // Nobody waits for the answer only where the asking thread has panicked; the child dies with its handle's owner then.
                if let Err(unheard) = answer.send(command.spawn())
                    && let Ok(mut child) = unheard.0
                    && let Err(error) = child.kill()
                {
                    eprintln!("testbed: a child that nobody asked for any more could not be killed: {error}");
                }
            }
        });
        sender
    });
    let (answer, child) = sync_channel(1);
    nursery.send((command, answer)).map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    Ok(child.recv().map_err(|_| anyhow!("the thread that starts processes has ended"))??)
}
