//! A real agent: a process of the user `postgres`, joined by a one-time token.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::account::RunAs;
use crate::eventually::eventually;
use crate::failpoints::Failpoints;
use crate::operator::Operator;
use crate::process::Process;
use crate::world::World;

const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// An agent.
#[derive(Debug)]
pub struct Agent {
    world: World,
    site: String,
    name: String,
    state: PathBuf,
    config: PathBuf,
    environment: Vec<(String, String)>,
    process: Mutex<Option<Process>>,
}

impl Agent {
    /// Asks for a token, writes the agent's file and starts it. It is connected when this returns.
    ///
    /// # Errors
    /// Where the token is refused, or the agent does not connect.
    pub async fn join(world: &World, operator: &Operator, site: &str, name: &str) -> Result<Self> {
        let agent = Self::prepare(world, operator, site, name).await?;
        agent.start_again(&Failpoints::none()).await?;
        agent.connected(operator).await?;
        Ok(agent)
    }

    /// As [`Agent::join`], without starting it.
    ///
    /// # Errors
    /// Where the token is refused.
    pub async fn prepare(world: &World, operator: &Operator, site: &str, name: &str) -> Result<Self> {
        let folder = world.folder(name, RunAs::Postgres)?;
        let token = operator.says(&["token", "create", "--site", site, "--agent", name]).await?;
        let token = world.file(&format!("{name}/token"), token.trim(), RunAs::Postgres, 0o600)?;
        let state = world.folder(&format!("{name}/state"), RunAs::Postgres)?;
        // In memory, and short, since permits and sockets go there.
        let run = world.memory(name)?;
        let machine = world.file(&format!("{name}/machine-id"), &id(), RunAs::Postgres, 0o644)?;
        let boot = world.file(&format!("{name}/boot-id"), &id(), RunAs::Postgres, 0o644)?;
        let text = format!(
            "stateDirectory: {}\nrunDirectory: {}\ntokenFile: {}\nmachineIdFile: {}\nbootIdFile: {}\nlog: {{level: 'info,muster_agent=debug'}}\n",
            state.display(),
            run.display(),
            token.display(),
            machine.display(),
            boot.display()
        );
        let config = world.file(&format!("{name}/agent.yaml"), &text, RunAs::Postgres, 0o600)?;
        debug_assert!(config.starts_with(folder), "the file lies in the agent's folder");
        Ok(Self {
            world: world.clone(),
            site: site.to_owned(),
            name: name.to_owned(),
            state,
            config,
            environment: Vec::new(),
            process: Mutex::new(None),
        })
    }

    /// Starts it on what it left; returns when the process runs, which is before it is connected.
    ///
    /// # Errors
    /// Where it was not built or cannot be started.
    pub async fn start_again(&self, failpoints: &Failpoints) -> Result<()> {
        let mut launch = self.world.launch(&format!("agent-{}", self.name), self.world.program("muster-agent")?, RunAs::Postgres);
        launch.arguments = ["run", "--config", &self.config.display().to_string()].map(str::to_owned).to_vec();
        launch.environment.extend(self.environment.iter().cloned());
        failpoints.add_to(&mut launch);
        let process = launch.start()?;
        *self.lock()? = Some(process);
        Ok(())
    }

    /// What a boot of its machine changes: the agent is gone, memory is empty, the boot has another id. The servers are killed by whoever
    /// has them.
    ///
    /// # Errors
    /// Where the kernel or the disk refuses.
    pub fn boot(&self) -> Result<()> {
        self.kill()?;
        let run = self.world.memory(&self.name)?;
        std::fs::remove_dir_all(&run).with_context(|| format!("empty {}", run.display()))?;
        self.world.memory(&self.name)?;
        self.world.file(&format!("{}/boot-id", self.name), &id(), RunAs::Postgres, 0o644)?;
        Ok(())
    }

    /// Sets a variable for the next start, for example the bucket's secret.
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits until the controller says that it is connected.
    ///
    /// # Errors
    /// Where it is not within a bound, or has ended.
    pub async fn connected(&self, operator: &Operator) -> Result<()> {
        eventually(&format!("{} to connect", self.name), LONG_ENOUGH, async || {
            if !self.runs()? {
                return Ok(Some(Err(anyhow!("{} has ended: {}", self.name, self.written()?))));
            }
            Ok(operator.agent_is_connected(&self.name).await?.then_some(Ok(())))
        })
        .await?
    }

    /// # Errors
    /// Where the kernel does not know the process.
    pub fn runs(&self) -> Result<bool> {
        self.lock()?.as_ref().map_or(Ok(false), |process| Ok(process.status()?.is_none()))
    }

    /// `kill -9`. One that is dead already is no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.lock()?.take().map_or(Ok(()), |process| process.kill())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub async fn terminate(&self) -> Result<()> {
        let Some(process) = self.lock()?.take() else { return Ok(()) };
        process.terminate(LONG_ENOUGH).await?;
        Ok(())
    }

    /// Waits until it has ended by itself, as at a `kill` failpoint.
    ///
    /// # Errors
    /// Where it still runs after `bound`.
    pub async fn died(&self, bound: Duration) -> Result<()> {
        eventually(&format!("{} to die", self.name), bound, async || Ok((!self.runs()?).then_some(()))).await?;
        *self.lock()? = None;
        Ok(())
    }

    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The process's id while it runs.
    ///
    /// # Errors
    /// Where a thread panicked with it.
    pub fn pid(&self) -> Result<Option<i32>> {
        Ok(self.lock()?.as_ref().map(Process::pid))
    }

    /// All that it wrote.
    ///
    /// # Errors
    /// Where there is nothing to read.
    pub fn written(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.world.path("log").join(format!("agent-{}.log", self.name)))?)
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Option<Process>>> {
        self.process.lock().map_err(|_| anyhow!("a thread panicked with {}", self.name))
    }
}

/// An id as machines and boots have them.
fn id() -> String {
    format!("{:032x}\n", rand::random::<u128>())
}
