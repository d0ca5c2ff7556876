//! A logical point brought back: its files into an empty folder, for a plain `pg_restore`, or one database of it into a new
//! database of the running server.
//!
//! What always holds: a database that is there is never touched; the new one is made by this command, bears its mark as its
//! comment, and is dropped again where it cannot be filled, also by the next run of a command that was killed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::size::Size;
use muster_engine::request::{RestoreOutcome, RestorePlan, RestoreRequest, RestoreTarget};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::counters::Counters;
use muster_repository::reading::Point;
use muster_repository::restoring::{Extract, ExtractOptions};

use crate::backup::{cancelled, failpoint, tell_trouble};
use crate::connect::{self, Purpose, Session, tell};
use crate::dump::catalog::Catalog;
use crate::dump::message::{DumpPoint, Dumped};
use crate::dump::programs::Programs;
use crate::engine::Postgres;
use crate::restore::{folders, off_runtime, plan};

/// Ranged reads at once.
const IN_FLIGHT: usize = 8;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// Space that is left free besides.
const SPARE: u64 = 64 << 20;

/// Brings a logical point back, or tells what that would do.
///
/// # Errors
/// Refusals; what failed, with what was made by it removed again.
pub async fn restore(
    instance: &Postgres,
    work: &Work,
    open: &OpenRepository,
    point: Arc<Point>,
    request: &RestoreRequest,
) -> Result<RestoreOutcome, Fault> {
    let known = DumpPoint::read(&point.summary.details.engine)?;
    match &request.target {
        RestoreTarget::Beside { directory, .. } => to_folder(work, open, &point, request, &plan::real(directory)).await,
        RestoreTarget::Database { name, from } => {
            let dumped = choose(&known, from)?.clone();
            into_database(instance, work, open, &point, request, &known, &dumped, name).await
        }
        RestoreTarget::Empty | RestoreTarget::InPlace => Err(Fault::refused(
            ErrorKind::InvalidArgument,
            format!("restore {}: point {} is a dump, and no data directory can be made of it", instance.config.name, request.point),
        )
        .hint("--into-database NAME fills a new database from it, --beside FOLDER gives its files; or choose a physical point")),
    }
}

/// The database that is meant; where the point has one, it need not be named.
fn choose<'a>(known: &'a DumpPoint, from: &str) -> Result<&'a Dumped, Fault> {
    let names: Vec<&str> = known.databases.iter().map(|database| database.name.as_str()).collect();
    match known.databases.as_slice() {
        [only] if from.is_empty() => Ok(only),
        all => all.iter().find(|database| database.name == from).ok_or_else(|| {
            let what =
                if from.is_empty() { "which database of the dump?".to_owned() } else { format!("the dump has no database {from:?}") };
            Fault::refused(ErrorKind::InvalidArgument, what).hint(format!("--from-database: one of {}", names.join(", ")))
        }),
    }
}

fn outcome(request: &RestoreRequest, plan: RestorePlan, directory: &Path, phases: BTreeMap<String, f64>) -> RestoreOutcome {
    let directory = if request.dry_run || !directory.as_os_str().is_empty() { directory.to_owned() } else { PathBuf::new() };
    RestoreOutcome { plan, directory, kept: None, position: None, phases }
}

/// All files of the point into a folder that is empty or absent.
async fn to_folder(
    work: &Work,
    open: &OpenRepository,
    point: &Arc<Point>,
    request: &RestoreRequest,
    folder: &Path,
) -> Result<RestoreOutcome, Fault> {
    let staging = plan::beside(folder, &format!(".muster-restore-{}", work.command));
    let files: Vec<usize> = (0..point.files.len()).collect();
    let mut planned = plan_of(point, &files, folder);
    planned
        .notes
        .push("roles and tablespaces: psql -f globals.sql postgres; a database: pg_restore --create --dbname=postgres NAME.dump".into());
    let refusal = if folders::is_free(folder)? {
        no_space(&planned, folder)
    } else {
        Some(
            Fault::refused(ErrorKind::FailedPrecondition, format!("{} is not empty", folder.display()))
                .hint("choose an empty or absent folder"),
        )
    };
    if request.dry_run {
        planned.notes.extend(refusal.map(|refusal| format!("would be refused: {refusal}")));
        return Ok(outcome(request, planned, folder, BTreeMap::new()));
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let begun = Instant::now();
    let fetched = match prepare(&staging).await {
        Ok(()) => fetch(work, open, point, &files, &staging).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = fetched {
        let gone = staging.clone();
        off_runtime(move || folders::remove(&gone)).await?;
        return Err(fault.effect(Effect::None));
    }
    failpoint("postgres.dump.fetched")?;
    let (from, to) = (staging, folder.to_owned());
    off_runtime(move || {
        // What is there is empty, or the rename is refused.
        std::fs::rename(&from, &to).map_err(|error| folders::io_fault("move the files to", &to, &error))?;
        folders::sync(to.parent().unwrap_or(&to))
    })
    .await?;
    let phases = BTreeMap::from([("fetch".to_owned(), begun.elapsed().as_secs_f64())]);
    Ok(outcome(request, planned, folder, phases))
}

async fn prepare(folder: &Path) -> Result<(), Fault> {
    let folder = folder.to_owned();
    off_runtime(move || {
        folders::remove(&folder)?;
        folders::make(&folder, 0o700)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| folders::io_fault("set the mode of", &folder, &error))
    })
    .await
}

fn plan_of(point: &Point, files: &[usize], at: &Path) -> RestorePlan {
    let bytes = files.iter().filter_map(|file| point.files.get(*file)).map(|file| file.size).sum();
    RestorePlan { bytes, files: files.len() as u64, free_bytes: folders::free(at).1, ..RestorePlan::default() }
}

fn no_space(plan: &RestorePlan, at: &Path) -> Option<Fault> {
    let wanted = plan.bytes.saturating_add(SPARE);
    (plan.free_bytes < wanted).then(|| {
        let message = format!("{} has {} free; {} are needed", folders::existing(at).display(), Size(plan.free_bytes), Size(wanted));
        Fault::refused(ErrorKind::ResourceExhausted, message).hint("free space there, or choose another folder")
    })
}

async fn fetch(work: &Work, open: &OpenRepository, point: &Point, files: &[usize], folder: &Path) -> Result<(), Fault> {
    let wanted = files.iter().filter_map(|number| Some((*number, point.files.get(*number)?)));
    let jobs: Vec<Extract> = wanted.map(|(file, found)| Extract { file, destination: folder.join(found.entry.path.as_path()) }).collect();
    let total = plan_of(point, files, folder).bytes;
    let counters = Arc::new(Counters::default());
    let options = ExtractOptions { threads: work.threads.clamp(1, 64), in_flight: IN_FLIGHT, cancel: work.cancel.clone(), fsync: true };
    let mut extracting = std::pin::pin!(point.extract(jobs, options, &counters));
    let mut tick = tokio::time::interval(TICK);
    let extracted = loop {
        tokio::select! {
            done = &mut extracting => break done,
            _ = tick.tick() => {
                let waiting = tell_trouble(work, open);
                work.tell(|progress| {
                    if !waiting {
                        progress.phase = "fetching".into();
                    }
                    (progress.bytes_done, progress.bytes_total) = (counters.bytes_done.load(Ordering::Relaxed), total);
                });
            }
        }
    };
    if work.cancel.is_cancelled() {
        return Err(cancelled());
    }
    extracted.map(drop).map_err(|error| error.fault())
}

/// One database of the point into a new one of the running server.
#[expect(clippy::too_many_arguments, reason = "one call; each argument is one part of what is asked")]
async fn into_database(
    instance: &Postgres,
    work: &Work,
    open: &OpenRepository,
    point: &Arc<Point>,
    request: &RestoreRequest,
    known: &DumpPoint,
    dumped: &Dumped,
    name: &str,
) -> Result<RestoreOutcome, Fault> {
    let config = &instance.config;
    let title = format!("restore database {} of {} into {name}", dumped.name, config.name);
    check_name(name, &title)?;
    let catalog = Catalog::read(config).await?;
    let session = connect::connect(config, Purpose::Backup).await.map_err(|error| error.fault(config))?;
    let there = mark_of(&session, name).await?;
    let exists = there.is_some();
    let (filling, filled) = marks(work);
    let half_filled = there.as_deref() == Some(filling.as_str());
    let folder = work.scratch().join("dump");
    let files: Vec<usize> =
        (0..point.files.len()).filter(|n| point.files.get(*n).is_some_and(|f| f.entry.path.as_bytes() == dumped.file.as_bytes())).collect();
    let mut planned = plan_of(point, &files, work.scratch());
    if !catalog.superuser {
        planned.notes.push("the agent's role is no superuser: owners and privileges are left out, everything will be its own".into());
    }
    let refusal = if exists && !half_filled {
        Some(
            Fault::refused(ErrorKind::FailedPrecondition, format!("{title}: there is a database {name} already"))
                .hint("choose a name that is free; rename databases afterwards"),
        )
    } else {
        no_space(&planned, work.scratch())
    };
    if !request.dry_run && there.as_deref() == Some(filled.as_str()) {
        return Ok(outcome(request, planned, Path::new(""), BTreeMap::new()));
    }
    let programs = Programs::find(config, catalog.major.max(known.server_version / 10_000), &["pg_restore"]).await?;
    if request.dry_run {
        planned.notes.extend(refusal.map(|refusal| format!("would be refused: {refusal}")));
        return Ok(outcome(request, planned, Path::new(""), BTreeMap::new()));
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let begun = Instant::now();
    prepare(&folder).await?;
    fetch(work, open, point, &files, &folder).await.map_err(|fault| fault.effect(Effect::None))?;
    let mut phases = BTreeMap::from([("fetch".to_owned(), begun.elapsed().as_secs_f64())]);
    let begun = Instant::now();
    make(&session, name, dumped, half_filled).await.map_err(|fault| Fault { message: format!("{title}: {}", fault.message), ..fault })?;
    let begun_filling = match mark(&session, name, &filling).await {
        Ok(()) => fill(work, instance, &programs, &catalog, name, &folder.join(&dumped.file)).await,
        Err(fault) => Err(fault),
    };
    failpoint("postgres.dump.filled")?;
    let marked = match begun_filling {
        Ok(()) => mark(&session, name, &filled).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = marked {
        let fault = Fault { message: format!("{title}: {}", fault.message), ..fault };
        return Err(match execute(&session, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await {
            Ok(()) => fault.effect(Effect::None),
            Err(left) => fault.evidence(format!("the database {name} is left half filled: {left}")).effect(Effect::Unknown),
        });
    }
    phases.insert("replay".into(), begun.elapsed().as_secs_f64());
    planned.notes.push(format!("database {name} is there; VACUUM ANALYZE has been left to autovacuum"));
    Ok(outcome(request, planned, Path::new(""), phases))
}

/// The comments that a database bears while this command fills it, and afterwards.
fn marks(work: &Work) -> (String, String) {
    (format!("being filled by Muster, command {}", work.command), format!("restored by Muster, command {}", work.command))
}

async fn mark(session: &Session, name: &str, mark: &str) -> Result<(), Fault> {
    execute(session, &format!("COMMENT ON DATABASE {} IS {}", quoted(name), literal(mark))).await
}

/// The comment of a database; `None` where there is no such database.
async fn mark_of(session: &Session, name: &str) -> Result<Option<String>, Fault> {
    let sql = "SELECT coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') FROM pg_catalog.pg_database WHERE datname::text = $1";
    let row = session.client.query_opt(sql, &[&name]).await;
    let mark = row.and_then(|row| row.map(|row| row.try_get::<_, String>(0)).transpose());
    mark.map_err(|error| Fault::refused(ErrorKind::FailedPrecondition, format!("look for database {name}: {}", tell(&error))))
}

/// On a command line a name with these would be taken for a connection string.
fn check_name(name: &str, title: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > 63 || name.contains(['=', '\0', '\n']) || name.contains("://") {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{title}: no such name can be given"))
            .hint("1 to 63 bytes without '=', '://' and line breaks"));
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn execute(session: &Session, sql: &str) -> Result<(), Fault> {
    session.client.batch_execute(sql).await.map_err(|error| {
        Fault::failed(ErrorKind::FailedPrecondition, tell(&error)).hint("the agent's role needs CREATEDB: ALTER ROLE … CREATEDB")
    })
}

async fn make(session: &Session, name: &str, dumped: &Dumped, half_filled: bool) -> Result<(), Fault> {
    if half_filled {
        execute(session, &format!("DROP DATABASE {} WITH (FORCE)", quoted(name))).await?;
    }
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING {}", quoted(name), literal(&dumped.encoding));
    for (word, value) in [("LC_COLLATE", &dumped.collate), ("LC_CTYPE", &dumped.ctype)] {
        if !value.is_empty() {
            sql.push_str(&format!(" {word} {}", literal(value)));
        }
    }
    execute(session, &sql).await
}

async fn fill(work: &Work, instance: &Postgres, programs: &Programs, catalog: &Catalog, name: &str, dump: &Path) -> Result<(), Fault> {
    work.tell(|progress| progress.phase = format!("filling database {name}"));
    let mut command = programs.command("pg_restore", &instance.config, name)?;
    command.arg(format!("--dbname={name}")).arg("--exit-on-error").arg(format!("--jobs={}", work.threads.clamp(1, 8)));
    if !catalog.superuser {
        command.args(["--no-owner", "--no-privileges"]);
    }
    command.arg(dump).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Fault::failed(ErrorKind::FailedPrecondition, format!("run pg_restore: {error}")))?;
    let err = child.stderr.take();
    let complaining = tokio::task::spawn_blocking(move || err.map(super::complaint).unwrap_or_default());
    let mut tick = tokio::time::interval(TICK);
    let status = loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = work.cancel.cancelled() => super::end(&mut child),
        }
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => return Err(Fault::failed(ErrorKind::Internal, format!("wait for pg_restore: {error}"))),
        }
    };
    let complaint = complaining.await.map_err(|ended| super::thread_ended(&ended))?;
    if work.cancel.is_cancelled() {
        return Err(cancelled());
    }
    if status.success() {
        return Ok(());
    }
    let fault = Fault::failed(ErrorKind::FailedPrecondition, format!("pg_restore ended with {status}"))
        .hint("a role or tablespace that is missing stands in the point's globals.sql: restore --beside FOLDER gives it");
    Err(complaint.lines().filter(|line| !line.trim().is_empty()).take(20).fold(fault, |fault, line| fault.evidence(line.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_must_be_named_unless_the_dump_has_one() {
        let dumped = |name: &str| Dumped { name: name.into(), ..Dumped::default() };
        let mut known = DumpPoint { databases: vec![dumped("shop")], ..DumpPoint::default() };
        assert_eq!(choose(&known, "").unwrap().name, "shop");
        known.databases.push(dumped("stock"));
        assert_eq!(choose(&known, "stock").unwrap().name, "stock");
        assert!(choose(&known, "").unwrap_err().hint.contains("shop, stock"));
        assert!(choose(&known, "other").is_err());
    }

    #[test]
    fn a_name_that_would_be_a_connection_string_is_refused() {
        for name in ["", "host=x", "postgres://x", "a\nb", &"x".repeat(64)] {
            assert!(check_name(name, "t").is_err(), "{name:?}");
        }
        assert!(check_name("shop \"copy\"", "t").is_ok());
    }
}
