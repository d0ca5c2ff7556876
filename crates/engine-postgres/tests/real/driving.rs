//! A repository in a folder, and verbs that run in a process of user postgres.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use muster_common::fault::Fault;
use muster_common::id::{CommandId, ComponentId, PointId};
use muster_engine::request::{BackupOutcome, BackupRequest, RestoreOutcome, RestoreRequest, RestoreTarget};
use muster_engine_postgres::config::PostgresConfig;
use muster_repository::keys::{KdfCost, Recipient};
use muster_repository::location::{Location, Pin};
use muster_repository::repository::Repository;
use muster_repository::secret::{AgentSecret, Secret};
use serde::de::DeserializeOwned;

use crate::server::{Folder, as_postgres, run};

/// A repository, and the place where verbs run.
pub struct Bench {
    pub folder: Folder,
    pub component: ComponentId,
    pin: Pin,
    secret: AgentSecret,
    pub threads: usize,
    /// Another restore_command helper than the right one.
    pub helper: Option<Vec<String>>,
}

/// What a verb answered; `None`: it was killed.
pub type Answer<T> = Option<Result<T, Fault>>;

pub fn id() -> [u8; 16] {
    rand::random()
}

impl Bench {
    pub fn new() -> Self {
        let folder = Folder::new();
        let location = Location::Folder { path: folder.path().join("repository") };
        let passphrase = Secret::new("a passphrase of this test");
        let component = ComponentId::from_bytes(id());
        let secret = AgentSecret::generate(rand::random());
        let recipient = Recipient { name: "agent".into(), x25519_public: secret.public() };
        let pin = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let pin = Repository::init(&location, &passphrase, KdfCost::WEAK).await.unwrap();
            let repository = Repository::open(&location, pin).await.unwrap();
            repository.grant(component, &[recipient], &passphrase).await.unwrap();
            pin
        });
        let program = env!("CARGO_BIN_EXE_muster-drive-postgres");
        run(Command::new("cp").arg(program).arg(folder.path().join("drive")));
        run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder.path()));
        Self { folder, component, pin, secret, threads: 2, helper: None }
    }

    pub fn program(&self) -> PathBuf {
        self.folder.path().join("drive")
    }

    /// Starts a verb as user postgres. The same command id means the same command again.
    pub fn start(&self, config: &PostgresConfig, command: CommandId, verb: serde_json::Value, failpoints: &str) -> Child {
        let mut config = config.clone();
        config.wal_get = self.helper.clone().unwrap_or_else(|| vec![self.program().display().to_string(), "wal-get".into()]);
        let order = serde_json::json!({
            "config": config, "command": command, "component": self.component,
            "repository": self.folder.path().join("repository"), "pin_id": self.pin.id, "pin_key": hex::encode(self.pin.public_key),
            "agent_secret": hex::encode(self.secret.to_bytes()), "work_folder": self.folder.path().join(format!("work-{command}")),
            "threads": self.threads, "verb": verb,
        });
        let path = self.folder.path().join(format!("order-{command}.json"));
        std::fs::write(&path, order.to_string()).unwrap();
        let mut child = as_postgres(self.program());
        child.arg(&path).env("MUSTER_FAILPOINTS", failpoints).env("RUST_BACKTRACE", "0");
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
    }

    pub fn finish<T: DeserializeOwned>(child: Child) -> Answer<T> {
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        Some(match answer.get("fault") {
            Some(fault) => Err(serde_json::from_value(fault.clone()).unwrap()),
            None => Ok(serde_json::from_value(answer["ok"].clone()).unwrap()),
        })
    }

    pub fn backup_request(&self) -> BackupRequest {
        BackupRequest {
            component: self.component,
            point: PointId::from_bytes(id()),
            label: "a label".into(),
            level: 1,
            fast_checkpoint: true,
            dump: None,
        }
    }

    pub fn back_up(&self, config: &PostgresConfig) -> Result<BackupOutcome, Fault> {
        let verb = serde_json::json!({ "backup": self.backup_request() });
        Self::finish(self.start(config, CommandId::from_bytes(id()), verb, "")).expect("it was not killed")
    }

    pub fn restore_request(&self, point: PointId, target: RestoreTarget) -> RestoreRequest {
        RestoreRequest {
            component: self.component,
            point,
            target,
            dry_run: false,
            tablespaces: Default::default(),
            keep_old_seconds: 3600,
            start: true,
            consent: true,
        }
    }

    pub fn restore(&self, config: &PostgresConfig, request: &RestoreRequest) -> Result<RestoreOutcome, Fault> {
        let verb = serde_json::json!({ "restore": request });
        Self::finish(self.start(config, CommandId::from_bytes(id()), verb, "")).expect("it was not killed")
    }

    /// Runs a restore as one command: first with failpoints, then, if that killed it, again without.
    pub fn restore_killed(&self, config: &PostgresConfig, request: &RestoreRequest, failpoints: &[&str]) -> Result<RestoreOutcome, Fault> {
        let command = CommandId::from_bytes(id());
        let verb = serde_json::json!({ "restore": request });
        for failpoint in failpoints {
            let killed = Self::finish::<RestoreOutcome>(self.start(config, command, verb.clone(), &format!("{failpoint}=kill")));
            assert!(killed.is_none(), "{failpoint} was not reached: {killed:?}");
        }
        Self::finish(self.start(config, command, verb, "")).expect("it was not killed")
    }

    pub fn discard(&self, config: &PostgresConfig, path: &std::path::Path) -> Result<(), Fault> {
        let verb = serde_json::json!({ "discard": { "path": path } });
        Self::finish(self.start(config, CommandId::from_bytes(id()), verb, "")).expect("it was not killed")
    }
}
