//! `muster`: reads the command line, runs one command, tells a failure, ends with its code.

use std::process::ExitCode;

use clap::Parser;
use muster_cli::arguments::{self, Arguments};
use muster_cli::command::wal_get;
use muster_cli::console::Console;
use muster_cli::exit::Exit;
use muster_service::telemetry::{self, LogFormat, TelemetryOptions};
use tracing::Instrument;

/// Only the span of the command itself is on by default: it carries the trace that controller and agent join.
const LEVEL: &str = "warn,muster_cli=info,muster=info";

fn main() -> ExitCode {
    if let Some(code) = wal_get::run_if_asked(std::env::args_os()) {
        return code;
    }
    let arguments = Arguments::parse();
    let console = Console { output: arguments.global.output, quiet: arguments.global.quiet };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.say(&format!("muster: start: {error}\n"));
            return ExitCode::from(Exit::Internal.code());
        }
    };
    let telemetry = runtime.block_on(async {
        let level = std::env::var("MUSTER_LOG").unwrap_or_else(|_| LEVEL.to_owned());
        telemetry::init(TelemetryOptions { service_name: "muster", instance: None, format: LogFormat::Text, level })
    });
    if let Err(error) = &telemetry {
        console.say(&format!("muster: without telemetry: {error}\n"));
    }
    let ended = runtime.block_on(async {
        let span = tracing::info_span!("muster", otel.kind = "client");
        arguments::run(arguments).instrument(span).await
    });
    let exit = ended.unwrap_or_else(|fault| {
        console.fault(&fault);
        Exit::of_fault(&fault)
    });
    if let Ok(telemetry) = telemetry {
        telemetry.shutdown();
    }
    // What still waits (a question that nobody answers, a lost connection) must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(exit.code())
}
