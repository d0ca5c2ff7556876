//! The hooks of this agent: what it declares, and what of that a component or a command names in vain.

use std::path::PathBuf;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_engine::observation::Condition;
use serde::{Deserialize, Serialize};

use crate::hook::declared::Declared;
use crate::hook::rights;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// The agent's name, for texts.
    pub agent: String,
    /// What its file declares.
    pub declared: Declared,
    /// Where runs are kept: a folder for each command.
    pub folder: PathBuf,
    /// `muster-agent`.
    pub program: PathBuf,
}

/// The hooks of a command, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// Before the verb.
    pub before: Vec<Name>,
    /// After it.
    pub after: Vec<Name>,
}

impl Around {
    /// Whether there are none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.before.iter().chain(&self.after)
    }
}

/// The hooks that a component names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Around backups and dumps.
    pub backup: Around,
    /// Around restores.
    pub restore: Around,
    /// Around verifications.
    pub verify: Around,
}

impl Hooks {
    /// Refuses hooks that are not declared here or may not be run.
    ///
    /// # Errors
    /// With the first of them.
    pub fn require<'a>(&self, names: impl IntoIterator<Item = &'a Name>) -> Result<(), Fault> {
        names.into_iter().try_for_each(|name| self.require_one(name))
    }

    fn require_one(&self, name: &Name) -> Result<(), Fault> {
        let hook = self.declared.get(name).ok_or_else(|| self.unknown(name))?;
        rights::judge(hook).map(drop).map_err(|why| {
            Fault::refused(ErrorKind::FailedPrecondition, format!("hook {name} of agent {}: {why}", self.agent))
                .hint("correct it on the agent's machine; it is looked at again each time")
        })
    }

    /// That there is no such hook.
    #[must_use]
    pub fn unknown(&self, name: &Name) -> Fault {
        let declared: Vec<&str> = self.declared.keys().map(Name::as_str).collect();
        let has = if declared.is_empty() { "it declares none".to_owned() } else { format!("it declares: {}", declared.join(", ")) };
        Fault::refused(ErrorKind::FailedPrecondition, format!("agent {} has no hook named {name}", self.agent)).evidence(has).hint(format!(
            "declare it under `hooks:` in the agent's configuration file and restart the agent, or name another one than {name}"
        ))
    }

    /// What is wrong with the hooks that a component names, a condition for each verb that has any. Blocks for the disk.
    #[must_use]
    pub fn conditions(&self, named: &Named) -> Vec<Condition> {
        let verbs = [("BackupHooks", &named.backup), ("RestoreHooks", &named.restore), ("VerifyHooks", &named.verify)];
        let with_hooks = verbs.into_iter().filter(|(_, around)| !around.is_none());
        with_hooks.map(|(name, around)| condition(name, self.require(around.names()))).collect()
    }
}

fn condition(name: &str, required: Result<(), Fault>) -> Condition {
    let (ok, message, hint) = match required {
        Ok(()) => (true, "its hooks are declared and may be run".to_owned(), String::new()),
        Err(fault) => {
            let seen = fault.evidence.first().map(|seen| format!(" ({seen})")).unwrap_or_default();
            (false, format!("{}{seen}", fault.message), fault.hint)
        }
    };
    Condition { name: name.to_owned(), ok, blocking: true, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_is_not_declared_is_a_condition_of_its_verb_alone() {
        let hooks = Hooks { agent: "istanbul-db1".into(), ..Hooks::default() };
        let named = Named { backup: Around { before: vec!["freeze-app".parse().unwrap()], after: Vec::new() }, ..Named::default() };
        let conditions = hooks.conditions(&named);
        assert_eq!(conditions.len(), 1);
        assert_eq!((conditions[0].name.as_str(), conditions[0].ok), ("BackupHooks", false));
        assert_eq!(conditions[0].message, "agent istanbul-db1 has no hook named freeze-app (it declares none)");
    }
}
