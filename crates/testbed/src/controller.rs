//! A real controller: its own process, its own state folder, its own ports. It can be killed, held at a failpoint, started
//! again, and set back to an older copy of its state.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::account::RunAs;
use crate::eventually::eventually;
use crate::failpoints::Failpoints;
use crate::port::Port;
use crate::process::Process;
use crate::world::World;

/// How long a controller may take until it serves, and until it has drained.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// A controller.
#[derive(Debug)]
pub struct Controller {
    world: World,
    state: PathBuf,
    config: PathBuf,
    port: Port,
    metrics: Port,
    environment: Mutex<Vec<(String, String)>>,
    process: Mutex<Option<Process>>,
}

impl Controller {
    /// Makes one with everything that it needs, the way a newcomer does (`muster-controller dev`), and starts it. The context of
    /// its administrator lands in the world's home, where `muster` finds it.
    ///
    /// # Errors
    /// Where it was not built or does not serve.
    pub async fn start(world: &World) -> Result<Self> {
        let controller = Self::prepare(world)?;
        controller.start_again(&Failpoints::none()).await?;
        Ok(controller)
    }

    /// Makes one and does not start it.
    ///
    /// # Errors
    /// Where there is no free port or the folder cannot be made.
    pub fn prepare(world: &World) -> Result<Self> {
        let state = world.folder("controller", RunAs::Caller)?;
        let (port, metrics) = (Port::take()?, Port::take()?);
        let address = world.address();
        let (listen, scraped) = (format!("{address}:{}", port.number()), format!("{address}:{}", metrics.number()));
        let text = format!("stateDirectory: {}\nlisten: {listen}\nmetricsListen: {scraped}\n", state.display());
        let config = world.file("controller.yaml", &text, RunAs::Caller, 0o644)?;
        Ok(Self { world: world.clone(), state, config, port, metrics, environment: Mutex::default(), process: Mutex::new(None) })
    }

    /// Adds lines to its configuration, which count from its next start on.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let text = std::fs::read_to_string(&self.config).context("read the controller's configuration")?;
        std::fs::write(&self.config, text + lines).context("write the controller's configuration")
    }

    /// Sets variables for its next starts.
    ///
    /// # Errors
    /// Where a thread panicked with it.
    pub fn with_environment(&self, variables: &[(String, String)]) -> Result<()> {
        let mut environment = self.environment.lock().map_err(|_| anyhow!("a thread panicked with the controller"))?;
        environment.extend(variables.iter().cloned());
        Ok(())
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Starts it on what it left, and waits until it serves.
    ///
    /// # Errors
    /// Where it ends at once or does not serve: with what it wrote.
    pub async fn start_again(&self, failpoints: &Failpoints) -> Result<()> {
        let mut launch = self.world.launch("controller", self.world.program("muster-controller")?, RunAs::Caller);
        let (config, state) = (self.config.display().to_string(), self.state.display().to_string());
        launch.arguments = ["dev", "--config", &config, "--state-directory", &state].map(str::to_owned).to_vec();
        launch.environment.extend(self.environment.lock().map_err(|_| anyhow!("a thread panicked with the controller"))?.iter().cloned());
        failpoints.add_to(&mut launch);
        let process = launch.start()?;
        let served = eventually("the controller to serve", LONG_ENOUGH, async || {
            if let Some(status) = process.status()? {
                return Ok(Some(Err(anyhow!("the controller ended with {status}"))));
            }
            Ok(self.is_healthy().await?.then_some(Ok(())))
        });
        match served.await.and_then(|served| served) {
            Ok(()) => {
                *self.lock()? = Some(process);
                Ok(())
            }
            Err(error) => Err(error.context(format!("its log: {}", process.written()?))),
        }
    }

    /// `kill -9`. One that is dead already is no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.lock()?.take().map_or(Ok(()), |process| process.kill())
    }

    /// SIGTERM, and waits until it has drained.
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
        eventually("the controller to die", bound, async || {
            Ok(self.lock()?.as_ref().is_none_or(|process| process.status().is_ok_and(|status| status.is_some())).then_some(()))
        })
        .await?;
        *self.lock()? = None;
        Ok(())
    }

    /// Copies the state of a controller that is stopped.
    ///
    /// # Errors
    /// Where it runs, or the copy fails.
    pub async fn copy_state(&self, name: &str) -> Result<PathBuf> {
        if self.lock()?.is_some() {
            return Err(anyhow!("the controller runs: its state cannot be copied file by file"));
        }
        let copy = self.world.path(name);
        copy_folder(&self.world, &self.state, &copy).await?;
        Ok(copy)
    }

    /// Puts an older copy of its state in the place of the present one.
    ///
    /// # Errors
    /// Where it runs, or the copy fails.
    pub async fn restore_state(&self, copy: &Path) -> Result<()> {
        if self.lock()?.is_some() {
            return Err(anyhow!("the controller runs: its state cannot be replaced"));
        }
        std::fs::remove_dir_all(&self.state).context("remove the controller's state")?;
        copy_folder(&self.world, copy, &self.state).await
    }

    /// The process's id while it runs.
    ///
    /// # Errors
    /// Where a thread panicked with it.
    pub fn pid(&self) -> Result<Option<i32>> {
        Ok(self.lock()?.as_ref().map(Process::pid))
    }

    /// All that it wrote, its forerunners included.
    ///
    /// # Errors
    /// Where there is nothing to read.
    pub fn written(&self) -> Result<String> {
        std::fs::read_to_string(self.world.path("log").join("controller.log")).context("read the controller's log")
    }

    /// `127.0.0.1:<port>`, or its place's address: where gRPC is served.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.world.address(), self.port.number())
    }

    #[must_use]
    pub fn metrics_address(&self) -> String {
        format!("{}:{}", self.world.address(), self.metrics.number())
    }

    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What `GET path` on the port of the metrics answers, head and body.
    ///
    /// # Errors
    /// Where nobody listens or the answer does not end in time.
    pub async fn scrape(&self, path: &str) -> Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.metrics.address()).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        Ok(tokio::time::timeout(Duration::from_secs(5), exchange).await.context("the port of the metrics is silent")??)
    }

    /// Whether its health is 200, asked from where it runs.
    async fn is_healthy(&self) -> Result<bool> {
        let address = self.world.address();
        if address.is_loopback() {
            return Ok(self.scrape("/healthz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")));
        }
        let ask = format!(
            "exec 3<>/dev/tcp/{address}/{} && printf 'GET /healthz HTTP/1.1\\r\\nHost: metrics\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -1 <&3",
            self.metrics.number()
        );
        let asked = self.world.run(RunAs::Caller, "/bin/bash", &["-c", &ask], LONG_ENOUGH).await?;
        Ok(asked.stdout.starts_with("HTTP/1.1 200"))
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Option<Process>>> {
        self.process.lock().map_err(|_| anyhow!("a thread panicked with the controller"))
    }
}

async fn copy_folder(world: &World, from: &Path, to: &Path) -> Result<()> {
    let arguments = ["-a", &from.display().to_string(), &to.display().to_string()];
    world.run(RunAs::Caller, "/bin/cp", &arguments, LONG_ENOUGH).await?.success().context("copy a folder")?;
    Ok(())
}
