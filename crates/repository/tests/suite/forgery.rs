//! Objects that were swapped, moved or changed are refused, whoever did it.

use std::fs;
use std::sync::Arc;

use muster_common::id::ComponentId;
use muster_repository::check::CheckOptions;
use muster_repository::error::{Error, KeyError};
use muster_repository::location::Pin;
use muster_repository::repository::Repository;

use crate::support::{COMPONENT, PAGES, World, agent, back_up, files, new_point, noise, passphrase, recipient, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_was_changed_or_swapped_is_refused() {
    let (world, other) = (World::new().await, World::new().await);
    let path = world.folder.path().join("config");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let refused = Repository::open(&world.location, world.pin).await;
        assert!(refused.is_err(), "byte {at} was changed and nobody saw it");
    }
    fs::write(&path, fs::read(other.folder.path().join("config")).unwrap()).unwrap();
    let swapped = Repository::open(&world.location, world.pin).await;
    assert!(matches!(swapped, Err(Error::OtherRepository { .. })), "{swapped:?}");
    // Another key under the same id is no way around: the pin holds both.
    let half = Pin { id: other.pin.id, public_key: world.pin.public_key };
    assert!(matches!(Repository::open(&other.location, half).await, Err(Error::Damaged(_))));
    fs::write(&path, &good).unwrap();
    assert!(Repository::open(&world.location, world.pin).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_objects_that_were_swapped_or_made_by_others_are_refused() {
    let (world, other) = (World::new().await, World::new().await);
    let second = ComponentId::from_bytes([8; 16]);
    world.repository.grant(second, &[recipient("a", &agent())], &passphrase()).await.unwrap();
    let objects = world.objects("keys");
    assert_eq!(objects.len(), 3);
    let contents: Vec<_> = objects.iter().map(|path| fs::read(path).unwrap()).collect();
    for (at, path) in objects.iter().enumerate() {
        fs::write(path, &contents[(at + 1) % 3]).unwrap();
    }
    let (granted, refused) = world.repository.granted().await.unwrap();
    assert_eq!((granted, refused.len()), (vec![], 3), "a key object counts at its own path only");
    let unlocked = world.repository.unlock(COMPONENT, &agent()).await.unwrap_err();
    assert!(matches!(&unlocked, Error::Key(KeyError::NotGranted { refused, .. }) if refused.len() == 3), "{unlocked:?}");
    for (path, content) in objects.iter().zip(&contents) {
        fs::write(path, content).unwrap();
    }
    // Anyone can wrap a key to an agent, but not sign it with the pinned key.
    for foreign in other.objects("keys") {
        fs::copy(&foreign, world.folder.path().join("keys").join(foreign.file_name().unwrap())).unwrap();
    }
    let (granted, refused) = world.repository.granted().await.unwrap();
    assert_eq!((granted, refused.len()), (vec![COMPONENT, second], 2));
    let report = world.repository.check(&[], CheckOptions::default(), &Arc::default()).await.unwrap();
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    assert!(world.repository.unlock(COMPONENT, &agent()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_was_changed_or_moved_is_refused() {
    let world = World::new().await;
    let all = files([("a", PAGES, rows(1, 100_000))]);
    world.back_up(1, &all).await.unwrap();
    world.back_up(2, &all).await.unwrap();
    let points = world.objects("points");
    let (first, second) = (fs::read(&points[0]).unwrap(), fs::read(&points[1]).unwrap());
    for at in 0..first.len() {
        let mut bad = first.clone();
        bad[at] ^= 0x10;
        fs::write(&points[0], &bad).unwrap();
        assert!(world.point(1).await.is_err(), "byte {at} was changed and nobody saw it");
    }
    fs::write(&points[0], &second).unwrap();
    assert!(world.point(1).await.is_err());
    let listed = world.repository.list_points(None).await.unwrap();
    assert!(listed[0].problem.is_some() != listed[1].problem.is_some(), "without a key the wrong header is seen: {listed:?}");
    fs::write(&points[0], &first).unwrap();
    world.assert_restores(1, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_table_or_name_was_swapped_is_refused() {
    let world = World::new().await;
    let (one, two) = (files([("a", PAGES, noise(1, 100_000))]), files([("b", PAGES, noise(2, 100_000))]));
    world.back_up(1, &one).await.unwrap();
    let first = world.objects("packs");
    world.back_up(2, &two).await.unwrap();
    let second: Vec<_> = world.objects("packs").into_iter().filter(|path| !first.contains(path)).collect();
    let (a, b) = (fs::read(&first[0]).unwrap(), fs::read(&second[0]).unwrap());
    // The whole pack, then its tables with the trailer only (both packs have one frame of data, one of the list).
    let tables_at = |pack: &[u8]| u64::from_le_bytes(pack[pack.len() - 32..pack.len() - 24].try_into().unwrap()) as usize;
    let mixed = [&a[..tables_at(&a)], &b[tables_at(&b)..]].concat();
    for forged in [&b, &mixed] {
        fs::write(&first[0], forged).unwrap();
        let refused = match world.point(1).await {
            Err(refused) => refused,
            Ok(_) => panic!("a forged pack was read"),
        };
        assert!(matches!(&refused, Error::Damaged(damage) if damage.object.starts_with("packs/")), "{refused:?}");
        // Nothing is deduplicated against it: the same file is stored again, whole.
        let stored = back_up(&world.repository, &world.keys, new_point(3), &one).await;
        assert!(stored.unwrap().bytes_stored > 100_000);
        world.assert_restores(3, &one).await;
        fs::remove_file(world.folder.path().join("points").join(COMPONENT.to_string()).join("03".repeat(16))).unwrap();
    }
    fs::write(&first[0], &a).unwrap();
    world.assert_restores(1, &one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_table_that_was_swapped_is_thrown_away() {
    let world = World::new().await;
    let cache = tempfile::TempDir::new().unwrap();
    let all = files([("a", PAGES, noise(1, 40_000_000))]);
    world.back_up(1, &all).await.unwrap();
    let with_cache = |id| {
        let mut new = new_point(id);
        new.cache = Some(cache.path().to_owned());
        new
    };
    back_up(&world.repository, &world.keys, with_cache(2), &all).await.unwrap();
    let tables = cache.path().join(world.pin.id.to_string()).join("tables");
    let cached: Vec<_> = fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(cached.len() >= 2, "{cached:?}");
    let (a, b) = (fs::read(&cached[0]).unwrap(), fs::read(&cached[1]).unwrap());
    fs::write(&cached[0], &b).unwrap();
    fs::write(&cached[1], &a[..20]).unwrap();
    let again = back_up(&world.repository, &world.keys, with_cache(3), &all).await.unwrap();
    assert!(again.bytes_stored < 1_000, "{} bytes stored again", again.bytes_stored);
    assert_eq!((fs::read(&cached[0]).unwrap(), fs::read(&cached[1]).unwrap()), (a, b), "the cache was made good again");
    world.assert_restores(3, &all).await;
}
