//! A rejoin makes data that left the writer's line able to follow it again, by `pg_rewind`; what only they held is kept aside. An empty
//! data directory gets a first copy.
//!
//! ```text
//! measured ──► Preparing: recovered on its own line, log and configuration saved ──► Rewinding ──► own configuration back, whole
//! ```
//! The server is fenced throughout. From the first change until the last a note beside the data says that they are half-made. Each
//! phase may be begun again: the control file is what `pg_rewind` writes last, and the log that it reads is put back before.

use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::{Ancestry, Lsn, PostgresPosition};
use muster_engine::keep::{Keeping, Patience, Rejoined, Upstream};
use muster_engine::work::Work;
use muster_failover::position::Position;

use crate::config::PostgresConfig;
use crate::control::pg_ctl::bin_directory;
use crate::control_file::State;
use crate::engine::Postgres;
use crate::keep::incomplete::{self, Note, Phase};
use crate::keep::{fence, give, hit, mark, position, server, upstream};
use crate::restore::{folders, off_runtime};
use crate::wal::SegmentSize;

mod aside;
mod programs;
mod seed;

/// Rejoins.
///
/// # Errors
/// Where the writer cannot be asked, the data are of another cluster or ahead of it, or `pg_rewind` fails.
pub async fn rejoin(instance: &Postgres, work: &Work, upstream: &Upstream) -> Result<Rejoined, Fault> {
    let (keeping, data) = instance.kept()?;
    let config = instance.config.clone();
    programs::end_left(&data)?;
    fence::fence(instance, Patience::default()).await?;
    let Some(theirs) = upstream::position(&config, upstream).await else {
        return Err(Fault::refused(
            ErrorKind::Unavailable,
            format!("rejoin {}: the writer at {}:{} does not answer as one", config.name, upstream.host, upstream.port),
        )
        .hint("see that it runs and lets this machine in for replication, then rejoin again"));
    };
    if seed::is_wanted(&data)? {
        let bin = programs::any_bin(&config, upstream).await?;
        let rewind = programs::Rewind { bin, data: data.clone(), aside: folder_aside(&data, &theirs, theirs.lsn) };
        return seed::seed(keeping, config, work, upstream, theirs, &rewind).await;
    }
    let note = match incomplete::read(&data)? {
        Some(note) => note,
        None => match measure(instance, &theirs).await? {
            Measured::Follows(rejoined) => return Ok(rejoined),
            Measured::Left(note) => note,
        },
    };
    let rewind = programs::Rewind { bin: bin_directory(&config, server::major(&data)?)?, data: data.clone(), aside: note.aside.clone() };
    programs::refuse_what_cannot_be_rewound(&data)?;
    rewind.checkpoint(&config, upstream, theirs.timeline).await?;
    if note.phase == Phase::Preparing {
        prepare(&config, work, &note, &rewind).await?;
    }
    hit("postgres.rejoin.prepared")?;
    work.tell(|progress| progress.phase = "rewinding".into());
    if !is_rewound(&data, note.timeline)? {
        let (folder, from) = (data.clone(), note.aside.clone());
        off_runtime(move || aside::put_log_back(&folder, &from)).await?;
        rewind.run(work, &config, upstream).await?;
    }
    hit("postgres.rejoin.rewound")?;
    let measured = note.measured.clone();
    off_runtime(move || settle(&keeping, &config, &data, &note)).await?;
    Ok(measured)
}

enum Measured {
    Follows(Rejoined),
    Left(Note),
}

/// How these data stand to the writer's line. Changes nothing.
async fn measure(instance: &Postgres, theirs: &PostgresPosition) -> Result<Measured, Fault> {
    let data = instance.config.data_directory.clone();
    let found = off_runtime(move || Ok(position::at_rest(&data, &position::control(&data)?, None, u64::MAX))).await?;
    let name = &instance.config.name;
    let Some((Some(Position::Postgres(own)), _)) = found else {
        return Err(Fault::refused(ErrorKind::DataLoss, format!("rejoin {name}: its log cannot be read from its last checkpoint on"))
            .hint("move the data aside, make the folder again, empty, and rejoin: it is copied from the writer"));
    };
    let was = Position::Postgres(own.clone());
    match own.compare(theirs) {
        Ancestry::Line(order) if order.is_le() => {
            Ok(Measured::Follows(Rejoined { fork: None, bytes: 0, was, rewound: false, kept: None }))
        }
        Ancestry::Line(_) => Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("rejoin {name}: it holds log to {own}, the writer to {theirs}: the writer's disk was rolled back, or it is no writer of this line"),
        )
        .hint("fail over to who holds more, or move the data aside, make the folder again, empty, and rejoin: it is copied from the writer")),
        Ancestry::Foreign => Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("rejoin {name}: it is of cluster {}, the writer of {}", own.system_id, theirs.system_id),
        )
        .hint("move the data aside, make the folder again, empty, and rejoin: it is copied from the writer")),
        Ancestry::Diverged(at) => {
            let fork = Position::Postgres(fork_of(&own, at));
            let aside = folder_aside(&instance.config.data_directory, &own, at);
            let measured = Rejoined { fork: Some(fork), bytes: own.lsn.0.saturating_sub(at.0), was, rewound: true, kept: Some(aside.clone()) };
            Ok(Measured::Left(Note { phase: Phase::Preparing, measured, timeline: theirs.timeline, aside }))
        }
    }
}

/// The fork as a place on the data's own line.
fn fork_of(own: &PostgresPosition, at: Lsn) -> PostgresPosition {
    let before = own.history.iter().take_while(|fork| fork.at < at).copied().collect::<Vec<_>>();
    let timeline = own.history.get(before.len()).map_or(own.timeline, |fork| fork.timeline);
    PostgresPosition { system_id: own.system_id, timeline, history: before, lsn: at }
}

fn folder_aside(data: &Path, own: &PostgresPosition, at: Lsn) -> std::path::PathBuf {
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    data.with_file_name(format!("{name}.muster-diverged-{}-{:X}", own.timeline, at.0))
}

/// Brings the data to a clean stop on their own line, and saves what a second attempt needs.
async fn prepare(config: &PostgresConfig, work: &Work, note: &Note, rewind: &programs::Rewind) -> Result<(), Fault> {
    let data = rewind.data.clone();
    incomplete::keep(&data, note)?;
    hit("postgres.rejoin.noted")?;
    folders::make(&note.aside, 0o700)?;
    if !position::is_clean(&position::control(&data)?) {
        work.tell(|progress| progress.phase = "recovering on its own line".into());
        rewind.recover().await?;
    }
    hit("postgres.rejoin.recovered")?;
    work.tell(|progress| progress.phase = "keeping what only it held".into());
    let control = position::control(&data)?;
    let (to, files) = (note.aside.clone(), give::configuration(config, &data));
    let size = SegmentSize(control.wal_segment_size);
    off_runtime(move || aside::save(&data, &to, size, &files)).await?;
    hit("postgres.rejoin.saved")?;
    incomplete::keep(&rewind.data, &Note { phase: Phase::Rewinding, ..note.clone() })
}

/// Whether `pg_rewind` has finished: it writes the control file last.
fn is_rewound(data: &Path, timeline: u32) -> Result<bool, Fault> {
    let control = position::control(data)?;
    Ok(control.state == State::InArchiveRecovery && control.min_recovery_timeline >= timeline && data.join("backup_label").exists())
}

/// This instance's own configuration and mark again, as a standby; then the data are whole.
fn settle(keeping: &Keeping, config: &PostgresConfig, data: &Path, note: &Note) -> Result<(), Fault> {
    // `pg_rewind` has removed the lock with all else that the writer has not.
    fence::stop_and_lock(keeping, data, Patience::default())?;
    aside::put_configuration_back(data, &note.aside)?;
    as_standby(keeping, config, data)?;
    hit("postgres.rejoin.settled")?;
    let size = SegmentSize(position::control(data)?.wal_segment_size);
    let fork = match &note.measured.fork {
        Some(Position::Postgres(fork)) => fork.lsn,
        None => Lsn(0),
    };
    incomplete::end(data)?;
    aside::keep_only_what_left(&note.aside, size, fork)
}

/// From now on the data are this instance's and start as a standby.
fn as_standby(keeping: &Keeping, config: &PostgresConfig, data: &Path) -> Result<(), Fault> {
    give::ask_for_it(keeping, config, data)?;
    give::drop_overrides(data)?;
    folders::write(&data.join("standby.signal"), b"")?;
    mark::put(keeping, data)?;
    folders::sync(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_common::position::Fork;

    #[test]
    fn a_fork_is_a_place_on_the_line_that_was_left() {
        let history = vec![Fork { timeline: 1, at: Lsn(100) }, Fork { timeline: 2, at: Lsn(200) }];
        let own = PostgresPosition { system_id: 7, timeline: 3, history: history.clone(), lsn: Lsn(300) };
        let at = |lsn| fork_of(&own, Lsn(lsn));
        assert_eq!((at(250).timeline, at(250).history.len()), (3, 2));
        assert_eq!((at(150).timeline, at(150).history.len()), (2, 1));
        assert_eq!((at(50).timeline, at(50).history.len()), (1, 0));
    }
}
