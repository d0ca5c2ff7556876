//! The whole agent: state opened, joined, duties and tasks and the link started, served until asked to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use muster_identity::endpoint::Endpoint;
use muster_identity::identity::Identity;
use muster_service::metrics::{self, Health, HealthCheck};
use muster_service::tasks::TaskGate;
use muster_service::telemetry::{self, LevelSwitch, TelemetryOptions};
use muster_service::{clock, files, shutdown};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::agent::{Agent, Settings};
use crate::assignment::force::Assignments;
use crate::balancers;
use crate::belonging::Belonging;
use crate::config::Config;
use crate::duty;
use crate::engines;
use crate::hook::own::Hooks;
use crate::instruments::{self, Ends};
use crate::keeper;
use crate::keeper::kept::Keepers;
use crate::keeper::place::Place;
use crate::kept::KeptDirectories;
use crate::link::dial::{self, LinkState};
use crate::link::outbox::Outbox;
use crate::link::session::Talk;
use crate::local;
use crate::membership::{self, Member};
use crate::memory::Memory;
use crate::repositories::Repositories;
use crate::state::{StateDirectory, boot_id};
use crate::task::inbox::Inbox;
use crate::task::intake::Intake;
use crate::task::runner::Runner;
use crate::task::scratch::{Scratch, bound_cache};

/// How long tasks may take to stop when the agent is asked to. What has not stopped then is resumed by the next process.
const DRAIN: Duration = Duration::from_secs(15);

/// How long a task that is asked to stop may take.
const GRACE: Duration = Duration::from_secs(60);

/// Runs the agent until SIGTERM or SIGINT. `file` is where its configuration came from: SIGHUP reads the log level there again.
///
/// # Errors
/// What keeps it from starting, or a part that ended by itself.
pub async fn run(config: Config, file: &Path) -> anyhow::Result<()> {
    let format = config.log.format;
    let options = TelemetryOptions { service_name: "muster-agent", instance: None, format, level: config.log.level.clone() };
    let telemetry = telemetry::init(options).context("start telemetry")?;
    let token = CancellationToken::new();
    shutdown::on_signal(token.clone()).context("handle signals")?;
    let gate = TaskGate::new(token);
    let level = Level { file: file.to_owned(), switch: telemetry.level_switch() };
    let served = serve(&config, &gate, telemetry.registry(), level).await;
    let closed = gate.close(DRAIN).await;
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await.context("stop telemetry")?;
    // The state directory is this process's until nothing of it runs any more.
    drop(served?);
    closed.context("stop: what is late is resumed at the next start")?;
    match gate.failure() {
        Some(why) => anyhow::bail!("stopped from within: {why}"),
        None => Ok(()),
    }
}

async fn serve(config: &Config, gate: &TaskGate, registry: Registry, level: Level) -> anyhow::Result<StateDirectory> {
    let state = StateDirectory::open(&config.state_directory)?;
    let identity = state.join("identity");
    let joining = membership::join(&identity, config.token_file.as_deref(), &config.controllers, gate.token());
    let member = match joining.await {
        Err(membership::MembershipError::Stopped) => return Ok(state),
        joined => joined.context("belong to a controller")?,
    };
    anyhow::ensure!(
        !member.controllers.is_empty(),
        "no controller is known; HINT: name them as `controllers: [host:port]` in the configuration"
    );
    let name = own_name(&member);
    let Member { folder, credentials, controllers } = member;
    let belonging = Belonging::new(folder, credentials).context("use the agent's certificate")?;
    let agent = Arc::new(open(config, &state, name, belonging.clone())?);
    let (link_state, seen) = watch::channel(LinkState::default());
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for metrics"))?;
        let (token, health) = (gate.token().clone(), health(gate.clone()));
        gate.spawn("metrics", Span::none(), async move {
            if let Err(error) = metrics::serve(listener, registry, health, token).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
    }
    if let Some(address) = config.load_balancers {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for load balancers"))?;
        gate.spawn("answering load balancers", Span::none(), balancers::serve(agent.clone(), listener, gate.clone()));
    }
    let socket = local::serve::path(&config.state_directory);
    match local::serve::open(&socket) {
        Ok(listener) => {
            gate.spawn_vital("answering on the spot", Span::none(), local::serve::serve(agent.clone(), listener, gate.clone()));
        }
        Err(error) => {
            tracing::error!(%error, socket = %socket.display(), "`muster-agent status` and `fence` work once this agent is stopped")
        }
    }
    let runner = Arc::new(Runner::new(agent.clone(), gate.clone()));
    instruments::show(&agent, &runner, seen);
    runner.submit(agent.inbox.under_way(), false);
    start(agent, runner, (belonging, controllers), link_state, level, gate)?;
    gate.token().cancelled().await;
    Ok(state)
}

/// Reads all that a previous process left.
fn open(config: &Config, state: &StateDirectory, member: String, belonging: Arc<Belonging>) -> anyhow::Result<Agent> {
    let memory = Arc::new(Memory::open(&state.join("memory")).context("remember what was seen before")?);
    let inbox = Inbox::open(&state.join("inbox"), clock::now()).context("open the inbox")?;
    let secret = state.encryption_key().context("read the agent's encryption key")?;
    let (scratch, run_directory) = (config.scratch_directory(), config.run_directory());
    let hooks = state.join("hooks");
    let keeper = state.join("keeper");
    for folder in [&scratch, &run_directory, &hooks, &keeper] {
        files::create_private_folder(folder)?;
    }
    let cache = scratch.join("cache");
    bound_cache(&cache, config.scratch_limit).context("bound the cache")?;
    let own = engines::Own::of_this_program(config).context("find the agent's own program")?;
    let build = move |name: &_, assigned: &_| engines::build(name, assigned, &own);
    let place = Arc::new(Place::new(config.machine_id_file(), config.boot_id_file(), &run_directory));
    Ok(Agent {
        inbox: Arc::new(inbox),
        assignments: Assignments::open(&state.join("assignment"), memory.clone(), Box::new(build)).context("read the stored assignment")?,
        repositories: Repositories::new(secret, cache, memory.clone()),
        kept: KeptDirectories::open(&state.join("kept")).context("read what restores kept aside")?,
        keepers: Keepers::new(keeper, place, belonging, memory.clone()),
        outbox: Outbox::default(),
        hooks: Hooks { agent: member, declared: config.hooks.clone(), folder: hooks, program: own_program()? },
        scratch: Scratch::new(scratch.join("tasks"), config.scratch_limit),
        memory,
        ends: Ends::new(),
        settings: Settings {
            parallel_tasks: config.parallel_tasks,
            threads: config.threads(),
            inbox: config.inbox,
            tombstones: config.tombstones,
            most_tombstones: config.most_tombstones,
            run_directory,
            grace: GRACE,
        },
    })
}

/// Its name, as components declare it.
fn own_name(member: &Member) -> String {
    match &member.credentials.own().identity {
        Identity::Agent { agent, .. } => agent.to_string(),
        other @ (Identity::Operator { .. } | Identity::Controller) => other.to_string(),
    }
}

/// The program that runs now, by its path: a restored server calls it for its log.
fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find the agent's own program")
}

fn start(
    agent: Arc<Agent>,
    runner: Arc<Runner>,
    (belonging, controllers): (Arc<Belonging>, Vec<Endpoint>),
    link_state: watch::Sender<LinkState>,
    level: Level,
    gate: &TaskGate,
) -> anyhow::Result<()> {
    let (closely, looks) = watch::channel(None);
    let intake = Arc::new(Intake::new(agent.clone(), runner.clone()));
    let talk = Talk { agent: agent.clone(), belonging: belonging.clone(), intake, closely, boot_id: boot_id() };
    let vital = |name: &str, future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| gate.spawn_vital(name, Span::none(), future);
    vital("tasks", Box::pin(runner.clone().serve()));
    vital("observe", Box::pin(duty::observe::serve(agent.clone(), looks, gate.clone())));
    vital("keep", Box::pin(keeper::serve::serve(agent.clone(), gate.clone())));
    vital("kept directories", Box::pin(duty::keep::serve(agent.clone(), runner, gate.clone())));
    vital("housekeeping", Box::pin(duty::house::serve(agent, gate.clone())));
    vital("link", Box::pin(dial::serve(talk, controllers.clone(), link_state, gate.clone())));
    vital("reloading", Box::pin(reload(belonging.clone(), level, gate.clone())));
    vital("certificate", Box::pin(membership::keep_renewed(belonging, controllers, gate.clone())));
    Ok(())
}

/// Where the log level stands, and what puts it in force.
struct Level {
    file: PathBuf,
    switch: LevelSwitch,
}

impl Level {
    fn read_again(&self) -> anyhow::Result<String> {
        let level = Config::load(&self.file)?.log.level;
        self.switch.set(&level)?;
        Ok(level)
    }
}

/// SIGHUP reads the log level and the credentials anew. All else in the file needs a restart.
async fn reload(belonging: Arc<Belonging>, level: Level, gate: TaskGate) {
    let mut asked = match shutdown::reloads() {
        Ok(asked) => asked,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be handled");
            return gate.token().cancelled().await;
        }
    };
    loop {
        tokio::select! {
            _ = asked.recv() => {}
            () = gate.token().cancelled() => return,
        }
        match level.read_again() {
            Ok(level) => tracing::info!(level, "log level read anew"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "the log level stays as it was"),
        }
        match belonging.reload().await {
            Ok(()) => tracing::info!("credentials read anew"),
            Err(error) => tracing::error!(%error, "the credentials stay as they were"),
        }
    }
}

/// An agent without a controller does its duties all the same: that is told, and it is well.
fn health(gate: TaskGate) -> HealthCheck {
    Arc::new(move || match gate.failure() {
        Some(why) => Health::NotServing(why),
        None if gate.token().is_cancelled() => Health::NotServing("the agent stops".to_owned()),
        None => Health::Serving,
    })
}

/// Joins with the token of the configuration and tells as whom.
///
/// # Errors
/// See [`membership::MembershipError`].
pub async fn enroll(config: Config) -> anyhow::Result<()> {
    let state = StateDirectory::open(&config.state_directory)?;
    let member =
        membership::join(&state.join("identity"), config.token_file.as_deref(), &config.controllers, &CancellationToken::new()).await?;
    println!("{}", member.credentials.own().identity.uri(member.credentials.trust_domain()));
    Ok(())
}
