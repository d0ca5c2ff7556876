//! Damage is named with its pack and offset; what it does not touch stays usable.

use std::fs;
use std::sync::Arc;

use muster_common::fault::ErrorKind;
use muster_common::id::PointId;
use muster_repository::check::{CheckOptions, CheckReport};
use muster_repository::entry::FileKind;
use muster_repository::error::Error;

use crate::support::{COMPONENT, PAGES, World, files, flat, noise, restore};

async fn check(world: &World) -> CheckReport {
    let options = CheckOptions { read_data: Some((1, 1)), ..CheckOptions::default() };
    world.repository.check(std::slice::from_ref(&world.keys), options, &Arc::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_frame_is_named_with_pack_and_offset_and_the_rest_stays_usable() {
    let world = World::new().await;
    let old = files([("old", PAGES, noise(3, 3_000_000))]);
    world.back_up(1, &old).await.unwrap();
    let before = world.objects("packs");
    let all = files([("big", PAGES, noise(1, 20_000_000)), ("small", FileKind::Plain, noise(2, 100_000))]);
    world.back_up(2, &all).await.unwrap();
    let pack = world.objects("packs").into_iter().find(|pack| !before.contains(pack)).unwrap();
    let good = fs::read(&pack).unwrap();
    // A frame of incompressible pages takes 262,144 + 28 bytes; hit one in the middle that belongs to the big file.
    let content = &all["big"].1;
    let mut bad = good.clone();
    bad[10_000_000] ^= 0x80;
    fs::write(&pack, &bad).unwrap();
    let point = world.point(2).await.unwrap();
    let (folder, outcome) = restore(&point).await;
    let Err(Error::DamagedFiles(damaged)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((damaged.files, damaged.damage.len()), (1, 1), "{damaged:?}");
    let damage = &damaged.damage[0];
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(damage.object.ends_with(name), "{damage}");
    let offset = damage.offset.unwrap();
    assert!(offset <= 10_000_000 && 10_000_000 < offset + 262_172, "{damage}");
    let fault = Error::DamagedFiles(damaged.clone()).fault();
    assert_eq!(fault.kind, ErrorKind::DataLoss);
    assert!(fault.to_string().contains(name) && !fault.hint.is_empty(), "{fault}");
    // Everything else of the hurt file, the other file and the older point are whole.
    let restored = fs::read(folder.path().join("big")).unwrap();
    let different: Vec<usize> =
        (0..content.len() / 8192).filter(|page| restored[page * 8192..][..8192] != content[page * 8192..][..8192]).collect();
    assert!(restored.len() == content.len() && different.len() == 32 && different[31] - different[0] == 31, "{different:?}");
    assert_eq!(fs::read(folder.path().join(flat("small"))).unwrap(), all["small"].1);
    world.assert_restores(1, &old).await;
    let report = check(&world).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].damage, *damage);
    assert_eq!(report.problems[0].points, [(COMPONENT, PointId::from_bytes([2; 16]))]);
    // A frame that was found bad is never deduplicated against: the next point stores it anew and restores.
    let next = world.back_up(3, &all).await.unwrap();
    assert!(next.bytes_stored > 20_000_000, "only {} bytes were stored anew", next.bytes_stored);
    world.assert_restores(3, &all).await;
    fs::write(&pack, &good).unwrap();
    assert_eq!(check(&world).await.problems, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_half_written_goes_after_a_day() {
    let world = World::new().await;
    let (old, new) = (world.folder.path().join(".tmp/old"), world.folder.path().join(".tmp/new"));
    for path in [&old, &new] {
        fs::write(path, b"half").unwrap();
    }
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    world.back_up(1, &files([])).await.unwrap();
    assert_eq!((old.exists(), new.exists()), (false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_gone_or_cut_short_hurts_only_the_points_that_need_it() {
    let world = World::new().await;
    let (one, two) = (files([("a", PAGES, noise(1, 1_000_000))]), files([("b", PAGES, noise(2, 1_000_000))]));
    world.back_up(1, &one).await.unwrap();
    let first = world.objects("packs");
    world.back_up(2, &two).await.unwrap();
    let good = fs::read(&first[0]).unwrap();
    let shortened = &good[..good.len() - 1];
    for bad in [None, Some(shortened), Some(&good[..10])] {
        fs::remove_file(&first[0]).unwrap();
        if let Some(bad) = bad {
            fs::write(&first[0], bad).unwrap();
        }
        let report = check(&world).await;
        assert!(!report.problems.is_empty());
        for problem in &report.problems {
            assert_eq!(problem.points, [(COMPONENT, PointId::from_bytes([1; 16]))], "{report:?}");
        }
        world.assert_restores(2, &two).await;
        if bad.is_none() {
            fs::write(&first[0], &good).unwrap();
        }
    }
    fs::write(&first[0], &good).unwrap();
    assert_eq!(check(&world).await.problems, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_checked_in_parts_that_together_are_all_of_it() {
    let world = World::new().await;
    for id in 1..6 {
        world.back_up(id, &files([("a", PAGES, noise(u64::from(id), 500_000))])).await.unwrap();
    }
    let all = check(&world).await.frames_read;
    let mut parts = 0;
    for n in 1..=3 {
        let options = CheckOptions { read_data: Some((n, 3)), ..CheckOptions::default() };
        let report = world.repository.check(std::slice::from_ref(&world.keys), options, &Arc::default()).await.unwrap();
        assert_eq!(report.problems, []);
        parts += report.frames_read;
    }
    assert_eq!(parts, all);
    let options = CheckOptions { read_data: Some((4, 3)), ..CheckOptions::default() };
    assert!(matches!(world.repository.check(&[], options, &Arc::default()).await, Err(Error::Invalid(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_read_leaves_its_file_out_and_the_point_whole() {
    use muster_repository::counters::Counters;
    use muster_repository::writing::PointDetails;
    use std::io::Read;

    struct Breaks(u32);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 { Err(std::io::Error::other("the disk is bad")) } else { Ok(buffer.len().min(100_000)) }
        }
    }
    let world = World::new().await;
    let writer = world.repository.begin_point(&world.keys, crate::support::new_point(1)).await.unwrap();
    let counters = Counters::default();
    tokio::task::block_in_place(|| {
        let entry = crate::support::entry("bad", FileKind::Plain, 0);
        let broken = writer.write_file(entry.clone(), &mut Breaks(0), &counters).unwrap_err();
        assert!(matches!(&broken, Error::Source { path, .. } if path == "bad"), "{broken:?}");
        writer.write_file(entry.clone(), &mut &b"second try"[..], &counters).unwrap();
        let twice = writer.write_file(entry, &mut &b"third try"[..], &counters).unwrap_err();
        assert!(matches!(twice, Error::Invalid(_)), "{twice:?}");
    });
    writer.finish(PointDetails::default()).await.unwrap();
    let point = world.point(1).await.unwrap();
    assert_eq!(point.read_small(0, 100).await.unwrap(), b"second try");
    assert!(matches!(point.read_small(0, 3).await, Err(Error::Invalid(_))));
}
