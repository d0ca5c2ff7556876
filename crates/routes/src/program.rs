//! The second provider: the operator's own program. The contract is in the book (docs/guides/routes.md).
//!
//! One run a verb: a JSON object on standard input, one on standard output, each with a bound, and a time limit after which
//! the program and whatever it started are killed. It keeps its own secrets; none passes through here.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::change::Wanted;
use crate::domain::Domain;
use crate::provider::Replaced;
use crate::standing::Standing;

/// The most bytes of an answer, and of what it says on standard error.
const MOST_OUTPUT: u64 = 64 * 1_024;

/// The version of the contract.
const VERSION: u32 = 1;

/// A program, run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How long one run may last.
    pub limit: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    version: u32,
    verb: &'static str,
    zone: &'a Domain,
    name: &'a Domain,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Standing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<Standing>,
}

/// What a program answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Response {
    /// To `read`.
    Standing(Standing),
    /// To `compare`: it stands so. To `replace`: it was done.
    Done {},
    /// It does not stand as `before`; nothing was done.
    Changed(String),
    /// Nothing was done.
    Refused(String),
}

impl Program {
    /// What stands there.
    ///
    /// # Errors
    /// Where the program refuses, fails or keeps no contract.
    pub async fn read(&self, zone: &Domain, name: &Domain) -> Result<Standing, Fault> {
        let request = Request { version: VERSION, verb: "read", zone, name, before: None, wanted: None };
        match self.run(&request).await? {
            Response::Standing(standing) => Ok(standing),
            Response::Refused(why) => Err(self.refused("read", name, &why)),
            answer @ (Response::Done {} | Response::Changed(_)) => Err(self.broken("read", name, &format!("{answer:?} answers no read"))),
        }
    }

    /// Whether it stands as `before`.
    ///
    /// # Errors
    /// As [`Program::read`]; `Conflict` where it stands otherwise.
    pub async fn compare(&self, zone: &Domain, name: &Domain, before: &Standing) -> Result<(), Fault> {
        let request = Request { version: VERSION, verb: "compare", zone, name, before: Some(before), wanted: None };
        match self.run(&request).await? {
            Response::Done {} => Ok(()),
            Response::Changed(how) => Err(self.changed("compare", name, &how)),
            Response::Refused(why) => Err(self.refused("compare", name, &why)),
            answer @ Response::Standing(_) => Err(self.broken("compare", name, &format!("{answer:?} answers no compare"))),
        }
    }

    /// Makes `before` into `wanted`.
    ///
    /// # Errors
    /// Where the program says that nothing was done.
    pub async fn replace(&self, zone: &Domain, name: &Domain, before: &Standing, wanted: &Wanted) -> Result<Replaced, Fault> {
        let request = Request { version: VERSION, verb: "replace", zone, name, before: Some(before), wanted: Some(wanted.standing()) };
        match self.run(&request).await {
            Ok(Response::Done {}) => Ok(Replaced::Told),
            Ok(Response::Changed(how)) => Ok(Replaced::Changed(self.changed("replace", name, &how))),
            Ok(Response::Refused(why)) => Err(self.refused("replace", name, &why)),
            Ok(answer @ Response::Standing(_)) => {
                Ok(Replaced::Doubt(self.broken("replace", name, &format!("{answer:?} answers no replace"))))
            }
            Err(fault) => Ok(Replaced::Doubt(fault)),
        }
    }

    async fn run(&self, request: &Request<'_>) -> Result<Response, Fault> {
        let (verb, name) = (request.verb, request.name);
        let input = serde_json::to_vec(request).map_err(|error| self.broken(verb, name, &error.to_string()))?;
        let mut child = self.start().map_err(|error| self.broken(verb, name, &format!("it cannot be started: {error}")))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Also where the caller goes away meanwhile: the guard ends the whole group.
        let guard = Group(group);
        let ended = tokio::time::timeout(self.limit, talk(&mut child, &input)).await;
        drop(guard);
        let (output, complaint) = match ended {
            Err(_) => return Err(self.broken(verb, name, &format!("it did not end within {} s and was killed", self.limit.as_secs()))),
            Ok(Err(error)) => return Err(self.broken(verb, name, &error.to_string())),
            Ok(Ok(said)) => said,
        };
        serde_json::from_slice(&output).map_err(|error| {
            let complaint = String::from_utf8_lossy(&complaint).trim().chars().take(400).collect::<String>();
            let fault = self.broken(verb, name, &format!("its answer cannot be read: {error}"));
            if complaint.is_empty() { fault } else { fault.evidence(format!("it said: {complaint}")) }
        })
    }

    fn start(&self) -> std::io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command.spawn()
    }

    fn refused(&self, verb: &str, name: &Domain, why: &str) -> Fault {
        let why: String = why.chars().take(400).collect();
        Fault::refused(ErrorKind::FailedPrecondition, format!("{verb} {name} by {}: it refuses: {why}", self.path.display()))
            .hint(format!("what it refuses is the program's own affair; try it by hand: `muster route conform {}`", self.path.display()))
    }

    fn changed(&self, verb: &str, name: &Domain, how: &str) -> Fault {
        let how: String = how.chars().take(400).collect();
        Fault::refused(ErrorKind::Conflict, format!("{verb} {name} by {}: it does not stand as it was read: {how}", self.path.display()))
            .hint("somebody else changed it; see what stands there before you ask again")
    }

    fn broken(&self, verb: &str, name: &Domain, how: &str) -> Fault {
        Fault::failed(ErrorKind::Unavailable, format!("{verb} {name} by {}: {how}", self.path.display())).hint(format!(
            "the program must answer as docs/guides/routes.md has it; try it: `muster route conform {}`",
            self.path.display()
        ))
    }
}

/// Kills a process group when it goes out of scope.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // ESRCH: it and all that it started have ended already.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

async fn talk(child: &mut Child, input: &[u8]) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let gone = || std::io::Error::other("it has no standard input or output");
    let mut stdin = child.stdin.take().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    let stderr = child.stderr.take().ok_or_else(gone)?;
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (stdout.take(MOST_OUTPUT + 1), stderr.take(MOST_OUTPUT));
    let feed = async move {
        // A program may answer without reading all of its input.
        match stdin.write_all(input).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    };
    let answer = async {
        // Told at once: a program that writes on and on does not end by itself.
        match stdout.read_to_end(&mut output).await {
            Ok(length) if u64::try_from(length).unwrap_or(u64::MAX) > MOST_OUTPUT => {
                Err(std::io::Error::other("its answer has more than 64 KiB"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    };
    tokio::try_join!(feed, answer, stderr.read_to_end(&mut complaint))?;
    let status = child.wait().await?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint).trim().chars().take(400).collect::<String>();
        return Err(std::io::Error::other(format!("it ended with {status}: {complaint}")));
    }
    Ok((output, complaint))
}
