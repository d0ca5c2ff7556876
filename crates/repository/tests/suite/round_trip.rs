//! What is written comes back, byte by byte; what is there already is not stored again.

use muster_common::id::PointId;
use muster_repository::entry::FileKind;

use crate::support::{COMPONENT, PAGES, World, files, noise, rows};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_length_come_back_as_they_were() {
    let world = World::new().await;
    let lengths = [0, 1, 8191, 8192, 8193, 262_143, 262_144, 262_145, 33_554_432, 33_554_433, 40_000_000];
    let mut all = files([]);
    for (at, length) in lengths.into_iter().enumerate() {
        all.insert(format!("base/1/{at}"), (PAGES, rows(at as u64, length)));
        all.insert(format!("pg_wal/{at}"), (FileKind::Plain, noise(at as u64, length / 2)));
    }
    all.insert("one_kib".into(), (FileKind::Pages { block_size: 1024 }, rows(50, 9_000_001)));
    all.insert("thirty_two_kib".into(), (FileKind::Pages { block_size: 32768 }, rows(51, 3_000_000)));
    let summary = world.back_up(1, &all).await.unwrap();
    assert_eq!(summary.files, all.len() as u64);
    assert_eq!(summary.bytes, all.values().map(|(_, content)| content.len() as u64).sum::<u64>());
    world.assert_restores(1, &all).await;
    let listed = world.repository.list_points(Some(COMPONENT)).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].point, listed[0].problem.clone()), (PointId::from_bytes([1; 16]), None));
    assert!(!listed[0].packs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_of_the_same_files_stores_next_to_nothing() {
    let world = World::new().await;
    let mut all = files([("a", PAGES, rows(1, 50_000_000)), ("b", FileKind::Plain, noise(2, 20_000_000))]);
    let first = world.back_up(1, &all).await.unwrap();
    assert!(first.bytes_stored > 20_000_000);
    let again = world.back_up(2, &all).await.unwrap();
    assert!(again.bytes_stored < 1_000, "{} bytes stored again", again.bytes_stored);
    // One page changed: one frame, its leaf, its node, the list.
    all.get_mut("a").unwrap().1[40_000_000] ^= 1;
    let changed = world.back_up(3, &all).await.unwrap();
    assert!(changed.bytes_stored < 300_000, "{} bytes stored for one page", changed.bytes_stored);
    world.assert_restores(3, &all).await;
    all.get_mut("a").unwrap().1[40_000_000] ^= 1;
    world.assert_restores(1, &all).await;
    world.assert_restores(2, &all).await;
}
