//! What a whole process does: this binary starts itself as a child, with signals and `OTEL_*` variables of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends; these are its helpers")]

use std::collections::BTreeMap;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muster_service::telemetry::{LogFormat, Telemetry, TelemetryOptions};
use muster_service::{files, shutdown, telemetry, trace};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use rustix::process::{Pid, Signal};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

const BOUND: Duration = Duration::from_secs(20);
/// What the child is to do; without it the `child` test does nothing.
const ROLE: &str = "MUSTER_TEST_CHILD";

fn start(role: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, role).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> (ExitStatus, String, String) {
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The other end of [`start`].
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match role.as_str() {
        "drain" => runtime.block_on(drain()),
        "trace" => {
            let telemetry = runtime.block_on(async { start_telemetry() });
            let span = tracing::info_span!("operator asks");
            span.in_scope(|| tracing::info!(point = 7, "backed up"));
            println!("trace {}", trace::trace_id_of(&span).unwrap());
            drop(span);
            telemetry.shutdown();
        }
        "write" => {
            let path = std::env::var("FILE").unwrap();
            let (even, odd) = (vec![b'e'; 300_000], vec![b'o'; 200_000]);
            println!("ready");
            for bytes in [&even, &odd].into_iter().cycle() {
                files::write_atomically(path.as_ref(), bytes, 0o600).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

fn start_telemetry() -> Telemetry {
    let options = TelemetryOptions {
        service_name: "muster-test",
        instance: Some("istanbul/db1".to_owned()),
        format: LogFormat::Json,
        level: "info".to_owned(),
    };
    telemetry::init(options).unwrap()
}

/// Ends half a second after it was asked to, or at once when asked twice. Nobody asks it twice before it said `draining`.
async fn drain() {
    let token = CancellationToken::new();
    shutdown::on_signal(token.clone()).unwrap();
    println!("ready");
    token.cancelled().await;
    println!("draining");
    let twice = std::env::var_os("TWICE").is_some();
    tokio::time::sleep(if twice { BOUND } else { Duration::from_millis(500) }).await;
    println!("drained");
}

fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

/// Reads the child's standard output until it says `word`.
fn wait_for(child: &mut Child, word: &str) {
    use std::io::Read;
    let stdout = child.stdout.as_mut().unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(word) {
        assert_ne!(stdout.read(&mut byte).unwrap(), 0, "ended without {word:?}: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&byte);
    }
}

#[test]
fn the_first_signal_drains() {
    for first in [Signal::TERM, Signal::INT] {
        let mut child = start("drain", &[]);
        wait_for(&mut child, "ready");
        signal(&child, first);
        let (status, rest, _) = end(child);
        assert!(status.success() && rest.contains("drained"), "{status}: {rest}");
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    let mut child = start("drain", &[("TWICE", "1")]);
    wait_for(&mut child, "ready");
    let started = Instant::now();
    signal(&child, Signal::TERM);
    wait_for(&mut child, "draining");
    signal(&child, Signal::INT);
    let (status, rest, _) = end(child);
    assert_eq!(status.code(), Some(shutdown::EXIT_AT_ONCE), "{rest}");
    assert!(!rest.contains("drained") && started.elapsed() < BOUND, "{rest}");
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for round in 0..12 {
        let mut child = start("write", &[("FILE", path.to_str().unwrap())]);
        wait_for(&mut child, "ready");
        std::thread::sleep(Duration::from_millis(5 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(bytes) = std::fs::read(&path) {
            let whole =
                [(b'e', 300_000), (b'o', 200_000)].iter().any(|(byte, length)| bytes.len() == *length && bytes.iter().all(|b| b == byte));
            assert!(whole, "round {round}: {} bytes", bytes.len());
        }
        files::remove_temporaries(folder.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "state"), "{left:?}");
    }
    assert!(path.exists());
}

type Exported = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

struct Collector(Exported);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Lines of the log and the trace id that the child said, once it ended well within the bound.
async fn traced(variables: Vec<(&'static str, String)>) -> (Vec<serde_json::Value>, String) {
    let ended = tokio::task::spawn_blocking(move || {
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        end(start("trace", &variables))
    });
    let (status, said, logged) = tokio::time::timeout(BOUND, ended).await.unwrap().unwrap();
    assert!(status.success(), "{said}{logged}");
    let id = said.lines().find_map(|line| line.split("trace ").nth(1)).unwrap().to_owned();
    (logged.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(), id)
}

#[tokio::test]
async fn spans_reach_the_collector_that_the_standard_variable_names_and_logs_carry_the_trace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let exported = Exported::default();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(exported.clone())));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let (log, id) = traced(vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)]).await;
    let exported = exported.lock().unwrap();
    let resource = &exported.first().unwrap().resource_spans[0];
    let attributes: BTreeMap<String, String> = resource
        .resource
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), format!("{:?}", attribute.value)))
        .collect();
    assert!(attributes["service.name"].contains("muster-test"), "{attributes:?}");
    assert!(attributes["service.instance.id"].contains("istanbul/db1"), "{attributes:?}");
    let span = &resource.scope_spans[0].spans[0];
    assert_eq!(span.name, "operator asks");
    assert_eq!(span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), id);
    let line = log.iter().find(|line| line["fields"]["message"] == "backed up").unwrap();
    assert_eq!((&line["trace_id"], &line["fields"]["point"]), (&serde_json::json!(id), &serde_json::json!(7)));
}

#[tokio::test]
async fn without_the_variables_nothing_is_sent_and_with_a_dead_or_silent_collector_the_process_ends_in_time() {
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    // It accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap();
    let accepted = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    for variables in [
        vec![],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{dead}"))],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{silent_address}"))],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{silent_address}")), ("OTEL_SDK_DISABLED", "true".to_owned())],
    ] {
        let started = Instant::now();
        let (log, _) = traced(variables.clone()).await;
        assert!(log.iter().any(|line| line["fields"]["message"] == "backed up"), "{variables:?}");
        assert!(started.elapsed() < Duration::from_secs(12), "{variables:?}: {:?}", started.elapsed());
    }
    accepted.abort();
}
