//! Taking a recovery point: `pg_backup_start`, several readers over the data directory, the WAL of the span streamed
//! meanwhile, `pg_control` last, `pg_backup_stop`, and only then the point.
//!
//! What always holds: nothing is published unless the stop succeeded, the span's WAL is whole from start to stop, and all
//! bytes are durable. A run that was killed leaves nothing but packs that nobody needs; the next one begins a session of
//! its own, and finds its point there if it had come so far.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;
use muster_engine::observation::Position;
use muster_engine::request::{BackupOutcome, BackupRequest};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::counters::Counters;
use muster_repository::error::Error;
use muster_repository::reading::PointSummary;
use muster_repository::writing::{BadPage, NewPoint, PointDetails, PointWriter};
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::backup::checked::Findings;
use crate::backup::listing::Listing;
use crate::backup::readers::Readers;
use crate::backup::session::{Server, Stopped};
use crate::backup::span::{Span, SpanStart};
use crate::clock;
use crate::connect::Session;
use crate::control_file::ControlFile;
use crate::data_directory;
use crate::engine::Postgres;
use crate::observe::same_place;
use crate::point::{HistoryRow, KIND, PostgresPoint, VERSION};
use crate::record::Record;
use crate::replication::client::Replication;
use crate::wal;

mod checked;
pub(crate) mod listing;
pub mod outside;
mod readers;
mod session;
mod span;

/// The store is asked again for so long; whoever limits a standstill cancels the work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(86_400 * 365);
/// How often progress is told and the sessions are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How many damaged pages an outcome names.
const MAX_TOLD: usize = 1_000;

/// Everything that one backup works with.
struct Taking<'a> {
    instance: &'a Postgres,
    work: &'a Work,
    request: &'a BackupRequest,
    open: OpenRepository,
    writer: Arc<PointWriter>,
    /// Stops readers and uploads when anything fails.
    stop: CancellationToken,
    counters: Arc<Counters>,
}

/// Takes a point.
///
/// # Errors
/// What stands in its way; nothing is published then.
pub async fn backup(instance: &Postgres, work: &Work, request: &BackupRequest) -> Result<BackupOutcome, Fault> {
    let mut open = work.repository()?.clone();
    open.repository = open.repository.with_patience(PATIENCE);
    work.tell(|progress| progress.phase = "preparing".into());
    if let Some(done) = existing(&open, work, request).await? {
        return outcome(request, &done);
    }
    let (session, server) = session::open(&instance.config).await?;
    let control = check_directory(instance, &server).await?;
    let mut replication = Replication::connect(&instance.config).await?;
    let system = replication.identify().await.map_err(|error| error.fault("identify the server"))?;
    if system.system_id != control.system_id {
        return Err(other_cluster(instance, &control, system.system_id));
    }
    let stop = work.cancel.child_token();
    let taking = Taking {
        instance,
        work,
        request,
        writer: Arc::new(begin(&open, work, instance, request, &stop).await?),
        open,
        stop,
        counters: Arc::default(),
    };
    let taken = taking.take(session, &server, &control, replication, system.timeline).await;
    taking.end(taken).await
}

/// The point of this command, where an earlier run has published it.
pub(crate) async fn existing(open: &OpenRepository, work: &Work, request: &BackupRequest) -> Result<Option<PointSummary>, Fault> {
    let published = patiently(work, open, open.repository.published(&open.keys, request.component, request.point)).await?;
    published.map_err(|error| error.fault())
}

/// Waits for the store, tells that it waits, and can be cancelled.
pub(crate) async fn patiently<T>(
    work: &Work,
    open: &OpenRepository,
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, Fault> {
    let mut asking = std::pin::pin!(asking);
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            answer = &mut asking => return Ok(answer),
            () = work.cancel.cancelled() => return Err(cancelled()),
            _ = tick.tick() => { tell_trouble(work, open); }
        }
    }
}

/// Says in the progress what a store that does not answer said last. The text stays while the trouble stays.
pub(crate) fn tell_trouble(work: &Work, open: &OpenRepository) -> bool {
    let Some(trouble) = open.repository.trouble() else { return false };
    let phase = format!("waiting for the repository ({})", trouble.what);
    work.progress.send_if_modified(|progress| {
        let new = progress.phase != phase;
        progress.phase = phase;
        new
    });
    true
}

pub(crate) fn cancelled() -> Fault {
    Fault::failed(ErrorKind::Cancelled, "cancelled").hint("start it again when wanted")
}

async fn begin(
    open: &OpenRepository,
    work: &Work,
    instance: &Postgres,
    request: &BackupRequest,
    stop: &CancellationToken,
) -> Result<PointWriter, Fault> {
    let new = NewPoint {
        point: request.point,
        component: request.component,
        instance: instance.config.name.clone(),
        parent: None,
        level: request.level,
        threads: work.threads.clamp(1, 64),
        cache: Some(open.cache.clone()),
        cancel: stop.clone(),
    };
    patiently(work, open, open.repository.begin_point(&open.keys, new)).await?.map_err(|error| error.fault())
}

async fn check_directory(instance: &Postgres, server: &Server) -> Result<ControlFile, Fault> {
    let data = instance.config.data_directory.clone();
    let control = tokio::task::spawn_blocking(move || data_directory::control_file(&data)).await;
    let control = control.map_err(|ended| Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}")))?.map_err(|error| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("back up {}: {error}", instance.config.name))
            .hint("correct the instance's dataDirectory, or run the agent as the owner of that folder")
    })?;
    if control.system_id != server.system_id {
        return Err(other_cluster(instance, &control, server.system_id));
    }
    // A copy of a cluster has its identifier too.
    let served = server.setting("data_directory");
    if !same_place(served.as_ref(), &instance.config.data_directory) {
        let config = &instance.config;
        let message = format!(
            "back up {}: the server at {} keeps its data in {served}, not in {}",
            config.name,
            config.address,
            config.data_directory.display()
        );
        return Err(Fault::refused(ErrorKind::FailedPrecondition, message)
            .hint("correct the instance's dataDirectory or address so that both mean one cluster"));
    }
    Ok(control)
}

fn other_cluster(instance: &Postgres, control: &ControlFile, served: u64) -> Fault {
    let config = &instance.config;
    let message = format!(
        "back up {}: {} holds cluster {}, the server at {} serves cluster {served}",
        config.name,
        config.data_directory.display(),
        control.system_id,
        config.address
    );
    Fault::refused(ErrorKind::FailedPrecondition, message)
        .hint("correct the instance's dataDirectory or address so that both mean one cluster")
}

/// All that a finished read gives to the point.
struct Taken {
    details: PointDetails,
}

impl Taking<'_> {
    async fn take(
        &self,
        session: Session,
        server: &Server,
        control: &ControlFile,
        mut replication: Replication,
        timeline: u32,
    ) -> Result<Taken, Fault> {
        let config = &self.instance.config;
        let started = clock::now();
        self.work.tell(|progress| progress.phase = "waiting for a checkpoint".into());
        let slot = format!("muster_{}", self.work.command);
        let made = self.or_cancelled(replication.create_temporary_slot(&slot)).await?;
        made.map_err(|error| error.fault("make a temporary replication slot"))?;
        let history = match timeline {
            0 | 1 => None,
            later => Some(replication.timeline_history(later).await.map_err(|error| error.fault("read the timeline's history"))?),
        };
        let label = format!("muster {}", self.request.point);
        let start = self.or_cancelled(session::start(config, &session, &label, self.request.fast_checkpoint)).await??;
        failpoint("postgres.backup.started")?;
        let from = SpanStart { lsn: start, timeline, segment_size: control.wal_segment_size, page_size: control.wal_block_size };
        let durable = server.setting("synchronous_standby_names").is_empty();
        let span = Span::begin(replication, &slot, from, durable, self.writer.clone(), self.work.scratch().to_owned()).await?;
        let findings = Arc::new(Findings::default());
        let listing = match self.read(&session, server, control, start, &span, &findings).await {
            Ok(listing) => listing,
            Err(fault) => return Err(self.cause(fault, &session, span, start).await),
        };
        failpoint("postgres.backup.read")?;
        let (control_now, control_bytes) = self.control_bytes().await?;
        let stopped = self.or_cancelled(session::stop(config, &session)).await??;
        failpoint("postgres.backup.stopped")?;
        self.work.tell(|progress| progress.phase = "storing the log".into());
        check_consistent(&control_now, control, timeline, &stopped)?;
        let last = self.or_cancelled(span.finish(stopped.lsn)).await??;
        let history = self.store_history(timeline, history).await?;
        let engine = message(server, control, &listing, start, timeline, &stopped, last, control_bytes, history);
        let (count, bad) = findings.judge(stopped.lsn);
        let position = engine.position();
        let details = PointDetails {
            kind: KIND.into(),
            started,
            finished: clock::now(),
            position_text: position.to_string(),
            label: self.request.label.clone(),
            settings: settings(server, count),
            engine: engine.encode_to_vec(),
            damaged: bad
                .into_iter()
                .map(|page| BadPage { path: page.path, block: page.block, what: format!("page checksum wrong, LSN {}", page.lsn) })
                .collect(),
        };
        Ok(Taken { details })
    }

    /// Readers that were stopped because a session ended know nothing of why.
    async fn cause(&self, fault: Fault, session: &Session, span: Span, start: Lsn) -> Fault {
        if fault.kind != ErrorKind::Cancelled || self.work.cancel.is_cancelled() {
            return fault;
        }
        if !span.is_alive() {
            return span.finish(start).await.err().unwrap_or(fault);
        }
        if session.client.is_closed() {
            return Fault::failed(
                ErrorKind::Unavailable,
                format!("back up {}: the server closed the session that held the backup open", self.instance.config.name),
            )
            .hint("see whether the server still runs and what its log says, then back up again");
        }
        fault
    }

    async fn or_cancelled<T>(&self, doing: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            done = doing => Ok(done),
            () = self.work.cancel.cancelled() => Err(cancelled()),
        }
    }

    /// Reads all files, and looks meanwhile that the sessions live.
    async fn read(
        &self,
        session: &Session,
        server: &Server,
        control: &ControlFile,
        start: Lsn,
        span: &Span,
        findings: &Arc<Findings>,
    ) -> Result<Listing, Fault> {
        self.work.tell(|progress| progress.phase = "listing".into());
        let data = self.instance.config.data_directory.clone();
        let (block_size, catalog, major) = (control.block_size, control.catalog_version, server.version.cast_unsigned() / 10_000);
        let configuration = server.configuration();
        let listed = tokio::task::spawn_blocking(move || {
            let mut listing = listing::list(&data, block_size, catalog, major)?;
            listing.files.extend(outside::list(&data, &configuration)?);
            Ok::<_, listing::ListError>(listing)
        });
        let listed = listed.await.map_err(|ended| Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}")))?;
        let mut listing = listed.map_err(|error| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("back up {}: {error}", self.instance.config.name))
                .hint("run the agent as the owner of the data directory and of its tablespaces")
        })?;
        for folder in &listing.folders {
            self.writer.add_folder(folder).map_err(|error| error.fault())?;
        }
        for symlink in &listing.symlinks {
            self.writer.add_symlink(symlink).map_err(|error| error.fault())?;
        }
        self.counters.bytes_total.store(listing.bytes, Ordering::Relaxed);
        let files_total = listing.files.len() as u64;
        let checks = (control.checksum_version != 0).then_some(start);
        let readers =
            Readers::start(std::mem::take(&mut listing.files), self.work.threads, checks, control, &self.writer, &self.counters, findings)?;
        let mut reading = std::pin::pin!(readers.join());
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                done = &mut reading => return done.map(|()| listing),
                _ = tick.tick() => {
                    self.tell(files_total);
                    if session.client.is_closed() || !span.is_alive() {
                        self.stop.cancel();
                    }
                }
            }
        }
    }

    fn tell(&self, files_total: u64) {
        let waiting = tell_trouble(self.work, &self.open);
        let counters = &self.counters;
        self.work.tell(|progress| {
            if !waiting {
                progress.phase = "reading".into();
            }
            progress.bytes_done = counters.bytes_done.load(Ordering::Relaxed);
            progress.bytes_total = counters.bytes_total.load(Ordering::Relaxed).max(progress.bytes_done);
            progress.bytes_stored = counters.bytes_stored.load(Ordering::Relaxed);
            progress.files_done = counters.files_done.load(Ordering::Relaxed);
            progress.files_total = files_total;
        });
    }

    async fn control_bytes(&self) -> Result<(ControlFile, Vec<u8>), Fault> {
        let data = self.instance.config.data_directory.clone();
        let read = tokio::task::spawn_blocking(move || data_directory::control_bytes(&data)).await;
        let read = read.map_err(|ended| Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}")))?;
        read.map_err(|error| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("back up {}: {error}", self.instance.config.name))
                .hint("see whether the data directory is still there")
        })
    }

    async fn store_history(&self, timeline: u32, history: Option<bytes::Bytes>) -> Result<wal::History, Fault> {
        let Some(bytes) = history else { return Ok(wal::History::default()) };
        let parsed = String::from_utf8_lossy(&bytes).parse::<wal::History>();
        let parsed = parsed.map_err(|error| {
            Fault::failed(ErrorKind::DataLoss, format!("timeline {timeline}: {error}")).hint("see pg_wal/*.history on the server")
        })?;
        let writer = self.writer.clone();
        let stored =
            tokio::task::spawn_blocking(move || span::put(&writer, &wal::history_name(timeline), bytes.len() as u64, &mut &bytes[..]))
                .await;
        stored.map_err(|ended| Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}")))??;
        Ok(parsed)
    }

    /// Publishes what was taken, or gives it up.
    async fn end(self, taken: Result<Taken, Fault>) -> Result<BackupOutcome, Fault> {
        let Self { work, request, open, writer, stop, .. } = self;
        let taken = match taken {
            Ok(taken) => taken,
            Err(fault) => {
                stop.cancel();
                // The span's thread may hold the writer for a moment longer; its uploads end with the token.
                if let Some(writer) = Arc::into_inner(writer) {
                    writer.abort().await;
                }
                let asked = work.cancel.is_cancelled() && fault.kind != ErrorKind::Cancelled;
                return Err(if asked { cancelled().evidence(fault.message) } else { fault });
            }
        };
        let Some(writer) = Arc::into_inner(writer) else {
            return Err(Fault::failed(ErrorKind::Internal, "a thread still writes to the point").hint("please report this"));
        };
        work.tell(|progress| progress.phase = "publishing".into());
        let finishing = writer.finish(taken.details);
        let mut finishing = std::pin::pin!(finishing);
        let mut tick = tokio::time::interval(TICK);
        let published = loop {
            tokio::select! {
                done = &mut finishing => break done,
                _ = tick.tick() => { tell_trouble(work, &open); }
            }
        };
        let summary = published.map_err(|error| error.fault())?;
        failpoint("postgres.backup.published")?;
        outcome(request, &summary)
    }
}

pub(crate) fn failpoint(name: &'static str) -> Result<(), Fault> {
    muster_failpoint::hit(name).map_err(|injected| Fault::failed(ErrorKind::Internal, injected.to_string()))
}

/// What `pg_control` said last must lie within the backup, on its timeline.
fn check_consistent(now: &ControlFile, before: &ControlFile, timeline: u32, stopped: &Stopped) -> Result<(), Fault> {
    let refuse = |what: String| Err(Fault::failed(ErrorKind::Conflict, what).hint("back up again"));
    if now.system_id != before.system_id {
        return refuse("the data directory was replaced during the backup".into());
    }
    if now.min_recovery_point > stopped.lsn {
        return refuse(format!("pg_control is consistent from {} on, and the backup ends at {}", now.min_recovery_point, stopped.lsn));
    }
    if now.min_recovery_timeline > timeline || now.timeline > timeline {
        return refuse(format!("the server went to timeline {} during the backup", now.timeline.max(now.min_recovery_timeline)));
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one call, and each argument is one part of the message")]
fn message(
    server: &Server,
    control: &ControlFile,
    listing: &Listing,
    start: Lsn,
    timeline: u32,
    stopped: &Stopped,
    last: Record,
    control_file: Vec<u8>,
    history: wal::History,
) -> PostgresPoint {
    PostgresPoint {
        version: VERSION,
        backup_label: stopped.label.clone(),
        tablespaces: listing.tablespaces.clone(),
        start_lsn: start.0,
        stop_lsn: stopped.lsn.0,
        target_lsn: last.start.0,
        end_lsn: last.end.0,
        timeline,
        history: history.0.into_iter().map(|fork| HistoryRow { timeline: fork.timeline, at: fork.at.0 }).collect(),
        system_id: control.system_id,
        server_version: server.version.cast_unsigned(),
        catalog_version: control.catalog_version,
        wal_segment_size: control.wal_segment_size,
        checksum_version: control.checksum_version,
        control_file,
        from_standby: server.standby,
        data_directory: server.setting("data_directory"),
        config_file: server.setting("config_file"),
        hba_file: server.setting("hba_file"),
        ident_file: server.setting("ident_file"),
    }
}

fn settings(server: &Server, damaged_pages: u64) -> std::collections::BTreeMap<String, String> {
    let mut settings = server.settings.clone();
    settings.insert("muster.damaged_pages".into(), damaged_pages.to_string());
    settings
}

fn outcome(request: &BackupRequest, summary: &PointSummary) -> Result<BackupOutcome, Fault> {
    let details = &summary.details;
    let point = PostgresPoint::read(&details.engine, &details.kind)?;
    let damaged_pages =
        details.settings.get("muster.damaged_pages").and_then(|count| count.parse().ok()).unwrap_or(details.damaged.len() as u64);
    Ok(BackupOutcome {
        point: request.point,
        started: details.started,
        finished: details.finished,
        position: Some(Position::Postgres(point.position())),
        bytes_total: summary.bytes,
        bytes_stored: summary.bytes_stored,
        files: summary.files,
        damage: details.damaged.iter().take(MAX_TOLD).map(|page| format!("{} block {}: {}", page.path, page.block, page.what)).collect(),
        damaged_pages,
        notes: Vec::new(),
    })
}
