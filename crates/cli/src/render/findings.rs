//! Findings: what stands, as it is raised and cleared, and the history that they are a part of.

use muster_common::time::Timestamp;
use muster_wire::proto::v1::history_entry::Entry;
use muster_wire::proto::v1::{Finding, FindingEvent, HistoryEntry, Severity};

use super::amount::{NOTHING, age, instant_or_nothing, read_instant, rounded, short};
use super::{operation, table};

/// All that stand, each with what was seen and what to type.
#[must_use]
pub fn list(findings: &[Finding], now: Timestamp) -> String {
    if findings.is_empty() {
        return "no findings: nothing that a person should know\n".to_owned();
    }
    findings.iter().map(|finding| one(finding, now)).collect()
}

/// One that stands.
fn one(finding: &Finding, now: Timestamp) -> String {
    let since = format!("since {} ({})", instant_or_nothing(finding.since.as_ref()), age(finding.since.as_ref(), now));
    let mut text = format!("! {:<8}  {} of {}, {since}\n", severity(finding.severity()), finding.name, subject(finding));
    for seen in &finding.evidence {
        text.push_str(&format!("    seen: {seen}\n"));
    }
    if !finding.hint.is_empty() {
        text.push_str(&format!("    HINT: {}\n", finding.hint));
    }
    text
}

/// As it was raised or cleared, in a line.
#[must_use]
pub fn event(event: &FindingEvent) -> String {
    let at = read_instant(event.at.as_ref()).map_or_else(|| NOTHING.to_owned(), operation::clock);
    match &event.finding {
        Some(finding) => format!("{at} {}\n", line(finding)),
        None => format!("{at}\n"),
    }
}

fn line(finding: &Finding) -> String {
    if finding.cleared_at.is_some() {
        let lasted = read_instant(finding.cleared_at.as_ref()).zip(read_instant(finding.since.as_ref()));
        let lasted = lasted.map_or_else(String::new, |(cleared, since)| format!(" after {}", rounded(cleared.since(since))));
        return format!("cleared: {} of {}{lasted}", finding.name, subject(finding));
    }
    let seen = finding.evidence.first().map_or_else(String::new, |seen| format!(": {seen}"));
    let hint = if finding.hint.is_empty() { String::new() } else { format!(". HINT: {}", finding.hint) };
    format!("{}: {} of {}{seen}{hint}", severity(finding.severity()), finding.name, subject(finding))
}

/// `CRITICAL`.
#[must_use]
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Unspecified => NOTHING,
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "CRITICAL",
    }
}

/// `orders-db/istanbul`, `agent istanbul-db1`, `operation 3f2a91c0`.
fn subject(finding: &Finding) -> String {
    match finding.subject.split_once('/') {
        Some(("component" | "instance", name)) => name.to_owned(),
        Some(("operation", id)) => format!("operation {}", short(id)),
        Some((kind, name)) => format!("{kind} {name}"),
        None => format!("the {}", finding.subject),
    }
}

/// What happened, newest first.
#[must_use]
pub fn history(entries: &[HistoryEntry]) -> String {
    if entries.is_empty() {
        return "nothing happened yet\n".to_owned();
    }
    let rows: Vec<_> = entries.iter().map(row).collect();
    table::table(&["AT", "WHAT", "OF", ""], &rows, "")
}

fn row(entry: &HistoryEntry) -> Vec<String> {
    let at = instant_or_nothing(entry.at.as_ref());
    let (what, of, text) = match &entry.entry {
        Some(Entry::Operation(operation)) => (
            format!("{} {}", operation::kind(&operation.kind()), short(&operation.id)),
            operation::subject(operation),
            operation::ended(operation),
        ),
        Some(Entry::Finding(finding)) => {
            let what = if finding.cleared_at.is_some() { "cleared" } else { severity(finding.severity()) };
            let seen = finding.evidence.first().filter(|_| finding.cleared_at.is_none());
            let seen = seen.map_or_else(String::new, |seen| format!(": {seen}"));
            (what.to_owned(), subject(finding), format!("{}{seen}", finding.name))
        }
        Some(Entry::Role(role)) => ("role".to_owned(), format!("{}/{}", role.component, role.instance), role.text.clone()),
        None => (NOTHING.to_owned(), NOTHING.to_owned(), "of a newer controller".to_owned()),
    };
    vec![at, what, of, text]
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{Operation, OperationKind, OperationState, RoleChange};

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn finding() -> Finding {
        Finding {
            name: "RpoBroken".into(),
            severity: Severity::Critical.into(),
            subject: "component/orders-db".into(),
            since: at(1_763_999_820),
            evidence: vec!["point 3f2a91c0 is 1h 3m old; the objective is 1h".into()],
            hint: "`muster backup orders-db`".into(),
            component: "orders-db".into(),
            cleared_at: None,
        }
    }

    #[test]
    fn a_finding_is_told_with_what_was_seen_and_what_to_type() {
        assert_eq!(
            list(&[finding()], Timestamp(1_764_000_000_000_000)),
            "! CRITICAL  RpoBroken of orders-db, since 2025-11-24 15:57:00Z (3m ago)\n    \
             seen: point 3f2a91c0 is 1h 3m old; the objective is 1h\n    HINT: `muster backup orders-db`\n"
        );
        assert!(list(&[], Timestamp(0)).starts_with("no findings"));
    }

    #[test]
    fn what_happened_is_told_newest_first_in_a_table() {
        let cleared = Finding { cleared_at: at(1_764_000_000), ..finding() };
        let told = event(&FindingEvent { number: 7, at: at(1_764_000_000), finding: Some(cleared.clone()) });
        assert_eq!(told, "16:00:00 cleared: RpoBroken of orders-db after 3m\n");
        let operation = Operation {
            id: "3f2a91c0".repeat(4),
            kind: OperationKind::Backup.into(),
            state: OperationState::Succeeded.into(),
            component: "orders-db".into(),
            instance: "istanbul".into(),
            cause: "operator/ada".into(),
            created_at: at(1_763_999_990),
            finished_at: at(1_763_999_999),
            ..Operation::default()
        };
        let role = RoleChange { component: "orders-db".into(), instance: "ankara".into(), text: "was standby, is down".into() };
        let entry = |seconds, entry| HistoryEntry { at: at(seconds), entry: Some(entry) };
        assert_eq!(
            history(&[
                entry(1_764_000_000, Entry::Finding(cleared)),
                entry(1_763_999_990, Entry::Operation(operation)),
                entry(1_763_999_900, Entry::Role(role)),
            ]),
            "AT                    WHAT             OF\n\
             2025-11-24 16:00:00Z  cleared          orders-db           RpoBroken\n\
             2025-11-24 15:59:50Z  backup 3f2a91c0  orders-db/istanbul  succeeded in 9.0s, asked for by operator/ada\n\
             2025-11-24 15:58:20Z  role             orders-db/ankara    was standby, is down\n"
        );
    }
}
