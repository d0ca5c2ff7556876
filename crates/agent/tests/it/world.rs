//! A controller under command, a repository in a folder, a folder of files, and the agent as a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use muster_common::id::{CommandId, ComponentId, OperationId, PointId};
use muster_repository::keys::{KdfCost, Recipient};
use muster_repository::location::{Location, Pin};
use muster_repository::repository::Repository;
use muster_repository::secret::Secret;
use muster_service::clock;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{
    AssignedInstance, AssignedRepository, Assignment, BackupWork, Command, OutcomeAcknowledged, RestorePlace, RestoreWork, TaskOutcome,
    command,
};
use muster_wire::proto::v1;

use crate::controller::{Controller, PATIENCE, Talk};

pub const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);

/// The agent's process; killed when this goes.
pub struct AgentProcess(Child);

impl AgentProcess {
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent did not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub controller: Controller,
    pub pin: Pin,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let controller = Controller::start(folder.path()).await;
        let location = Location::Folder { path: folder.path().join("repository") };
        let pin = Repository::init(&location, &Secret::new("correct horse"), KdfCost::WEAK).await.unwrap();
        let world = Self { folder, controller, pin };
        fs::write(world.path("token"), world.controller.token(None)).unwrap();
        fs::create_dir(world.files()).unwrap();
        fs::write(world.files().join("one"), "one").unwrap();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn files(&self) -> PathBuf {
        self.path("files")
    }

    pub async fn repository(&self) -> Repository {
        Repository::open(&Location::Folder { path: self.path("repository") }, self.pin).await.unwrap()
    }

    /// Grants the component's key to the agent of this session.
    pub async fn grant(&self, talk: &Talk) {
        let x25519_public = talk.hello.encryption_key.clone().try_into().unwrap();
        let recipient = Recipient { name: "istanbul-db1".into(), x25519_public };
        self.repository().await.grant(COMPONENT, &[recipient], &Secret::new("correct horse")).await.unwrap();
    }

    pub async fn points(&self) -> usize {
        self.repository().await.list_points(Some(COMPONENT)).await.unwrap().len()
    }

    pub fn config(&self) -> PathBuf {
        let path = self.path("agent.yaml");
        let text = format!(
            "state_directory: {}\ntoken_file: {}\nlog: {{level: \"info,muster_agent=debug\"}}\n",
            self.path("state").display(),
            self.path("token").display()
        );
        fs::write(&path, text).unwrap();
        path
    }

    pub fn agent(&self, failpoints: &str) -> AgentProcess {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let child = Process::new(env!("CARGO_BIN_EXE_muster-agent"))
            .args(["run", "--config"])
            .arg(self.config())
            .env("MUSTER_FAILPOINTS", failpoints)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        AgentProcess(child)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    pub fn assignment(&self, revision: u64, term: u64, epoch: u64) -> ToAgent {
        let path = self.path("repository").display().to_string();
        self.assignment_at(revision, term, epoch, v1::repository_spec::Location::Folder(v1::FolderLocation { path }))
    }

    /// The repository is in a bucket behind this port.
    pub fn assignment_in_bucket(&self, revision: u64, port: u16) -> ToAgent {
        let location = v1::S3Location {
            bucket: "backups".into(),
            endpoint: format!("http://127.0.0.1:{port}"),
            path_style: true,
            credentials_file: self.path("s3").display().to_string(),
            ..Default::default()
        };
        self.assignment_at(revision, 1, 1, v1::repository_spec::Location::S3(location))
    }

    fn assignment_at(&self, revision: u64, term: u64, epoch: u64, location: v1::repository_spec::Location) -> ToAgent {
        let files = v1::instance_spec::Engine::Files(v1::FilesSpec { path: self.files().display().to_string() });
        let repository = v1::RepositorySpec {
            repository_id: self.pin.id.to_string(),
            public_key: hex::encode(self.pin.public_key),
            location: Some(location),
        };
        ToAgent::Assignment(Assignment {
            revision,
            term,
            instances: vec![AssignedInstance {
                component: "documents".into(),
                component_id: COMPONENT.to_string(),
                instance: "istanbul".into(),
                epoch,
                repository: "primary".into(),
                spec: Some(v1::InstanceSpec { engine: Some(files), ..Default::default() }),
                ..Default::default()
            }],
            repositories: vec![AssignedRepository { name: "primary".into(), spec: Some(repository) }],
            revoked_serials: Vec::new(),
        })
    }

    /// A session whose agent is granted and has its assignment in force.
    pub async fn ready(&mut self) -> Talk {
        let mut talk = self.controller.welcome(1).await;
        self.grant(&talk).await;
        talk.say(self.assignment(1, 1, 1)).await;
        talk.hear("the assignment in force", |message| matches!(message, FromAgent::Applied(_)).then_some(())).await;
        talk
    }
}

pub fn id(n: u8) -> CommandId {
    CommandId::from_bytes([n; 16])
}

pub fn command(n: u8, term: u64, epoch: u64, work: command::Work) -> Command {
    Command {
        id: id(n).to_string(),
        term,
        sequence: u64::from(n),
        operation_id: OperationId::from_bytes([n; 16]).to_string(),
        component: "documents".into(),
        instance: "istanbul".into(),
        epoch,
        issued_at: Some(timestamp_to_proto(clock::now())),
        stall_limit: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        traceparent: String::new(),
        work: Some(work),
    }
}

pub fn backup(n: u8) -> Command {
    let point_id = PointId::from_bytes([n; 16]).to_string();
    command(
        n,
        1,
        1,
        command::Work::Backup(BackupWork { point_id, label: "test".into(), compression_level: 1, fast_checkpoint: true, dump: None }),
    )
}

pub fn restore_in_place(n: u8, point: u8, next_epoch: u64) -> Command {
    let work = RestoreWork {
        point_id: PointId::from_bytes([point; 16]).to_string(),
        place: RestorePlace::InPlace.into(),
        consent: true,
        start: true,
        next_epoch,
        keep_old: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    command(n, 1, 1, command::Work::Restore(work))
}

impl Talk {
    pub async fn command(&self, command: &Command) {
        self.say(ToAgent::Command(command.clone())).await;
    }

    pub async fn accepted(&mut self, n: u8) {
        let wanted = id(n).to_string();
        self.hear("the acceptance", |message| {
            matches!(message, FromAgent::Accepted(accepted) if accepted.command_id == wanted).then_some(())
        })
        .await;
    }

    pub async fn outcome(&mut self, n: u8) -> TaskOutcome {
        let wanted = id(n).to_string();
        self.hear("the outcome", |message| match message {
            FromAgent::Outcome(outcome) if outcome.command_id == wanted => Some(outcome),
            _ => None,
        })
        .await
    }

    pub async fn acknowledge(&self, n: u8, term: u64) {
        self.say(ToAgent::Acknowledged(OutcomeAcknowledged { command_id: id(n).to_string(), term })).await;
    }

    /// The outcome, or nothing where the session ends before.
    pub async fn outcome_or_end(&mut self, n: u8) -> Option<TaskOutcome> {
        let wanted = id(n).to_string();
        loop {
            match self.next().await? {
                FromAgent::Outcome(outcome) if outcome.command_id == wanted => return Some(outcome),
                _ => {}
            }
        }
    }
}
