//! `muster wal-get`: the `restore_command`'s helper of a database that `muster repo restore` brought back. Called by PostgreSQL, not by people.

use std::ffi::OsString;
use std::process::ExitCode;

/// Hands over a file of the log, if these are its arguments. It is judged before the command line is read: its exit codes are its own.
#[must_use]
pub fn run_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    arguments.next()?;
    let asked = arguments.next().is_some_and(|first| first == "wal-get");
    asked.then(|| muster_engine_postgres::wal_get::run(&arguments.collect::<Vec<_>>()))
}
