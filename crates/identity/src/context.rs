//! Where an operator's command finds its controller and its certificate: named contexts in one file of mode 0600, as kubectl has them.
//!
//! `muster operator add`, `muster-controller admin-cert` and `dev` make a file with one context; importing puts it into the operator's own.

use std::fmt;
use std::path::{Path, PathBuf};

use muster_common::name::Name;
use muster_service::config::{self, ConfigError};
use muster_service::files::{self, FileError};
use serde::{Deserialize, Serialize};

use crate::credentials::{Credentials, CredentialsError};
use crate::endpoint::Endpoint;
use crate::identity::Identity;
use crate::key::{KEY_MODE, KeyPair};

/// The format's version.
const VERSION: u32 = 1;

/// All contexts of an operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// The format: 1.
    pub version: u32,
    /// The one that is used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Name>,
    /// In the order in which they were imported; names are unique.
    pub contexts: Vec<OperatorContext>,
}

/// One controller, as one operator.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorContext {
    /// What the operator calls it.
    pub name: Name,
    /// Where the controllers are; tried in turn.
    pub endpoints: Vec<Endpoint>,
    /// The CA, PEM.
    pub authority: String,
    /// The operator's certificate, PEM.
    pub certificate: String,
    /// The operator's key, PEM.
    pub key: String,
}

/// What a context file could not do.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no context file.
    #[error(transparent)]
    Content(#[from] ConfigError),
    /// Others than its owner may read it.
    #[error("{} has mode {mode:03o}: others may read the keys in it. HINT: chmod 600 {}", path.display(), path.display())]
    Readable {
        /// The file.
        path: std::path::PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Made by a newer build.
    #[error("context file of version {0}; this build reads version {VERSION}. HINT: upgrade muster")]
    Version(u32),
    /// Two contexts share a name.
    #[error("context {0} is there twice. HINT: give one another name in its file")]
    Twice(Name),
    /// No such context.
    #[error("no context {name}; there {}", listed(known))]
    Unknown {
        /// What was named.
        name: Name,
        /// What there is.
        known: Vec<Name>,
    },
    /// None is named and none is current.
    #[error("no context is current. HINT: `muster context import FILE`, then `muster context use NAME`")]
    NoneCurrent,
    /// Its certificate, key or CA.
    #[error("context {name}: {source}")]
    Credentials {
        /// Which.
        name: Name,
        /// What is wrong.
        #[source]
        source: CredentialsError,
    },
    /// It cannot be written as YAML.
    #[error("write contexts: {0}")]
    Encode(String),
}

fn listed(names: &[Name]) -> String {
    if names.is_empty() { "is none".to_owned() } else { format!("are {}", names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")) }
}

impl Default for Contexts {
    fn default() -> Self {
        Self { version: VERSION, current: None, contexts: Vec::new() }
    }
}

impl Contexts {
    /// A file with one context, which is current: what `operator add` hands out.
    #[must_use]
    pub fn single(context: OperatorContext) -> Self {
        Self { version: VERSION, current: Some(context.name.clone()), contexts: vec![context] }
    }

    /// Reads a file; one that is missing has no contexts.
    ///
    /// # Errors
    /// Where it cannot be read, others may read it, or it is something else.
    pub fn load(path: &Path) -> Result<Self, ContextError> {
        use std::os::unix::fs::PermissionsExt;
        let text = match files::read_text(path, config::MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let metadata = std::fs::metadata(path).map_err(|source| FileError { act: "look at", path: path.to_owned(), source })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ContextError::Readable { path: path.to_owned(), mode });
        }
        let contexts: Self = config::parse(path, &text)?;
        contexts.checked()
    }

    fn checked(self) -> Result<Self, ContextError> {
        if self.version != VERSION {
            return Err(ContextError::Version(self.version));
        }
        for (n, context) in self.contexts.iter().enumerate() {
            if self.contexts.iter().take(n).any(|other| other.name == context.name) {
                return Err(ContextError::Twice(context.name.clone()));
            }
        }
        Ok(self)
    }

    /// Writes the file whole, mode 0600, its folder made where it is missing (0700).
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn store(&self, path: &Path) -> Result<(), ContextError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            files::create_private_folder(folder)?;
        }
        let text = serde_saphyr::to_string(self).map_err(|error| ContextError::Encode(error.to_string()))?;
        Ok(files::write_atomically(path, text.as_bytes(), KEY_MODE)?)
    }

    /// Takes the contexts of another file in, makes its current one current, and gives the names under which they are now there.
    ///
    /// One of the same name is replaced where it is the same operator under the same CA (a new certificate). Where it is another, the one
    /// that comes in is called `<name>-<operator>`, with a number behind it if need be: no key is lost by an import.
    ///
    /// # Errors
    /// Where a context that comes in has a broken certificate; then nothing is taken in.
    pub fn import(&mut self, other: Self) -> Result<Vec<Name>, ContextError> {
        let mut merged = self.clone();
        let mut names = Vec::new();
        for mut context in other.contexts {
            let was_current = other.current.as_ref() == Some(&context.name);
            context.name = merged.name_for(&context)?;
            names.push(context.name.clone());
            if was_current || other.current.is_none() && names.len() == 1 {
                merged.current = Some(context.name.clone());
            }
            merged.replace(context);
        }
        *self = merged;
        Ok(names)
    }

    /// Puts a context under its name, whatever was there, and makes it current.
    pub fn put(&mut self, context: OperatorContext) {
        self.current = Some(context.name.clone());
        self.replace(context);
    }

    fn replace(&mut self, context: OperatorContext) {
        match self.contexts.iter_mut().find(|mine| mine.name == context.name) {
            Some(mine) => *mine = context,
            None => self.contexts.push(context),
        }
    }

    fn name_for(&self, context: &OperatorContext) -> Result<Name, ContextError> {
        let credentials = context.credentials()?;
        let same = |mine: &OperatorContext| {
            mine.credentials().is_ok_and(|mine| {
                let shared = mine.trusted().fingerprints().iter().any(|print| credentials.trusted().contains(print));
                shared && mine.own().identity == credentials.own().identity
            })
        };
        let free = |name: &Name| self.contexts.iter().find(|mine| mine.name == *name).is_none_or(same);
        if free(&context.name) {
            return Ok(context.name.clone());
        }
        let operator = match &credentials.own().identity {
            Identity::Operator { name } | Identity::Agent { agent: name, .. } => name.as_str(),
            Identity::Controller => "controller",
        };
        let numbered = (1_u32..).map(|n| match n {
            1 => format!("{}-{operator}", context.name),
            _ => format!("{}-{operator}-{n}", context.name),
        });
        // A name that got too long is none: then no number helps.
        let mut names = numbered.map_while(|text| text.parse().ok());
        names.find(free).ok_or_else(|| ContextError::Twice(context.name.clone()))
    }

    /// The named one, or the current one.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find(&self, name: Option<&Name>) -> Result<&OperatorContext, ContextError> {
        let name = name.or(self.current.as_ref()).ok_or(ContextError::NoneCurrent)?;
        self.contexts.iter().find(|context| context.name == *name).ok_or_else(|| self.unknown(name))
    }

    /// Makes one current.
    ///
    /// # Errors
    /// Where it does not exist.
    pub fn use_context(&mut self, name: &Name) -> Result<(), ContextError> {
        self.find(Some(name))?;
        self.current = Some(name.clone());
        Ok(())
    }

    /// Takes one out; if it was current, none is.
    ///
    /// # Errors
    /// Where it does not exist.
    pub fn remove(&mut self, name: &Name) -> Result<(), ContextError> {
        self.find(Some(name))?;
        self.contexts.retain(|context| context.name != *name);
        self.current = self.current.take().filter(|current| current != name);
        Ok(())
    }

    fn unknown(&self, name: &Name) -> ContextError {
        ContextError::Unknown { name: name.clone(), known: self.contexts.iter().map(|context| context.name.clone()).collect() }
    }
}

/// Where an operator's own file is: `$MUSTER_CONTEXT_FILE`, else `muster/contexts.yaml` in `$XDG_CONFIG_HOME` or `~/.config`. `None` where
/// the environment names neither a file nor a home. `variable` reads the environment.
pub fn default_path(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MUSTER_CONTEXT_FILE").or_else(|| {
        let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        folder.map(|folder| folder.join("muster").join("contexts.yaml"))
    })
}

impl OperatorContext {
    /// Its key, certificate and CA, checked to belong together.
    ///
    /// # Errors
    /// Where they do not.
    pub fn credentials(&self) -> Result<Credentials, ContextError> {
        let wrong = |source| ContextError::Credentials { name: self.name.clone(), source };
        let key = KeyPair::from_pem(&self.key, "the context's key").map_err(|error| wrong(error.into()))?;
        Credentials::from_pem(&self.authority, &self.certificate, key).map_err(wrong)
    }
}

impl fmt::Debug for OperatorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorContext({}, {:?})", self.name, self.endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_by_the_environment_or_lies_in_the_home() {
        let path = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            default_path(found).map(|path| path.display().to_string())
        };
        assert_eq!(path(&[("HOME", "/users/ada")]).as_deref(), Some("/users/ada/.config/muster/contexts.yaml"));
        assert_eq!(path(&[("HOME", "/users/ada"), ("XDG_CONFIG_HOME", "/c")]).as_deref(), Some("/c/muster/contexts.yaml"));
        assert_eq!(path(&[("HOME", "/users/ada"), ("MUSTER_CONTEXT_FILE", "/a.yaml")]).as_deref(), Some("/a.yaml"));
        assert_eq!(path(&[("HOME", "")]), None);
    }
}
