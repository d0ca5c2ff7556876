//! The program itself: its configuration, its exit codes, its signals, the way back in.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use muster_identity::client::{self, ReloadableClient};
use muster_identity::context::Contexts;
use muster_wire::proto::v1::WhoAmIRequest;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;

use crate::world::{BOUND, eventually, name};

const PROGRAM: &str = env!("CARGO_BIN_EXE_muster-controller");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_remove("MUSTER_CONTEXT_FILE").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A controller's process that is killed at the end, also when the test fails.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Paths {
    folder: tempfile::TempDir,
    config: String,
    metrics: u16,
}

fn configured() -> Paths {
    let folder = tempfile::tempdir().unwrap();
    let (grpc, metrics) = (free_port(), free_port());
    let config = folder.path().join("controller.yaml");
    let state = folder.path().join("state");
    let text = format!("stateDirectory: {}\nlisten: 127.0.0.1:{grpc}\nmetricsListen: 127.0.0.1:{metrics}\ndrain: 5s\n", state.display());
    std::fs::write(&config, text).unwrap();
    Paths { config: config.display().to_string(), folder, metrics }
}

fn healthy(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

fn spawn(paths: &Paths, command: &str) -> Process {
    let mut started = Command::new(PROGRAM);
    started.args([command, "--config", &paths.config]).env("HOME", paths.folder.path()).env_remove("XDG_CONFIG_HOME");
    let log = std::fs::File::create(paths.folder.path().join("log")).unwrap();
    Process(started.env_remove("MUSTER_CONTEXT_FILE").stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

#[test]
fn check_config_tells_file_line_and_column_and_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("controller.yaml");
    std::fs::write(&path, "stateDirectory: /var/lib/muster\nlog:\n  levl: info\n").unwrap();
    let output = run(&["run", "--check-config", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains("controller.yaml:3:3") && told.contains("levl") && told.contains("level"), "{told}");
    std::fs::write(&path, "listen: 0.0.0.0:7400\n").unwrap();
    let output = run(&["run", "--check-config", "--config", path.to_str().unwrap()]);
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("stateDirectory") && told.contains("endpoints"), "{told}");
    std::fs::write(&path, "stateDirectory: /var/lib/muster\n").unwrap();
    let output = run(&["run", "--check-config", "--config", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!Path::new("/var/lib/muster/controller.db").exists());
}

#[test]
fn run_without_init_tells_what_to_type_and_init_does_not_replace_a_ca() {
    let paths = configured();
    let output = run(&["run", "--config", &paths.config]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("muster-controller init"), "{}", text(&output.stderr));
    assert!(run(&["init", "--config", &paths.config]).status.success());
    let again = run(&["init", "--config", &paths.config]);
    assert!(!again.status.success() && text(&again.stderr).contains("has a CA already"), "{}", text(&again.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_serves_writes_a_context_that_works_and_sigterm_drains_within_its_bound() {
    use std::os::unix::process::ExitStatusExt;
    let paths = configured();
    for _ in 0..2 {
        let mut process = spawn(&paths, "dev");
        eventually("it serves", async || healthy(paths.metrics)).await;
        let contexts = Contexts::load(&paths.folder.path().join(".config/muster/contexts.yaml")).unwrap();
        let context = contexts.find(None).unwrap();
        let client = ReloadableClient::new(&context.credentials().unwrap()).unwrap();
        let mut status = StatusServiceClient::new(client::channel(client, context.endpoints.clone()));
        let me = status.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!((me.identity.as_str(), me.role.as_str()), ("operator/admin", "admin"));
        let began = Instant::now();
        assert!(Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap().success());
        let ended = loop {
            if let Some(ended) = process.0.try_wait().unwrap() {
                break ended;
            }
            assert!(began.elapsed() < BOUND, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let log = std::fs::read_to_string(paths.folder.path().join("log")).unwrap();
        assert_eq!((ended.code(), ended.signal()), (Some(0), None), "{log}");
        assert!(log.contains("drained"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_cert_is_the_way_in_and_back_in_also_while_the_controller_runs() {
    let paths = configured();
    assert!(run(&["init", "--config", &paths.config]).status.success());
    let out = paths.folder.path().join("ada.yaml").display().to_string();
    let _process = spawn(&paths, "run");
    eventually("it serves", async || healthy(paths.metrics)).await;
    let made = run(&["admin-cert", "--config", &paths.config, "--name", "ada", "--out", &out]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let contexts = Contexts::load(Path::new(&out)).unwrap();
    let context = contexts.find(None).unwrap();
    assert_eq!(context.name, name("muster"));
    let client = ReloadableClient::new(&context.credentials().unwrap()).unwrap();
    let status = StatusServiceClient::new(client::channel(client, context.endpoints.clone()));
    eventually("it is an admin", async || {
        let me = status.clone().who_am_i(WhoAmIRequest {}).await;
        me.is_ok_and(|me| me.into_inner().role == "admin")
    })
    .await;
    let over = run(&["admin-cert", "--config", &paths.config, "--out", &out]);
    assert!(!over.status.success() && text(&over.stderr).contains("exists"), "{}", text(&over.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_the_log_level_again_and_a_second_controller_on_the_state_is_refused() {
    let paths = configured();
    assert!(run(&["init", "--config", &paths.config]).status.success());
    let process = spawn(&paths, "run");
    eventually("it serves", async || healthy(paths.metrics)).await;
    let hang_up = || assert!(Command::new("kill").args(["-HUP", &process.0.id().to_string()]).status().unwrap().success());
    let log = || std::fs::read_to_string(paths.folder.path().join("log")).unwrap();
    hang_up();
    eventually("it reloads", async || log().contains("reloaded the certificate and the log level")).await;
    let text_of_config = std::fs::read_to_string(&paths.config).unwrap();
    std::fs::write(&paths.config, format!("{text_of_config}log: {{level: nonsense=loud}}\n")).unwrap();
    hang_up();
    eventually("it refuses and goes on", async || log().contains("what was in force stays")).await;
    std::fs::write(&paths.config, text_of_config).unwrap();
    let (grpc, metrics) = (free_port().to_string(), free_port().to_string());
    let other = ["--listen", &format!("127.0.0.1:{grpc}"), "--metrics-listen", &format!("127.0.0.1:{metrics}")].map(str::to_owned);
    let mut arguments = vec!["run", "--config", &paths.config];
    arguments.extend(other.iter().map(String::as_str));
    let second = run(&arguments);
    assert!(!second.status.success() && text(&second.stderr).contains("another process of this machine"), "{}", text(&second.stderr));
    assert!(healthy(paths.metrics));
}
