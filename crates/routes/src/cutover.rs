//! Whether a name is cut over: every authoritative server that answers must answer the new set. Pure.
//!
//! One that answers anything else blocks; one that is silent is named and does not block; without a single answer nothing
//! is proved. Resolvers never block: they are watched until the old TTL is over and named where they still say the old.

use std::net::SocketAddr;
use std::time::Duration;

use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::standing::{Records, Target};

/// What one server said about a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// These records; `None`: there are none.
    Records(Option<Records>),
    /// Nothing, or nothing of use: why.
    Silent(String),
}

/// One server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whom was asked.
    pub server: SocketAddr,
    /// What it said.
    pub said: Said,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.said {
            Said::Records(Some(records)) => write!(f, "{} answers {records}", self.server),
            Said::Records(None) => write!(f, "{} has no such name", self.server),
            Said::Silent(why) => write!(f, "{} is silent: {why}", self.server),
        }
    }
}

/// What the answers come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Who answers the new set.
    pub moved: Vec<SocketAddr>,
    /// Who answers something else.
    pub blocking: Vec<Answer>,
    /// Who is silent.
    pub silent: Vec<Answer>,
}

impl Judged {
    /// Whether the name is cut over.
    #[must_use]
    pub const fn is_cut_over(&self) -> bool {
        self.blocking.is_empty() && !self.moved.is_empty()
    }
}

/// Sorts the answers. The TTL is not looked at: a secondary may count it down.
#[must_use]
pub fn judge(answers: &[Answer], wanted: &Target) -> Judged {
    let mut judged = Judged::default();
    for answer in answers {
        match &answer.said {
            Said::Records(Some(records)) if records.target == *wanted => judged.moved.push(answer.server),
            Said::Records(_) => judged.blocking.push(answer.clone()),
            Said::Silent(_) => judged.silent.push(answer.clone()),
        }
    }
    judged
}

/// When the last resolver that keeps to the rules has forgotten the old set.
#[must_use]
pub fn forgotten(changed: Timestamp, old_ttl: u32) -> Timestamp {
    changed.plus(Duration::from_secs(u64::from(old_ttl)))
}

/// How the watch over the resolvers stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// All that answer say the new set.
    Done,
    /// These still say something else, and may until then.
    Waiting(Vec<Answer>, Timestamp),
    /// These still say something else though the old TTL is over: they keep names for longer than they may.
    Overdue(Vec<Answer>),
}

/// Looks at the resolvers' answers at `now`.
#[must_use]
pub fn watch(answers: &[Answer], wanted: &Target, until: Timestamp, now: Timestamp) -> Watch {
    let late = judge(answers, wanted).blocking;
    match (late.is_empty(), now < until) {
        (true, _) => Watch::Done,
        (false, true) => Watch::Waiting(late, until),
        (false, false) => Watch::Overdue(late),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn target(last: u8) -> Target {
        Target::Addresses(BTreeSet::from([[10, 0, 0, last].into()]))
    }

    fn answer(port: u16, said: Said) -> Answer {
        Answer { server: ([127, 0, 0, 1], port).into(), said }
    }

    fn says(last: u8) -> Said {
        Said::Records(Some(Records { target: target(last), ttl: 60 }))
    }

    #[test]
    fn one_that_answers_the_old_set_blocks_and_a_silent_one_is_named_and_does_not() {
        let silent = answer(3, Said::Silent("no answer within 2 s".into()));
        let judged = judge(&[answer(1, says(2)), silent.clone()], &target(2));
        assert!(judged.is_cut_over());
        assert_eq!(judged.silent, std::slice::from_ref(&silent));
        let judged = judge(&[answer(1, says(2)), answer(2, says(1)), silent.clone()], &target(2));
        assert_eq!((judged.is_cut_over(), judged.blocking), (false, vec![answer(2, says(1))]));
        assert!(
            !judge(&[answer(1, Said::Records(None)), answer(2, says(2))], &target(2)).is_cut_over(),
            "an empty name is not the new set"
        );
        assert!(!judge(&[silent], &target(2)).is_cut_over(), "nobody answered");
        assert!(!judge(&[], &target(2)).is_cut_over(), "nobody was asked");
    }

    #[test]
    fn resolvers_are_waited_for_until_the_old_ttl_is_over_and_then_named() {
        let until = forgotten(Timestamp(0), 30);
        assert_eq!(until, Timestamp(30_000_000));
        let old = [answer(1, says(1)), answer(2, says(2))];
        assert_eq!(watch(&old, &target(2), until, Timestamp(29_999_999)), Watch::Waiting(vec![answer(1, says(1))], until));
        assert_eq!(watch(&old, &target(2), until, until), Watch::Overdue(vec![answer(1, says(1))]));
        assert_eq!(watch(&[answer(2, says(2))], &target(2), until, Timestamp(0)), Watch::Done);
    }
}
