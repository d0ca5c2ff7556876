//! From what holds at each look to what is raised and cleared: pure. What always holds: a finding is raised after its rule held for its
//! time without a break, and cleared after it was gone for its time without a break; what cannot be seen is neither.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_common::time::Timestamp;

use crate::findings::judge::{Held, Judged};
use crate::findings::rule::{Needs, Rule};
use crate::findings::subject::Subject;

/// The most findings that stand or wait to be raised; the mildest beyond it are left out.
pub const MOST: usize = 2_000;

/// One moment by two clocks: times are told by the wall's, and measured by one that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The controller's wall clock.
    pub wall: Timestamp,
    /// Since the process started.
    pub up: Duration,
}

/// A finding that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Since when its rule holds.
    pub since: Timestamp,
    /// As of the last look at which it held.
    pub held: Held,
}

/// What a look changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stands from now on.
    Raised(Rule, Subject, Standing),
    /// It stands no longer.
    Cleared(Rule, Subject, Standing),
}

/// What is followed from look to look.
#[derive(Clone, Debug, Default)]
pub struct Damper {
    tracked: BTreeMap<(Rule, Subject), Tracked>,
}

#[derive(Clone, Debug)]
struct Tracked {
    standing: Standing,
    /// When it began to hold; `None`: it stands.
    waits_since: Option<Duration>,
    /// Since when it holds no longer.
    gone_since: Option<Duration>,
}

impl Damper {
    /// A damper for which these stand, from the store.
    #[must_use]
    pub fn standing(kept: impl IntoIterator<Item = (Rule, Subject, Standing)>) -> Self {
        let tracked = |(rule, subject, standing)| ((rule, subject), Tracked { standing, waits_since: None, gone_since: None });
        Self { tracked: kept.into_iter().map(tracked).collect() }
    }

    /// What stands now.
    pub fn all(&self) -> impl Iterator<Item = (Rule, &Subject, &Standing)> {
        let stands = self.tracked.iter().filter(|(_, tracked)| tracked.waits_since.is_none());
        stands.map(|((rule, subject), tracked)| (*rule, subject, &tracked.standing))
    }

    /// Takes in what one look found. `known` tells whether a subject still exists.
    pub fn look(&mut self, now: Moment, judged: Judged, blind: &BTreeSet<Subject>, known: impl Fn(&Subject) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let gone: Vec<_> = self.tracked.keys().filter(|key| !judged.contains_key(*key)).cloned().collect();
        for key in gone {
            self.is_gone(now, key, blind, &known, &mut changes);
        }
        // The worst first: what is beyond the bound is left out.
        let mut judged: Vec<_> = judged.into_iter().collect();
        judged.sort_by_key(|((rule, _), _)| std::cmp::Reverse(rule.about().severity));
        for ((rule, subject), held) in judged {
            let key = (rule, subject);
            if self.tracked.len() >= MOST && !self.tracked.contains_key(&key) {
                continue;
            }
            changes.extend(self.holds(now, key, held));
        }
        changes
    }

    fn holds(&mut self, now: Moment, key: (Rule, Subject), held: Held) -> Option<Change> {
        let tracked = self.tracked.entry(key.clone()).or_insert_with(|| Tracked {
            standing: Standing { since: now.wall, held: Held::default() },
            waits_since: Some(now.up),
            gone_since: None,
        });
        tracked.standing.held = held;
        tracked.gone_since = None;
        let began = tracked.waits_since?;
        if now.up.saturating_sub(began) < key.0.about().raise_after {
            return None;
        }
        tracked.waits_since = None;
        Some(Change::Raised(key.0, key.1, tracked.standing.clone()))
    }

    fn is_gone(
        &mut self,
        now: Moment,
        key: (Rule, Subject),
        blind: &BTreeSet<Subject>,
        known: &impl Fn(&Subject) -> bool,
        changes: &mut Vec<Change>,
    ) {
        let about = key.0.about();
        let exists = known(&key.1);
        let Some(tracked) = self.tracked.get_mut(&key) else { return };
        let is_unseen = exists && about.needs == Needs::Sight && blind.contains(&key.1);
        if is_unseen && tracked.waits_since.is_none() {
            tracked.gone_since = None;
            return;
        }
        let since = *tracked.gone_since.get_or_insert(now.up);
        let stands = tracked.waits_since.is_none();
        if stands && exists && now.up.saturating_sub(since) < about.clear_after {
            return;
        }
        if let Some(tracked) = self.tracked.remove(&key)
            && stands
        {
            changes.push(Change::Cleared(key.0, key.1, tracked.standing));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Subject {
        Subject::Instance("orders-db/istanbul".parse().unwrap())
    }

    /// Looks once a second at what `holds` tells of each; gives when it was raised and cleared.
    fn run(damper: &mut Damper, rule: Rule, looks: &str) -> Vec<(usize, &'static str)> {
        let mut told = Vec::new();
        for (second, look) in looks.chars().enumerate() {
            let now = Moment { wall: Timestamp(second as i64 * 1_000_000), up: Duration::from_secs(second as u64) };
            let judged = if look == '!' { Judged::from([((rule, instance()), Held::default())]) } else { Judged::new() };
            let blind = if look == '?' { BTreeSet::from([instance()]) } else { BTreeSet::new() };
            for change in damper.look(now, judged, &blind, |_| look != 'x') {
                told.push((
                    second,
                    match change {
                        Change::Raised(..) => "raised",
                        Change::Cleared(..) => "cleared",
                    },
                ));
            }
        }
        told
    }

    fn times(text: &str, times: usize) -> String {
        text.repeat(times)
    }

    #[test]
    fn what_holds_for_its_time_is_raised_and_what_is_gone_for_its_time_is_cleared() {
        let looks = times("!", 20) + &times(".", 40);
        assert_eq!(run(&mut Damper::default(), Rule::ServerDown, &looks), [(10, "raised"), (40, "cleared")]);
        assert_eq!(run(&mut Damper::default(), Rule::RpoBroken, "..!!.."), [(2, "raised"), (4, "cleared")]);
    }

    #[test]
    fn what_flaps_is_told_once_or_not_at_all() {
        assert_eq!(run(&mut Damper::default(), Rule::ServerDown, &times("!!!!..", 50)), []);
        let looks = times("!", 15) + &times("....!", 100);
        assert_eq!(run(&mut Damper::default(), Rule::ServerDown, &looks), [(10, "raised")]);
    }

    #[test]
    fn what_nobody_sees_stays_and_is_not_raised() {
        let looks = times("!", 15) + &times("?", 500);
        let mut damper = Damper::default();
        assert_eq!(run(&mut damper, Rule::ServerDown, &looks), [(10, "raised")]);
        assert_eq!(damper.all().count(), 1);
        assert_eq!(run(&mut Damper::default(), Rule::ServerDown, &(times("!", 5) + &times("?", 500))), []);
    }

    #[test]
    fn what_is_declared_no_longer_is_cleared_at_once() {
        assert_eq!(run(&mut Damper::default(), Rule::ServerDown, &(times("!", 15) + "x")), [(10, "raised"), (15, "cleared")]);
    }

    #[test]
    fn what_stood_before_a_restart_stands_with_its_time_until_it_is_seen_to_be_gone() {
        let standing = Standing { since: Timestamp(-5), held: Held::default() };
        let mut damper = Damper::standing([(Rule::ServerDown, instance(), standing)]);
        assert_eq!(run(&mut damper, Rule::ServerDown, &times("?", 100)), []);
        assert_eq!(run(&mut damper, Rule::ServerDown, &times("!", 100)), []);
        assert_eq!(damper.all().map(|(_, _, standing)| standing.since).collect::<Vec<_>>(), [Timestamp(-5)]);
        assert_eq!(run(&mut damper, Rule::ServerDown, &times(".", 30)), [(20, "cleared")]);
    }

    #[test]
    fn the_mildest_are_left_out_beyond_the_bound() {
        let named = |at: usize| Subject::Agent(format!("a{at}").parse().unwrap());
        let judged =
            (0..MOST + 10).flat_map(|at| [((Rule::ClockOff, named(at)), Held::default()), ((Rule::RpoBroken, named(at)), Held::default())]);
        let mut damper = Damper::default();
        let now = Moment { wall: Timestamp(0), up: Duration::ZERO };
        let changes = damper.look(now, judged.collect(), &BTreeSet::new(), |_| true);
        assert_eq!(changes.len(), MOST);
        assert!(changes.iter().all(|change| matches!(change, Change::Raised(Rule::RpoBroken, ..))));
    }
}
