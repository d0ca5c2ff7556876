//! A logical point: `pg_dump -Fc` of each database, and roles and tablespaces by `pg_dumpall --globals-only`, as files of a
//! point of kind `postgres.dump`. `dump/restoring.rs` brings it back.
//!
//! What always holds: what the programs write goes straight into the repository, uncompressed (the repository compresses
//! and deduplicates), with no file of its size in between; a program that fails publishes nothing; a server that is newer
//! than the programs here is refused.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::time::Timestamp;
use muster_engine::request::{BackupOutcome, BackupRequest, DumpScope};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::counters::Counters;
use muster_repository::entry::{FileEntry, FileKind, Group, RelPath};
use muster_repository::reading::PointSummary;
use muster_repository::writing::{NewPoint, PointDetails, PointWriter};
use prost::Message;

use crate::backup::{PATIENCE, cancelled, existing, failpoint, tell_trouble};
use crate::clock;
use crate::dump::catalog::Catalog;
use crate::dump::message::{DumpPoint, Dumped, VERSION};
use crate::dump::programs::Programs;
use crate::engine::Postgres;

mod catalog;
pub mod message;
mod programs;
pub mod restoring;

/// The kind that such points carry.
pub const KIND: &str = "postgres.dump";
/// The file of roles and tablespaces.
pub const GLOBALS: &str = "globals.sql";
/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// How much of what a program complains is kept.
const MAX_COMPLAINT: u64 = 8 * 1024;
/// The setting that keeps what a person should know, a line each.
const NOTES: &str = "muster.notes";

/// Everything that one dump works with.
struct Dumping<'a> {
    instance: &'a Postgres,
    work: &'a Work,
    open: &'a OpenRepository,
    programs: Programs,
    writer: Arc<PointWriter>,
    counters: Arc<Counters>,
}

/// Takes a logical point.
///
/// # Errors
/// What stands in its way; nothing is published then.
pub async fn dump(instance: &Postgres, work: &Work, request: &BackupRequest, scope: &DumpScope) -> Result<BackupOutcome, Fault> {
    let mut open = work.repository()?.clone();
    open.repository = open.repository.with_patience(PATIENCE);
    work.tell(|progress| progress.phase = "preparing".into());
    if let Some(done) = existing(&open, work, request).await? {
        return Ok(outcome(request, &done));
    }
    let catalog = Catalog::read(&instance.config).await?;
    let databases = catalog.chosen(&instance.config.name, scope)?;
    let programs = Programs::find(&instance.config, catalog.major, &["pg_dump", "pg_dumpall"]).await?;
    let started = clock::now();
    let new = NewPoint {
        point: request.point,
        component: request.component,
        instance: instance.config.name.clone(),
        parent: None,
        level: request.level,
        threads: 1,
        cache: Some(open.cache.clone()),
        cancel: work.cancel.clone(),
    };
    let writer = open.repository.begin_point(&open.keys, new).await.map_err(|error| error.fault())?;
    let dumping = Dumping { instance, work, open: &open, programs, writer: Arc::new(writer), counters: Arc::default() };
    let mut point = DumpPoint {
        version: VERSION,
        server_version: catalog.version,
        databases: Vec::new(),
        schemas: scope.schemas.clone(),
        tables: scope.tables.clone(),
        role_passwords: catalog.superuser,
    };
    let taken = dumping.take(scope, databases, &mut point).await;
    let Dumping { writer, .. } = dumping;
    let Some(writer) = Arc::into_inner(writer) else {
        return Err(Fault::failed(ErrorKind::Internal, "a thread still writes to the point").hint("please report this"));
    };
    if let Err(fault) = taken {
        writer.abort().await;
        return Err(if work.cancel.is_cancelled() { cancelled() } else { fault }.effect(Effect::None));
    }
    work.tell(|progress| progress.phase = "publishing".into());
    let summary = writer.finish(details(request, &catalog, &point, started)).await.map_err(|error| error.fault())?;
    failpoint("postgres.dump.published")?;
    Ok(outcome(request, &summary))
}

impl Dumping<'_> {
    async fn take(&self, scope: &DumpScope, databases: Vec<Dumped>, point: &mut DumpPoint) -> Result<(), Fault> {
        let all = databases.len();
        for (number, database) in databases.into_iter().enumerate() {
            let mut arguments = vec!["--format=custom".to_owned(), "--compress=0".to_owned(), "--strict-names".to_owned()];
            // One argument each: nothing that stands in a name becomes another option.
            arguments.extend(scope.schemas.iter().map(|schema| format!("--schema={schema}")));
            arguments.extend(scope.tables.iter().map(|table| format!("--table={table}")));
            let phase = format!("dumping {} ({} of {all})", database.name, number + 1);
            self.stream("pg_dump", &arguments, &database.name, &database.file, phase).await?;
            failpoint("postgres.dump.database")?;
            point.databases.push(database);
        }
        let mut arguments = vec!["--globals-only".to_owned()];
        if !point.role_passwords {
            arguments.push("--no-role-passwords".to_owned());
        }
        self.stream("pg_dumpall", &arguments, &self.instance.config.database, GLOBALS, "dumping roles and tablespaces".into()).await
    }

    /// Runs a program whose output becomes a file of the point.
    async fn stream(&self, program: &str, arguments: &[String], database: &str, file: &str, phase: String) -> Result<(), Fault> {
        let mut command = self.programs.command(program, &self.instance.config, database)?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("run {program}: {error}")).hint("see that the agent's user may run it")
        })?;
        let streamed = self.pump(&mut child, file, &phase).await;
        if streamed.is_err() {
            end(&mut child);
        }
        let status = tokio::task::spawn_blocking(move || child.wait()).await.map_err(|ended| thread_ended(&ended))?;
        let (written, complaint) = streamed?;
        match status {
            // Half a dump is none: the writer is given up with all that is in it.
            Ok(status) if !status.success() => Err(self.complained(program, database, &status.to_string(), &complaint)),
            Err(error) => Err(self.complained(program, database, &error.to_string(), &complaint)),
            Ok(_) => written,
        }
    }

    /// From the program into the repository, until its end or a cancel.
    async fn pump(&self, child: &mut Child, file: &str, phase: &str) -> Result<(Result<(), Fault>, String), Fault> {
        let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Fault::failed(ErrorKind::Internal, "a program without pipes").hint("please report this"));
        };
        let complaining = tokio::task::spawn_blocking(move || complaint(err));
        let (writer, counters) = (self.writer.clone(), self.counters.clone());
        let path = RelPath::new(file.as_bytes()).map_err(|error| error.fault())?;
        let mut writing = tokio::task::spawn_blocking(move || {
            let entry = FileEntry { path, kind: FileKind::Plain, mode: 0o600, mtime: clock::now(), size_hint: 0, group: Group::Data };
            writer.write_file(entry, &mut out, &counters).map(drop).map_err(|error| error.fault())
        });
        let mut tick = tokio::time::interval(TICK);
        let mut asked = false;
        let written = loop {
            tokio::select! {
                written = &mut writing => break written.map_err(|ended| thread_ended(&ended))?,
                _ = tick.tick() => self.tell(phase),
                // The pipe ends with the program, and the thread with the pipe.
                () = self.work.cancel.cancelled(), if !asked => {
                    asked = true;
                    end(child);
                }
            }
        };
        if written.is_err() {
            // It would wait for ever to write what nobody reads.
            end(child);
        }
        let complaint = complaining.await.map_err(|ended| thread_ended(&ended))?;
        Ok((written, complaint))
    }

    fn tell(&self, phase: &str) {
        let waiting = tell_trouble(self.work, self.open);
        self.work.tell(|progress| {
            if !waiting {
                phase.clone_into(&mut progress.phase);
            }
            progress.bytes_done = self.counters.bytes_done.load(Ordering::Relaxed);
            progress.bytes_stored = self.counters.bytes_stored.load(Ordering::Relaxed);
        });
    }

    fn complained(&self, program: &str, database: &str, how: &str, complaint: &str) -> Fault {
        let user = &self.instance.config.user;
        let message = format!("dump {} of {}: {program} ended with {how}", database, self.instance.config.name);
        let fault = complaint
            .lines()
            .filter(|line| !line.trim().is_empty())
            .take(20)
            .fold(Fault::failed(ErrorKind::FailedPrecondition, message), |fault, line| {
                fault.evidence(line.trim().chars().take(500).collect::<String>())
            });
        let rights = complaint.contains("permission denied");
        fault.hint(if rights {
            format!("let the role read everything: GRANT pg_read_all_data TO \"{user}\"; or dump only what it may read")
        } else {
            "correct what the program names and dump again; nothing was published".to_owned()
        })
    }
}

/// Ends a program. One that has ended already needs nothing.
fn end(child: &mut Child) {
    if let Err(error) = child.kill() {
        tracing::debug!(%error, "a program had ended when it was to be ended");
    }
}

/// What a program says on its standard error: read to its end, so that it never waits for a reader, and the first of it kept.
fn complaint(err: std::process::ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut err = err;
    if let Err(error) = (&mut err).take(MAX_COMPLAINT).read_to_end(&mut kept).and_then(|_| std::io::copy(&mut err, &mut std::io::sink())) {
        tracing::debug!(%error, "a program's complaint could not be read");
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn thread_ended(ended: &tokio::task::JoinError) -> Fault {
    Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}")).hint("please report this with the agent's log")
}

fn details(request: &BackupRequest, catalog: &Catalog, point: &DumpPoint, started: Timestamp) -> PointDetails {
    let names: Vec<&str> = point.databases.iter().map(|database| database.name.as_str()).collect();
    let mut settings = std::collections::BTreeMap::from([("server_version".to_owned(), catalog.version.to_string())]);
    if !point.role_passwords {
        let note = "role passwords are not in it: the agent's role is no superuser, and nobody else may read them";
        settings.insert(NOTES.to_owned(), note.to_owned());
    }
    PointDetails {
        kind: KIND.to_owned(),
        started,
        finished: clock::now(),
        position_text: format!("databases {}", names.join(", ")),
        label: request.label.clone(),
        settings,
        engine: point.encode_to_vec(),
        damaged: Vec::new(),
    }
}

fn outcome(request: &BackupRequest, summary: &PointSummary) -> BackupOutcome {
    let notes = summary.details.settings.get(NOTES).map(|notes| notes.lines().map(str::to_owned).collect()).unwrap_or_default();
    BackupOutcome {
        point: request.point,
        started: summary.details.started,
        finished: summary.details.finished,
        position: None,
        bytes_total: summary.bytes,
        bytes_stored: summary.bytes_stored,
        files: summary.files,
        damage: Vec::new(),
        damaged_pages: 0,
        notes,
    }
}
