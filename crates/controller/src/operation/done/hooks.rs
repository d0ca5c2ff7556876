//! The hooks of an operation: which it names, and how they ran.

use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_wire::convert::{duration_from_proto, duration_to_proto, name_from_proto};
use muster_wire::proto::v1;
use serde::{Deserialize, Serialize};

/// Runs that are kept of an operation: 20 before, 20 after, and one alone.
const MOST_RUNS: usize = 41;
/// Lines of one run, and characters of a line.
const MOST_LINES: usize = 100;
const MOST_LINE: usize = 500;

/// The hooks before and after a verb, by name, as they were declared when it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// Before it.
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

    /// Out of a component's spec, whose names were checked when it was applied.
    ///
    /// # Errors
    /// Where one is no name all the same.
    pub fn read(before: &[String], after: &[String]) -> Result<Self, Fault> {
        let names = |names: &[String]| names.iter().map(|name| name_from_proto(name, "hooks")).collect::<Result<Vec<_>, Fault>>();
        Ok(Self { before: names(before)?, after: names(after)? })
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

impl Named {
    /// Out of a component's spec.
    ///
    /// # Errors
    /// As [`Around::read`].
    pub fn read(hooks: Option<&v1::ComponentHooks>) -> Result<Self, Fault> {
        let Some(hooks) = hooks else { return Ok(Self::default()) };
        Ok(Self {
            backup: Around::read(&hooks.before_backup, &hooks.after_backup)?,
            restore: Around::read(&hooks.before_restore, &hooks.after_restore)?,
            verify: Around::read(&hooks.before_verify, &hooks.after_verify)?,
        })
    }
}

/// When a hook ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the verb.
    Before,
    /// After it.
    After,
    /// By itself.
    Alone,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With exit code 0.
    Succeeded,
    /// Otherwise.
    Failed,
    /// Somebody asked it to stop.
    Stopped,
    /// Nobody knows.
    Unknown,
}

/// One run. See `muster.v1.HookRun`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The hook.
    pub hook: String,
    /// When it ran.
    pub moment: Moment,
    /// How it ended.
    pub end: End,
    /// Its exit code. 0 where it has none.
    pub code: i32,
    /// How it ended, in words.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The last lines of what it said.
    pub output: Vec<String>,
    /// The agent's file lets a failure pass.
    pub failure_passes: bool,
}

impl Ran {
    /// Whether the operation has failed by this run although its verb was done.
    #[must_use]
    pub const fn spoils(&self) -> bool {
        match (self.moment, self.end) {
            (Moment::After, End::Failed | End::Stopped | End::Unknown) => !self.failure_passes,
            (Moment::After, End::Succeeded) | (Moment::Before | Moment::Alone, _) => false,
        }
    }

    /// What happened, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let moment = match self.moment {
            Moment::Before => " before it",
            Moment::After => " after it",
            Moment::Alone => "",
        };
        let took = muster_common::duration::show(Duration::from_millis(self.took_ms));
        match self.end {
            End::Succeeded => format!("hook {}{moment} has succeeded in {took}", self.hook),
            End::Failed | End::Stopped | End::Unknown => {
                let passes = if self.failure_passes { "; its declaration lets that pass" } else { "" };
                format!("hook {}{moment} has not succeeded: {}{passes}", self.hook, self.detail)
            }
        }
    }

    /// As it is shown.
    #[must_use]
    pub fn to_proto(&self) -> v1::HookRun {
        let moment = match self.moment {
            Moment::Before => v1::HookMoment::Before,
            Moment::After => v1::HookMoment::After,
            Moment::Alone => v1::HookMoment::Alone,
        };
        let end = match self.end {
            End::Succeeded => v1::HookEnd::Succeeded,
            End::Failed => v1::HookEnd::Failed,
            End::Stopped => v1::HookEnd::Stopped,
            End::Unknown => v1::HookEnd::Unknown,
        };
        v1::HookRun {
            hook: self.hook.clone(),
            moment: moment.into(),
            end: end.into(),
            exit_code: self.code,
            detail: self.detail.clone(),
            took: Some(duration_to_proto(Duration::from_millis(self.took_ms))),
            output: self.output.clone(),
            failure_passes: self.failure_passes,
        }
    }
}

/// What an agent tells of hooks, bounded. What makes no sense of a run is taken for unknown.
#[must_use]
pub fn from_proto(runs: &[v1::HookRun]) -> Vec<Ran> {
    runs.iter().take(MOST_RUNS).map(one).collect()
}

fn one(run: &v1::HookRun) -> Ran {
    let bounded = |text: &str| text.chars().take(MOST_LINE).collect::<String>();
    let took = run.took.as_ref().and_then(|took| duration_from_proto(took, "hooks.took").ok()).unwrap_or_default();
    Ran {
        hook: bounded(&run.hook),
        moment: match run.moment() {
            v1::HookMoment::Before => Moment::Before,
            v1::HookMoment::After => Moment::After,
            v1::HookMoment::Alone | v1::HookMoment::Unspecified => Moment::Alone,
        },
        end: match run.end() {
            v1::HookEnd::Succeeded => End::Succeeded,
            v1::HookEnd::Failed => End::Failed,
            v1::HookEnd::Stopped => End::Stopped,
            v1::HookEnd::Unknown | v1::HookEnd::Unspecified => End::Unknown,
        },
        code: run.exit_code,
        detail: bounded(&run.detail),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        output: run.output.iter().take(MOST_LINES).map(|line| bounded(line)).collect(),
        failure_passes: run.failure_passes,
    }
}
