//! What stays of a command after its outcome was acknowledged: its id, its sequence and its outcome, for 30 days.
//!
//! A file a day (of the later of issue and acknowledgement), a line a command: `crc32c json`. Lines are appended and
//! fsynced; a whole day is dropped at once. What always holds: a buried command is found until its day is dropped, and what
//! was dropped is covered by `dropped_until`, so that nothing is ever taken on twice. A torn last line is no tombstone: its
//! command still stands in the inbox.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_common::id::CommandId;
use muster_common::time::Timestamp;
use muster_service::files;
use serde::{Deserialize, Serialize};

use crate::durable::DurableError;
use crate::task::command::{Done, Ended};

/// The longest line in bytes. What is longer loses its lists.
const MAX_LINE: usize = 32 << 10;

const DAY: Duration = Duration::from_secs(86_400);

/// One buried command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The command.
    pub command: CommandId,
    /// Its sequence.
    pub sequence: u64,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// How it ended.
    pub ended: Ended,
}

/// All tombstones. It is one task's or behind a lock: no two writers at once.
#[derive(Debug)]
pub struct Tombstones {
    folder: PathBuf,
    days: BTreeMap<i64, usize>,
    buried: HashMap<CommandId, i64>,
}

impl Tombstones {
    /// Reads what is there.
    ///
    /// # Errors
    /// Where a file cannot be read, or a line that is not the last one is damaged.
    pub fn open(folder: &Path) -> Result<Self, DurableError> {
        files::create_private_folder(folder)?;
        let mut all = Self { folder: folder.to_owned(), days: BTreeMap::new(), buried: HashMap::new() };
        for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
            let path = entry.map_err(|source| failed(folder, source))?.path();
            if let Some(day) = day_of_file(&path) {
                all.read_day(day, &path)?;
            }
        }
        Ok(all)
    }

    /// Whether a command is buried, and how it ended.
    ///
    /// # Errors
    /// Where its day's file cannot be read.
    pub fn find(&self, command: CommandId) -> Result<Option<Tombstone>, DurableError> {
        let Some(day) = self.buried.get(&command) else { return Ok(None) };
        let path = self.path(*day);
        Ok(read_lines(&path)?.0.into_iter().find(|tombstone| tombstone.command == command))
    }

    /// Whether a command is buried.
    #[must_use]
    pub fn contains(&self, command: CommandId) -> bool {
        self.buried.contains_key(&command)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buried.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buried.is_empty()
    }

    /// Buries a command: durable when it returns. Buried already is done.
    ///
    /// # Errors
    /// Where the line cannot be written; it is no tombstone then.
    pub fn bury(&mut self, tombstone: Tombstone, now: Timestamp) -> Result<(), DurableError> {
        if self.contains(tombstone.command) {
            return Ok(());
        }
        let day = day_of(now.max(tombstone.issued_at));
        let path = self.path(day);
        let new = !self.days.contains_key(&day);
        append(&path, &line(&tombstone, &path)?)?;
        if new {
            files::sync_folder(&self.folder)?;
        }
        self.remember(day, &tombstone);
        Ok(())
    }

    /// The days to drop now, oldest first, and the newest instant that they may cover: what is older than `keep`, and the oldest while there are
    /// more than `most`. Today's stay: what was issued on a dropped day is refused. Pure.
    #[must_use]
    pub fn due(&self, now: Timestamp, keep: Duration, most: usize) -> Option<(Vec<i64>, Timestamp)> {
        let horizon = day_of(now).saturating_sub(i64::try_from(keep.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX)).saturating_sub(1);
        let mut left = self.buried.len();
        let mut due = Vec::new();
        for (day, count) in &self.days {
            if *day < horizon || (left > most && *day < day_of(now)) {
                due.push(*day);
                left = left.saturating_sub(*count);
            }
        }
        let last = *due.last()?;
        Some((due, start_of(last.saturating_add(1))))
    }

    /// Drops days. The caller has made the instant of [`Self::due`] durable before.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn drop_days(&mut self, days: &[i64]) -> Result<(), DurableError> {
        for day in days {
            let path = self.path(*day);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed(&path, source)),
            }
            self.days.remove(day);
            self.buried.retain(|_, of| of != day);
        }
        Ok(files::sync_folder(&self.folder)?)
    }

    fn read_day(&mut self, day: i64, path: &Path) -> Result<(), DurableError> {
        let (tombstones, whole) = read_lines(path)?;
        for tombstone in &tombstones {
            self.remember(day, tombstone);
        }
        // A torn line would be glued to the next one.
        let file = OpenOptions::new().write(true).open(path).map_err(|source| failed(path, source))?;
        file.set_len(whole).and_then(|()| file.sync_all()).map_err(|source| failed(path, source))
    }

    fn remember(&mut self, day: i64, tombstone: &Tombstone) {
        if self.buried.insert(tombstone.command, day).is_none() {
            *self.days.entry(day).or_default() += 1;
        }
    }

    fn path(&self, day: i64) -> PathBuf {
        self.folder.join(format!("{day}.log"))
    }
}

fn line(tombstone: &Tombstone, path: &Path) -> Result<Vec<u8>, DurableError> {
    let mut json = to_json(tombstone, path)?;
    if json.len() > MAX_LINE {
        json = to_json(&Tombstone { ended: shortened(&tombstone.ended), ..tombstone.clone() }, path)?;
    }
    Ok([format!("{:08x} ", crc32c::crc32c(&json)).as_bytes(), &json, b"\n"].concat())
}

fn to_json(tombstone: &Tombstone, path: &Path) -> Result<Vec<u8>, DurableError> {
    serde_json::to_vec(tombstone).map_err(|error| DurableError::Damaged { path: path.to_owned(), why: error.to_string() })
}

/// The same end without its long lists; their counts stay.
fn shortened(ended: &Ended) -> Ended {
    let mut ended = ended.clone();
    ended.hooks.clear();
    match &mut ended.result {
        Ok(Done::Backup { outcome }) => {
            outcome.damage.clear();
            outcome.notes.clear();
        }
        Ok(Done::Restore { outcome, .. }) => {
            outcome.plan.notes.clear();
            outcome.plan.replaces.clear();
        }
        Ok(Done::Check { outcome }) => {
            outcome.problems.clear();
            outcome.store_notes.clear();
        }
        Ok(Done::Discard { .. } | Done::Hold { .. } | Done::Hook { .. } | Done::Order { .. }) => {}
        Ok(Done::Prune { outcome }) => {
            outcome.more_points += outcome.points.len() as u64;
            outcome.points.clear();
            outcome.notes.clear();
        }
        Ok(Done::Verify { outcome }) => {
            outcome.checks.clear();
            outcome.notes.clear();
        }
        Err(fault) => {
            fault.evidence.clear();
            fault.message = fault.message.chars().take(2_000).collect();
            fault.hint = fault.hint.chars().take(2_000).collect();
        }
    }
    ended
}

fn append(path: &Path, line: &[u8]) -> Result<(), DurableError> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|source| failed(path, source))?;
    let before = file.metadata().map_err(|source| failed(path, source))?.len();
    let written = muster_failpoint::hit("agent.tombstone.append")
        .map_err(io::Error::other)
        .and_then(|()| file.write_all(line))
        .and_then(|()| file.sync_all());
    written.map_err(|source| {
        // A part of a line must not stand before the next one; where even that fails, opening it again cuts it.
        if let Err(error) = file.set_len(before) {
            tracing::warn!(path = %path.display(), %error, "a torn tombstone could not be cut off");
        }
        failed(path, source)
    })
}

/// The whole lines, and how many bytes they take.
fn read_lines(path: &Path) -> Result<(Vec<Tombstone>, u64), DurableError> {
    let mut reader = BufReader::new(File::open(path).map_err(|source| failed(path, source))?);
    let mut tombstones = Vec::new();
    let mut whole = 0;
    let mut torn = false;
    loop {
        let mut line = Vec::new();
        let read = io::Read::take(&mut reader, 2 * MAX_LINE as u64).read_until(b'\n', &mut line).map_err(|source| failed(path, source))?;
        if read == 0 {
            return Ok((tombstones, whole));
        }
        if torn {
            return Err(DurableError::Damaged { path: path.to_owned(), why: format!("the line at byte {whole} is damaged") });
        }
        match parse(&line) {
            Some(tombstone) => {
                tombstones.push(tombstone);
                whole += read as u64;
            }
            None => torn = true,
        }
    }
}

fn parse(line: &[u8]) -> Option<Tombstone> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.trim_end(), 16).ok()?;
    (sum == crc32c::crc32c(json)).then(|| serde_json::from_slice(json).ok()).flatten()
}

fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(86_400_000_000)
}

fn start_of(day: i64) -> Timestamp {
    Timestamp(day.saturating_mul(86_400_000_000))
}

fn day_of_file(path: &Path) -> Option<i64> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

fn failed(path: &Path, source: io::Error) -> DurableError {
    DurableError::Disk { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use muster_common::fault::{ErrorKind, Fault};

    use super::*;

    fn at(day: u64) -> Timestamp {
        Timestamp::default().plus(DAY * u32::try_from(day).unwrap())
    }

    fn tombstone(n: u8, day: u64) -> Tombstone {
        let result = Err(Fault::refused(ErrorKind::Cancelled, "stop"));
        Tombstone {
            command: CommandId::from_bytes([n; 16]),
            sequence: u64::from(n),
            issued_at: at(day),
            ended: Ended { at: at(day), result, hooks: Vec::new() },
        }
    }

    #[test]
    fn a_buried_command_is_found_with_its_outcome_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Tombstones::open(folder.path()).unwrap();
        all.bury(tombstone(1, 10), at(10)).unwrap();
        all.bury(tombstone(2, 10), at(11)).unwrap();
        all.bury(tombstone(2, 10), at(12)).unwrap();
        let all = Tombstones::open(folder.path()).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all.find(CommandId::from_bytes([2; 16])).unwrap(), Some(tombstone(2, 10)));
        assert_eq!(all.find(CommandId::from_bytes([3; 16])).unwrap(), None);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_a_damaged_one_before_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Tombstones::open(folder.path()).unwrap();
        all.bury(tombstone(1, 10), at(10)).unwrap();
        let path = all.path(10);
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            fs::write(&path, [&whole, &whole[..cut]].concat()).unwrap();
            let mut all = Tombstones::open(folder.path()).unwrap();
            assert_eq!(all.len(), 1, "cut {cut}");
            all.bury(tombstone(2, 10), at(10)).unwrap();
            assert_eq!(Tombstones::open(folder.path()).unwrap().len(), 2, "cut {cut}");
        }
        let mut bad = [&whole[..], &whole[..]].concat();
        bad[12] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(matches!(Tombstones::open(folder.path()), Err(DurableError::Damaged { .. })));
    }

    #[test]
    fn a_day_is_dropped_only_when_everything_in_it_is_older_than_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Tombstones::open(folder.path()).unwrap();
        all.bury(tombstone(1, 10), at(10)).unwrap();
        // Issued by a clock that is ahead: it stays as long as that issue counts.
        all.bury(tombstone(2, 20), at(10)).unwrap();
        assert_eq!(all.due(at(41), DAY * 30, 100), None);
        let (days, until) = all.due(at(42), DAY * 30, 100).unwrap();
        assert_eq!((days.as_slice(), until), ([10].as_slice(), at(11)));
        all.drop_days(&days).unwrap();
        assert!(!all.contains(CommandId::from_bytes([1; 16])) && all.contains(CommandId::from_bytes([2; 16])));
        assert_eq!(all.due(at(42), DAY * 30, 100), None);
    }

    #[test]
    fn the_oldest_days_are_dropped_early_where_there_are_more_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Tombstones::open(folder.path()).unwrap();
        for n in 0..12 {
            all.bury(tombstone(n, 10 + u64::from(n) / 4), at(10)).unwrap();
        }
        assert_eq!(all.due(at(12), DAY * 30, 12), None);
        let (days, until) = all.due(at(12), DAY * 30, 7).unwrap();
        assert_eq!((days.as_slice(), until), ([10, 11].as_slice(), at(12)), "what they covered is refused from then on");
        all.drop_days(&days).unwrap();
        assert_eq!((all.len(), all.due(at(12), DAY * 30, 7)), (4, None));
        assert_eq!(all.due(at(12), DAY * 30, 1), None, "today's stay");
    }

    #[test]
    fn a_long_outcome_keeps_its_counts_and_loses_its_lists() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Tombstones::open(folder.path()).unwrap();
        let outcome =
            crate::task::command::CheckOutcome { problems: vec!["x".repeat(100); 1_000], problem_count: 1_000, ..Default::default() };
        let ended = Ended { at: at(10), result: Ok(Done::Check { outcome }), hooks: Vec::new() };
        all.bury(Tombstone { ended, ..tombstone(1, 10) }, at(10)).unwrap();
        let found = all.find(CommandId::from_bytes([1; 16])).unwrap().unwrap();
        let Ok(Done::Check { outcome }) = found.ended.result else { panic!("{found:?}") };
        assert_eq!((outcome.problems.len(), outcome.problem_count), (0, 1_000));
    }
}
