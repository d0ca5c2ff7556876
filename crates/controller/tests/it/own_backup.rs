//! The controller's own backup: taken by itself, by hand while it runs, before a migration; brought back into empty places only.

use std::path::Path;
use std::time::Duration;

use muster_common::time::Timestamp;
use muster_controller::config::Config;
use muster_controller::own_backup::bring_back::bring_back;
use muster_controller::own_backup::keeper::{Keeper, Plan};
use muster_controller::store::{Snapshot, Store, meta};
use muster_repository::location::Location;
use muster_repository::sealed::open_with_passphrase;
use muster_repository::secret::Secret;
use muster_wire::proto::v1::StatusServiceGetRequest;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;

use crate::world::{World, config};

const PASSPHRASE: &str = "correct horse battery staple";

fn planned(folder: &Path, config: &mut Config) {
    let place = folder.join("backups");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(folder.join("passphrase"), PASSPHRASE).unwrap();
    config.backup = Some(Plan {
        location: Location::Folder { path: place },
        passphrase_file: folder.join("passphrase"),
        at: Duration::from_secs(2 * 3_600),
        keep: 3,
    });
}

fn opened(folder: &Path) -> Vec<u8> {
    let mut names: Vec<_> = std::fs::read_dir(folder.join("backups")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "sealed"));
    names.sort();
    let sealed = std::fs::read(names.last().unwrap()).unwrap();
    assert!(open_with_passphrase(&Secret::new("another passphrase"), &sealed).is_err());
    let text = String::from_utf8_lossy(&sealed);
    assert!(!text.contains("PRIVATE KEY") && !text.contains("sqlite"), "it is sealed");
    open_with_passphrase(&Secret::new(PASSPHRASE), &sealed).unwrap().to_vec()
}

#[tokio::test]
async fn a_controller_backs_itself_up_and_what_comes_back_knows_that_it_is_behind() {
    let elsewhere = tempfile::tempdir().unwrap();
    let world = World::start_with(|config| planned(elsewhere.path(), config)).await;
    let began = std::time::Instant::now();
    let page = loop {
        let page =
            StatusServiceClient::new(world.admins()).get(StatusServiceGetRequest::default()).await.unwrap().into_inner().page.unwrap();
        let controller = page.controller.unwrap();
        if controller.backed_up_at.is_some() {
            break controller;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{}", controller.backup_problem);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(page.backup.contains("term1") && page.backup_problem.is_empty(), "{page:?}");

    // By hand, while it runs.
    let keeper = Keeper::of(&world.running.api.config);
    assert!(!keeper.is_due(muster_service::clock::now()));
    let snapshot = Snapshot::open(&world.running.api.config.store_place().unwrap()).await.unwrap();
    keeper.take(snapshot.read().await.unwrap()).await.unwrap();

    // Into an empty place, and into no other.
    let plain = opened(elsewhere.path());
    let other = tempfile::tempdir().unwrap();
    let other = config(other.path());
    let back = bring_back(&other, &plain).await.unwrap();
    assert_eq!((back.head.term, back.head.store_id.as_str()), (1, page.store_id.as_str()));
    let same = std::fs::read(world.running.api.config.authority_folder().join("ca.key")).unwrap();
    assert_eq!(std::fs::read(other.authority_folder().join("ca.key")).unwrap(), same);
    let refused = format!("{:#}", bring_back(&other, &plain).await.unwrap_err());
    assert!(refused.contains("not empty"), "{refused}");
    let store = Store::open_at(&other.store_place().unwrap()).await.unwrap();
    assert_eq!(store.term().0, 2);
    assert!(store.moved_from().is_some_and(|from| from.contains("a backup of")), "{:?}", store.moved_from());
}

#[tokio::test]
async fn a_cut_backup_and_a_foreign_ca_are_refused_and_nothing_is_left() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut from = config(elsewhere.path());
    planned(elsewhere.path(), &mut from);
    muster_controller::command::init::make(&from).unwrap();
    let store = Store::open_at(&from.store_place().unwrap()).await.unwrap();
    Keeper::of(&from).take(store.read().await.unwrap()).await.unwrap();
    let plain = opened(elsewhere.path());

    let folder = tempfile::tempdir().unwrap();
    let into = config(folder.path());
    bring_back(&into, &plain[..plain.len() - 20]).await.unwrap_err();
    // What was broken off can be repeated.
    bring_back(&into, &plain).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let foreign = config(folder.path());
    muster_controller::command::init::make(&foreign).unwrap();
    let refused = format!("{:#}", bring_back(&foreign, &plain).await.unwrap_err());
    assert!(refused.contains("nothing was replaced"), "{refused}");
}

#[tokio::test]
async fn a_store_of_an_older_schema_is_backed_up_before_it_changes_and_a_failure_keeps_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().to_owned();
    let mut older = config(&folder);
    planned(&folder, &mut older);
    muster_controller::command::init::make(&older).unwrap();
    let place = older.store_place().unwrap();
    drop(Store::open_at(&place).await.unwrap());
    let known = muster_controller::store::schema::KNOWN;
    // As if the newest step were not there yet; its tables stay, so that the step itself fails where it is tried.
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{place}")).await.unwrap();
    sqlx::query("DELETE FROM migrations WHERE version = $1").bind(known).execute(&pool).await.unwrap();
    pool.close().await;
    let keeper = Keeper::of(&older);
    let opened_with = Store::open_after(&place, async |version, reading| {
        assert_eq!(version, known - 1);
        keeper
            .take(reading)
            .await
            .map(drop)
            .map_err(|error| muster_controller::store::error::StoreError::Ended { why: format!("{error:#}") })
    });
    opened_with.await.unwrap_err();
    assert!(keeper.kept().at.is_some_and(|at| at > Timestamp(0)), "{:?}", keeper.kept());
    let refused =
        Store::open_after(&place, async |_, _| Err::<(), _>(muster_controller::store::error::StoreError::Ended { why: "no room".into() }));
    assert!(refused.await.unwrap_err().to_string().contains("no room"));
    let snapshot = Snapshot::open(&place).await.unwrap();
    assert_eq!(meta::identity(&mut snapshot.read().await.unwrap()).await.unwrap().1.0, 1, "no term was begun");
}
