//! The audit log: its entries, and what it was found to be.

use muster_wire::proto::v1::{AuditEntry, AuditPhase, AuditServiceVerifyResponse};

use super::amount::{NOTHING, count, instant_or_nothing, short};
use super::table;

/// Entries, newest first.
#[must_use]
pub fn list(entries: &[AuditEntry]) -> String {
    if entries.is_empty() {
        return "nothing is recorded of that\n".to_owned();
    }
    let rows: Vec<_> = entries.iter().map(row).collect();
    table::table(&["NUMBER", "AT", "WHO", "ASKED FOR", "ABOUT", "OUTCOME"], &rows, "")
}

fn row(entry: &AuditEntry) -> Vec<String> {
    let who = if entry.role.is_empty() { entry.caller.clone() } else { format!("{} ({})", entry.caller, entry.role) };
    // `/muster.v1.RecoveryService/Backup` is told as `Recovery.Backup`.
    let what = entry.rpc.rsplit_once('.').filter(|_| entry.rpc.starts_with('/')).map_or(entry.rpc.as_str(), |(_, rest)| rest);
    let what = what.replace("Service/", ".");
    let what = if what.is_empty() { NOTHING.to_owned() } else { what };
    let about = if entry.resource.is_empty() { NOTHING.to_owned() } else { entry.resource.clone() };
    vec![entry.number.to_string(), instant_or_nothing(entry.at.as_ref()), who, what, about, outcome(entry)]
}

fn outcome(entry: &AuditEntry) -> String {
    let mut text = match entry.phase() {
        AuditPhase::Unspecified => NOTHING.to_owned(),
        AuditPhase::Asked => "asked; no outcome is recorded".to_owned(),
        AuditPhase::Forgotten => entry.message.clone(),
        AuditPhase::Answered | AuditPhase::Refused | AuditPhase::Machine if entry.outcome == "OK" => "OK".to_owned(),
        AuditPhase::Answered | AuditPhase::Refused | AuditPhase::Machine => format!("{}: {}", entry.outcome, entry.message),
    };
    if !entry.operation_id.is_empty() {
        text.push_str(&format!(", operation {}", short(&entry.operation_id)));
    }
    if entry.left_out > 0 {
        text.push_str(&format!(" (and {} more that were not recorded)", count(entry.left_out)));
    }
    text
}

/// What it was found to be; empty where it is broken, which is told as a failure.
#[must_use]
pub fn verdict(answer: &AuditServiceVerifyResponse) -> String {
    if !answer.whole {
        return String::new();
    }
    if answer.last == 0 {
        return "the audit log is whole: nothing is recorded yet\n".to_owned();
    }
    format!(
        "the audit log is whole: entries {} to {}\nto be kept elsewhere: --known {}:{}\n",
        answer.number, answer.last, answer.last, answer.head
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_by_who_asked_for_what_and_what_came_of_it() {
        let entry = AuditEntry {
            number: 12,
            at: Some(prost_types::Timestamp { seconds: 1_764_000_000, nanos: 0 }),
            phase: AuditPhase::Answered.into(),
            caller: "operator/ada".into(),
            role: "admin".into(),
            rpc: "/muster.v1.RecoveryService/Backup".into(),
            resource: "component/orders-db".into(),
            outcome: "OK".into(),
            operation_id: "3f2a91c0".repeat(4),
            ..AuditEntry::default()
        };
        let refused = AuditEntry {
            number: 13,
            phase: AuditPhase::Refused.into(),
            caller: "operator/eve".into(),
            role: String::new(),
            outcome: "PERMISSION_DENIED".into(),
            message: "operator/eve is viewer".into(),
            operation_id: String::new(),
            resource: String::new(),
            left_out: 3,
            ..entry.clone()
        };
        let text = list(&[refused, entry]);
        assert!(text.contains("Recovery.Backup") && text.contains("OK, operation 3f2a91c0"), "{text}");
        assert!(text.contains("PERMISSION_DENIED: operator/eve is viewer (and 3 more that were not recorded)"), "{text}");
        let whole = AuditServiceVerifyResponse { whole: true, number: 1, last: 4, head: "ab".repeat(32), problem: String::new() };
        assert!(verdict(&whole).contains(&format!("--known 4:{}", "ab".repeat(32))));
    }
}
