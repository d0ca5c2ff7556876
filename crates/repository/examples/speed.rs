//! How fast a point is written and restored on this machine: `cargo run -p muster-repository --example speed -- GB THREADS FOLDER`.
//!
//! Half of the pages are like pgbench's accounts, half hold words; no two are alike. The source is memory, as a warm page cache is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "an example fails by panicking")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use muster_common::id::{ComponentId, PointId};
use muster_common::time::Timestamp;
use muster_repository::check::CheckOptions;
use muster_repository::counters::Counters;
use muster_repository::entry::{FileEntry, FileKind, Group, RelPath};
use muster_repository::keys::{KdfCost, Recipient};
use muster_repository::location::Location;
use muster_repository::repository::Repository;
use muster_repository::restoring::{Extract, ExtractOptions};
use muster_repository::secret::{AgentSecret, Secret};
use muster_repository::writing::{NewPoint, PointDetails};
use tokio_util::sync::CancellationToken;

const PAGE: usize = 8192;
const SEGMENT: usize = 256 << 20;
const COMPONENT: ComponentId = ComponentId::from_bytes([1; 16]);

/// 64 MiB of pages that a source repeats, each time with other page headers and other numbers in them.
fn pages() -> Vec<u8> {
    let words = "of the order customer shipped pending address street ankara istanbul izmir payment card invoice total amount note";
    let words: Vec<&str> = words.split(' ').collect();
    let mut random = 1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut out = Vec::with_capacity(64 << 20);
    for number in 0..(64 << 20) / PAGE {
        let mut page = vec![0_u8; PAGE];
        page[8..24].copy_from_slice(&[[4, 0, 24, 1].as_slice(), &[0; 12]].concat());
        let mut at = PAGE;
        let mut pointer = 24;
        while at > pointer + 140 {
            let row = if number % 2 == 0 {
                format!("{:08}{:04}{:08}{:84}", next() % 100_000_000, next() % 40, next() % 1000, "")
            } else {
                (0..16).map(|_| words[(next() % words.len() as u64) as usize]).collect::<Vec<_>>().join(" ")
            };
            at -= 24 + row.len();
            page[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
            page[at + 24..at + 24 + row.len()].copy_from_slice(row.as_bytes());
            page[pointer..pointer + 4].copy_from_slice(&(at as u32).to_le_bytes());
            pointer += 4;
        }
        out.extend_from_slice(&page);
    }
    out
}

/// One segment file: the pages over and over, each with a header of its own.
struct Segment<'a> {
    pages: &'a [u8],
    at: usize,
    salt: u64,
}

impl Read for Segment<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = out.len().min(SEGMENT - self.at);
        let mut done = 0;
        while done < length {
            let from = (self.at + done) % self.pages.len();
            let take = (length - done).min(PAGE - from % PAGE);
            out[done..done + take].copy_from_slice(&self.pages[from..from + take]);
            if from.is_multiple_of(PAGE) && take >= 8 {
                let lsn = self.salt << 32 | ((self.at + done) / PAGE) as u64;
                out[done..done + 8].copy_from_slice(&lsn.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            }
            done += take;
        }
        self.at += length;
        Ok(length)
    }
}

async fn write(repository: &Repository, keys: &muster_repository::keys::DataKeys, id: u8, segments: usize, threads: usize, pages: &[u8]) {
    let new = NewPoint {
        point: PointId::from_bytes([id; 16]),
        component: COMPONENT,
        instance: "here".into(),
        parent: None,
        level: 1,
        threads,
        cache: None,
        cancel: CancellationToken::new(),
    };
    let (started, cpu_before) = (Instant::now(), cpu());
    let writer = repository.begin_point(keys, new).await.unwrap();
    let counters = Counters::default();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let segment = next.fetch_add(1, Ordering::Relaxed);
            if segment >= segments {
                return;
            }
            let entry = FileEntry {
                path: RelPath::new(format!("base/1/{segment}").into_bytes()).unwrap(),
                kind: FileKind::Pages { block_size: 8192 },
                mode: 0o600,
                mtime: Timestamp(0),
                size_hint: SEGMENT as u64,
                group: Group::Data,
            };
            writer.write_file(entry, &mut Segment { pages, at: 0, salt: segment as u64 }, &counters).unwrap();
        }
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    });
    let read = started.elapsed();
    let summary = writer.finish(PointDetails::default()).await.unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let rate = summary.bytes as f64 / 1e6 / seconds;
    println!(
        "write {id}: {} MB in {seconds:.2} s ({read:.2?} reading), {} MB stored, {rate:.0} MB/s, {:.2} CPU seconds",
        summary.bytes / 1_000_000,
        summary.bytes_stored / 1_000_000,
        cpu() - cpu_before
    );
}

async fn restore(repository: &Repository, keys: &muster_repository::keys::DataKeys, folder: &Path, threads: usize, fsync: bool) {
    let destination = folder.join("restored");
    if destination.exists() {
        std::fs::remove_dir_all(&destination).unwrap();
    }
    std::fs::create_dir(&destination).unwrap();
    let (started, cpu_before) = (Instant::now(), cpu());
    let point = repository.read_point(keys, COMPONENT, PointId::from_bytes([1; 16])).await.unwrap();
    let jobs = (0..point.files.len()).map(|file| Extract { file, destination: destination.join(file.to_string()) }).collect();
    let options = ExtractOptions { threads, in_flight: 8, cancel: CancellationToken::new(), fsync };
    let summary = point.extract(jobs, options, &Arc::new(Counters::default())).await.unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "restore (fsync {fsync}): {} MB in {seconds:.2} s, {:.0} MB/s, {:.2} CPU seconds",
        summary.bytes / 1_000_000,
        summary.bytes as f64 / 1e6 / seconds,
        cpu() - cpu_before
    );
    std::fs::remove_dir_all(&destination).unwrap();
}

/// CPU seconds of this process so far, user and system: what counts where others load the machine too.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let segments = arguments.next().map_or(16, |gb| gb.parse::<usize>().expect("GB is a number") * 4);
    let threads = arguments.next().map_or(2, |threads| threads.parse().expect("THREADS is a number"));
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join(format!("muster-speed-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("repository")).unwrap();
    let location = Location::Folder { path: folder.join("repository") };
    let passphrase = Secret::new("speed");
    let pin = Repository::init(&location, &passphrase, KdfCost::WEAK).await.unwrap();
    let repository = Repository::open(&location, pin).await.unwrap();
    let agent = AgentSecret::generate([1; 32]);
    let recipient = Recipient { name: "here".into(), x25519_public: agent.public() };
    repository.grant(COMPONENT, &[recipient], &passphrase).await.unwrap();
    let keys = repository.unlock(COMPONENT, &agent).await.unwrap();
    let pages = pages();
    write(&repository, &keys, 1, segments, threads, &pages).await;
    write(&repository, &keys, 2, segments, threads, &pages).await;
    println!("{}", peak_memory());
    restore(&repository, &keys, &folder, threads, false).await;
    restore(&repository, &keys, &folder, threads, true).await;
    println!("{}", peak_memory());
    let started = Instant::now();
    let options = CheckOptions { read_data: Some((1, 1)), ..CheckOptions::default() };
    let report = repository.check(&[keys], options, &Arc::default()).await.unwrap();
    println!("check: {} frames in {:.2} s, {} problems", report.frames_read, started.elapsed().as_secs_f64(), report.problems.len());
    std::fs::remove_dir_all(&folder).unwrap();
}
