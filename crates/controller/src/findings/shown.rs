//! A finding as it is shown, stored and read back.

use std::cmp::Reverse;

use muster_common::time::Timestamp;
use muster_wire::convert::{timestamp_from_proto, timestamp_to_proto};
use muster_wire::proto::v1::Finding;

use crate::findings::damping::Standing;
use crate::findings::judge::Held;
use crate::findings::rule::Rule;
use crate::findings::subject::Subject;

/// As it is shown; `cleared` is when it was cleared.
#[must_use]
pub fn finding(rule: Rule, subject: &Subject, standing: &Standing, cleared: Option<Timestamp>) -> Finding {
    Finding {
        name: rule.about().name.to_owned(),
        severity: rule.about().severity.into(),
        subject: subject.to_string(),
        since: Some(timestamp_to_proto(standing.since)),
        evidence: standing.held.evidence.clone(),
        hint: standing.held.hint.clone(),
        component: standing.held.component.as_ref().map(ToString::to_string).unwrap_or_default(),
        cleared_at: cleared.map(timestamp_to_proto),
    }
}

/// A stored one; `None` where its rule or subject is none of this version: it is forgotten.
#[must_use]
pub fn read(finding: &Finding) -> Option<(Rule, Subject, Standing)> {
    let (rule, subject) = (Rule::named(&finding.name)?, Subject::read(&finding.subject)?);
    let since = timestamp_from_proto(finding.since.as_ref()?, "since").ok()?;
    let held = Held { component: finding.component.parse().ok(), evidence: finding.evidence.clone(), hint: finding.hint.clone() };
    Some((rule, subject, Standing { since, held }))
}

/// The worst first, then the oldest.
pub fn sort(findings: &mut [Finding]) {
    let since = |finding: &Finding| finding.since.as_ref().map(|at| (at.seconds, at.nanos));
    findings
        .sort_by(|a, b| (Reverse(a.severity), since(a), &a.name, &a.subject).cmp(&(Reverse(b.severity), since(b), &b.name, &b.subject)));
}

/// Whether it concerns this component (empty: any), or none.
#[must_use]
pub fn concerns(finding: &Finding, component: &str) -> bool {
    component.is_empty() || finding.component.is_empty() || finding.component == component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_read_back_as_it_was_stored_and_an_unknown_one_is_forgotten() {
        let held = Held { component: "docs".parse().ok(), evidence: vec!["seen".into()], hint: "type".into() };
        let standing = Standing { since: Timestamp(7_000_000), held };
        let subject = Subject::Component("docs".parse().unwrap());
        let stored = finding(Rule::RpoBroken, &subject, &standing, None);
        assert_eq!(read(&stored), Some((Rule::RpoBroken, subject, standing)));
        assert_eq!(read(&Finding { name: "OfTomorrow".into(), ..stored.clone() }), None);
        assert!(concerns(&stored, "docs") && concerns(&stored, "") && !concerns(&stored, "other"));
    }
}
