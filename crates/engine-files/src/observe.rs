//! One look at a folder: whether it is there, how many files, how large, the newest change.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_common::time::Timestamp;
use muster_engine::observation::{Condition, Depth, Observation, Position, Role};

use crate::engine::blocking;
use crate::walk::{Ended, What, walk};

/// How long a full look counts files. What takes longer is not counted.
const COUNT: Duration = Duration::from_secs(3);

/// Looks.
pub async fn observe(folder: &Path, depth: Depth) -> Observation {
    let path = folder.to_owned();
    let at = now();
    match blocking(move || look(&path, depth)).await {
        Ok(observation) => Observation { at, ..observation },
        Err(fault) => Observation { at, conditions: vec![wrong(fault.message, fault.hint)], ..Observation::default() },
    }
}

fn look(folder: &Path, depth: Depth) -> Observation {
    let (role, condition) = match std::fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => (Role::ReadWrite, good()),
        Ok(_) => (Role::Unknown, wrong(format!("{} is no folder", folder.display()), "correct `files.path` in the component's spec")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "make the folder, or restore a point into it; is the disk mounted?";
            // A restore into the empty place must stay possible.
            (Role::Down, Condition { blocking: false, ..wrong(format!("{} does not exist", folder.display()), hint) })
        }
        Err(error) => (Role::Unknown, wrong(format!("{}: {error}", folder.display()), "let the agent's user read it")),
    };
    let observation = Observation { role, ..Observation::default() };
    match (depth, role) {
        (Depth::Role, _) => observation,
        (Depth::Full, Role::ReadWrite) => count(folder, observation),
        (Depth::Full, Role::Unknown | Role::Standby | Role::Down) => Observation { conditions: vec![condition], ..observation },
    }
}

fn count(folder: &Path, observation: Observation) -> Observation {
    let (mut files, mut total, mut newest) = (0_u64, 0_u64, Timestamp::default());
    let ended = walk(folder, Some(Instant::now() + COUNT), |found| {
        if let What::File { bytes, mtime } = found.what {
            files += 1;
            total += bytes;
            newest = newest.max(mtime);
        }
    });
    let counted = Observation { position: Some(Position::Files { count: files, newest }), bytes: Some(total), ..observation.clone() };
    match ended {
        Ok(()) => Observation { conditions: vec![good()], ..counted },
        Err(Ended::TooLong | Ended::TooMany) => {
            let details = [("counting".to_owned(), format!("more than {files} files: not counted to the end"))];
            Observation { conditions: vec![good()], details: details.into(), ..observation }
        }
        Err(Ended::Unreadable(path, error)) => {
            let condition = wrong(unreadable(&path, &error), "let the agent's user read everything below the folder");
            Observation { conditions: vec![condition], ..observation }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn good() -> Condition {
    Condition { name: "DataDirectory".to_owned(), ok: true, blocking: true, message: String::new(), hint: String::new() }
}

fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Condition {
    Condition { ok: false, message: message.into(), hint: hint.into(), ..good() }
}

/// This machine's wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
