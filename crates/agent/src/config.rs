//! The agent's one YAML file, judged as a whole before anything is opened.
//!
//! Keys may be written `stateDirectory` or `state_directory`. Secrets are never in it: the token stands in a file of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_common::duration;
use muster_service::config::{self, ConfigError};
use muster_service::telemetry::LogFormat;
use serde::{Deserialize, Deserializer};

use crate::hook::declared::{self, Declared};

/// What environment variables that set fields begin with.
pub const ENVIRONMENT: &str = "MUSTER_AGENT__";

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where identity, assignment and inbox are kept. Made where it is absent; readable by its owner alone.
    #[serde(alias = "state_directory")]
    pub state_directory: PathBuf,
    /// Where sockets and permits go. Absent: `run` in the state directory.
    #[serde(default, alias = "run_directory")]
    pub run_directory: Option<PathBuf>,
    /// The template of a systemd unit that PostgreSQL servers are started in: `muster-postgres@`. Absent: a session of their own.
    #[serde(default, alias = "server_unit")]
    pub server_unit: Option<String>,
    /// host:port of the controllers, dialled in turn. Empty: those that the token names.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// The join token's file; read once, at the first start.
    #[serde(default, alias = "token_file")]
    pub token_file: Option<PathBuf>,
    /// The file with the machine's id. Absent: /etc/machine-id.
    #[serde(default, alias = "machine_id_file")]
    pub machine_id_file: Option<PathBuf>,
    /// The file with the boot's id. Absent: /proc/sys/kernel/random/boot_id.
    #[serde(default, alias = "boot_id_file")]
    pub boot_id_file: Option<PathBuf>,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// How many tasks run at once, 1 to 64.
    #[serde(default = "two", alias = "parallel_tasks")]
    pub parallel_tasks: usize,
    /// How many threads a task keeps busy, 1 to 256. Absent: the machine's processors, 8 at most.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Where tasks put what they need for a while, and caches. Absent: `scratch` in the state directory.
    #[serde(default, alias = "scratch_directory")]
    pub scratch_directory: Option<PathBuf>,
    /// How many bytes may lie there before no new task starts; a number, or for example `20GiB`.
    #[serde(default = "scratch_limit", alias = "scratch_limit", deserialize_with = "bytes")]
    pub scratch_limit: u64,
    /// How many commands may stand in the inbox, those included that have ended and are not acknowledged: 10 to 100,000.
    #[serde(default = "thousand")]
    pub inbox: usize,
    /// How long it is remembered what was done; an older command is refused. At least 1 day.
    #[serde(default = "thirty_days", deserialize_with = "span")]
    pub tombstones: Duration,
    /// How many commands are remembered at most, 1,000 to 10,000,000; the oldest day is forgotten early where there are more.
    #[serde(default = "two_hundred_thousand", alias = "most_tombstones")]
    pub most_tombstones: usize,
    /// host:port of `/metrics` and `/healthz`. Absent: not served.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// host:port where load balancers ask who takes writes. Absent: not served.
    #[serde(default, alias = "load_balancers")]
    pub load_balancers: Option<SocketAddr>,
    /// Programs that may be run before and after verbs, and by themselves, by name; 100 at most.
    #[serde(default)]
    pub hooks: Declared,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// For example `info` or `info,muster_agent=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum RefusedConfig {
    /// The file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A value.
    #[error("{}: {field}: {why}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong, and what was expected.
        why: String,
    },
}

impl Config {
    /// Reads and judges the file, with the environment over it.
    ///
    /// # Errors
    /// With file, line, column and what was expected.
    pub fn load(path: &Path) -> Result<Self, RefusedConfig> {
        let config: Self = config::load(Some(path), ENVIRONMENT)?;
        config.judge().map_err(|(field, why)| RefusedConfig::Value { path: path.to_owned(), field, why })?;
        Ok(config)
    }

    /// Where sockets and permits go.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.run_directory.clone().unwrap_or_else(|| self.state_directory.join("run"))
    }

    /// Where the machine's id is read.
    #[must_use]
    pub fn machine_id_file(&self) -> PathBuf {
        self.machine_id_file.clone().unwrap_or_else(|| PathBuf::from("/etc/machine-id"))
    }

    /// Where the boot's id is read.
    #[must_use]
    pub fn boot_id_file(&self) -> PathBuf {
        self.boot_id_file.clone().unwrap_or_else(|| PathBuf::from("/proc/sys/kernel/random/boot_id"))
    }

    /// Where scratch goes.
    #[must_use]
    pub fn scratch_directory(&self) -> PathBuf {
        self.scratch_directory.clone().unwrap_or_else(|| self.state_directory.join("scratch"))
    }

    /// How many threads a task keeps busy.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(8))
    }

    fn judge(&self) -> Result<(), (&'static str, String)> {
        let folders = [
            ("stateDirectory", Some(&self.state_directory)),
            ("runDirectory", self.run_directory.as_ref()),
            ("scratchDirectory", self.scratch_directory.as_ref()),
            ("machineIdFile", self.machine_id_file.as_ref()),
            ("bootIdFile", self.boot_id_file.as_ref()),
        ];
        for (field, folder) in folders {
            if folder.is_some_and(|folder| !folder.is_absolute()) {
                return Err((field, "expected an absolute path".to_owned()));
            }
        }
        for controller in &self.controllers {
            let port = controller.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                return Err(("controllers", format!("{controller:?} is no host:port")));
            }
        }
        let is_template = |unit: &String| {
            let stem = unit.strip_suffix('@').unwrap_or_default();
            !stem.is_empty() && unit.len() <= 64 && stem.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if let Some(unit) = self.server_unit.as_ref().filter(|unit| !is_template(unit)) {
            return Err(("serverUnit", format!("{unit:?} is no template's name, as muster-postgres@ is")));
        }
        if self.controllers.len() > 16 {
            return Err(("controllers", format!("{} are given, 16 is the bound", self.controllers.len())));
        }
        if !(1..=64).contains(&self.parallel_tasks) {
            return Err(("parallelTasks", format!("{} is not between 1 and 64", self.parallel_tasks)));
        }
        if self.threads.is_some_and(|threads| !(1..=256).contains(&threads)) {
            return Err(("threads", "expected 1 to 256".to_owned()));
        }
        if !(10..=100_000).contains(&self.inbox) {
            return Err(("inbox", format!("{} is not between 10 and 100000", self.inbox)));
        }
        if !(1_000..=10_000_000).contains(&self.most_tombstones) {
            return Err(("mostTombstones", format!("{} is not between 1000 and 10000000", self.most_tombstones)));
        }
        if let Some(why) = declared::judge(&self.hooks) {
            return Err(("hooks", why));
        }
        if self.tombstones < Duration::from_secs(86_400) {
            return Err(("tombstones", format!("{} is less than 1d", duration::show(self.tombstones))));
        }
        Ok(())
    }
}

fn two() -> usize {
    2
}

fn scratch_limit() -> u64 {
    64 << 30
}

fn thousand() -> usize {
    1_000
}

fn two_hundred_thousand() -> usize {
    200_000
}

fn thirty_days() -> Duration {
    Duration::from_secs(30 * 86_400)
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let text = match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(number) => return Ok(number),
        NumberOrText::Text(text) => text,
    };
    let sized = UNITS.iter().find_map(|(unit, bits)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(1 << bits)
    });
    sized.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no size; expected bytes, or for example 512MiB or 20GiB")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, RefusedConfig> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn a_state_directory_is_all_that_is_needed() {
        let config = load("stateDirectory: /var/lib/muster\n").unwrap();
        assert_eq!(config.parallel_tasks, 2);
        assert_eq!(config.tombstones, Duration::from_secs(30 * 86_400));
        assert_eq!((config.inbox, config.most_tombstones), (1_000, 200_000));
        assert_eq!(config.run_directory(), Path::new("/var/lib/muster/run"));
        assert_eq!(config.log, Log::default());
        assert!(config.threads() >= 1);
    }

    #[test]
    fn both_ways_to_write_keys_are_read() {
        let config = load(
            "state_directory: /s\ntoken_file: /t\nparallel_tasks: 3\nscratchLimit: 2GiB\ntombstones: 7d\nmetrics: 127.0.0.1:0\nlog: {level: debug, format: json}\ncontrollers: [c1:7400, '[::1]:7400']\n",
        )
        .unwrap();
        assert_eq!((config.parallel_tasks, config.scratch_limit), (3, 2 << 30));
        assert_eq!(config.tombstones, Duration::from_secs(7 * 86_400));
        assert_eq!(config.log, Log { level: "debug".into(), format: LogFormat::Json });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("stateDirectory: /s\nparalelTasks: 3\n", "agent.yaml:2:1: "),
            ("stateDirectory: s\n", "stateDirectory: expected an absolute path"),
            ("stateDirectory: /s\nparallelTasks: 0\n", "parallelTasks: 0 is not between 1 and 64"),
            ("stateDirectory: /s\ncontrollers: [nowhere]\n", "\"nowhere\" is no host:port"),
            ("stateDirectory: /s\ninbox: 9\n", "inbox: 9 is not between 10 and 100000"),
            ("stateDirectory: /s\nmostTombstones: 7\n", "mostTombstones: 7 is not between 1000 and 10000000"),
            ("stateDirectory: /s\ntombstones: 1h\n", "tombstones: 1h is less than 1d"),
            ("stateDirectory: /s\nscratchLimit: much\n", "is no size"),
            ("parallelTasks: 1\n", "stateDirectory"),
            (
                "stateDirectory: /s\nhooks: {freeze: {program: bin/freeze}}\n",
                "hooks: freeze: program bin/freeze: expected an absolute path",
            ),
            ("stateDirectory: /s\nserverUnit: muster-postgres.service\n", "serverUnit: \"muster-postgres.service\" is no template's name"),
            ("stateDirectory: /s\nhooks: {freeze: {program: /a/../b}}\n", "expected an absolute path without `..`"),
            ("stateDirectory: /s\nhooks: {freeze: {program: /f, timeout: 30d}}\n", "timeout 30d: expected 1.0s to 7d"),
            ("stateDirectory: /s\nhooks: {freeze: {program: /f, shell: yes}}\n", "shell"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
