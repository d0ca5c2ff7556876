//! A pause: automation and schedules are off for a component, or for all, until a moment. Pure.
//!
//! What always holds: a pause ends by itself; it stops nothing that runs and nothing that a person asks for.

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::convert::timestamp_to_proto;
use muster_wire::proto::v1;

/// How long where nobody said.
const USUAL: Duration = Duration::from_secs(3_600);
/// The longest: what is forgotten must not stay off.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// The longest reason, in bytes.
const MOST_REASON: usize = 500;

/// What is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All components, also those that are declared later.
    All,
    /// One.
    Component(Name),
}

impl Scope {
    /// The component's name; empty: all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "",
            Self::Component(name) => name.as_str(),
        }
    }

    /// Whether it holds for this component.
    #[must_use]
    pub fn covers(&self, component: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Component(name) => name == component,
        }
    }
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What is paused.
    pub scope: Scope,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who paused it.
    pub by: String,
}

impl Pause {
    /// A pause from now on.
    ///
    /// # Errors
    /// Where there is no reason, or it is too long; where the time is none, or too long.
    pub fn begin(scope: Scope, duration: Option<Duration>, reason: &str, by: &str, now: Timestamp) -> Result<Self, Fault> {
        let wrong = |what: String, hint: &str| Err(Fault::refused(ErrorKind::InvalidArgument, what).hint(hint));
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MOST_REASON || reason.chars().any(char::is_control) {
            return wrong(
                format!("reason: expected 1 to {MOST_REASON} bytes without control characters"),
                "say why for whoever looks at the status page: `muster pause NAME --reason \"…\"`",
            );
        }
        let duration = duration.unwrap_or(USUAL);
        if duration.is_zero() || duration > LONGEST {
            let told = format!("duration: {} is not more than nothing and at most 30d", muster_common::duration::show(duration));
            return wrong(told, "what is off for longer is better deleted: `muster delete schedule NAME`");
        }
        Ok(Self { scope, since: now, until: now.plus(duration), reason: reason.to_owned(), by: by.to_owned() })
    }

    /// What ends it sooner.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.scope {
            Scope::All => "muster resume --all".to_owned(),
            Scope::Component(name) => format!("muster resume {name}"),
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn to_proto(&self) -> v1::Pause {
        v1::Pause {
            component: self.scope.as_str().to_owned(),
            since: Some(timestamp_to_proto(self.since)),
            until: Some(timestamp_to_proto(self.until)),
            reason: self.reason.clone(),
            by: self.by.clone(),
        }
    }
}

/// The pause that holds for a component now; of two the one that ends later.
#[must_use]
pub fn of<'a>(pauses: &'a [Pause], component: &Name, now: Timestamp) -> Option<&'a Pause> {
    pauses.iter().filter(|pause| pause.until > now && pause.scope.covers(component)).max_by_key(|pause| pause.until)
}

/// The pause of all, where there is one now.
#[must_use]
pub fn of_all(pauses: &[Pause], now: Timestamp) -> Option<&Pause> {
    pauses.iter().find(|pause| pause.until > now && pause.scope == Scope::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(scope: Scope, until: i64) -> Pause {
        Pause { scope, since: Timestamp(0), until: Timestamp(until), reason: "migration".into(), by: "operator/ada".into() }
    }

    #[test]
    fn a_pause_holds_for_its_component_until_it_ends_and_one_of_all_for_every_one() {
        let (orders, docs): (Name, Name) = ("orders-db".parse().unwrap(), "docs".parse().unwrap());
        let pauses = [pause(Scope::Component(orders.clone()), 20), pause(Scope::All, 10)];
        for (component, now, until) in
            [(&orders, 5, Some(20)), (&docs, 5, Some(10)), (&docs, 10, None), (&orders, 19, Some(20)), (&orders, 20, None)]
        {
            assert_eq!(of(&pauses, component, Timestamp(now)).map(|pause| pause.until.0), until, "{component} at {now}");
        }
        assert!(of_all(&pauses, Timestamp(9)).is_some() && of_all(&pauses, Timestamp(10)).is_none());
    }

    #[test]
    fn a_pause_needs_a_reason_and_an_end() {
        let begin = |duration, reason: &str| Pause::begin(Scope::All, duration, reason, "operator/ada", Timestamp(7));
        assert_eq!(begin(None, "a migration ").unwrap().until, Timestamp(7).plus(USUAL));
        let long = Some(LONGEST + Duration::from_secs(1));
        for (duration, reason) in [(None, " "), (None, "a\nb"), (Some(Duration::ZERO), "x"), (long, "x")] {
            let refused = begin(duration, reason).unwrap_err();
            assert!(refused.kind == ErrorKind::InvalidArgument && !refused.hint.is_empty(), "{refused}");
        }
    }
}
