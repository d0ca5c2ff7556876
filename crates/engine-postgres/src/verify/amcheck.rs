//! `pg_amcheck` over every database of the copy: heap pages, B-trees, and that each row is found in its indexes.
//!
//! Where the program or the extension is missing, that is told with the package that has it; it is never passed over.

use std::process::Stdio;
use std::time::Instant;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::request::{Checked, VerifyCheck};
use muster_engine::work::Work;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::backup::cancelled;
use crate::verify::Finding;
use crate::verify::server::{Copy, asked_in_vain};

const NAME: &str = "amcheck";
/// Lines that are kept of what it says.
const MAX_LINES: usize = 200;
/// A line is at most this long; what is longer is cut.
const MAX_LINE: usize = 1_000;
/// What it exits with where it found corruption (`pg_amcheck.c`).
const CORRUPT: i32 = 2;

/// What a client of the copy asks for: nothing that the databases set for themselves holds.
pub const OPTIONS: &str = "-c session_replication_role=replica -c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 \
                           -c default_transaction_read_only=off -c client_min_messages=warning -c row_security=off";

/// Runs it.
pub async fn run(work: &Work, copy: &Copy, superuser: &str) -> Result<Finding, Fault> {
    let begun = Instant::now();
    if let Some(why) = missing(copy, superuser).await? {
        return Ok(Finding::Fine(VerifyCheck { name: NAME.into(), checked: Checked::NotChecked, detail: why, seconds: 0.0 }));
    }
    work.tell(|progress| progress.phase = "checking heaps and indexes".into());
    let said = tell(work, copy, superuser).await?;
    if said.code == Some(0) {
        let detail = format!("heaps and B-trees, each row found in its indexes: nothing wrong ({})", said.progress);
        return Ok(Finding::Fine(VerifyCheck {
            name: NAME.into(),
            checked: Checked::Passed,
            detail,
            seconds: begun.elapsed().as_secs_f64(),
        }));
    }
    if said.code == Some(CORRUPT) {
        return Ok(Finding::Wrong(said.lines.iter().map(|line| format!("{NAME}: {line}")).collect()));
    }
    let fault = Fault::failed(ErrorKind::FailedPrecondition, format!("pg_amcheck ended with {:?}", said.code))
        .hint("the point came up, and was not checked: see what pg_amcheck says");
    Err(said.lines.into_iter().take(20).fold(fault, Fault::evidence))
}

/// What it lacks, and where that is to be had.
async fn missing(copy: &Copy, superuser: &str) -> Result<Option<String>, Fault> {
    let major = copy.major();
    let program = copy.bin().join("pg_amcheck");
    if !program.is_file() {
        return Ok(Some(format!(
            "{} is not there: install postgresql-client-{major} (Debian), or postgresql{major}-contrib (RPM)",
            program.display()
        )));
    }
    let session = copy.connect(superuser, "template1", OPTIONS).await?;
    let found = session.client.query_opt("SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'", &[]).await;
    let found = found.map_err(|error| asked_in_vain("which extensions it has", &error))?;
    Ok(found.is_none().then(|| {
        format!("the extension amcheck is not installed: install postgresql-{major} (Debian), or postgresql{major}-contrib (RPM)")
    }))
}

/// What the program said.
struct Said {
    code: Option<i32>,
    lines: Vec<String>,
    /// Its last word on how far it is.
    progress: String,
}

async fn tell(work: &Work, copy: &Copy, superuser: &str) -> Result<Said, Fault> {
    let mut command = tokio::process::Command::new(copy.bin().join("pg_amcheck"));
    command.args(["--all", "--install-missing", "--heapallindexed", "--progress", "--no-password", "--jobs"]);
    command.arg(work.threads.clamp(1, 8).to_string()).arg("--username").arg(superuser);
    command.arg("--host").arg(copy.sockets()).arg("--port").arg(super::server::PORT.to_string());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("PGOPTIONS", OPTIONS).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |error: std::io::Error| {
        Fault::failed(ErrorKind::FailedPrecondition, format!("run pg_amcheck: {error}")).hint("see that the agent's user may run it")
    };
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = async { tokio::join!(lines(work, out), lines(work, err), child.wait()) };
    let ((mut found, far), (more, farther), status) = tokio::select! {
        read = read => read,
        () = work.cancel.cancelled() => return Err(cancelled()),
    };
    found.extend(more);
    found.truncate(MAX_LINES);
    let progress = if farther.is_empty() { far } else { farther };
    Ok(Said { code: status.map_err(failed)?.code(), lines: found, progress })
}

/// What it says, but for how far it is: that is told on.
async fn lines(work: &Work, from: Option<impl AsyncRead + Unpin>) -> (Vec<String>, String) {
    let (mut kept, mut far) = (Vec::new(), String::new());
    let Some(from) = from else { return (kept, far) };
    let mut reader = BufReader::new(from).split(b'\n');
    // What cannot be read any more has been said; the exit code judges.
    while let Ok(Some(line)) = reader.next_segment().await {
        let text = String::from_utf8_lossy(line.get(..line.len().min(MAX_LINE)).unwrap_or_default()).trim_end().to_owned();
        match progress(&text) {
            Some(how_far) => {
                work.tell(|progress| progress.phase = format!("checking heaps and indexes: {how_far}"));
                far = how_far;
            }
            None if !text.trim().is_empty() && kept.len() < MAX_LINES => kept.push(text),
            None => {}
        }
    }
    (kept, far)
}

/// `12/34 relations, 56/78 pages`, out of its progress report.
fn progress(line: &str) -> Option<String> {
    let (relations, rest) = line.split_once(" relations (")?;
    let (_, pages) = rest.split_once("),")?;
    let (pages, _) = pages.split_once(" pages (")?;
    let counts = |text: &str| text.trim().split('/').filter(|part| part.trim().parse::<u64>().is_ok()).count() == 2;
    (counts(relations) && counts(pages)).then(|| format!("{} relations, {} pages", relations.trim(), pages.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_told_apart_from_what_it_found() {
        assert_eq!(progress("  3/264 relations (  1%),     5/12345 pages (  0%)"), Some("3/264 relations, 5/12345 pages".to_owned()));
        for line in ["heap table \"shop.public.t\", block 3, offset 1, attribute 0:", "    relations (x", ""] {
            assert_eq!(progress(line), None);
        }
    }
}
