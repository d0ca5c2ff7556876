//! Whether an agent's Hello can be served, and what it tells: pure decisions on the first message of a session.
//!
//! It knows nothing of streams or stores. The clock is an argument.

use std::time::Duration;

use muster_common::id::BootId;
use muster_common::time::Timestamp;
use muster_wire::LINK_PROTOCOL;
use muster_wire::proto::agent::v1::{Goodbye, Hello, ProtocolVersion};

/// From this offset on an agent's clock is shown as a problem.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The most that an agent may list in one Hello: instances, unfinished tasks, revoked serials each.
pub const MOST_LISTED: usize = 10_000;

/// Why a Hello is refused for good: a person has to do something first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent is too old.
    #[error(
        "the agent ({build}) speaks protocol {theirs} and this controller {ours} and {previous}: upgrade the agent to the controller's version"
    )]
    AgentTooOld {
        /// The agent's build.
        build: String,
        /// Its protocol, as major.minor.
        theirs: String,
        /// Ours.
        ours: String,
        /// The oldest that we serve.
        previous: String,
    },
    /// The agent is newer than this controller.
    #[error(
        "the agent ({build}) speaks protocol {theirs} and this controller only up to {ours}: upgrade the controller first, then agents"
    )]
    ControllerTooOld {
        /// The agent's build.
        build: String,
        /// Its protocol, as major.minor.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// It is no Hello that an agent sends.
    #[error("the agent's hello cannot be read: {0}: upgrade or reinstall the agent")]
    Malformed(String),
}

impl Refusal {
    /// What the agent is told.
    #[must_use]
    pub fn goodbye(&self) -> Goodbye {
        Goodbye { reason: self.to_string(), retry_after: None, r#final: true }
    }
}

/// The version that a session uses: the agent's, where it is `ours` or the minor before.
///
/// # Errors
/// With which side has to be upgraded.
pub fn agree(ours: ProtocolVersion, theirs: Option<ProtocolVersion>, build: &str) -> Result<ProtocolVersion, Refusal> {
    let theirs = theirs.ok_or_else(|| Refusal::Malformed("it carries no protocol version".into()))?;
    let build: String = build.chars().take(80).collect();
    let oldest = ProtocolVersion { major: ours.major, minor: ours.minor.saturating_sub(1) };
    let order = |version: &ProtocolVersion| (version.major, version.minor);
    if order(&theirs) > order(&ours) {
        return Err(Refusal::ControllerTooOld { build, theirs: show(&theirs), ours: show(&ours) });
    }
    if order(&theirs) < order(&oldest) {
        return Err(Refusal::AgentTooOld { build, theirs: show(&theirs), ours: show(&ours), previous: show(&oldest) });
    }
    Ok(theirs)
}

fn show(version: &ProtocolVersion) -> String {
    format!("{}.{}", version.major, version.minor)
}

/// Checks the form of a Hello and agrees on a version.
///
/// # Errors
/// See [`Refusal`].
pub fn judge(hello: &Hello) -> Result<ProtocolVersion, Refusal> {
    let version = agree(LINK_PROTOCOL, hello.protocol, &hello.build)?;
    if hello.encryption_key.len() != 32 {
        return Err(Refusal::Malformed(format!("its encryption key has {} bytes and not 32", hello.encryption_key.len())));
    }
    if !hello.boot_id.is_empty() && hello.boot_id.parse::<BootId>().is_err() {
        return Err(Refusal::Malformed("its boot id is none".into()));
    }
    let longest = hello.epochs.len().max(hello.unfinished.len()).max(hello.revoked_serials.len());
    if longest > MOST_LISTED {
        return Err(Refusal::Malformed(format!("it lists {longest} entries; {MOST_LISTED} is the bound")));
    }
    Ok(version)
}

/// How far an agent's clock is ahead of ours, in milliseconds; negative: behind.
#[must_use]
pub fn clock_offset_ms(theirs: Timestamp, ours: Timestamp) -> i64 {
    theirs.0.saturating_sub(ours.0) / 1_000
}

/// The problem that a clock offset is, in words.
#[must_use]
pub fn clock_problem(offset_ms: i64) -> Option<String> {
    let off = Duration::from_millis(offset_ms.unsigned_abs());
    let direction = if offset_ms > 0 { "ahead of" } else { "behind" };
    (off > CLOCK_TOLERANCE)
        .then(|| format!("its clock is {} {direction} the controller's; check NTP on both machines", muster_common::duration::show(off)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(major: u32, minor: u32) -> ProtocolVersion {
        ProtocolVersion { major, minor }
    }

    #[test]
    fn this_and_the_previous_minor_version_are_served() {
        assert_eq!(agree(v(1, 3), Some(v(1, 3)), "x"), Ok(v(1, 3)));
        assert_eq!(agree(v(1, 3), Some(v(1, 2)), "x"), Ok(v(1, 2)));
        assert_eq!(agree(v(1, 0), Some(v(1, 0)), "x"), Ok(v(1, 0)));
    }

    #[test]
    fn a_refusal_says_which_side_to_upgrade() {
        for old in [v(1, 1), v(0, 9)] {
            let goodbye = agree(v(1, 3), Some(old), "0.1.0").unwrap_err().goodbye();
            assert!(goodbye.r#final && goodbye.reason.contains("upgrade the agent"), "{goodbye:?}");
        }
        for new in [v(1, 4), v(2, 0)] {
            let goodbye = agree(v(1, 3), Some(new), "9.1.0").unwrap_err().goodbye();
            assert!(goodbye.r#final && goodbye.reason.contains("upgrade the controller"), "{goodbye:?}");
        }
    }

    #[test]
    fn a_hello_without_version_or_with_a_wrong_key_or_boot_id_is_refused() {
        let good = Hello { protocol: Some(LINK_PROTOCOL), encryption_key: vec![1; 32], boot_id: "ab".repeat(16), ..Hello::default() };
        assert_eq!(judge(&good), Ok(LINK_PROTOCOL));
        for bad in [
            Hello { protocol: None, ..good.clone() },
            Hello { encryption_key: vec![1; 31], ..good.clone() },
            Hello { boot_id: "x".into(), ..good.clone() },
            Hello { revoked_serials: vec![String::new(); MOST_LISTED + 1], ..good },
        ] {
            assert!(matches!(judge(&bad), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_five_seconds_is_a_problem() {
        let ours = Timestamp(1_000_000_000);
        for (theirs, problem) in [(1_005_000_000, None), (1_005_001_000, Some("ahead of")), (994_000_000, Some("behind"))] {
            let told = clock_problem(clock_offset_ms(Timestamp(theirs), ours));
            assert_eq!(told.is_some(), problem.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(problem.unwrap_or_default()));
        }
    }
}
