//! `muster repo` as a process, with no controller: a repository in a folder is made, granted, listed, checked, damaged and restored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails in a test fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use muster_common::fault::Fault;
use muster_common::id::{CommandId, ComponentId, PointId};
use muster_engine::request::BackupRequest;
use muster_engine::verbs::Engine;
use muster_engine::work::{Notes, OpenRepository, Progress, Work};
use muster_engine_files::engine::Files;
use muster_repository::location::Location;
use muster_repository::repository::Repository;
use muster_repository::secret::AgentSecret;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);

struct Forgotten;

#[async_trait]
impl Notes for Forgotten {
    async fn read(&self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    async fn keep(&self, _note: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
}

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("passphrase"), "correct horse battery staple\n").unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        for n in 0..20_u8 {
            std::fs::write(folder.path().join(format!("files/f{n}")), vec![n; 70_000]).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn muster(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).env_remove("MUSTER_CONTEXT_FILE");
        command.args(arguments.split_whitespace()).output().unwrap()
    }

    /// Its standard output, where it ended with this code.
    fn says(&self, code: i32, arguments: &str) -> String {
        let output = self.muster(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "muster {arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn reads(&self, code: i32, arguments: &str) -> Value {
        serde_json::from_str(&self.says(code, &format!("{arguments} -o json"))).unwrap()
    }

    /// What an agent does: opens the key by its own secret and backs the folder up.
    async fn back_up(&self, secret: &AgentSecret) {
        let location = Location::Folder { path: self.path("repository") };
        let repository = Repository::open(&location, Repository::look(&location).await.unwrap()).await.unwrap();
        let keys = repository.unlock(COMPONENT, secret).await.unwrap();
        let open = OpenRepository { repository, keys, cache: self.path("cache") };
        let work = Work {
            command: CommandId::from_bytes([1; 16]),
            cancel: CancellationToken::new(),
            progress: Arc::new(watch::Sender::new(Progress::default())),
            notes: Arc::new(Forgotten),
            scratch: self.path("scratch"),
            threads: 2,
            repository: Some(open),
        };
        let request = BackupRequest {
            component: COMPONENT,
            point: PointId::from_bytes([9; 16]),
            label: "a label".into(),
            level: 1,
            fast_checkpoint: true,
            dump: None,
        };
        Files::new("documents/here", self.path("files")).unwrap().backup(&work, &request).await.unwrap();
    }

    fn a_pack(&self) -> PathBuf {
        fn find(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { find(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        find(&self.path("repository/packs"), &mut found);
        found.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_lives_and_is_restored_with_no_controller() {
    let world = World::new();
    let secret = AgentSecret::generate([5; 32]);
    let with = "--file primary.yaml --passphrase-file passphrase";

    let document = world.says(0, "repo init primary --folder repository --passphrase-file passphrase");
    assert!(document.starts_with("kind: Repository\nname: primary\nspec:\n  repositoryId: "), "{document}");
    std::fs::write(world.path("primary.yaml"), &document).unwrap();
    world.says(3, "repo init primary --folder repository --passphrase-file passphrase");
    world.says(0, &format!("repo grant {with} --component-id {COMPONENT} --recipient agent={}", hex::encode(secret.public())));
    world.back_up(&secret).await;

    let outside = world.reads(0, "repo list --folder repository");
    assert_eq!((&outside["points"][0]["id"], &outside["points"][0]["says"]), (&"09".repeat(16).into(), &Value::Null));
    let inside = world.reads(0, &format!("repo list {with}"));
    assert_eq!(inside["points"][0]["says"]["label"], "a label");
    assert_eq!(world.reads(0, &format!("repo check {with} --read-data 1/1"))["problems"], Value::Array(vec![]));

    world.says(0, &format!("repo restore {with} --point 0909 --into back"));
    for n in 0..20_u8 {
        assert_eq!(std::fs::read(world.path(&format!("back/f{n}"))).unwrap(), vec![n; 70_000]);
    }
    world.says(3, &format!("repo restore {with} --into back"));
    world.says(4, &format!("repo restore {with} --point abcdef --into elsewhere"));

    std::fs::write(world.path("wrong"), "wrong horse battery staple").unwrap();
    world.says(5, "repo list --file primary.yaml --passphrase-file wrong");
    let own = document.lines().find_map(|line| line.strip_prefix("  repositoryId: ")).unwrap();
    std::fs::write(world.path("other.yaml"), document.replace(own, &"ab".repeat(16))).unwrap();
    world.says(3, "repo list --file other.yaml");

    let pack = world.a_pack();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[200] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let hurt = world.reads(11, &format!("repo check {with} --read-data 1/1"));
    assert_eq!(hurt["problems"][0]["points"][0], "09".repeat(16), "{hurt}");
}

#[test]
fn a_passphrase_that_is_too_short_and_a_place_that_is_missing_are_usage_errors() {
    let world = World::new();
    std::fs::write(world.path("short"), "short").unwrap();
    world.says(2, "repo init primary --folder repository --passphrase-file short");
    assert!(!world.path("repository").exists(), "nothing was made");
    world.says(2, "repo list");
    world.says(3, "repo list --folder nowhere");
}

#[test]
fn the_commands_end_as_the_guide_says_where_no_controller_is_known() {
    let world = World::new();
    world.says(3, "status");
    world.says(2, "backup");
    world.says(2, "get nothing");
    world.says(0, "version --client");
    world.says(0, "context list");
    world.says(4, "context use production");
    assert!(world.says(0, "completion bash").contains("_muster"));
}
