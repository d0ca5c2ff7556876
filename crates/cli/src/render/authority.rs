//! The CAs that are trusted, and who still needs the old one.

use muster_common::time::Timestamp;
use muster_wire::proto::v1::{GetAuthoritiesResponse, RetireAuthorityResponse};

use super::amount::age;
use super::table;

/// So much of a fingerprint tells one CA from another.
const SHORT: usize = 12;

/// The beginning of a fingerprint.
#[must_use]
pub fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHORT).unwrap_or(fingerprint)
}

/// A table of CAs, and below it who is waited for.
#[must_use]
pub fn authorities(answer: &GetAuthoritiesResponse, now: Timestamp) -> String {
    let rotating = answer.authorities.len() > 1;
    let row = |authority: &muster_wire::proto::v1::Authority| {
        let state = match (&authority.since, rotating) {
            (None, false) => "in force".to_owned(),
            (None, true) => "OLD, trusted until it is retired".to_owned(),
            (Some(_), _) => format!("new, signs since {}", age(authority.since.as_ref(), now)),
        };
        vec![short(&authority.fingerprint).to_owned(), age(authority.until.as_ref(), now), state]
    };
    let rows: Vec<_> = answer.authorities.iter().map(row).collect();
    let mut text = table::table(&["CA", "ENDS", "STATE"], &rows, "");
    for holder in &answer.waiting_for {
        text.push_str(&format!("! {}: {}. HINT: {}\n", holder.name, holder.why, holder.hint));
    }
    if rotating && answer.open_tokens > 0 {
        text.push_str(&format!("{} join tokens that were not used yet end when the old CA is retired\n", answer.open_tokens));
    }
    text
}

/// What became of the old one.
#[must_use]
pub fn retired(answer: &RetireAuthorityResponse) -> String {
    let now = answer.authority.as_ref().map_or("", |authority| short(&authority.fingerprint));
    format!("CA {} is retired; {now} is in force; {} join tokens ended with it\n", short(&answer.retired), answer.voided_tokens)
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{Authority, AuthorityHolder};

    use super::*;

    #[test]
    fn an_open_rotation_tells_who_is_waited_for_and_what_to_type() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let old = Authority { fingerprint: "ab".repeat(32), until: at(1_764_864_000), ..Authority::default() };
        let new = Authority { fingerprint: "cd".repeat(32), until: at(1_764_864_000), since: at(1_763_999_940), signs: true };
        let holder = AuthorityHolder { name: "agent/db1".into(), why: "its certificate is of the old CA".into(), hint: "wait".into() };
        let answer = GetAuthoritiesResponse { authorities: vec![old.clone(), new], waiting_for: vec![holder], open_tokens: 2 };
        assert_eq!(
            authorities(&answer, Timestamp(1_764_000_000_000_000)),
            "CA            ENDS    STATE\n\
             abababababab  in 10d  OLD, trusted until it is retired\n\
             cdcdcdcdcdcd  in 10d  new, signs since 1m ago\n\
             ! agent/db1: its certificate is of the old CA. HINT: wait\n\
             2 join tokens that were not used yet end when the old CA is retired\n"
        );
        let answer = GetAuthoritiesResponse { authorities: vec![old], ..GetAuthoritiesResponse::default() };
        assert!(authorities(&answer, Timestamp(1_764_000_000_000_000)).contains("in force"));
    }
}
