//! Who would be locked out if the old CA were retired now: pure over what is stored.

use muster_common::time::Timestamp;
use muster_identity::fingerprint::Fingerprint;

use crate::store::agents::Record;

/// Somebody who still needs the old CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `agent/istanbul-db1` or `operator/ada`.
    pub name: String,
    /// What is missing.
    pub why: String,
    /// What to do.
    pub hint: String,
}

/// Agents that were not seen with a certificate of the new CA or have not told that they trust it, and operators that hold a certificate of
/// another one. Whoever is revoked, or has no good certificate any more, is locked out already.
#[must_use]
pub fn holders(agents: &[Record], operators: &[String], new: &Fingerprint, now: Timestamp) -> Vec<Holder> {
    let new = new.to_string();
    let needs = |agent: &Record| {
        let good = !agent.revoked && agent.certificate_until.is_some_and(|until| until > now);
        let why = match (agent.trusts.contains(&new), agent.authority == new) {
            _ if !good => return None,
            (true, true) => return None,
            (false, _) if agent.build.is_empty() => "it has joined and never connected",
            (false, _) => "it has not told that it trusts the new CA",
            (true, false) => "its certificate is of the old CA",
        };
        let name = &agent.name;
        let hint = format!("start it and let it connect (`muster agents`), upgrade it where it is older, or `muster agents revoke {name}`");
        Some(Holder { name: format!("agent/{name}"), why: why.to_owned(), hint })
    };
    let operator = |name: &String| Holder {
        name: name.clone(),
        why: "holds a certificate of the old CA".to_owned(),
        hint: "that operator types `muster context renew` in each place where the context is".to_owned(),
    };
    agents.iter().filter_map(needs).chain(operators.iter().map(operator)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn agent(name: &str) -> Record {
        Record {
            name: name.parse().unwrap(),
            site: "istanbul".parse().unwrap(),
            key_fingerprint: String::new(),
            encryption_key: String::new(),
            certificate_until: Some(Timestamp(2_000)),
            build: "0.1.0".into(),
            last_heard: None,
            refused_calls: 0,
            revoked: false,
            authority: String::new(),
            trusts: Vec::new(),
        }
    }

    #[test]
    fn whoever_is_not_seen_under_the_new_ca_is_named_and_whoever_is_out_already_is_not() {
        let new = Fingerprint::of(b"new");
        let text = new.to_string();
        let agents = [
            agent("silent"),
            Record { trusts: vec![text.clone()], ..agent("trusting") },
            Record { authority: text.clone(), trusts: vec!["old".into(), text.clone()], ..agent("through") },
            Record { revoked: true, ..agent("revoked") },
            Record { certificate_until: Some(NOW), ..agent("expired") },
            Record { build: String::new(), ..agent("fresh") },
        ];
        let holders = holders(&agents, &["operator/ada".into()], &new, NOW);
        let names: Vec<_> = holders.iter().map(|holder| holder.name.as_str()).collect();
        assert_eq!(names, ["agent/silent", "agent/trusting", "agent/fresh", "operator/ada"]);
    }
}
