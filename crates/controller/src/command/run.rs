//! `run`: serves until it is asked to stop.

use anyhow::{Context, Result};
use muster_service::shutdown;
use muster_service::telemetry::{self, Telemetry, TelemetryOptions};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Flags};
use crate::server::{self, Running};

/// What `run` takes.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    flags: Flags,
    /// Judges the configuration and ends; nothing is opened.
    #[arg(long)]
    check_config: bool,
}

impl Run {
    /// Serves.
    ///
    /// # Errors
    /// Where the configuration is wrong, something cannot be opened, or somebody was late at the end.
    pub fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        if self.check_config {
            println!("the configuration is good: gRPC on {}, state in {}", config.listen, config.state_directory.display());
            return Ok(());
        }
        serve(config, self.flags, |_| {})
    }
}

/// Serves until SIGTERM or SIGINT; `ready` is told where.
///
/// # Errors
/// As [`Run::run`].
pub fn serve(config: Config, flags: Flags, ready: impl FnOnce(&Running) + Send) -> Result<()> {
    take_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let (telemetry, served) = runtime.block_on(async {
        let options = TelemetryOptions {
            service_name: "muster-controller",
            instance: Some(config.listen.to_string()),
            format: config.log_format,
            level: config.log_level.clone(),
        };
        let telemetry = telemetry::init(options)?;
        let served = serve_until_asked(config, &flags, &telemetry, ready).await;
        Ok::<_, anyhow::Error>((telemetry, served))
    })?;
    // What hangs now was told as late: the process need not wait for it.
    runtime.shutdown_background();
    telemetry.shutdown();
    served
}

/// Each agent takes a file descriptor, and most systems give a process 1,024 unless it asks for those that it may have.
fn take_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })
    {
        eprintln!("muster-controller: {:?} file descriptors are all that can be had: {error}", limit.current);
    }
}

async fn serve_until_asked(config: Config, flags: &Flags, telemetry: &Telemetry, ready: impl FnOnce(&Running)) -> Result<()> {
    let asked = CancellationToken::new();
    shutdown::on_signal(asked.clone()).context("install the handlers of signals")?;
    let mut reloads = shutdown::reloads().context("install the handler of SIGHUP")?;
    let drain = config.drain;
    let meter = opentelemetry::global::meter("muster-controller");
    let mut running = server::start(config, telemetry.registry(), &meter).await?;
    ready(&running);
    let broken = loop {
        tokio::select! {
            () = asked.cancelled() => break None,
            broken = running.broken() => break Some(broken),
            hung_up = reloads.recv() => if hung_up.is_some() { reload(&running, flags, telemetry) },
        }
    };
    if let Some(broken) = &broken {
        tracing::error!(error = format!("{broken:#}"), "stopping: a part that the controller cannot do without has ended");
    }
    let drained = running.drain(drain).await;
    match broken {
        Some(broken) => Err(broken),
        None => drained,
    }
}

/// SIGHUP: the certificate and the log level. What else changed in the file needs a restart.
fn reload(running: &Running, flags: &Flags, telemetry: &Telemetry) {
    let reloaded = || {
        let config = config::load(flags)?;
        telemetry.level_switch().set(&config.log_level)?;
        running.reload_certificate()
    };
    match reloaded() {
        Ok(()) => tracing::info!("reloaded the certificate and the log level"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "reload; what was in force stays"),
    }
}

/// Where it serves, as one line for a person.
#[must_use]
pub fn addresses(running: &Running) -> String {
    format!("gRPC on {}, metrics on http://{}/metrics", running.address, running.metrics_address)
}
