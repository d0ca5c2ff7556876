//! Prune on real folders: killed at each object, beside backups that run, and what a hold keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster_common::id::PointId;
use muster_repository::check::CheckOptions;
use muster_repository::entry::FileKind;
use muster_repository::error::Error;
use muster_repository::keys::DataKeys;
use muster_repository::location::Location;
use muster_repository::prune::{PruneOptions, PruneReport};
use muster_repository::repository::Repository;
use muster_repository::retention::{Keep, Rules};
use tempfile::TempDir;

use crate::stopped::{child, given};
use crate::support::{COMPONENT, Files, PAGES, World, back_up, files, new_point, noise, restore};

const GRACE: Duration = Duration::from_secs(1);

async fn world() -> World {
    let folder = TempDir::new().unwrap();
    let location = Location::Folder { path: folder.path().to_owned() };
    World::with_grace(location, folder, GRACE).await
}

fn last(keep_last: u32) -> PruneOptions {
    PruneOptions { rules: Rules { keep_last: Some(keep_last), ..Rules::default() }, ..PruneOptions::default() }
}

async fn prune(repository: &Repository, keys: &DataKeys, options: &PruneOptions) -> Result<PruneReport, Error> {
    repository.prune(COMPONENT, Some(keys), options, &AtomicU64::new(0)).await
}

/// Prunes until nothing is left to remove; within a bound.
async fn prune_all(world: &World, options: &PruneOptions) {
    let started = Instant::now();
    while prune(&world.repository, &world.keys, options).await.unwrap().next_at.is_some() {
        assert!(started.elapsed() < Duration::from_secs(30), "there is always something left to remove");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A file that changes wholly and one that stays.
fn version(n: u64) -> Files {
    files([("changes", PAGES, noise(n, 600_000)), ("stays", FileKind::Plain, noise(999, 300_000))])
}

async fn assert_whole(world: &World) {
    let options = CheckOptions { read_data: Some((1, 1)), ..CheckOptions::default() };
    let report = world.repository.check(std::slice::from_ref(&world.keys), options, &Arc::default()).await.unwrap();
    assert_eq!(report.problems, []);
}

fn ids(report: &PruneReport, keep: bool) -> Vec<u8> {
    report.points.iter().filter(|fate| fate.decision.keeps() == keep).map(|fate| fate.point.as_bytes()[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_all_and_writes_nothing_and_then_only_what_no_rule_keeps_goes() {
    let world = world().await;
    for n in 1..=3 {
        world.back_up(n, &version(u64::from(n))).await.unwrap();
    }
    let before = world.objects("");
    let dry = PruneOptions { dry_run: true, ..last(1) };
    let told = prune(&world.repository, &world.keys, &dry).await.unwrap();
    assert_eq!(world.objects(""), before);
    assert_eq!((ids(&told, true), ids(&told, false)), (vec![3], vec![2, 1]));
    assert_eq!(told.points[0].decision, muster_repository::retention::Decision::Keep(Keep::Newest));
    assert!(told.points[1].bytes_alone > 500_000, "{told:?}");
    assert_eq!((told.marked_packs, told.removed_packs, told.points[2].bytes_alone), (1, 0, 0), "the last leans on the first: {told:?}");
    prune_all(&world, &last(1)).await;
    assert_eq!(world.repository.list_points(None).await.unwrap().len(), 1);
    assert_eq!(world.objects("packs").len(), 2);
    assert!(world.objects("marks").is_empty());
    // What `stays` was written with the first point, and is needed by the last.
    world.assert_restores(3, &version(3)).await;
    assert_whole(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_only_packs_go_that_no_point_needs() {
    let world = world().await;
    world.back_up(1, &version(1)).await.unwrap();
    world.back_up(2, &version(2)).await.unwrap();
    std::fs::remove_file(&world.objects("points")[1]).unwrap();
    let refused = world.repository.prune(COMPONENT, None, &last(1), &AtomicU64::new(0)).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
    let packs = world.objects("packs").len();
    let started = Instant::now();
    loop {
        let report = world.repository.prune(COMPONENT, None, &PruneOptions::default(), &AtomicU64::new(0)).await.unwrap();
        if report.removed_packs > 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{report:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.objects("packs").len() < packs);
    world.assert_restores(1, &version(1)).await;
    assert_whole(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_cannot_be_read_stops_it_and_so_does_a_hold() {
    let world = world().await;
    for n in 1..=2 {
        world.back_up(n, &version(u64::from(n))).await.unwrap();
    }
    let hold = world.repository.hold((COMPONENT, PointId::from_bytes([1; 16])), Duration::from_secs(3600), "ada", "audit").await.unwrap();
    let report = prune(&world.repository, &world.keys, &last(1)).await.unwrap();
    assert_eq!(ids(&report, true), [2, 1], "the hold keeps it");
    for object in [world.objects("holds")[0].clone(), world.objects("points")[0].clone()] {
        let whole = std::fs::read(&object).unwrap();
        let mut damaged = whole.clone();
        damaged[70] ^= 1;
        std::fs::write(&object, &damaged).unwrap();
        let stopped = prune(&world.repository, &world.keys, &last(1)).await.unwrap_err();
        assert!(matches!(stopped, Error::PruneStopped { .. }), "{stopped:?}");
        assert!(!stopped.fault().hint.is_empty());
        std::fs::write(&object, &whole).unwrap();
    }
    world.repository.release(&hold).await.unwrap();
    assert!(!world.repository.holds(COMPONENT).await.unwrap()[0].stands(hold.stored_at));
    prune_all(&world, &last(1)).await;
    assert_eq!(world.repository.list_points(None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn child_prunes() {
    if let Some((repository, keys)) = given().await {
        prune(&repository, &keys, &last(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_killed_at_each_object_hurts_nothing_and_the_next_one_goes_on() {
    for failpoint in ["repository.put", "repository.remove"] {
        let mut at = 1;
        loop {
            let world = world().await;
            for n in 1..=3 {
                world.back_up(n, &version(u64::from(n))).await.unwrap();
            }
            if failpoint == "repository.remove" {
                prune(&world.repository, &world.keys, &last(1)).await.unwrap();
                tokio::time::sleep(GRACE).await;
            }
            let output = child("pruning::child_prunes", &world, &format!("{failpoint}=kill@{at}"), "");
            world.assert_restores(3, &version(3)).await;
            assert_whole(&world).await;
            world.back_up(4, &version(4)).await.unwrap();
            prune_all(&world, &last(1)).await;
            world.assert_restores(4, &version(4)).await;
            assert_whole(&world).await;
            assert_eq!(world.repository.list_points(None).await.unwrap().len(), 1);
            if output.status.success() {
                break;
            }
            at += 1;
            assert!(at < 20, "the prune never ends");
        }
        assert!(at > 1, "{failpoint} was never passed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn beside_backups_that_run_it_removes_nothing_that_they_need() {
    let world = Arc::new(world().await);
    let ended = Arc::new(AtomicBool::new(false));
    let pruner = tokio::spawn({
        let (world, ended) = (world.clone(), ended.clone());
        async move {
            let mut removed = 0;
            while !ended.load(Ordering::Relaxed) {
                removed += prune(&world.repository, &world.keys, &last(2)).await.unwrap().removed_packs;
            }
            removed
        }
    });
    let started = Instant::now();
    let (mut taken, mut late) = (0_u8, 0);
    while started.elapsed() < Duration::from_secs(6) && taken < 250 {
        taken += 1;
        // Contents come back: what was pruned away is wanted again.
        let files = version(u64::from(taken % 3));
        match back_up(&world.repository, &world.keys, new_point(taken), &files).await {
            Ok(_) => {
                let point = world.point(taken).await.unwrap();
                restore(&point).await.1.unwrap();
            }
            Err(Error::TooLate { .. } | Error::Damaged(_)) => late += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    ended.store(true, Ordering::Relaxed);
    let removed = pruner.await.unwrap();
    assert!(removed > 0 && taken > 3, "{removed} packs were removed beside {taken} backups");
    assert!(late * 2 < taken, "{late} of {taken} backups came too late");
    assert_whole(&world).await;
}
