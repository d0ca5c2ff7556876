//! Simulated agents: what they have on disk survives controllers, and, with a file, processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use muster_common::name::Name;
use muster_controller::agents::courier::{Next, Place};
use muster_controller::operation::handle::Operations;
use muster_controller::operation::news::AgentNews;
use muster_wire::proto::agent::v1::{
    Command, Hello, InstanceEpoch, SessionResponse, TaskOutcome, TaskProgress, TaskReport, TaskState, UnfinishedTask, command, hooked_work,
    session_response, task_outcome,
};
use muster_wire::proto::v1;
use serde::{Deserialize, Serialize};

use crate::sim::{Controller, name, until};

/// What an agent has on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Disk {
    pub highest_term: u64,
    pub highest_sequence: u64,
    pub store_id: String,
    pub tasks: BTreeMap<String, Task>,
    /// The commands whose work was done, in order: each must be here once.
    pub effects: Vec<String>,
    pub epoch: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub operation_id: String,
    pub command: Vec<u8>,
    pub ended: bool,
    pub cancelled: bool,
    pub acknowledged: bool,
}

/// How an agent behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Takes work on and does not finish it.
    pub slow: bool,
    /// Tells each thing twice, outcomes first.
    pub chatty: bool,
    /// Does not hear commands.
    pub deaf: bool,
    /// Finishes even what it is asked to stop.
    pub stubborn: bool,
}

/// A simulated agent. Its disk survives controllers, and, with a file, processes.
#[derive(Clone)]
pub struct Agent {
    pub name: Name,
    file: Option<PathBuf>,
    disk: Arc<Mutex<Disk>>,
    manner: Arc<Mutex<Manner>>,
    /// Commands that came while it was deaf.
    pub unheard: Arc<AtomicU32>,
}

impl Agent {
    pub fn new(text: &str) -> Self {
        Self { name: name(text), file: None, disk: Arc::default(), manner: Arc::default(), unheard: Arc::default() }
    }

    pub fn on_file(text: &str, file: PathBuf) -> Self {
        let disk = std::fs::read(&file).map_or_else(|_| Disk::default(), |bytes| serde_json::from_slice(&bytes).unwrap());
        Self { name: name(text), file: Some(file), disk: Arc::new(Mutex::new(disk)), manner: Arc::default(), unheard: Arc::default() }
    }

    pub fn disk(&self) -> Disk {
        self.disk.lock().unwrap().clone()
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap()
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        let mut disk = self.disk.lock().unwrap();
        let answer = change(&mut disk);
        if let Some(file) = &self.file {
            let new = file.with_extension("new");
            std::fs::write(&new, serde_json::to_vec(&*disk).unwrap()).unwrap();
            std::fs::rename(&new, file).unwrap();
        }
        answer
    }

    fn hello(&self) -> Hello {
        let disk = self.disk();
        let unfinished = disk.tasks.iter().filter(|(_, task)| !task.acknowledged).map(|(id, task)| UnfinishedTask {
            command_id: id.clone(),
            state: if task.ended { TaskState::Ended } else { TaskState::TakenOn }.into(),
            operation_id: task.operation_id.clone(),
        });
        let instance = self.name.as_str().trim_end_matches("-db1");
        Hello {
            highest_term: disk.highest_term,
            highest_sequence: disk.highest_sequence,
            store_id: disk.store_id.clone(),
            unfinished: unfinished.collect(),
            epochs: vec![InstanceEpoch {
                component: "orders-db".into(),
                instance: instance.into(),
                epoch: disk.epoch,
                reign_id: String::new(),
            }],
            encryption_key: vec![7; 32],
            ..Hello::default()
        }
    }

    /// Serves one session until the returned guard is dropped.
    pub fn connect(&self, controller: &Controller) -> Session {
        let place = controller.courier.connect(&self.name);
        let (agent, operations, courier) = (self.clone(), controller.operations.clone(), controller.store.store_id().to_string());
        let task = tokio::spawn(async move { agent.serve(place, operations, courier).await });
        Session { task }
    }

    async fn serve(self, mut place: Place, operations: Operations, store_id: String) {
        operations.hear(&self.name, AgentNews::Connected(Box::new(self.hello()))).await.unwrap();
        let waiting: Vec<_> = self.disk().tasks.into_iter().filter(|(_, task)| !task.acknowledged).collect();
        for (id, task) in waiting {
            if task.ended {
                self.tell_outcome(&operations, &id).await;
            } else {
                self.work(&operations, &id).await;
            }
        }
        while let Next::Send(message) = place.next(false).await {
            match message.message.unwrap() {
                session_response::Message::Command(command) => self.take_on(&operations, command, &store_id).await,
                session_response::Message::Cancel(cancel) => self.cancel(&operations, &cancel.command_id, cancel.term).await,
                session_response::Message::Ask(ask) => self.answer(&operations, &ask.command_id, ask.term).await,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether a term may command; a higher one is remembered.
    fn obeys(&self, term: u64) -> bool {
        self.change(|disk| {
            let obeys = term >= disk.highest_term;
            disk.highest_term = disk.highest_term.max(term);
            obeys
        })
    }

    async fn take_on(&self, operations: &Operations, command: Command, store_id: &str) {
        if self.manner().deaf {
            self.unheard.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if !self.obeys(command.term) {
            return;
        }
        let id = command.id.clone();
        let new = self.change(|disk| {
            disk.highest_sequence = disk.highest_sequence.max(command.sequence);
            disk.store_id = store_id.to_owned();
            let task = Task {
                operation_id: command.operation_id.clone(),
                command: prost::Message::encode_to_vec(&command),
                ended: false,
                cancelled: false,
                acknowledged: false,
            };
            let new = !disk.tasks.contains_key(&id);
            disk.tasks.entry(id.clone()).or_insert(task);
            new
        });
        if self.manner().chatty {
            self.tell(operations, AgentNews::TakenOn { command_id: id.clone() }).await;
        }
        self.tell(operations, AgentNews::TakenOn { command_id: id.clone() }).await;
        if new {
            self.work(operations, &id).await;
        }
    }

    async fn work(&self, operations: &Operations, id: &str) {
        if self.manner().slow {
            return;
        }
        let progress = v1::Progress { phase: "copy".into(), bytes_done: 1, bytes_total: 2, ..v1::Progress::default() };
        self.tell(operations, AgentNews::Progress(TaskProgress { command_id: id.into(), progress: Some(progress) })).await;
        self.finish(operations, id).await;
    }

    /// Does the work and tells the outcome.
    pub async fn finish(&self, operations: &Operations, id: &str) {
        self.do_work(id);
        self.tell_outcome(operations, id).await;
        if self.manner().chatty {
            // Late and out of order.
            self.tell_outcome(operations, id).await;
            self.tell(operations, AgentNews::TakenOn { command_id: id.into() }).await;
            let report = TaskReport { command_id: id.into(), state: TaskState::Ended.into() };
            self.tell(operations, AgentNews::Report(report)).await;
        }
    }

    pub fn do_work(&self, id: &str) {
        self.change(|disk| {
            let task = disk.tasks.get_mut(id).unwrap();
            if task.ended {
                return;
            }
            task.ended = true;
            let command: Command = prost::Message::decode(task.command.as_slice()).unwrap();
            disk.effects.push(id.to_owned());
            if let Some(command::Work::Restore(restore)) = &command.work {
                disk.epoch = disk.epoch.max(restore.next_epoch);
            }
        });
    }

    pub async fn tell_outcome(&self, operations: &Operations, id: &str) {
        let task = self.disk().tasks[id].clone();
        let outcome = outcome_of(id, &task);
        if let Some(answers) = self.tell(operations, AgentNews::Outcome(Box::new(outcome))).await {
            for answer in answers {
                if let Some(session_response::Message::Acknowledged(acknowledged)) = answer.message {
                    self.change(|disk| {
                        if let Some(task) = disk.tasks.get_mut(&acknowledged.command_id) {
                            task.acknowledged = true;
                        }
                    });
                }
            }
        }
    }

    async fn cancel(&self, operations: &Operations, id: &str, term: u64) {
        if !self.obeys(term) || self.manner().stubborn {
            return;
        }
        let stopped = self.change(|disk| match disk.tasks.get_mut(id) {
            Some(task) if !task.ended => {
                task.ended = true;
                task.cancelled = true;
                true
            }
            Some(_) | None => false,
        });
        if stopped {
            self.tell_outcome(operations, id).await;
        }
    }

    async fn answer(&self, operations: &Operations, id: &str, term: u64) {
        if !self.obeys(term) {
            return;
        }
        let state = match self.disk().tasks.get(id) {
            None => TaskState::Unheard,
            Some(task) if task.ended => TaskState::Ended,
            Some(_) => TaskState::TakenOn,
        };
        self.tell(operations, AgentNews::Report(TaskReport { command_id: id.into(), state: state.into() })).await;
        if state == TaskState::Ended {
            self.tell_outcome(operations, id).await;
        }
    }

    async fn tell(&self, operations: &Operations, news: AgentNews) -> Option<Vec<SessionResponse>> {
        operations.hear(&self.name, news).await.ok()
    }
}

pub fn outcome_of(id: &str, task: &Task) -> TaskOutcome {
    let command: Command = prost::Message::decode(task.command.as_slice()).unwrap();
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let bare = match command.work.unwrap() {
        command::Work::Hooked(hooked) => match hooked.work.unwrap() {
            hooked_work::Work::Backup(work) => command::Work::Backup(work),
            hooked_work::Work::Restore(work) => command::Work::Restore(work),
            hooked_work::Work::Verify(work) => command::Work::Verify(work),
        },
        work => work,
    };
    let outcome = match bare {
        command::Work::Hooked(_) => unreachable!("it was taken apart"),
        command::Work::Order(_) => unreachable!("no operation here gives orders"),
        _ if task.cancelled => task_outcome::Outcome::Fault(v1::Fault {
            kind: v1::ErrorKind::Cancelled.into(),
            effect: v1::Effect::None.into(),
            message: "stopped".into(),
            ..v1::Fault::default()
        }),
        command::Work::Backup(work) => task_outcome::Outcome::Backup(v1::BackupResult {
            point_id: work.point_id,
            started_at: at(100),
            finished_at: at(200),
            bytes_total: 7,
            ..v1::BackupResult::default()
        }),
        command::Work::Restore(work) => task_outcome::Outcome::Restore(v1::RestoreResult {
            directory: "/srv/pg".into(),
            kept: (!work.dry_run).then(|| v1::KeptDirectory { path: "/srv/pg.old".into(), bytes: 9, until: at(900) }),
            phase_seconds: [("fetch".to_owned(), 1.5)].into(),
            ..v1::RestoreResult::default()
        }),
        command::Work::Prune(_) => task_outcome::Outcome::Prune(v1::PruneResult::default()),
        command::Work::Hold(_) => task_outcome::Outcome::Hold(v1::HoldResult::default()),
        command::Work::RunHook(work) => task_outcome::Outcome::Hook(v1::HookResult { hook: work.hook }),
        command::Work::Check(_) => task_outcome::Outcome::Check(v1::CheckResult { points: 3, ..v1::CheckResult::default() }),
        command::Work::Verify(work) => task_outcome::Outcome::Verify(v1::VerifyResult {
            point_id: work.point_id,
            phase_seconds: [("fetch".to_owned(), 1.5)].into(),
            ..v1::VerifyResult::default()
        }),
        command::Work::Discard(work) => task_outcome::Outcome::Discard(v1::DiscardResult { path: work.path }),
    };
    TaskOutcome { command_id: id.into(), at: at(300), outcome: Some(outcome), hooks: Vec::new() }
}

/// A session; dropped, it is cut in the middle of whatever it does.
pub struct Session {
    task: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Cuts it, and tells the controller as its link would.
    pub async fn cut(self, agent: &Agent, controller: &Controller) {
        self.task.abort();
        until("the session is gone", async || self.task.is_finished().then_some(())).await;
        controller.operations.hear(&agent.name, AgentNews::Disconnected).await.unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// No effect happened twice.
pub fn each_effect_once(agent: &Agent) {
    let effects = agent.disk().effects;
    assert_eq!(effects.iter().collect::<BTreeSet<_>>().len(), effects.len(), "{effects:?}");
}
