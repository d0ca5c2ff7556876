//! The world that most scenarios play in: a controller, an agent at each of two sites, a repository that both see, and an
//! administrator. Components are declared into it as an operator declares them, by YAML and `muster apply`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use crate::account::RunAs;
use crate::agent::Agent;
use crate::controller::Controller;
use crate::eventually::{eventually, until};
use crate::network::{Network, Place};
use crate::operator::Operator;
use crate::postgres::server::Postgres;
use crate::postgres::template::{AGENT_PASSWORD, AGENT_ROLE};
use crate::s3::server::{ACCESS_KEY, REGION, S3, SECRET_KEY};
use crate::world::World;

/// How long an agent may take to observe what was declared.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// The recovery passphrase of the repository.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// Where the parties are when each has a network of its own.
#[derive(Debug)]
pub struct Apart {
    pub controller: Place,
    pub istanbul: Place,
    pub ankara: Place,
}

/// Two sites, `istanbul` and `ankara`, with an agent each: `istanbul-db1` and `ankara-db1`.
#[derive(Debug)]
pub struct TwoSites {
    pub world: World,
    pub controller: Controller,
    pub operator: Operator,
    pub istanbul: Agent,
    pub ankara: Agent,
    passphrase: PathBuf,
}

impl TwoSites {
    /// Controller and agents, joined and connected; both sites declared; no repository yet.
    ///
    /// # Errors
    /// Where one of them does not start or connect.
    pub async fn start(world: &World) -> Result<Self> {
        Self::start_under(world, Controller::start(world).await?).await
    }

    /// The same under a controller that serves already.
    ///
    /// # Errors
    /// Where an agent does not start or connect.
    pub async fn start_under(world: &World, controller: Controller) -> Result<Self> {
        Self::join(world, [world, world], controller).await
    }

    /// The same in networks of their own: the controller and the operator in one, each site in another.
    ///
    /// # Errors
    /// As [`TwoSites::start`], and where this process is not root.
    pub async fn start_apart(world: &World, network: &Network) -> Result<(Self, Apart)> {
        let apart = Apart {
            controller: network.place("control").await?,
            istanbul: network.place("istanbul").await?,
            ankara: network.place("ankara").await?,
        };
        let control = world.at(&apart.controller);
        let controller = Controller::start(&control).await?;
        let sites = Self::join(&control, [&world.at(&apart.istanbul), &world.at(&apart.ankara)], controller).await?;
        Ok((sites, apart))
    }

    async fn join(world: &World, [istanbul, ankara]: [&World; 2], controller: Controller) -> Result<Self> {
        let operator = Operator::administrator(world);
        let passphrase = world.file("passphrase", PASSPHRASE, RunAs::Postgres, 0o600)?;
        declare(world, &operator, "sites", "kind: Site\nname: istanbul\nspec: {}\n---\nkind: Site\nname: ankara\nspec: {}\n").await?;
        let istanbul = Agent::prepare(istanbul, &operator, "istanbul", "istanbul-db1").await?;
        let istanbul = istanbul.with_environment("AWS_ACCESS_KEY_ID", ACCESS_KEY).with_environment("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let ankara = Agent::prepare(ankara, &operator, "ankara", "ankara-db1").await?;
        let ankara = ankara.with_environment("AWS_ACCESS_KEY_ID", ACCESS_KEY).with_environment("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        for agent in [&istanbul, &ankara] {
            agent.start_again(&crate::failpoints::Failpoints::none()).await?;
        }
        for agent in [&istanbul, &ankara] {
            agent.connected(&operator).await?;
        }
        Ok(Self { world: world.clone(), controller, operator, istanbul, ankara, passphrase })
    }

    /// A folder of one small file at Istanbul, kept as the component `notes` in a folder repository.
    ///
    /// # Errors
    /// As [`TwoSites::files_component`].
    pub async fn notes(&self) -> Result<PathBuf> {
        self.folder_repository().await?;
        let folder = self.world.folder("notes", RunAs::Postgres)?;
        self.world.file("notes/one", "a small file\n", RunAs::Postgres, 0o644)?;
        self.files_component("notes", &folder).await?;
        Ok(folder)
    }

    /// The file with the recovery passphrase.
    #[must_use]
    pub fn passphrase(&self) -> &Path {
        &self.passphrase
    }

    /// Makes a repository `primary` in a folder that both agents see, and declares it.
    ///
    /// # Errors
    /// Where it cannot be made or is refused.
    pub async fn folder_repository(&self) -> Result<PathBuf> {
        self.folder_repository_named("primary").await
    }

    /// The same under another name.
    ///
    /// # Errors
    /// Where it cannot be made or is refused.
    pub async fn folder_repository_named(&self, name: &str) -> Result<PathBuf> {
        let folder = self.world.folder(&format!("repository/{name}"), RunAs::Postgres)?;
        self.world.give_to_postgres(&self.world.path("repository"))?;
        let passphrase = self.passphrase.display().to_string();
        let yaml = self
            .operator
            .says(&["repo", "init", name, "--folder", &folder.display().to_string(), "--passphrase-file", &passphrase])
            .await?;
        // Made by root; the agents own it from here on, as where a system's administrator makes the folder.
        let chown = ["-R", "postgres:postgres", &folder.display().to_string()];
        self.world.run(RunAs::Caller, "/bin/chown", &chown, LONG_ENOUGH).await?.success()?;
        declare(&self.world, &self.operator, "repository", &yaml).await?;
        Ok(folder)
    }

    /// The same in a bucket.
    ///
    /// # Errors
    /// Where it cannot be made or is refused.
    pub async fn bucket_repository(&self, server: &S3) -> Result<()> {
        self.bucket_repository_with_grace(server, "48h").await
    }

    /// The same, where what a prune marked stays for `grace` only.
    ///
    /// # Errors
    /// Where it cannot be made or is refused.
    pub async fn bucket_repository_with_grace(&self, server: &S3, grace: &str) -> Result<()> {
        let passphrase = self.passphrase.display().to_string();
        let arguments = ["repo", "init", "--bucket", server.bucket(), "--endpoint", server.endpoint(), "--region", REGION, "--path-style"];
        let mut arguments = arguments.to_vec();
        arguments.extend(["--passphrase-file", &passphrase, "--grace", grace]);
        let yaml = self.operator.says_with(&arguments, &[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]).await?;
        declare(&self.world, &self.operator, "repository", &yaml).await
    }

    /// Declares resources.
    ///
    /// # Errors
    /// What `muster apply` says.
    pub async fn declare(&self, yaml: &str) -> Result<()> {
        declare(&self.world, &self.operator, "resources", yaml).await
    }

    /// Declares a component with one PostgreSQL instance at Istanbul, gives its agents the key and waits until it is observed.
    ///
    /// # Errors
    /// Where it is refused or does not become fit for a backup.
    pub async fn postgres_component(&self, name: &str, server: &Postgres) -> Result<()> {
        self.postgres_component_in(name, server, "primary").await
    }

    /// The same, kept in a repository of another name.
    ///
    /// # Errors
    /// As [`TwoSites::postgres_component`].
    pub async fn postgres_component_in(&self, name: &str, server: &Postgres, repository: &str) -> Result<()> {
        self.declare_postgres(name, server, repository, "").await?;
        self.grant(name).await?;
        self.fit(name).await
    }

    /// Declares it only, or anew; `more` are lines of its spec besides, each indented by two spaces.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn declare_postgres(&self, name: &str, server: &Postgres, repository: &str, more: &str) -> Result<()> {
        let password = self.world.file(&format!("{}/password", self.istanbul.name()), AGENT_PASSWORD, RunAs::Postgres, 0o600)?;
        self.declare(&format!(
            "kind: Component\nname: {name}\nspec:\n  priority: CRITICAL\n  objectives: {{rto: 30m, rpo: 1h}}\n  repository: {repository}\n{more}  instances:\n  - site: istanbul\n    agent: {}\n    postgres: {{address: '{}', dataDirectory: {}, user: {AGENT_ROLE}, passwordFile: {}, binDirectory: {}, pgCtl: {{}}}}\n",
            self.istanbul.name(),
            server.address(),
            server.data().display(),
            password.display(),
            server.programs().folder().display()
        ))
        .await
    }

    /// Declares a component with an instance at each site, gives the agents the key and waits until both are observed.
    ///
    /// # Errors
    /// As [`TwoSites::postgres_component`].
    pub async fn postgres_pair(&self, name: &str, istanbul: &Postgres, ankara: &Postgres) -> Result<()> {
        self.postgres_pair_with(name, istanbul, ankara, "").await
    }

    /// The same; `more` are lines of its spec besides, each indented by two spaces.
    ///
    /// # Errors
    /// As [`TwoSites::postgres_component`].
    pub async fn postgres_pair_with(&self, name: &str, istanbul: &Postgres, ankara: &Postgres, more: &str) -> Result<()> {
        let instance = |agent: &Agent, server: &Postgres| -> Result<String> {
            let password = self.world.file(&format!("{}/password", agent.name()), AGENT_PASSWORD, RunAs::Postgres, 0o600)?;
            Ok(format!(
                "  - site: {}\n    agent: {}\n    postgres: {{address: '{}', dataDirectory: {}, user: {AGENT_ROLE}, passwordFile: {}, binDirectory: {}, pgCtl: {{}}}}\n",
                agent.site(),
                agent.name(),
                server.address(),
                server.data().display(),
                password.display(),
                server.programs().folder().display()
            ))
        };
        let instances = instance(&self.istanbul, istanbul)? + &instance(&self.ankara, ankara)?;
        self.declare(&format!(
            "kind: Component\nname: {name}\nspec:\n  priority: CRITICAL\n  objectives: {{rto: 30m, rpo: 1h}}\n  repository: primary\n{more}  instances:\n{instances}"
        ))
        .await?;
        self.grant(name).await?;
        self.fit(name).await
    }

    /// The same for a folder of files at Istanbul.
    ///
    /// # Errors
    /// As [`TwoSites::postgres_component`].
    pub async fn files_component(&self, name: &str, folder: &Path) -> Result<()> {
        self.declare_files(name, folder, "").await?;
        self.grant(name).await?;
        self.fit(name).await
    }

    /// Declares it only, or anew; `more` are lines of its spec besides, each indented by two spaces.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn declare_files(&self, name: &str, folder: &Path, more: &str) -> Result<()> {
        self.declare(&format!(
            "kind: Component\nname: {name}\nspec:\n  repository: primary\n{more}  instances:\n  - site: istanbul\n    agent: {}\n    files: {{path: {}}}\n",
            self.istanbul.name(),
            folder.display()
        ))
        .await
    }

    /// Gives the component's agents the key to its backups.
    ///
    /// # Errors
    /// What `muster repo grant` says.
    pub async fn grant(&self, component: &str) -> Result<()> {
        let passphrase = self.passphrase.display().to_string();
        let secrets = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        self.operator.says_with(&["repo", "grant", component, "--passphrase-file", &passphrase], &secrets).await?;
        let folder = self.world.path("repository");
        if folder.is_dir() {
            let chown = ["-R", "postgres:postgres", &folder.display().to_string()];
            self.world.run(RunAs::Caller, "/bin/chown", &chown, LONG_ENOUGH).await?.success()?;
        }
        Ok(())
    }

    /// Waits until every instance of the component is observed and has no condition that a backup is refused for.
    ///
    /// # Errors
    /// Where that does not come: with the instances that stand against it.
    pub async fn fit(&self, component: &str) -> Result<()> {
        until(&format!("{component} to be fit for a backup"), LONG_ENOUGH, async || self.fit_now(component).await.map(|()| true)).await
    }

    /// Whether that is so now.
    ///
    /// # Errors
    /// Where it is not: with the instances that stand against it.
    pub async fn fit_now(&self, component: &str) -> Result<()> {
        let page = self.operator.reads(&["status", component]).await?;
        let instances = instances(&page, component)?;
        let unfit: Vec<_> = instances.iter().filter(|instance| !is_fit(instance)).cloned().collect();
        if unfit.is_empty() && !instances.is_empty() { Ok(()) } else { bail!("{component} is not fit: {}", Value::from(unfit)) }
    }

    /// Ids of the component's recovery points.
    ///
    /// # Errors
    /// What `muster points` says.
    pub async fn points(&self, component: &str) -> Result<Vec<String>> {
        let answer = self.operator.reads(&["points", component]).await?;
        Ok(ids(list(&answer, "points")))
    }

    /// Ids of all operations, the newest first.
    ///
    /// # Errors
    /// What `muster ops` says.
    pub async fn operations(&self) -> Result<Vec<Value>> {
        let answer = self.operator.reads(&["ops"]).await?;
        Ok(list(&answer, "operations"))
    }

    /// Waits until an operation has ended, and gives its last state.
    ///
    /// # Errors
    /// Where it has not within `bound`.
    pub async fn ended(&self, operation: &str, bound: Duration) -> Result<Value> {
        eventually(&format!("operation {operation} to end"), bound, async || {
            let found = self.operations().await?.into_iter().find(|found| found.get("id").and_then(Value::as_str) == Some(operation));
            let found = found.ok_or_else(|| anyhow!("there is no operation {operation}"))?;
            Ok(found.get("finishedAt").is_some().then_some(found))
        })
        .await
    }
}

async fn declare(world: &World, operator: &Operator, name: &str, yaml: &str) -> Result<()> {
    let file = world.file(&format!("{name}.yaml"), yaml, RunAs::Caller, 0o644)?;
    operator.says(&["apply", "-f", &file.display().to_string()]).await.with_context(|| format!("apply {yaml}"))?;
    Ok(())
}

/// A list in an answer: the answer itself, or its field.
fn list(answer: &Value, field: &str) -> Vec<Value> {
    answer.as_array().or_else(|| answer.get(field)?.as_array()).cloned().unwrap_or_default()
}

fn ids(entries: Vec<Value>) -> Vec<String> {
    entries.iter().filter_map(|entry| Some(entry.get("id")?.as_str()?.to_owned())).collect()
}

fn instances(page: &Value, component: &str) -> Result<Vec<Value>> {
    let page = page.get("page").unwrap_or(page);
    let found = list(page, "components").into_iter().find(|found| found.get("name").and_then(Value::as_str) == Some(component));
    let found = found.ok_or_else(|| anyhow!("the status does not show {component}"))?;
    Ok(list(&found, "instances"))
}

/// Observed as a whole, and nothing that blocks a backup stands against it.
fn is_fit(instance: &Value) -> bool {
    let observation = instance.get("observation");
    let conditions = observation.map(|observation| list(observation, "conditions")).unwrap_or_default();
    // A field of a message that has its default value is left out of JSON.
    let blocks =
        |condition: &Value| condition.get("blocking") == Some(&Value::Bool(true)) && condition.get("ok") != Some(&Value::Bool(true));
    let blocked = conditions.iter().chain(&list(instance, "conditions")).any(blocks);
    observation.is_some() && !conditions.is_empty() && !blocked
}
