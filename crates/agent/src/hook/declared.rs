//! Hooks as the agent's file declares them, judged with the file as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use muster_common::duration;
use muster_common::name::Name;
use serde::{Deserialize, Deserializer};

/// How many hooks one agent declares at most.
const MAX_HOOKS: usize = 100;
/// How many arguments one has at most, and how long all of them may be.
const MAX_ARGUMENTS: usize = 100;
const MAX_BYTES: usize = 32 << 10;
/// The shortest and the longest timeout.
const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));

/// All of them, by name.
pub type Declared = BTreeMap<Name, Hook>;

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// The program, an absolute path. It is run as it is: there is no shell.
    pub program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// It is killed, with all that it started, when it takes longer; 1 s to 7 days.
    #[serde(default = "one_minute", deserialize_with = "span")]
    pub timeout: Duration,
    /// The user that it runs as, by name; needs an agent that is root. Absent: the agent's own.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether it may be run again where nobody knows how a run of it ended.
    #[serde(default)]
    pub idempotent: bool,
    /// What a failure of it does.
    #[serde(default, alias = "on_failure")]
    pub on_failure: OnFailure,
}

/// What a failure of a hook does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// Before a verb it refuses the verb; after it, and by itself, it fails the operation.
    #[default]
    Fail,
    /// It is told, and changes nothing.
    Continue,
}

/// What is wrong with what was declared. `None`: nothing.
#[must_use]
pub fn judge(hooks: &Declared) -> Option<String> {
    if hooks.len() > MAX_HOOKS {
        return Some(format!("{} are declared, {MAX_HOOKS} is the bound", hooks.len()));
    }
    hooks.iter().find_map(|(name, hook)| Some(format!("{name}: {}", judge_one(hook)?)))
}

fn judge_one(hook: &Hook) -> Option<String> {
    let climbs = hook.program.components().any(|part| matches!(part, std::path::Component::ParentDir));
    if !hook.program.is_absolute() || climbs {
        return Some(format!("program {}: expected an absolute path without `..`", hook.program.display()));
    }
    let bytes: usize = hook.arguments.iter().map(String::len).sum();
    if hook.arguments.len() > MAX_ARGUMENTS || bytes > MAX_BYTES {
        return Some(format!("{} arguments of {bytes} bytes; {MAX_ARGUMENTS} of {MAX_BYTES} bytes are the bound", hook.arguments.len()));
    }
    if hook.arguments.iter().any(|argument| argument.contains('\0')) {
        return Some("an argument holds a zero byte".to_owned());
    }
    let (least, most) = TIMEOUTS;
    if !(least..=most).contains(&hook.timeout) {
        let (least, most) = (duration::show(least), duration::show(most));
        return Some(format!("timeout {}: expected {least} to {most}", duration::show(hook.timeout)));
    }
    None
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
