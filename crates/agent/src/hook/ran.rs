//! What came of one run of a hook: data that the inbox stores, and the messages of the link tell.

use std::time::Duration;

use muster_common::name::Name;
use muster_wire::convert::duration_to_proto;
use muster_wire::proto::v1;
use serde::{Deserialize, Serialize};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before a verb.
    Before,
    /// After a verb.
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

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The hook.
    pub hook: Name,
    /// When it ran.
    pub moment: Moment,
    /// How it ended.
    pub end: End,
    /// Its exit code, where it has one.
    pub code: Option<i32>,
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
    /// Whether what follows may go on as if it had succeeded.
    #[must_use]
    pub const fn passes(&self) -> bool {
        match self.end {
            End::Succeeded => true,
            End::Failed | End::Unknown => self.failure_passes,
            End::Stopped => false,
        }
    }

    /// As the link tells it.
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
            hook: self.hook.to_string(),
            moment: moment.into(),
            end: end.into(),
            exit_code: self.code.unwrap_or_default(),
            detail: self.detail.clone(),
            took: Some(duration_to_proto(Duration::from_millis(self.took_ms))),
            output: self.output.clone(),
            failure_passes: self.failure_passes,
        }
    }
}
