//! A lane: how far one schedule is with one of its components, and what is to be done next. Pure.
//!
//! ```text
//!  planned moments:  ---+-----------+-----------+-----------+---> time
//!                       done        missed      newest due        now
//! ```
//! What always holds: a planned moment is decided once: `done` only grows, but where the clock went back by hours, and then a new round
//! begins at the present. One run waits at most: the newest. Runs that were missed follow the schedule's policy; what was planned while
//! the component was paused counts as missed.

use std::time::Duration;

use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::v1::MissedRuns;
use sha2::{Digest, Sha256};

use crate::schedule::timing::Timing;

/// A run that is so late is not missed: the controller was restarted, or a pause has just ended.
pub const IN_TIME: Duration = Duration::from_secs(600);
/// A clock that went back further than this is taken at its word: what is planned from then on runs.
pub const BACK: Duration = Duration::from_secs(7_200);
/// The most runs that are made up for by [`MissedRuns::All`].
pub const MOST_MADE_UP: usize = 24;
/// Missed runs are counted up to this.
const MOST_COUNTED: usize = 1_000;

/// How far one schedule is with one of its components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The schedule's id.
    pub schedule: String,
    /// The component.
    pub component: Name,
    /// The times that `done` was computed by.
    pub timing: String,
    /// Every planned moment up to this one is decided.
    pub done: Timestamp,
    /// Grows when the clock went back so far that planned moments come a second time.
    pub round: u64,
    /// Runs that were accepted.
    pub runs: u64,
    /// The run that waits.
    pub waiting: Option<Waiting>,
    /// The last run that was accepted.
    pub last: Option<Last>,
    /// Which runs were left out last, in words. Empty: none since the last one that ran in time.
    pub left_out: String,
}

/// A run that waits to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its planned moment.
    pub planned: Timestamp,
    /// Why, with what to do.
    pub why: String,
}

/// A run that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its planned moment.
    pub planned: Timestamp,
    /// Its operation.
    pub operation: OperationId,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this moment. `None`: nothing ever.
    Rest(Option<Timestamp>),
    /// Nothing while the pause lasts.
    Paused,
    /// The clock went back by hours, or the times were declared anew: the present is where it begins.
    Begin(Lane),
    /// Runs were missed and are left out.
    LeaveOut(Lane),
    /// This run is to be accepted; the lane as it is then, its operation still to be filled in.
    Start {
        /// The planned moment.
        planned: Timestamp,
        /// The lane after it.
        after: Lane,
    },
}

impl Lane {
    /// A lane that begins at the present.
    #[must_use]
    pub fn begin(schedule: &str, component: &Name, timing: &Timing, now: Timestamp) -> Self {
        Self {
            schedule: schedule.to_owned(),
            component: component.clone(),
            timing: key(timing),
            done: now,
            round: 0,
            runs: 0,
            waiting: None,
            last: None,
            left_out: String::new(),
        }
    }

    /// By how much this lane's runs start after their planned moments: the same each time, another one for each component.
    #[must_use]
    pub fn delay(&self, timing: &Timing) -> Duration {
        delay(&self.schedule, &self.component, timing)
    }

    /// When the next run starts that is not decided yet, as seen from `now`.
    #[must_use]
    pub fn next_start(&self, timing: &Timing, now: Timestamp) -> Option<Timestamp> {
        let delay = self.delay(timing);
        let from = self.done.max(earlier(now, delay));
        timing.after(from).map(|planned| planned.plus(delay))
    }

    /// What tells this run from all others: the request id under which it is asked for.
    #[must_use]
    pub fn run_key(&self, planned: Timestamp) -> String {
        format!("{}/{}/{}/{}", self.schedule, self.component, self.round, planned.0)
    }

    /// What is to be done now.
    #[must_use]
    pub fn decide(&self, timing: &Timing, missed: MissedRuns, paused: bool, now: Timestamp) -> Decision {
        if self.timing != key(timing) {
            let begun = Self { timing: key(timing), done: self.done.max(now), waiting: None, ..self.clone() };
            return Decision::Begin(begun);
        }
        if self.done > now.plus(BACK) {
            let begun = Self { done: now, round: self.round.saturating_add(1), waiting: None, ..self.clone() };
            return Decision::Begin(begun);
        }
        let delay = self.delay(timing);
        let due = earlier(now, delay);
        let Some(newest) = timing.newest(self.done, due) else {
            return Decision::Rest(timing.after(self.done).map(|planned| planned.plus(delay)));
        };
        if paused {
            return Decision::Paused;
        }
        let waits = self.waiting.as_ref().is_some_and(|waiting| waiting.planned == newest);
        let in_time = waits || newest.plus(IN_TIME) >= due;
        match missed {
            MissedRuns::Skip if !in_time => {
                let left_out = format!("{} left out: their time had passed", self.told(timing, newest, 0));
                Decision::LeaveOut(Self { done: newest, waiting: None, left_out, ..self.clone() })
            }
            MissedRuns::Skip => {
                let others = self.told_before(timing, newest);
                let left_out = others.map(|others| format!("{others} left out: their time had passed")).unwrap_or_default();
                self.start(newest, left_out)
            }
            MissedRuns::Once | MissedRuns::Unspecified => {
                let others = self.told_before(timing, newest);
                let left_out = others.map(|others| format!("{others} left out: the run after stands for them")).unwrap_or_default();
                self.start(newest, left_out)
            }
            MissedRuns::All => self.start_oldest(timing, newest),
        }
    }

    /// This run waits, for this reason.
    #[must_use]
    pub fn waits(&self, planned: Timestamp, why: String) -> Self {
        Self { waiting: Some(Waiting { planned, why }), ..self.clone() }
    }

    fn start(&self, planned: Timestamp, left_out: String) -> Decision {
        let after = Self { done: planned, runs: self.runs.saturating_add(1), waiting: None, left_out, ..self.clone() };
        Decision::Start { planned, after }
    }

    fn start_oldest(&self, timing: &Timing, newest: Timestamp) -> Decision {
        let mut last = std::collections::VecDeque::with_capacity(MOST_MADE_UP);
        // What is older than all that can be made up for is passed over from the nearest start that has enough.
        let mut from = self.done;
        for look in [Duration::from_secs(86_400), Duration::from_secs(40 * 86_400)] {
            let start = earlier(newest, look);
            if start > self.done && planned(timing, start, newest).take(MOST_MADE_UP).count() == MOST_MADE_UP {
                from = start;
                break;
            }
        }
        for moment in planned(timing, from, newest) {
            if last.len() == MOST_MADE_UP {
                last.pop_front();
            }
            last.push_back(moment);
        }
        let oldest = last.front().copied().unwrap_or(newest);
        let left_out = match self.told_before(timing, oldest) {
            Some(others) => format!("{others} left out: {MOST_MADE_UP} are made up for at most"),
            None => self.left_out.clone(),
        };
        self.start(oldest, left_out)
    }

    /// Those that are due before this one, in words. `None`: there are none.
    fn told_before(&self, timing: &Timing, moment: Timestamp) -> Option<String> {
        let first = timing.after(self.done)?;
        (first < moment).then(|| self.told(timing, moment, 1))
    }

    /// `3 runs, the last of them planned for …, were`: those up to this one, without the newest `but`.
    fn told(&self, timing: &Timing, moment: Timestamp, but: usize) -> String {
        let counted = planned(timing, self.done, moment).take(MOST_COUNTED).count().saturating_sub(but);
        let last = timing.newest(self.done, Timestamp(moment.0.saturating_sub(i64::from(but > 0)))).unwrap_or(moment);
        let at = jiff::Timestamp::from_microsecond(last.0).map_or_else(|_| last.0.to_string(), |at| format!("{at:.0}"));
        match counted {
            1 => format!("1 run, planned for {at}, was"),
            _ if counted + but >= MOST_COUNTED => format!("{MOST_COUNTED} runs or more, the last planned for {at}, were"),
            _ => format!("{counted} runs, the last planned for {at}, were"),
        }
    }
}

fn planned(timing: &Timing, after: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
    std::iter::successors(timing.after(after), move |at| timing.after(*at)).take_while(move |at| *at <= to)
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

/// Tells times apart.
fn key(timing: &Timing) -> String {
    format!("{} + {}us", timing.text(), timing.jitter.as_micros())
}

fn delay(schedule: &str, component: &Name, timing: &Timing) -> Duration {
    let jitter = u64::try_from(timing.jitter.as_micros()).unwrap_or(u64::MAX);
    if jitter == 0 {
        return Duration::ZERO;
    }
    let digest = Sha256::new().chain_update(b"muster jitter 1").chain_update(schedule).chain_update(component.as_str()).finalize();
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Duration::from_micros(u64::from_le_bytes(bytes) % jitter)
}

#[cfg(test)]
mod tests;
