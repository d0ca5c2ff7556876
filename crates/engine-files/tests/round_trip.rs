//! A folder through backup and restore with a real repository in a folder. Needs a temporary folder only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::{CommandId, ComponentId, PointId};
use muster_engine::capability::Verb;
use muster_engine::observation::{Depth, Position, Role};
use muster_engine::request::{BackupRequest, DiscardRequest, RestoreRequest, RestoreTarget};
use muster_engine::verbs::Engine;
use muster_engine::work::{Notes, OpenRepository, Progress, Work};
use muster_engine_files::engine::Files;
use muster_repository::keys::{KdfCost, Recipient};
use muster_repository::location::Location;
use muster_repository::repository::Repository;
use muster_repository::secret::{AgentSecret, Secret};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);

#[derive(Default)]
struct Note(Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Notes for Note {
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn keep(&self, note: &[u8]) -> Result<(), Fault> {
        *self.0.lock().unwrap() = Some(note.to_vec());
        Ok(())
    }
}

struct World {
    folder: tempfile::TempDir,
    open: OpenRepository,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Folder { path: folder.path().join("repository") };
        let passphrase = Secret::new("correct horse");
        let pin = Repository::init(&location, &passphrase, KdfCost::WEAK).await.unwrap();
        let repository = Repository::open(&location, pin).await.unwrap();
        let secret = AgentSecret::generate([5; 32]);
        let recipient = Recipient { name: "agent".into(), x25519_public: secret.public() };
        repository.grant(COMPONENT, &[recipient], &passphrase).await.unwrap();
        let keys = repository.unlock(COMPONENT, &secret).await.unwrap();
        let open = OpenRepository { repository, keys, cache: folder.path().join("cache") };
        Self { folder, open }
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn engine(&self) -> Files {
        Files::new("documents/here", self.files()).unwrap()
    }

    fn work(&self, n: u8) -> Work {
        Work {
            command: CommandId::from_bytes([n; 16]),
            cancel: CancellationToken::new(),
            progress: Arc::new(watch::Sender::new(Progress::default())),
            notes: Arc::new(Note::default()),
            scratch: self.folder.path().join("scratch"),
            threads: 3,
            repository: Some(self.open.clone()),
        }
    }

    fn fill(&self) {
        let root = self.files();
        fs::create_dir_all(root.join("deep/er")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        fs::write(root.join("one"), "one").unwrap();
        fs::write(root.join("nothing"), "").unwrap();
        fs::write(root.join("deep/er/big"), (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        fs::write(root.join("deep/\u{fc}ml\u{e4}ut"), "text").unwrap();
        fs::set_permissions(root.join("one"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(root.join("deep/er"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("../one", root.join("deep/link")).unwrap();
    }
}

/// Every entry with its mode and its content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let content = if found.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if found.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            all.insert(path.strip_prefix(root).unwrap().to_owned(), (found.permissions().mode(), content));
        }
    }
    all
}

fn backup(point: u8) -> BackupRequest {
    BackupRequest {
        component: COMPONENT,
        point: PointId::from_bytes([point; 16]),
        label: String::new(),
        level: 1,
        fast_checkpoint: true,
        dump: None,
    }
}

fn restore(point: u8, target: RestoreTarget) -> RestoreRequest {
    RestoreRequest {
        component: COMPONENT,
        point: PointId::from_bytes([point; 16]),
        target,
        dry_run: false,
        tablespaces: BTreeMap::new(),
        keep_old_seconds: 3_600,
        start: true,
        consent: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_comes_back_byte_for_byte_and_what_was_there_is_kept() {
    let world = World::new().await;
    world.fill();
    let before = tree(&world.files());
    let taken = world.engine().backup(&world.work(1), &backup(1)).await.unwrap();
    assert_eq!((taken.files, taken.bytes_total), (4, 12_000_007));
    assert!(matches!(taken.position, Some(Position::Files { count: 4, .. })));

    fs::write(world.files().join("one"), "other").unwrap();
    fs::remove_file(world.files().join("deep/er/big")).unwrap();
    fs::write(world.files().join("new"), "new").unwrap();
    let changed = tree(&world.files());
    let outcome = world.engine().restore(&world.work(2), &restore(1, RestoreTarget::InPlace)).await.unwrap();
    assert_eq!(tree(&world.files()), before);
    let kept = outcome.kept.unwrap();
    assert_eq!(tree(&kept.path), changed);

    world.engine().discard(&world.work(3), &DiscardRequest { path: world.files() }).await.unwrap_err();
    for _ in 0..2 {
        world.engine().discard(&world.work(3), &DiscardRequest { path: kept.path.clone() }).await.unwrap();
    }
    assert!(!kept.path.exists());
    assert_eq!(tree(&world.files()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_backup_finds_its_own_point_and_a_second_one_stores_almost_nothing() {
    let world = World::new().await;
    world.fill();
    let first = world.engine().backup(&world.work(1), &backup(1)).await.unwrap();
    fs::write(world.files().join("one"), "changed since").unwrap();
    assert_eq!(world.engine().backup(&world.work(1), &backup(1)).await.unwrap(), first);
    let second = world.engine().backup(&world.work(2), &backup(2)).await.unwrap();
    assert!(second.bytes_stored * 20 < first.bytes_stored, "{} of {}", second.bytes_stored, first.bytes_stored);
    assert_eq!(world.open.repository.list_points(Some(COMPONENT)).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_refused_over_what_is_there_and_a_dry_run_tells_so_and_changes_nothing() {
    let world = World::new().await;
    world.fill();
    world.engine().backup(&world.work(1), &backup(1)).await.unwrap();
    let before = tree(world.folder.path().join("files").as_path());
    let no_consent = RestoreRequest { consent: false, ..restore(1, RestoreTarget::InPlace) };
    for request in [restore(1, RestoreTarget::Empty), no_consent.clone()] {
        let fault = world.engine().restore(&world.work(2), &request).await.unwrap_err();
        assert_eq!((fault.kind, fault.effect), (ErrorKind::FailedPrecondition, Effect::None));
        assert!(!fault.hint.is_empty());
    }
    let plan = world.engine().restore(&world.work(2), &RestoreRequest { dry_run: true, ..no_consent }).await.unwrap().plan;
    assert_eq!((plan.files, plan.bytes), (4, 12_000_007));
    assert!(plan.replaces[0].contains("11.4 MiB in 8 entries"), "{:?}", plan.replaces);
    assert!(plan.notes.iter().any(|note| note.contains("it would be refused")), "{:?}", plan.notes);
    let unknown = world.engine().restore(&world.work(2), &restore(9, RestoreTarget::InPlace)).await.unwrap_err();
    assert_eq!((unknown.kind, unknown.effect), (ErrorKind::NotFound, Effect::None));
    assert_eq!(tree(&world.files()), before);
    assert_eq!(names(world.folder.path()), ["files", "repository"]);
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| name != "cache");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_beside_and_into_an_absent_folder_touch_nothing_else() {
    let world = World::new().await;
    world.fill();
    world.engine().backup(&world.work(1), &backup(1)).await.unwrap();
    let before = tree(&world.files());
    let beside = world.folder.path().join("beside");
    let target = RestoreTarget::Beside { directory: beside.clone(), port: 0 };
    let outcome = world.engine().restore(&world.work(2), &restore(1, target)).await.unwrap();
    assert_eq!((outcome.directory, outcome.kept), (beside.clone(), None));
    assert_eq!(tree(&beside), before);
    fs::remove_dir_all(world.files()).unwrap();
    assert_eq!(world.engine().observe(Depth::Full).await.role, Role::Down);
    world.engine().restore(&world.work(3), &restore(1, RestoreTarget::Empty)).await.unwrap();
    assert_eq!(tree(&world.files()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_leaves_everything_as_it_was() {
    let world = World::new().await;
    world.fill();
    world.engine().backup(&world.work(1), &backup(1)).await.unwrap();
    let before = tree(&world.files());
    let work = world.work(2);
    work.cancel.cancel();
    let fault = world.engine().restore(&work, &restore(1, RestoreTarget::InPlace)).await.unwrap_err();
    assert_eq!((fault.kind, fault.effect), (ErrorKind::Cancelled, Effect::None));
    assert_eq!(tree(&world.files()), before);
    assert_eq!(names(world.folder.path()), ["files", "repository"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_cut_at_any_point_of_its_renames_is_finished_by_the_next_run() {
    let world = World::new().await;
    world.fill();
    world.engine().backup(&world.work(1), &backup(1)).await.unwrap();
    let before = tree(&world.files());
    fs::write(world.files().join("one"), "other").unwrap();
    let work = world.work(2);
    let request = restore(1, RestoreTarget::InPlace);
    let first = world.engine().restore(&work, &request).await.unwrap();
    let kept = first.kept.clone().unwrap().path;
    // As if it had been killed after the first rename, then before it, then after both.
    let staging = world.folder.path().join(format!("files.muster-restore-{}", work.command));
    fs::rename(world.files(), &staging).unwrap();
    assert_eq!(world.engine().restore(&work, &request).await.unwrap().kept, first.kept);
    assert_eq!(tree(&world.files()), before);
    fs::rename(world.files(), &staging).unwrap();
    fs::rename(&kept, world.files()).unwrap();
    for _ in 0..2 {
        assert_eq!(world.engine().restore(&work, &request).await.unwrap().kept, first.kept);
        assert_eq!(tree(&world.files()), before);
        assert_eq!(fs::read(kept.join("one")).unwrap(), b"other");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_fails_the_backup_by_name_and_leaves_no_point() {
    let world = World::new().await;
    fs::create_dir(world.files()).unwrap();
    let engine = Files::new("documents/here", world.folder.path().join("absent")).unwrap();
    let fault = engine.backup(&world.work(1), &backup(1)).await.unwrap_err();
    assert_eq!((fault.kind, fault.effect), (ErrorKind::FailedPrecondition, Effect::None));
    assert!(fault.message.contains("absent"), "{fault}");
    assert!(world.open.repository.list_points(Some(COMPONENT)).await.unwrap().is_empty());
    let full = engine.observe(Depth::Full).await;
    assert!(full.conditions.iter().any(|condition| !condition.ok && condition.message.contains("does not exist")), "{full:?}");
}

#[tokio::test]
async fn what_it_cannot_do_is_refused_by_name() {
    let engine = World::new().await.engine();
    assert!(engine.keep().is_none(), "a folder has no writer that could be moved");
    let fault = engine.capabilities().require(Verb::Promote).unwrap_err();
    assert_eq!(fault.kind, ErrorKind::NotAvailable);
    assert!(Files::new("x", "/").is_err() && Files::new("x", "relative").is_err());
}
