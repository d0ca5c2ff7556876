//! Configuration: one YAML file, and environment variables over it, read into one typed value before anything is opened.
//!
//! A variable names a field by its path: with the prefix `MUSTER_AGENT__`, `MUSTER_AGENT__STATE_DIRECTORY=/srv` is the field
//! `state_directory` and `MUSTER_AGENT__LIMITS__TASKS=2` is `limits: {tasks: 2}`; a value is read as YAML. Keys are
//! snake_case, or what the file spells otherwise (`stateDirectory`). Types should `deny_unknown_fields`, so that a wrong key is told with file, line, column and what was expected.
//!
//! The text of the file is never shown in an error: it may hold a secret.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::files;

/// The longest configuration file, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    Unreadable(#[from] files::FileError),
    /// The file is not what was expected.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 where the whole file is meant.
        line: u64,
        /// Counted from 1; 0 where the whole file is meant.
        column: u64,
        /// What was found and what was expected.
        message: String,
    },
    /// The file is good alone, and not with what the environment adds.
    #[error("environment variables {}: {message}", variables.join(", "))]
    Environment {
        /// The variables that were taken into account.
        variables: Vec<String>,
        /// What was found and what was expected.
        message: String,
    },
}

/// Reads the file, if one is named, and this process's environment variables that start with `prefix` (which ends in `__`).
///
/// # Errors
/// Where the file cannot be read, or the whole is not what `T` expects.
pub fn load<T: DeserializeOwned>(path: Option<&Path>, prefix: &str) -> Result<T, ConfigError> {
    // A variable that is no UTF-8 cannot be one of ours.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_with(path, prefix, variables)
}

/// The same with the environment handed in.
///
/// # Errors
/// As [`load`].
pub fn load_with<T: DeserializeOwned>(
    path: Option<&Path>,
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let text = match path {
        Some(path) => files::read_text(path, MAX_BYTES)?,
        None => String::new(),
    };
    let path = path.unwrap_or(Path::new("(no file)"));
    let mut variables: Vec<(String, String)> = variables.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect();
    variables.sort();
    let alone = parse::<T>(path, or_empty(&text));
    if variables.is_empty() {
        return alone;
    }
    let mut whole: Value = parse(path, or_empty(&text))?;
    for (name, value) in &variables {
        set(&mut whole, name.strip_prefix(prefix).unwrap_or(name), value).map_err(|message| environment(&variables, message))?;
    }
    match (T::deserialize(whole), alone) {
        (Ok(config), _) => Ok(config),
        // What is wrong in the file itself is told with its position, except what the environment may be meant to bring.
        (Err(_), Err(alone)) if !alone.to_string().contains("missing field") => Err(alone),
        (Err(error), _) => Err(environment(&variables, error.to_string())),
    }
}

/// Parses a YAML text; `path` is for the error only.
///
/// # Errors
/// With line, column and what was expected.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location();
        ConfigError::Invalid {
            path: path.to_owned(),
            line: at.map_or(0, |at| at.line()),
            column: at.map_or(0, |at| at.column()),
            message: plain(&error.without_snippet().to_string()),
        }
    })
}

fn environment(variables: &[(String, String)], message: String) -> ConfigError {
    ConfigError::Environment { variables: variables.iter().map(|(name, _)| name.clone()).collect(), message }
}

/// An empty file is an empty mapping, not null.
fn or_empty(text: &str) -> &str {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments { "{}" } else { text }
}

/// The message without what stands in front of it already, and without what only programmers can do.
fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.rsplit_once(" at line ").map_or(line, |(before, _)| before);
    line.replace(", set DuplicateKeyPolicy in Options if acceptable", "")
}

/// Whether `STATE_DIRECTORY` names the field `state_directory` or `stateDirectory` of the file.
fn is_same(key: &str, segment: &str) -> bool {
    let letters = |text: &str| text.replace('_', "").to_ascii_lowercase();
    letters(key) == letters(segment)
}

fn set(whole: &mut Value, field_path: &str, text: &str) -> Result<(), String> {
    let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut at = whole;
    for segment in field_path.split("__") {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else {
            return Err(format!("{field_path} goes through a field that is no mapping"));
        };
        let key = fields.keys().find(|key| is_same(key, segment)).cloned().unwrap_or_else(|| segment.to_ascii_lowercase());
        at = fields.entry(key).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        data_directory: PathBuf,
        #[serde(default)]
        limits: Limits,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        tasks: u32,
        stall_after: String,
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_file_alone_is_read() {
        let (_folder, path) = file("data_directory: /srv\nlimits:\n  tasks: 3\n");
        let config: Config = load_with(Some(&path), "M__", env(&[("OTHER", "x")])).unwrap();
        assert_eq!(config.data_directory, Path::new("/srv"));
        assert_eq!(config.limits.tasks, 3);
    }

    #[test]
    fn an_unknown_field_is_told_with_file_line_column_and_what_was_expected() {
        let (_folder, path) = file("data_directory: /srv\nlimits:\n  taks: 3\n");
        let error = load_with::<Config>(Some(&path), "M__", env(&[])).unwrap_err().to_string();
        assert!(error.contains("agent.yaml:3:3: "), "{error}");
        assert!(error.contains("taks") && error.contains("tasks") && error.contains("stall_after"), "{error}");
        let with_variables = load_with::<Config>(Some(&path), "M__", env(&[("M__LIMITS__TASKS", "4")])).unwrap_err().to_string();
        assert!(with_variables.contains("agent.yaml:3:3: "), "{with_variables}");
    }

    #[test]
    fn an_error_is_told_in_one_plain_line() {
        for (text, told) in [
            ("taks: 3\n", "c.yaml:1:1: unknown field `taks`, expected one of tasks, stall_after"),
            ("tasks: 3\ntasks: 4\n", "c.yaml:2:1: duplicate mapping key: tasks"),
            ("tasks: -3\n", "c.yaml:1:8: invalid u32"),
        ] {
            assert_eq!(parse::<Limits>(Path::new("c.yaml"), text).unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn a_wrong_type_and_broken_yaml_are_told_with_their_place_and_without_the_text() {
        for (text, place) in [("data_directory: /srv\nlimits: {tasks: hunter2}\n", ":2:"), ("data_directory: [hunter2\n", ":")] {
            let (_folder, path) = file(text);
            let error = load_with::<Config>(Some(&path), "M__", env(&[])).unwrap_err().to_string();
            assert!(error.contains(&format!("agent.yaml{place}")), "{error}");
            assert!(!error.contains("data_directory: "), "{error}");
        }
    }

    #[test]
    fn variables_go_over_the_file_and_may_bring_what_is_required() {
        let (_folder, path) = file("# nothing yet\n");
        let variables = env(&[("M__DATA_DIRECTORY", "/var/x"), ("M__LIMITS__TASKS", "7"), ("M__LIMITS__STALL_AFTER", "30m")]);
        let config: Config = load_with(Some(&path), "M__", variables).unwrap();
        assert_eq!(config, Config { data_directory: "/var/x".into(), limits: Limits { tasks: 7, stall_after: "30m".into() } });
    }

    #[test]
    fn a_variable_replaces_the_field_that_the_file_spells_otherwise() {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Spelt {
            #[serde(alias = "state_directory")]
            state_directory: PathBuf,
        }
        let (_folder, path) = file("stateDirectory: /srv\n");
        let read: Spelt = load_with(Some(&path), "M__", env(&[("M__STATE_DIRECTORY", "/var")])).unwrap();
        assert_eq!(read.state_directory, Path::new("/var"));
    }

    #[test]
    fn a_variable_that_names_no_field_is_refused_by_name() {
        let error = load_with::<Config>(None, "M__", env(&[("M__DATA_DIRECTORY", "/x"), ("M__LIMTS", "1")])).unwrap_err().to_string();
        assert!(error.contains("M__LIMTS") && error.contains("limts"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = load_with::<Config>(Some(Path::new("/nowhere/agent.yaml")), "M__", env(&[])).unwrap_err().to_string();
        assert!(error.contains("/nowhere/agent.yaml"), "{error}");
    }
}
