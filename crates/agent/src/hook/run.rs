//! One run of a hook, seen from the agent: started where it has not begun, joined where an earlier process of the agent began it.
//!
//! ```text
//!  ended stands          -> that is it
//!  lock is held          -> it runs: wait, or ask it to stop
//!  lock free, no started -> it never ran: start it
//!  lock free, started    -> nobody knows how it ended: again where the agent's file says that it is idempotent, else unknown
//! ```
//! What always holds: an agent that is killed and started again finds the run as it is, and a hook that is not declared idempotent is
//! started once for a command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_service::files;

use crate::durable::DurableError;
use crate::hook::declared::{Hook, OnFailure};
use crate::hook::ran::{End, Moment, Ran};
use crate::hook::supervisor::{self, Ended, How, Spec};
use crate::hook::{processes, rights};
use crate::state::boot_id;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often a run is started, or its supervisor, where that ends without a word.
const MAX_STARTS: u32 = 3;
/// How long what a lost run left may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// Where programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the agent wants of a run while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// That it goes on.
    Go,
    /// That it stops.
    Stop,
    /// To be left alone: the agent stops, and the next one joins the run.
    Leave,
}

/// Which run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The hook's name.
    pub name: &'a Name,
    /// As it is declared now.
    pub hook: &'a Hook,
    /// When it runs.
    pub moment: Moment,
    /// The run's own folder, the same for each process of the agent.
    pub folder: PathBuf,
    /// What it is told, besides PATH.
    pub environment: Vec<(String, String)>,
    /// `muster-agent`, which supervises.
    pub program: &'a Path,
}

/// Runs it, or joins it, to its end. Blocks. `None`: it was left.
///
/// # Errors
/// Where the disk of the state directory refuses; the run is as it was.
pub fn run(run: &Run<'_>, want: &dyn Fn() -> Want) -> Result<Option<Ran>, Fault> {
    follow(run, want).map_err(|error| {
        Fault::failed(ErrorKind::ResourceExhausted, format!("run hook {}: {error}", run.name))
            .hint("make room for the agent's state directory, see whether it can start programs, then ask for the operation anew")
    })
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error("its folder: {0}")]
    Disk(#[from] io::Error),
}

fn follow(run: &Run<'_>, want: &dyn Fn() -> Want) -> Result<Option<Ran>, RunError> {
    files::create_private_folder(&run.folder)?;
    let mut supervisor: Option<Child> = None;
    let mut starts = 0;
    loop {
        if let Some(ended) = supervisor::read_ended(&run.folder)? {
            reap(&mut supervisor);
            return Ok(Some(told(run, ended)));
        }
        match want() {
            Want::Leave => return Ok(None),
            Want::Stop if !supervisor::stop_file(&run.folder).exists() => fs::write(supervisor::stop_file(&run.folder), b"")?,
            Want::Stop | Want::Go => {}
        }
        let starting = supervisor.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        let lock = if starting { None } else { supervisor::lock(&run.folder)? };
        // It may have ended between the two looks.
        if let Some(lock) = lock
            && supervisor::read_ended(&run.folder)?.is_none()
        {
            if let Some(started) = supervisor::read_started(&run.folder)? {
                if started.boot == boot_id() {
                    processes::end(|| processes::orphans_of_session(started.session), GRACE);
                }
                if !run.hook.idempotent {
                    return Ok(Some(lost(run)));
                }
                tracing::warn!(hook = %run.name, "nobody knows how a run of it ended; it is idempotent and runs again");
                fs::remove_file(run.folder.join("started"))?;
            }
            if want() == Want::Stop {
                return Ok(Some(never(run, End::Stopped, "stopped before it began".to_owned())));
            }
            let spec = match spec(run) {
                Ok(spec) => spec,
                Err(why) => return Ok(Some(never(run, End::Failed, why))),
            };
            if starts == MAX_STARTS {
                return Ok(Some(never(run, End::Failed, "what supervises it ended without a word; see the agent's log".to_owned())));
            }
            starts += 1;
            supervisor::write_spec(&run.folder, &spec)?;
            drop(lock);
            supervisor = Some(start(run)?);
        }
        std::thread::sleep(LOOK);
    }
}

/// What is to run, judged right before it does.
fn spec(run: &Run<'_>) -> Result<Spec, String> {
    let account = rights::judge(run.hook)?;
    let mut environment = vec![("PATH".to_owned(), PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())];
    environment.extend(run.environment.iter().cloned());
    Ok(Spec {
        program: run.hook.program.clone(),
        arguments: run.hook.arguments.clone(),
        environment,
        account: account.map(|account| (account.uid, account.gid)),
        timeout_ms: u64::try_from(run.hook.timeout.as_millis()).unwrap_or(u64::MAX),
    })
}

fn start(run: &Run<'_>) -> io::Result<Child> {
    let mut command = Command::new(run.program);
    command.arg("run-hook").arg(&run.folder).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// It has told its end and is about to go.
fn reap(supervisor: &mut Option<Child>) {
    if let Some(child) = supervisor
        && let Err(error) = child.wait()
    {
        tracing::debug!(%error, "what supervised a hook was not waited for");
    }
}

fn told(run: &Run<'_>, ended: Ended) -> Ran {
    let end = match ended.how {
        How::Succeeded => End::Succeeded,
        How::Failed => End::Failed,
        How::Stopped => End::Stopped,
    };
    let Ended { code, detail, took_ms, output, .. } = ended;
    Ran { code, took_ms, output, ..never(run, end, detail) }
}

fn lost(run: &Run<'_>) -> Ran {
    let detail = "it began, and nobody knows how it ended; it is not declared `idempotent` and was not run again".to_owned();
    never(run, End::Unknown, detail)
}

fn never(run: &Run<'_>, end: End, detail: String) -> Ran {
    let failure_passes = run.hook.on_failure == OnFailure::Continue;
    Ran { hook: run.name.clone(), moment: run.moment, end, code: None, detail, took_ms: 0, output: Vec::new(), failure_passes }
}

/// Ends what still runs in the folders of a command's runs. Blocks.
///
/// # Errors
/// Where something stays.
pub fn end_leftovers(folder: &Path) -> Result<(), Fault> {
    let cannot = |error: io::Error| {
        Fault::failed(ErrorKind::FailedPrecondition, format!("end the hooks of {}: {error}", folder.display())).hint("end them by hand")
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(error)),
    };
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        if !path.is_dir() {
            continue;
        }
        let began = std::time::Instant::now();
        while supervisor::lock(&path).map_err(cannot)?.is_none() {
            fs::write(supervisor::stop_file(&path), b"").map_err(cannot)?;
            if began.elapsed() > Duration::from_secs(20) {
                return Err(cannot(io::Error::other("one does not end")));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}
