//! A failure as a person needs it: what failed, what was seen, what it did to the world, what to do next.

use muster_common::fault::{Effect, Fault};

/// The lines for standard error.
#[must_use]
pub fn fault(fault: &Fault) -> String {
    let mut text = format!("muster: {}\n", fault.message);
    text.push_str(&body(fault, "  "));
    text
}

/// All but the message, each line behind `indent`.
#[must_use]
pub fn body(fault: &Fault, indent: &str) -> String {
    let mut text = String::new();
    for seen in &fault.evidence {
        text.push_str(&format!("{indent}seen: {seen}\n"));
    }
    text.push_str(&format!("{indent}effect: {}\n", effect(fault.effect)));
    if !fault.hint.is_empty() {
        text.push_str(&format!("{indent}HINT: {}\n", fault.hint));
    }
    text
}

/// What the failure did to the world.
#[must_use]
pub const fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "nothing was changed",
        Effect::Unknown => "it is not known what was changed",
        Effect::Done => "it was done; what failed came after",
    }
}

#[cfg(test)]
mod tests {
    use muster_common::fault::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_says_why_and_what_would_lift_it() {
        let refusal = Fault::refused(ErrorKind::FailedPrecondition, "back up orders-db/istanbul: the server does not answer")
            .evidence("connect to 10.1.0.5:5432: connection refused (2s ago)")
            .hint("start the server, then `muster backup orders-db`");
        assert_eq!(
            fault(&refusal),
            "muster: back up orders-db/istanbul: the server does not answer\n  \
             seen: connect to 10.1.0.5:5432: connection refused (2s ago)\n  \
             effect: nothing was changed\n  \
             HINT: start the server, then `muster backup orders-db`\n"
        );
    }
}
