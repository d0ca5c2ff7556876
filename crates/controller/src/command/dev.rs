//! `dev`: everything that a first look needs, made where it is missing; then serves.
//!
//! It is no other controller: the same state folder serves with `run`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_common::name::Name;
use muster_identity::caller::Role;
use muster_identity::context::{Contexts, OperatorContext, default_path};
use muster_service::clock;

use super::{init, operator_file, run};
use crate::ca::folder::{CaFolder, Loaded};
use crate::config::{self, Config, Flags};

/// What `dev` takes.
#[derive(Debug, clap::Args)]
pub struct Dev {
    #[command(flatten)]
    flags: Flags,
    /// What the context of `muster` is called.
    #[arg(long, default_value = "dev")]
    context: Name,
}

impl Dev {
    /// Makes what is missing and serves.
    ///
    /// # Errors
    /// As `run`, and where the context cannot be written.
    pub fn run(self) -> Result<()> {
        let config = config::for_dev(&self.flags, &usual_state_directory()?)?;
        anyhow::ensure!(config.listen.port() != 0, "dev needs a port that stays; HINT: give --listen 127.0.0.1:PORT");
        let folder = CaFolder::of(&config);
        if !folder.exists() {
            init::make(&config)?;
        }
        let authority = folder.load().context("load the CA")?;
        let contexts = default_path(|name| std::env::var_os(name))
            .context("find the place of contexts: neither MUSTER_CONTEXT_FILE nor HOME is set; HINT: export one of them")?;
        write_context(&config, &authority, &self.context, &contexts)?;
        let next = what_next(&config, &self.context, &contexts);
        let flags = Flags { state_directory: Some(config.state_directory.clone()), ..self.flags };
        run::serve(config, flags, move |running| println!("muster-controller serves {}\n{next}", run::addresses(running)))
    }
}

fn usual_state_directory() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    Ok(data.context("find a place for the state; HINT: give --state-directory")?.join("muster").join("dev"))
}

/// Writes the admin's context, unless there is one that still counts.
fn write_context(config: &Config, authority: &Loaded, name: &Name, path: &Path) -> Result<()> {
    let mut contexts = Contexts::load(path).context("read the contexts of muster")?;
    if let Ok(present) = contexts.find(Some(name))
        && present.endpoints == config.endpoints
        && let Ok(credentials) = present.credentials()
        && credentials
            .own()
            .authority
            .is_some_and(|own| [&authority.in_force, authority.signs()].iter().any(|one| one.fingerprint() == own))
        && credentials.trusted().contains(&authority.in_force.fingerprint())
        && !credentials.are_due(clock::now())
    {
        return Ok(());
    }
    let operator: Name = "admin".parse().context("name the admin")?;
    let context = operator_file::make(config, authority.signs(), &operator, Role::Admin, name, config.operator_certificate_life)?;
    contexts.put(OperatorContext { authority: authority.pem(), ..context });
    contexts.store(path).context("write the context of muster")
}

fn what_next(config: &Config, context: &Name, contexts: &Path) -> String {
    format!(
        "state in {}; context {context} in {}\n\nnext, in another terminal:\n  muster status\n  muster apply -f site.yaml\n  \
         muster token create --site SITE --agent AGENT > token",
        config.state_directory.display(),
        contexts.display()
    )
}
