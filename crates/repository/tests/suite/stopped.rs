//! Backups that are killed at each object, disks that are full, memory that stays within its bound.
//!
//! Each needs a process of its own: the test runs its own binary again, with the name of a child test and a setting.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use muster_common::fault::ErrorKind;
use muster_repository::check::CheckOptions;
use muster_repository::counters::Counters;
use muster_repository::entry::FileKind;
use muster_repository::error::Error;
use muster_repository::location::{Location, Pin};
use muster_repository::repository::Repository;
use muster_repository::writing::PointDetails;

use crate::support::{COMPONENT, Files, PAGES, World, agent, back_up, entry, files, new_point, noise, rows};

/// Where a child finds its repository: `FOLDER ID PUBLIC_KEY`.
const REPOSITORY: &str = "MUSTER_TEST_REPOSITORY";

pub fn child(test: &str, world: &World, failpoints: &str, prefix: &str) -> Output {
    let own = std::env::current_exe().unwrap();
    let pin = format!("{} {} {}", world.folder.path().display(), world.pin.id, hex(&world.pin.public_key));
    let script = format!("{prefix} exec \"$0\" --exact \"$1\" --nocapture --test-threads 1");
    let output =
        Command::new("sh").arg("-c").arg(script).arg(own).arg(test).env(REPOSITORY, pin).env("MUSTER_FAILPOINTS", failpoints).output();
    output.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The repository that the parent named; `None` where this is not a child.
pub async fn given() -> Option<(Repository, muster_repository::keys::DataKeys)> {
    let setting = std::env::var(REPOSITORY).ok()?;
    let mut parts = setting.split(' ');
    let (folder, id, key) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let mut public_key = [0; 32];
    for (at, byte) in public_key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&key[at * 2..at * 2 + 2], 16).unwrap();
    }
    let pin = Pin { id: id.parse().unwrap(), public_key };
    let repository = Repository::open(&Location::Folder { path: Path::new(folder).to_owned() }, pin).await.unwrap();
    let keys = repository.unlock(COMPONENT, &agent()).await.unwrap();
    Some((repository, keys))
}

fn second() -> Files {
    // Incompressible: three packs.
    files([("a", PAGES, noise(1, 60_000_000)), ("b", FileKind::Plain, noise(2, 20_000_000)), ("c", PAGES, rows(9, 2_000_000))])
}

#[tokio::test(flavor = "multi_thread")]
async fn child_backs_up() {
    if let Some((repository, keys)) = given().await {
        back_up(&repository, &keys, new_point(2), &second()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_killed_at_each_object_leaves_the_older_points_whole_and_no_point_of_its_own() {
    let world = World::new().await;
    let first = files([("a", PAGES, noise(1, 20_000_000)), ("z", PAGES, rows(7, 3_000_000))]);
    world.back_up(1, &first).await.unwrap();
    let mut at = 1;
    loop {
        let output = child("stopped::child_backs_up", &world, &format!("repository.put=kill@{at}"), "");
        let listed = world.repository.list_points(Some(COMPONENT)).await.unwrap();
        let options = CheckOptions { read_data: Some((1, 1)), ..CheckOptions::default() };
        let report = world.repository.check(std::slice::from_ref(&world.keys), options, &Arc::default()).await.unwrap();
        assert_eq!(report.problems, [], "killed at object {at}");
        world.assert_restores(1, &first).await;
        if output.status.success() {
            assert_eq!(listed.len(), 2);
            break;
        }
        assert_eq!(listed.len(), 1, "killed at object {at}: {}", String::from_utf8_lossy(&output.stderr));
        at += 1;
        assert!(at < 50, "the backup never ends");
    }
    assert!(at >= 4, "only {} objects were put", at - 1);
    world.assert_restores(2, &second()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_fails_ends_the_backup_without_a_point() {
    let world = World::new().await;
    let output = child("stopped::child_backs_up", &world, "repository.put=error@2", "");
    assert!(!output.status.success());
    assert_eq!(world.repository.list_points(None).await.unwrap(), []);
    world.back_up(2, &second()).await.unwrap();
    world.assert_restores(2, &second()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn child_finds_the_disk_full() {
    if let Some((repository, keys)) = given().await {
        let full = back_up(&repository, &keys, new_point(2), &second()).await.unwrap_err();
        let fault = full.fault();
        println!("{fault}");
        assert_eq!(fault.kind, ErrorKind::ResourceExhausted, "{full:?}");
        assert!(!fault.hint.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_is_told_at_once_and_hurts_nothing() {
    let world = World::new().await;
    let first = files([("a", PAGES, rows(7, 3_000_000))]);
    world.back_up(1, &first).await.unwrap();
    // No file may grow over 16 MiB: the same path as a full disk, and it needs no rights.
    let output = child("stopped::child_finds_the_disk_full", &world, "", "trap '' XFSZ; ulimit -f 32768;");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(world.objects(".tmp").is_empty(), "{:?}", world.objects(".tmp"));
    assert_eq!(world.repository.list_points(None).await.unwrap().len(), 1);
    world.assert_restores(1, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn child_writes_much_and_many() {
    if let Some((repository, keys)) = given().await {
        let writer = repository.begin_point(&keys, new_point(1)).await.unwrap();
        let counters = Counters::default();
        let block = noise(1, 1 << 20);
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                for thread in 0..2_u64 {
                    let (writer, counters, block) = (&writer, &counters, &block);
                    scope.spawn(move || {
                        let mut source = Endless { block, left: 600 << 20, at: thread << 40 };
                        writer.write_file(entry(&format!("big{thread}"), PAGES, 0), &mut source, counters).unwrap();
                        for small in 0..50_000 {
                            let path = format!("small/{thread}/{small}");
                            writer.write_file(entry(&path, FileKind::Plain, 0), &mut path.as_bytes(), counters).unwrap();
                        }
                    });
                }
            });
        });
        writer.finish(PointDetails::default()).await.unwrap();
        let point = repository.read_point(&keys, COMPONENT, muster_common::id::PointId::from_bytes([1; 16])).await.unwrap();
        assert_eq!(point.files.len(), 100_002);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("peak {peak} kB");
        assert!(peak < 300_000, "peak memory {peak} kB");
    }
}

/// Bytes that never repeat, made as quickly as they are read.
struct Endless<'a> {
    block: &'a [u8],
    left: usize,
    at: u64,
}

impl std::io::Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.left).min(self.block.len());
        buffer[..length].copy_from_slice(&self.block[..length]);
        for page in buffer[..length].chunks_mut(8192) {
            self.at += 1;
            let stamp = self.at.to_le_bytes();
            let room = page.len().min(8);
            page[..room].copy_from_slice(&stamp[..room]);
        }
        self.left -= length;
        Ok(length)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_and_a_hundred_thousand_files_take_under_300_mb_of_memory() {
    let world = World::new().await;
    let output = child("stopped::child_writes_much_and_many", &world, "", "");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("peak"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

/// Every future of the public API can be spawned.
#[tokio::test(flavor = "multi_thread")]
async fn futures_can_run_in_spawned_tasks() {
    let world = World::new().await;
    let (repository, keys) = (world.repository.clone(), world.keys.clone());
    let task = tokio::spawn(async move {
        repository.probe().await?;
        repository.grant(COMPONENT, &[], &crate::support::passphrase()).await?;
        let writer = repository.begin_point(&keys, new_point(1)).await?;
        let summary = writer.finish(PointDetails::default()).await?;
        repository.list_points(None).await?;
        repository.check(std::slice::from_ref(&keys), CheckOptions::default(), &Arc::default()).await?;
        let point = repository.read_point(&keys, COMPONENT, summary.point).await?;
        let options = muster_repository::restoring::ExtractOptions { threads: 1, in_flight: 1, cancel: Default::default(), fsync: false };
        point.extract(Vec::new(), options, &Arc::default()).await
    });
    assert!(matches!(task.await.unwrap(), Ok::<_, Error>(summary) if summary.files == 0));
}
