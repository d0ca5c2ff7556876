//! Two real PostgreSQL servers, a writer and its standby, kept by one agent process of user `postgres`; the controller's journal is the
//! pure core's record in the test's hand. A boot is played: everything killed, the run folder emptied, another boot id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use muster_common::counter::Term;
use muster_common::fault::Fault;
use muster_common::id::{OperationId, ReignId, RuleId};
use muster_common::name::{InstanceName, Name};
use muster_failover::command::Order;
use muster_failover::control::Role;
use muster_failover::directive::{Answer, Directive, Errand, Kept, ManagedAs, Upstream};
use muster_failover::here::Rule;
use muster_failover::loss::Loss;
use muster_failover::proof::{Proof, Statement, Word};
use muster_failover::reign::Line;
use muster_failover::shard::{Question, ShardRecord};
use muster_wire::convert::fault_from_proto;
use muster_wire::failover::directive::{answer_from_proto, directive_to_proto};
use muster_wire::failover::kept::kept_from_proto;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{AssignedInstance, Assignment, command, task_outcome};
use muster_wire::proto::v1;

use crate::controller::{Controller, PATIENCE, Talk};
use crate::server::{BIN, Server, as_postgres, owned, run};
use crate::world::{COMPONENT, command as command_of};

/// How long orders may be obeyed.
const LASTS: Duration = Duration::from_secs(120);

pub struct Two {
    folder: tempfile::TempDir,
    run: tempfile::TempDir,
    pub controller: Controller,
    agent: Option<Child>,
    pub talk: Option<Talk>,
    pub istanbul: Server,
    pub ankara: Server,
    pub shard: ShardRecord,
    sequence: u64,
    number: u8,
    boots: u32,
    kept: BTreeMap<String, Kept>,
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Two {
    /// A writer in istanbul, a standby in ankara that streams, an agent that has its assignment. Nothing is managed.
    pub async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mk").tempdir_in("/tmp").unwrap();
        let run_folder = tempfile::Builder::new().prefix("mk").tempdir_in("/dev/shm").unwrap();
        owned(folder.path());
        owned(run_folder.path());
        fs::set_permissions(run_folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let (istanbul, ankara) = (Server::at(folder.path(), "istanbul"), Server::at(folder.path(), "ankara"));
        run(as_postgres(format!("{BIN}/initdb")).args(["-A", "trust", "-N", "-k", "-D"]).arg(&istanbul.data));
        let configure = |server: &Server| {
            let text = format!(
                "port = {}\nunix_socket_directories = '{}'\nlisten_addresses = '127.0.0.1'\nfsync = off\nshared_buffers = 8MB\nmax_connections = 20\nwal_keep_size = 64MB\nwal_log_hints = on\n",
                server.port,
                folder.path().display()
            );
            let path = server.data.join("postgresql.conf");
            fs::write(&path, text).unwrap();
            owned(&path);
        };
        configure(&istanbul);
        istanbul.start();
        istanbul.sql("CREATE TABLE rows (n bigint PRIMARY KEY)");
        let mut copy = as_postgres(format!("{BIN}/pg_basebackup"));
        copy.args(["-h"]).arg(folder.path()).args(["-p", &istanbul.port.to_string(), "-c", "fast", "-R", "-D"]).arg(&ankara.data);
        run(&mut copy);
        configure(&ankara);
        ankara.start();
        let controller = Controller::start(folder.path()).await;
        fs::write(folder.path().join("token"), controller.token(None)).unwrap();
        owned(&folder.path().join("token"));
        fs::copy(env!("CARGO_BIN_EXE_muster-agent"), folder.path().join("muster-agent")).unwrap();
        fs::write(folder.path().join("machine"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let shard = ShardRecord::first(name("istanbul"), ReignId::from_bytes([1; 16]));
        let mut two = Self {
            folder,
            run: run_folder,
            controller,
            agent: None,
            talk: None,
            istanbul,
            ankara,
            shard,
            sequence: 0,
            number: 0,
            boots: 0,
            kept: BTreeMap::new(),
        };
        two.next_boot();
        two.start_agent("").await;
        two
    }

    /// As [`Two::new`], with both managed.
    pub async fn managed() -> Self {
        let mut two = Self::new().await;
        for (instance, role) in [("istanbul", ManagedAs::Writer), ("ankara", ManagedAs::Follower)] {
            let answer = two.order(instance, Errand::Manage { role }).await.unwrap();
            assert!(matches!(answer, Answer::Managed(Some(_))), "{answer:?}");
        }
        two
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn server(&self, name: &str) -> &Server {
        if name == "istanbul" { &self.istanbul } else { &self.ankara }
    }

    pub fn permit(&self, instance: &str) -> PathBuf {
        self.run.path().join(format!("orders.{instance}.conf"))
    }

    /// How many permits allow to write.
    pub fn writers_permits(&self) -> usize {
        let of = |instance| fs::read_to_string(self.permit(instance)).ok();
        [of("istanbul"), of("ankara")].into_iter().flatten().filter(|text| !text.contains("default_transaction_read_only")).count()
    }

    fn config(&self) -> PathBuf {
        let path = self.path("agent.yaml");
        let show = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "stateDirectory: {}\nrunDirectory: {}\ntokenFile: {}\nmachineIdFile: {}\nbootIdFile: {}\nlog: {{level: 'info,muster_agent=debug'}}\n",
            show("state"),
            self.run.path().display(),
            show("token"),
            show("machine"),
            show("boot"),
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts the agent; it has its assignment in force when this returns.
    pub async fn start_agent(&mut self, failpoints: &str) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let mut agent = as_postgres(self.path("muster-agent"));
        agent.args(["run", "--config"]).arg(self.config()).env("MUSTER_FAILPOINTS", failpoints);
        self.agent = Some(agent.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let mut talk = self.controller.welcome(1).await;
        talk.say(self.assignment()).await;
        talk.hear("the assignment in force", |message| matches!(message, FromAgent::Applied(_)).then_some(())).await;
        self.talk = Some(talk);
        self.kept.clear();
    }

    fn assignment(&self) -> ToAgent {
        let instance = |server: &Server| AssignedInstance {
            component: "orders".into(),
            component_id: COMPONENT.to_string(),
            instance: server.name.into(),
            spec: Some(v1::InstanceSpec {
                engine: Some(v1::instance_spec::Engine::Postgres(v1::PostgresSpec {
                    address: format!("{}:{}", self.folder.path().display(), server.port),
                    data_directory: server.data.display().to_string(),
                    bin_directory: BIN.into(),
                    ..Default::default()
                })),
                ..Default::default()
            }),
            peers: vec![self.peer(if server.name == "istanbul" { "ankara" } else { "istanbul" })],
            ..Default::default()
        };
        let instances = vec![instance(&self.istanbul), instance(&self.ankara)];
        Assignment { revision: 1 + u64::from(self.boots), term: 1, instances, ..Default::default() }.into_message()
    }

    /// One agent keeps both: the peer's receipts are signed by the same key.
    fn peer(&self, instance: &str) -> muster_wire::proto::agent::v1::Peer {
        let key = self.path("state/identity");
        let print = muster_identity::credentials::CredentialFolder::at(&key).load().map(|own| own.key().fingerprint().to_string());
        muster_wire::proto::agent::v1::Peer {
            instance: instance.into(),
            agent: "istanbul-db1".into(),
            site: instance.into(),
            key_fingerprint: print.unwrap_or_default(),
            ..Default::default()
        }
    }

    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            agent.wait().unwrap();
        }
        self.talk = None;
    }

    /// Waits until the agent has killed itself at a failpoint.
    pub async fn agent_died(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.agent.as_mut().is_some_and(|agent| agent.try_wait().unwrap().is_none()) {
            assert!(Instant::now() < deadline, "the agent did not die:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.agent = None;
        self.talk = None;
    }

    fn next_boot(&mut self) {
        self.boots += 1;
        fs::write(self.path("boot"), format!("{:08x}-0000-4000-8000-000000000000\n", self.boots)).unwrap();
    }

    /// Everything ends, tmpfs is empty, the kernel has another boot id. Nothing is started.
    pub fn reboot(&mut self) {
        self.kill_agent();
        self.istanbul.kill_all();
        self.ankara.kill_all();
        for entry in fs::read_dir(self.run.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        self.next_boot();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Tells the keeper of an instance something, in the reign of the journal.
    pub fn directive(&mut self, instance: &str, errand: Errand) -> Directive {
        self.sequence += 1;
        let writer = self.shard.reign.writer.clone();
        let at = self.server(writer.as_str());
        let upstream =
            Upstream { instance: writer.clone(), host: "127.0.0.1".into(), port: at.port, user: "postgres".into(), slot: String::new() };
        Directive {
            rule: Rule { term: Term(1), id: RuleId::from_bytes([3; 16]) },
            line: self.shard.line(),
            writer,
            sequence: self.sequence,
            lasts: match errand {
                Errand::Order(Order::Promote(_)) | Errand::Vouch { .. } => Some(LASTS),
                _ => None,
            },
            others: ["istanbul", "ankara"].into_iter().filter(|other| *other != instance).map(name).collect(),
            upstream: Some(upstream),
            errand,
        }
    }

    /// Sends it, without waiting.
    pub async fn send(&mut self, instance: &str, directive: &Directive) -> u8 {
        self.number += 1;
        let mut command = command_of(self.number, 1, 0, command::Work::Order(directive_to_proto(directive)));
        command.component = "orders".into();
        command.instance = instance.into();
        self.talk.as_ref().expect("a session").command(&command).await;
        self.number
    }

    /// Sends it and waits for the answer.
    pub async fn tell(&mut self, instance: &str, directive: &Directive) -> Result<Answer, Fault> {
        let number = self.send(instance, directive).await;
        let outcome = self.talk.as_mut().expect("a session").outcome(number).await;
        match outcome.outcome.expect("an outcome") {
            task_outcome::Outcome::Order(told) => Ok(answer_from_proto(&told).unwrap()),
            task_outcome::Outcome::Fault(fault) => Err(fault_from_proto(&fault)),
            other => panic!("an order came to {other:?}"),
        }
    }

    pub async fn order(&mut self, instance: &str, errand: Errand) -> Result<Answer, Fault> {
        let directive = self.directive(instance, errand);
        self.tell(instance, &directive).await
    }

    /// Waits until the keeper of an instance reports what is wanted.
    pub async fn reported(&mut self, instance: &str, what: &str, wanted: impl Fn(&Kept) -> bool) -> Kept {
        if let Some(kept) = self.kept.get(instance).filter(|kept| wanted(kept)) {
            return kept.clone();
        }
        let of: InstanceName = format!("orders/{instance}").parse().unwrap();
        let kept = &mut self.kept;
        let talk = self.talk.as_mut().expect("a session");
        let heard = async {
            loop {
                let message = talk.next().await.expect("the session ended");
                if let FromAgent::Kept(report) = message {
                    let report = kept_from_proto(&report).unwrap();
                    kept.insert(report.instance.instance.to_string(), report.clone());
                    if report.instance == of && wanted(&report) {
                        return report;
                    }
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, heard).await;
        found.unwrap_or_else(|_| {
            let last = self.kept.get(instance).cloned();
            let log = fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default();
            panic!("{instance} did not report {what}; last {last:?}\n{log}")
        })
    }

    pub async fn role(&mut self, instance: &str, what: &str, wanted: impl Fn(&Role) -> bool) -> Kept {
        self.reported(instance, what, |kept| kept.known.as_ref().is_some_and(|known| wanted(&known.role))).await
    }

    /// The writer asks; the other is bound; the controller confirms.
    pub async fn confirm(&mut self, writer: &str, other: &str) -> Result<Answer, Fault> {
        let asked = self.reported(writer, "a question", |kept| kept.asks.is_some()).await.asks.unwrap();
        let errand = Errand::Vouch { instance: name(writer), reign: asked.reign, asked: asked.asked, lasts: Duration::from_millis(1) };
        let Answer::Vouched(most) = self.order(other, errand).await? else { panic!("no vouch") };
        // What one holds that left the line is given up already.
        let most = most.filter(|_| !self.shard.superseded.contains(&name(other)));
        let heard = BTreeSet::from([name(other)]);
        let question = Question { instance: name(writer), reign: asked.reign, asked: asked.asked, heard, off: BTreeSet::new(), most };
        let rule = Rule { term: Term(1), id: RuleId::from_bytes([3; 16]) };
        let confirmation = self.shard.confirm(&question, (rule, false)).unwrap();
        let answer = self.order(writer, Errand::Confirm(confirmation)).await;
        // A question that was opened before is answered now.
        self.kept.remove(writer);
        answer
    }

    /// A failover by an operator's word that the writer's machine is off.
    pub async fn failover_by_word(&mut self, to: &str) {
        let operation = OperationId::from_bytes([77; 16]);
        let pledged = self.order(to, Errand::Order(Order::Pledge { lasts: LASTS })).await.unwrap();
        let Answer::Pledged { nonce, .. } = pledged else { panic!("{pledged:?}") };
        let present = self.shard.reign.mark();
        let id = ReignId::from_bytes([u8::try_from(present.epoch.0 + 1).unwrap(); 16]);
        let begun = self.shard.begin(operation, &name(to)).unwrap().pledged(operation, &name(to), nonce).unwrap();
        self.shard = begun.moved(operation, present, id).unwrap();
        let word = Word {
            operator: name("ada"),
            instance: name("istanbul"),
            next: self.shard.reign.mark(),
            states: Statement::MachineOff,
            ceiling: Loss::UNKNOWN,
            at: muster_service::clock::now(),
            signature: Vec::new(),
        };
        self.shard = self.shard.proved(&name("istanbul"), Proof::Word(word), false, None).unwrap();
        let claim = self.shard.claim(BTreeMap::new(), Loss::UNKNOWN, Loss::UNKNOWN).unwrap();
        let promoted = self.order(to, Errand::Order(Order::Promote(claim))).await.unwrap();
        assert!(matches!(promoted, Answer::Promoted { .. }), "{promoted:?}");
        self.shard = self.shard.promoted(self.shard.reign.mark());
    }

    /// Stop, pledge, move, receipts: all of a switchover up to the promotion, whose directive this is.
    pub async fn prepared(&mut self, to: &str) -> Directive {
        let operation = OperationId::from_bytes([self.number.wrapping_add(100); 16]);
        let from = self.shard.reign.writer.to_string();
        let stopped = self.order(&from, Errand::Order(Order::Stop { for_operation: Some(LASTS) })).await.unwrap();
        let Answer::Stopped(Some(last)) = stopped else { panic!("{stopped:?}") };
        // It has replayed what the writer had at its end.
        let deadline = Instant::now() + PATIENCE;
        while self.kept.get(to).and_then(|kept| kept.position.clone()).is_none_or(|own| !own.covers(&last)) {
            assert!(Instant::now() < deadline, "{to} does not reach {last}");
            let pledged = self.order(to, Errand::Order(Order::Pledge { lasts: LASTS })).await.unwrap();
            let Answer::Pledged { nonce, position: Some(position) } = pledged else { panic!("{pledged:?}") };
            self.shard = self.shard.begin(operation, &name(to)).unwrap().pledged(operation, &name(to), nonce).unwrap();
            if position.covers(&last) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let present = self.shard.reign.mark();
        let id = ReignId::from_bytes([u8::try_from(present.epoch.0 + 1).unwrap(); 16]);
        self.shard = self.shard.moved(operation, present, id).unwrap();
        for (owed, ask) in self.shard.asks() {
            let ceded = self.order(owed.as_str(), Errand::Order(Order::Cede(ask))).await.unwrap();
            let Answer::Ceded(signed) = ceded else { panic!("{ceded:?}") };
            self.shard = self.shard.proved(&owed, Proof::Receipt(*signed), false, None).unwrap();
        }
        let claim = self.shard.claim(BTreeMap::new(), Loss::NONE, Loss::NONE).unwrap();
        self.directive(to, Errand::Order(Order::Promote(claim)))
    }

    pub fn line(&self) -> Line {
        self.shard.line()
    }

    /// `muster-agent` on the spot.
    pub fn muster_agent(&self, arguments: &[&str]) -> (bool, String) {
        let mut agent = as_postgres(self.path("muster-agent"));
        let output = agent.args(arguments).arg("--config").arg(self.path("agent.yaml")).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

trait IntoMessage {
    fn into_message(self) -> ToAgent;
}

impl IntoMessage for Assignment {
    fn into_message(self) -> ToAgent {
        ToAgent::Assignment(self)
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.kill_agent();
        self.istanbul.kill_all();
        self.ankara.kill_all();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
