//! The operator: runs `muster` as a person does and reads what it says. Knows commands and output, no message of the protocol.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::account::RunAs;
use crate::process::{Launch, Output, Process};
use crate::world::World;

const LONG_ENOUGH: Duration = Duration::from_secs(300);

/// An operator with a home of their own.
#[derive(Clone, Debug)]
pub struct Operator {
    world: World,
    home: PathBuf,
}

impl Operator {
    /// Whoever the controller's `dev` made an administrator: their context lies in the world's home.
    #[must_use]
    pub fn administrator(world: &World) -> Self {
        Self { world: world.clone(), home: world.path("home") }
    }

    /// Somebody else, who has no context yet.
    ///
    /// # Errors
    /// Where their home cannot be made.
    pub fn stranger(world: &World, name: &str) -> Result<Self> {
        let home = world.folder(&format!("home-{name}"), RunAs::Caller)?;
        Ok(Self { world: world.clone(), home })
    }

    /// Their home folder.
    #[must_use]
    pub fn home(&self) -> &std::path::Path {
        &self.home
    }

    fn launch(&self, arguments: &[&str]) -> Result<Launch> {
        let mut launch = self.world.launch("muster", self.world.program("muster")?, RunAs::Caller);
        launch.environment.insert("HOME".to_owned(), self.home.display().to_string());
        launch.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Ok(launch)
    }

    /// Runs `muster` with these arguments to its end, however it ends.
    ///
    /// # Errors
    /// Where it was not built or does not end in time.
    pub async fn runs(&self, arguments: &[&str]) -> Result<Output> {
        self.launch(arguments)?.run(LONG_ENOUGH).await.with_context(|| format!("muster {}", arguments.join(" ")))
    }

    /// What it writes, where it ends well.
    ///
    /// # Errors
    /// Where it ends otherwise: with all that it said.
    pub async fn says(&self, arguments: &[&str]) -> Result<String> {
        self.runs(arguments).await?.success().with_context(|| format!("muster {}", arguments.join(" ")))
    }

    /// The same with variables of the environment, for example the bucket's secret.
    ///
    /// # Errors
    /// As [`Operator::says`].
    pub async fn says_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
        let mut launch = self.launch(arguments)?;
        launch.environment.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        launch.run(LONG_ENOUGH).await?.success().with_context(|| format!("muster {}", arguments.join(" ")))
    }

    /// Runs `muster` before the eyes of whoever runs this process.
    ///
    /// # Errors
    /// Where it ends badly.
    pub async fn shows(&self, arguments: &[&str]) -> Result<()> {
        println!("\n$ muster {}", arguments.join(" "));
        self.launch(arguments)?.show(LONG_ENOUGH).await.with_context(|| format!("muster {}", arguments.join(" ")))
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// As [`Operator::says`], and where it is no JSON.
    pub async fn reads(&self, arguments: &[&str]) -> Result<Value> {
        let mut with_format = arguments.to_vec();
        with_format.extend(["-o", "json"]);
        let text = self.says(&with_format).await?;
        serde_json::from_str(&text).with_context(|| format!("muster {}: no JSON: {text}", with_format.join(" ")))
    }

    /// Starts `muster` and leaves it running, its output in a log of this name.
    ///
    /// # Errors
    /// Where it was not built or cannot be started.
    pub fn starts(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut launch = self.launch(arguments)?;
        launch.log = self.world.path("log").join(format!("{name}.log"));
        launch.name = name.to_owned();
        launch.start()
    }

    /// Whether the controller has a session of this agent.
    ///
    /// # Errors
    /// Where the controller cannot be asked.
    pub async fn agent_is_connected(&self, name: &str) -> Result<bool> {
        let agents = self.reads(&["agents"]).await?;
        let agents = agents.get("agents").unwrap_or(&agents).as_array().cloned().unwrap_or_default();
        Ok(agents
            .iter()
            .any(|agent| agent.get("name").and_then(Value::as_str) == Some(name) && agent.get("connected") == Some(&Value::Bool(true))))
    }
}
