//! A server with a run folder below /dev/shm, and a keeper's acts in a process of user postgres.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use muster_common::fault::Fault;
use muster_engine::keep::Keeping;
use muster_engine_postgres::config::PostgresConfig;
use serde_json::{Value, json};

use crate::server::{Folder, Server, as_postgres, run};

/// A server that is, or may be, kept.
pub struct Kept {
    pub server: Server,
    pub run: PathBuf,
    pub instance: &'static str,
    program: Arc<Folder>,
}

/// The program, where user postgres can run it.
fn program() -> Arc<Folder> {
    static PROGRAM: Mutex<Weak<Folder>> = Mutex::new(Weak::new());
    let mut kept = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = kept.upgrade() {
        return folder;
    }
    let folder = Arc::new(Folder::new());
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_muster-drive-postgres")).arg(folder.path().join("drive")));
    *kept = Arc::downgrade(&folder);
    folder
}

impl Kept {
    pub fn of(server: Server, instance: &'static str) -> Self {
        let run_folder = tempfile::Builder::new().prefix("mpg").tempdir_in("/dev/shm").unwrap().keep();
        run(Command::new("chown").arg("postgres:postgres").arg(&run_folder));
        run(Command::new("chmod").arg("0700").arg(&run_folder));
        Self { server, run: run_folder, instance, program: program() }
    }

    /// A server that runs and is nobody's yet.
    pub fn unmanaged() -> Self {
        Self::of(Server::start(), "istanbul")
    }

    /// A writer that was taken over.
    pub fn writer() -> Self {
        let kept = Self::unmanaged();
        kept.ok(json!({ "take_over": { "writes": true, "governed": {} } }));
        kept
    }

    /// A writer, and a follower of it that was taken over.
    pub fn pair() -> (Self, Self) {
        let server = Server::start();
        let standby = Server::clone_of(&server, Folder::new());
        let (writer, follower) = (Self::of(server, "istanbul"), Self::of(standby, "ankara"));
        writer.ok(json!({ "take_over": { "writes": true, "governed": {} } }));
        writer.ok(json!({ "slots": ["muster_ankara"] }));
        follower.ok(json!({ "take_over": { "writes": false, "governed": { "upstream": writer.upstream("ankara") } } }));
        follower.until("it streams", || writer.server.sql("select count(*) from pg_stat_replication where state = 'streaming'") == "1");
        (writer, follower)
    }

    /// This server as somebody's upstream.
    pub fn upstream(&self, follower: &str) -> Value {
        json!({ "host": "127.0.0.1", "port": self.server.port, "user": "postgres", "slot": format!("muster_{follower}"), "application_name": follower })
    }

    pub fn permit(&self) -> PathBuf {
        self.run.join(format!("orders-db.{}.conf", self.instance))
    }

    pub fn config(&self) -> PostgresConfig {
        let keeping = Keeping {
            run_folder: self.run.clone(),
            component: "orders-db".parse().unwrap(),
            instance: self.instance.parse().unwrap(),
            holder: vec![self.program.path().join("drive").display().to_string(), "hold".into()],
        };
        PostgresConfig { keeping: Some(keeping), ..self.server.config() }
    }

    /// Does one act; `None`: the process was killed at a failpoint.
    pub fn act_at(&self, config: &PostgresConfig, act: Value, failpoints: &str) -> Option<Result<Value, Fault>> {
        let path = self.server.folder.path().join(format!("order-{}.json", rand::random::<u64>()));
        std::fs::write(&path, json!({ "config": config, "act": act }).to_string()).unwrap();
        let mut command = as_postgres(self.program.path().join("drive"));
        command.arg("keep").arg(&path).env("MUSTER_FAILPOINTS", failpoints).env("RUST_BACKTRACE", "0");
        let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).output().unwrap();
        if !output.status.success() {
            return None;
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        Some(match answer.get("fault") {
            Some(fault) => Err(serde_json::from_value(fault.clone()).unwrap()),
            None => Ok(answer["ok"].clone()),
        })
    }

    pub fn act(&self, act: Value) -> Result<Value, Fault> {
        self.act_at(&self.config(), act, "").expect("it was not killed")
    }

    pub fn ok(&self, act: Value) -> Value {
        let told = act.to_string();
        self.act(act).unwrap_or_else(|fault| panic!("{told}: {fault}\n{}", self.log()))
    }

    /// Does an act in a process that is killed at `failpoint`.
    pub fn killed(&self, act: Value, failpoint: &str) {
        let answer = self.act_at(&self.config(), act, &format!("{failpoint}=kill"));
        assert!(answer.is_none(), "{failpoint} was not reached: {answer:?}");
    }

    pub fn look(&self) -> Value {
        self.ok(json!("look"))
    }

    /// What `look` tells of one thing, as text.
    pub fn sees(&self, what: &str) -> String {
        let look = self.look();
        look[what].as_str().map_or_else(|| look[what].to_string(), str::to_owned)
    }

    pub fn fence(&self) {
        self.ok(json!({ "fence": { "fast_ms": 5000 } }));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.folder.path().join("server.log")).unwrap_or_default()
    }

    /// Starts the server as a person would. The log's end where it did not come up.
    pub fn by_hand(&self, data: &Path) -> Result<(), String> {
        let log = self.server.folder.path().join("by-hand.log");
        drop(std::fs::remove_file(&log));
        let mut command = as_postgres(Path::new(crate::server::BIN).join("pg_ctl"));
        command.arg("-D").arg(data).arg("-l").arg(&log).args(["-w", "-t", "20", "start"]).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().unwrap().success() { Ok(()) } else { Err(std::fs::read_to_string(&log).unwrap_or_default()) }
    }

    pub fn postmaster(&self) -> i32 {
        let text = std::fs::read_to_string(self.server.data.join("postmaster.pid")).unwrap();
        text.lines().next().unwrap().trim().parse().unwrap()
    }

    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "not in time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.run).unwrap_or_else(|error| eprintln!("remove {}: {error}", self.run.display()));
    }
}

/// Ends one process at once.
pub fn kill(pid: i32) {
    run(Command::new("kill").args(["-KILL", &pid.to_string()]));
}
