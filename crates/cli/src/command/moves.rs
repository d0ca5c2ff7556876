//! What the commands that decide who may write have in common: names as `orders-db/istanbul`, words about machines, what may be lost.

use muster_wire::proto::v1::{LossBound, MachineStatement, MachineWord};

/// `orders-db/istanbul`, or `orders-db` alone.
#[must_use]
pub fn named(text: &str) -> (String, String) {
    let (component, instance) = text.split_once('/').unwrap_or((text, ""));
    (component.to_owned(), instance.to_owned())
}

/// `istanbul=off` or `istanbul=fenced`.
///
/// # Errors
/// Where it is neither.
pub fn word(text: &str) -> Result<MachineWord, String> {
    let (instance, states) = text.split_once('=').ok_or("expected INSTANCE=off or INSTANCE=fenced")?;
    let states = match states {
        "off" => MachineStatement::Off,
        "fenced" => MachineStatement::Fenced,
        other => return Err(format!("{other:?} is no statement: off (the machine is off) or fenced (`muster-agent fence` was run there)")),
    };
    Ok(MachineWord { instance: instance.to_owned(), states: states.into() })
}

/// A number of bytes, or `unknown`.
///
/// # Errors
/// Where it is neither.
pub fn ceiling(text: &str) -> Result<LossBound, String> {
    match text {
        "unknown" => Ok(LossBound { bytes: None, time: None }),
        bytes => match bytes.parse() {
            Ok(0) => Ok(LossBound { bytes: Some(0), time: Some(prost_types::Duration::default()) }),
            Ok(bytes) => Ok(LossBound { bytes: Some(bytes), time: None }),
            Err(_) => Err(format!("{text:?} is no number of bytes; `unknown` approves a loss without a known bound")),
        },
    }
}

/// What words state, for whoever gives them to read before.
#[must_use]
pub fn stated(words: &[MachineWord], accept_loss: Option<&LossBound>) -> String {
    let mut text = String::new();
    for word in words {
        let what = match word.states() {
            MachineStatement::Fenced => "`muster-agent fence` was run on its machine and said that it holds",
            MachineStatement::Off | MachineStatement::Unspecified => {
                "its machine is switched OFF, and stays off until Muster let it rejoin"
            }
        };
        text.push_str(&format!(
            "YOU STATE of {}: {what}.\nIf that is wrong, two instances may take writes. It is recorded with your name.\n",
            word.instance
        ));
    }
    match accept_loss {
        None => {}
        Some(LossBound { bytes: Some(0), time: Some(_) }) => {}
        Some(LossBound { bytes: Some(bytes), .. }) => text.push_str(&format!("YOU APPROVE that up to {bytes} bytes of log are LOST.\n")),
        Some(LossBound { bytes: None, .. }) => text.push_str("YOU APPROVE that commits are LOST, and that nobody knows how many.\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ceilings_are_read_and_nothing_else() {
        assert_eq!(word("istanbul=off").unwrap().states(), MachineStatement::Off);
        assert_eq!(word("istanbul=fenced").unwrap().instance, "istanbul");
        assert!(word("istanbul").is_err() && word("istanbul=down").is_err());
        assert_eq!(ceiling("4096").unwrap().bytes, Some(4096));
        assert_eq!(ceiling("unknown").unwrap().bytes, None);
        assert!(ceiling("some").is_err() && ceiling("-1").is_err());
    }

    #[test]
    fn a_loss_that_is_not_known_is_told_as_such() {
        assert!(stated(&[], ceiling("unknown").ok().as_ref()).contains("nobody knows how many"));
        assert!(stated(&[word("a=off").unwrap()], None).contains("machine is switched OFF"));
    }
}
