//! Bringing a recovery point back: into an empty place, beside the running one, or in place.
//!
//! What always holds: until all files are durable nothing that was there is touched; what was there is moved, never
//! removed, and put back where the new one does not come up; a directory that is not whole has no `pg_control`; the
//! target of recovery is the start of the last record wanted, so that a log that ends early stops the server instead of
//! promoting it. `restore/note.rs` tells how a run that was killed goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_engine::observation::Position;
use muster_engine::request::{KeptDirectory, RestoreOutcome, RestoreRequest, RestoreTarget};
use muster_engine::work::{OpenRepository, Work};
use muster_repository::reading::Point;

use crate::backup::{PATIENCE, cancelled, failpoint, patiently};
use crate::clock;
use crate::config::PostgresConfig;
use crate::control::pg_ctl::{self, PgCtl};
use crate::data_directory::{self, Postmaster};
use crate::dump;
use crate::engine::Postgres;
use crate::keep::incomplete;
use crate::point::PostgresPoint;
use crate::restore::arrival::Arrival;
use crate::restore::note::{Note, Phase};
use crate::restore::plan::{Judged, Layout};

pub(crate) mod arrival;
pub(crate) mod configuration;
pub mod discard;
pub(crate) mod fetch;
pub(crate) mod folders;
mod note;
pub(crate) mod plan;
pub(crate) mod settle;

/// Everything that one restore works with.
pub(crate) struct Restoring<'a> {
    pub config: &'a PostgresConfig,
    pub work: &'a Work,
    pub request: &'a RestoreRequest,
    pub known: PostgresPoint,
    pub settings: BTreeMap<String, String>,
    pub bin: PathBuf,
}

/// Restores, or tells what that would do.
///
/// # Errors
/// Refusals before anything was touched; what failed, with what was put back.
pub async fn restore(instance: &Postgres, work: &Work, request: &RestoreRequest) -> Result<RestoreOutcome, Fault> {
    let mut open = work.repository()?.clone();
    open.repository = open.repository.with_patience(PATIENCE);
    let note = if request.dry_run { None } else { Note::read(&*work.notes).await? };
    if let Some(Note { phase: Phase::Done(outcome), .. }) = &note {
        return Ok((**outcome).clone());
    }
    work.tell(|progress| progress.phase = "reading the point".into());
    let point = patiently(work, &open, open.repository.read_point(&open.keys, request.component, request.point))
        .await?
        .map_err(|error| error.fault())?;
    let point = Arc::new(point);
    if point.summary.details.kind == dump::KIND {
        return dump::restoring::restore(instance, work, &open, point, request).await;
    }
    if let RestoreTarget::Database { name, .. } = &request.target {
        let message = format!("restore into database {name}: point {} is physical and holds the whole cluster", request.point);
        return Err(Fault::refused(ErrorKind::InvalidArgument, message)
            .hint("restore it --beside, or choose a point of `muster dump`: muster points NAME"));
    }
    let known = PostgresPoint::read(&point.summary.details.engine, &point.summary.details.kind)?;
    fetch::check_whole(&point)?;
    let config = &instance.config;
    let bin = pg_ctl::bin_directory(config, known.major())?;
    let settings = point.summary.details.settings.clone();
    let restoring = Restoring { config, work, request, known, settings, bin };
    let note = match note {
        Some(note) if note.phase != Phase::Fetching => note,
        earlier => match restoring.fetch(&open, &point, earlier).await? {
            Fetched::Plan(outcome) => return Ok(outcome),
            Fetched::Ready(note) => note,
        },
    };
    *instance.session.lock().await = None;
    restoring.finish(note).await
}

enum Fetched {
    /// Of a dry run.
    Plan(RestoreOutcome),
    /// Everything is durable.
    Ready(Note),
}

impl Restoring<'_> {
    /// Plans, refuses, and writes the files. Fails clean: what was written is removed again.
    async fn fetch(&self, open: &OpenRepository, point: &Arc<Point>, earlier: Option<Note>) -> Result<Fetched, Fault> {
        let command = self.work.command.to_string();
        let rate = read_rate(&open.cache);
        let layout = plan::lay_out(self.config, &self.known, self.request, &command);
        // What an interrupted run of this command left behind is no obstacle.
        if earlier.is_some() && folders::marked_by(layout.building()).as_ref() == Some(&command) {
            clear(&layout).await?;
        }
        let judged = plan::judge(self.config, point, &self.known, self.request, layout, rate);
        let Judged { layout, mut plan, mut refusals, old_bytes } = judged;
        self.judge_programs(&mut refusals).await;
        if self.request.dry_run {
            plan.notes.dedup();
            return Ok(Fetched::Plan(RestoreOutcome { plan, directory: layout.data, kept: None, position: None, phases: BTreeMap::new() }));
        }
        if let Some(refusal) = refusals.into_iter().next() {
            return Err(refusal);
        }
        let swaps = layout.tablespaces.iter().map(|place| place.swap.clone()).collect();
        let outcome = RestoreOutcome { plan, directory: layout.data.clone(), kept: None, position: None, phases: BTreeMap::new() };
        let mut note = Note::new(layout.data.clone(), layout.data_swap.clone(), swaps, outcome);
        note.old_bytes = old_bytes;
        note.keep(&*self.work.notes).await?;
        failpoint("postgres.restore.planned")?;
        let begun = Instant::now();
        if let Err(fault) = self.build(open, point, &layout, &command).await {
            let left = clear(&layout).await;
            let fault = fault.effect(Effect::None);
            return Err(left.err().map_or(fault.clone(), |left| fault.evidence(format!("what was written could not be removed: {left}"))));
        }
        note.phases.insert("fetch".into(), begun.elapsed().as_secs_f64());
        keep_rate(&open.cache, note.outcome.plan.bytes, begun.elapsed());
        note.was_running = matches!(data_directory::postmaster(&layout.data), Ok(Postmaster::Alive { .. }));
        note.phase = Phase::Swapping;
        if self.work.cancel.is_cancelled() {
            clear(&layout).await?;
            return Err(cancelled().effect(Effect::None));
        }
        note.keep(&*self.work.notes).await?;
        failpoint("postgres.restore.swapping")?;
        Ok(Fetched::Ready(note))
    }

    pub(crate) async fn judge_programs(&self, refusals: &mut Vec<Fault>) {
        match pg_ctl::program_major(&self.bin).await {
            Ok(major) if major == self.known.major() => {}
            Ok(major) => refusals.push(
                Fault::refused(
                    ErrorKind::FailedPrecondition,
                    format!("{} is PostgreSQL {major}; the point is of {}", self.bin.display(), self.known.major()),
                )
                .hint("install that version here, or set the instance's binDirectory"),
            ),
            Err(fault) => refusals.push(fault),
        }
        if self.request.start && rustix::process::geteuid().is_root() {
            refusals.push(
                Fault::refused(ErrorKind::FailedPrecondition, "PostgreSQL does not run as root")
                    .hint("run as the user that shall own the data"),
            );
        }
        if let Some(path) = settle::outside_config(self.config, self.request).filter(|path| !path.is_file()) {
            refusals.push(
                Fault::refused(ErrorKind::FailedPrecondition, format!("the configuration {} is not there", path.display()))
                    .hint("put it there, or correct the instance's configFile"),
            );
        }
        let helper = self.config.wal_get.first().map(Path::new);
        if helper.is_none_or(|helper| !helper.is_file()) {
            refusals.push(
                Fault::refused(ErrorKind::Internal, format!("the restore_command's helper {helper:?} is not there"))
                    .hint("reinstall Muster on this machine"),
            );
        }
    }

    /// Writes everything into the place where the data directory is built; `pg_control` is held back.
    pub(crate) async fn build(&self, open: &OpenRepository, point: &Arc<Point>, layout: &Layout, command: &str) -> Result<(), Fault> {
        self.work.tell(|progress| progress.phase = "fetching".into());
        let (of, to, by) = (point.clone(), layout.clone(), command.to_owned());
        off_runtime(move || fetch::prepare(&of, &to, &by)).await?;
        failpoint("postgres.restore.prepared")?;
        fetch::files(self.work, open, point, layout).await?;
        let outside = fetch::configuration(point).await?;
        self.work.tell(|progress| progress.phase = "settling".into());
        let (config, request, known, settings) = (self.config.clone(), self.request.clone(), self.known.clone(), self.settings.clone());
        let (of, to) = (point.clone(), layout.clone());
        off_runtime(move || {
            settle::write(&config, &request, &known, &settings, &to, &outside, fetch::log_files(&of))?;
            fetch::sync_all(&of, &to)
        })
        .await
    }

    fn server(&self, data: &Path) -> PgCtl {
        PgCtl::new(self.config, self.bin.clone(), data, &settle::options(self.config, self.request))
    }

    /// From the swap on: forward until the server is there, or back.
    async fn finish(&self, mut note: Note) -> Result<RestoreOutcome, Fault> {
        if let Phase::PuttingBack(fault) = note.phase.clone() {
            return Err(self.put_back(&note, *fault).await);
        }
        let done = match self.swap(&mut note).await {
            Ok(()) => self.start(&mut note).await,
            Err(fault) => Err(fault),
        };
        match done {
            Ok(()) => {}
            // A directory that was empty before stays, so that a person can look at it.
            Err(fault) if note.data_swap.is_none() => {
                let stopped = self.server(&note.data).stop().await;
                let fault = stopped.err().map_or(fault.clone(), |left| fault.evidence(left.to_string()));
                return Err(fault.evidence(format!("the restored files stay in {}", note.data.display())));
            }
            Err(fault) => {
                note.phase = Phase::PuttingBack(Box::new(fault.clone()));
                note.keep(&*self.work.notes).await?;
                failpoint("postgres.restore.putting_back")?;
                return Err(self.put_back(&note, fault).await);
            }
        }
        let outcome = self.outcome(&note);
        note.phase = Phase::Done(Box::new(outcome.clone()));
        note.keep(&*self.work.notes).await?;
        failpoint("postgres.restore.done")?;
        Ok(outcome)
    }

    /// Stops what runs, moves it aside, moves the new one in. Each step is done by what is there.
    async fn swap(&self, note: &mut Note) -> Result<(), Fault> {
        self.work.tell(|progress| progress.phase = "changing over".into());
        if let Some(swap) = &note.data_swap {
            if swap.new.exists() && swap.current.exists() {
                self.server(&note.data).stop().await?;
                failpoint("postgres.restore.stopped")?;
            }
            swap.move_aside()?;
            failpoint("postgres.restore.aside")?;
        }
        for swap in &note.tablespace_swaps {
            swap.move_aside()?;
            failpoint("postgres.restore.tablespace_aside")?;
            swap.move_in()?;
            failpoint("postgres.restore.tablespace_in")?;
        }
        let building = note.building().clone();
        settle::release_control_file(if building.exists() { &building } else { &note.data })?;
        failpoint("postgres.restore.control")?;
        if let Some(swap) = &note.data_swap {
            swap.move_in()?;
        }
        failpoint("postgres.restore.in")
    }

    /// Starts the restored server and waits until it is the restored point's, promoted.
    async fn start(&self, note: &mut Note) -> Result<(), Fault> {
        let wanted = self.request.start && !matches!(self.request.target, RestoreTarget::Beside { port: 0, .. });
        if !wanted {
            return Ok(());
        }
        self.work.tell(|progress| progress.phase = "starting".into());
        let begun = Instant::now();
        let server = self.server(&note.data);
        let log_from = server.log_length();
        if !matches!(data_directory::postmaster(&note.data), Ok(Postmaster::Alive { .. })) {
            server.start().await?;
        }
        note.phases.insert("start".into(), begun.elapsed().as_secs_f64());
        failpoint("postgres.restore.started")?;
        let replaying = Instant::now();
        let address = settle::address(self.config, self.request, &note.data);
        let arrival = arrival::wait(self.work, self.config, &address, &note.data, &server, log_from, &self.known).await?;
        note.phases.insert("replay".into(), replaying.elapsed().as_secs_f64());
        match arrival {
            Arrival::At(position) => note.outcome.position = Some(Position::Postgres(position)),
            Arrival::LoginRefused(why) => note
                .outcome
                .plan
                .notes
                .push(format!("the server accepts connections and refuses this one, so its position was not asked: {why}")),
        }
        failpoint("postgres.restore.accepting")?;
        settle::clean(&note.data, &settle::temporary(self.config, &self.known))?;
        // What was half-made in this place was replaced.
        incomplete::end(&note.data)?;
        failpoint("postgres.restore.cleaned")?;
        server.reload().await
    }

    fn outcome(&self, note: &Note) -> RestoreOutcome {
        let kept = note.data_swap.as_ref().and_then(|swap| swap.old.clone()).map(|path| KeptDirectory {
            path,
            bytes: note.old_bytes,
            until: clock::now().plus(Duration::from_secs(self.request.keep_old_seconds)),
        });
        RestoreOutcome { kept, phases: note.phases.clone(), ..note.outcome.clone() }
    }

    /// Puts back what was there and starts it where it ran. Gives the fault to tell.
    async fn put_back(&self, note: &Note, fault: Fault) -> Fault {
        self.work.tell(|progress| progress.phase = "putting the old one back".into());
        match self.try_put_back(note).await {
            Ok(running) => {
                let told = if running { "the old directory is back and its server runs" } else { "the old directory is back" };
                Fault { effect: Effect::None, ..fault.evidence(told) }
            }
            Err(worse) => {
                let old = note.data_swap.as_ref().and_then(|swap| swap.old.clone()).unwrap_or_default();
                Fault { effect: Effect::Unknown, ..fault.evidence(format!("putting the old directory back failed: {worse}")) }.hint(
                    format!(
                        "run the same command again (muster watch shows it), or by hand: move {} back to {} and start the server",
                        old.display(),
                        note.data.display()
                    ),
                )
            }
        }
    }

    async fn try_put_back(&self, note: &Note) -> Result<bool, Fault> {
        let Some(swap) = &note.data_swap else { return Ok(false) };
        let moved_in = !swap.new.exists() && swap.old.as_ref().is_some_and(|old| old.exists());
        if moved_in {
            self.server(&note.data).stop().await?;
        }
        for tablespace in &note.tablespace_swaps {
            tablespace.put_back()?;
            failpoint("postgres.restore.tablespace_back")?;
        }
        swap.put_back()?;
        failpoint("postgres.restore.back")?;
        let running = note.was_running && self.start_old(&note.data).await?;
        for tablespace in &note.tablespace_swaps {
            folders::remove(&tablespace.new)?;
        }
        folders::empty(&swap.new)?;
        folders::remove(&swap.new)?;
        Ok(running)
    }

    async fn start_old(&self, data: &Path) -> Result<bool, Fault> {
        if !matches!(data_directory::postmaster(data), Ok(Postmaster::Alive { .. })) {
            self.server(data).start().await?;
        }
        Ok(true)
    }
}

/// Work that blocks, on a thread of its own.
pub(crate) async fn off_runtime<T: Send + 'static>(act: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|ended| Err(Fault::failed(ErrorKind::Internal, format!("a thread ended: {ended}"))))
}

async fn clear(layout: &Layout) -> Result<(), Fault> {
    let layout = layout.clone();
    off_runtime(move || fetch::clear(&layout)).await
}

/// How fast the last restore on this machine was, in bytes a second.
fn read_rate(cache: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(cache.join("postgres-restore-rate")).ok()?;
    text.trim().parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
}

fn keep_rate(cache: &Path, bytes: u64, took: Duration) {
    let rate = bytes as f64 / took.as_secs_f64().max(0.001);
    let kept = std::fs::create_dir_all(cache).and_then(|()| std::fs::write(cache.join("postgres-restore-rate"), format!("{rate:.0}\n")));
    if let Err(error) = kept {
        tracing::debug!(%error, "the restore's speed was not kept for later predictions");
    }
}
