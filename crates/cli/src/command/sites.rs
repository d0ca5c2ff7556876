//! What `muster switchover --site` and `muster failover --site` have in common.

use clap::{Args, ValueEnum};
use muster_common::fault::{ErrorKind, Fault};
use muster_wire::proto::v1::{MachineStatement, MachineWord, SiteFailure};

/// Which site, and how its components are moved.
#[derive(Debug, Args)]
pub struct Whole {
    /// Instead of a component: every component whose writer stands at this site, each by an operation of its own.
    #[arg(long, value_name = "SITE", conflicts_with_all = ["component", "to"])]
    pub site: Option<String>,
    /// Where the writers go. Default: to any other site.
    #[arg(long, value_name = "SITE", requires = "site")]
    to_site: Option<String>,
    /// What a component that fails does to the rest. Default: a switchover stops, a failover goes on.
    #[arg(long, value_enum, requires = "site")]
    on_failure: Option<OnFailure>,
    /// How many components are moved at once, 100 at most. Default: 8.
    #[arg(long, value_name = "COUNT", requires = "site")]
    at_once: Option<u32>,
}

/// What a component that fails does to the rest.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnFailure {
    /// None begins any more.
    Stop,
    /// All others are moved.
    GoOn,
}

impl Whole {
    /// Where the writers go. Empty: to any other site.
    #[must_use]
    pub fn to_site(&self) -> String {
        self.to_site.clone().unwrap_or_default()
    }

    /// As it is sent.
    #[must_use]
    pub fn on_failure(&self) -> SiteFailure {
        match self.on_failure {
            None => SiteFailure::Unspecified,
            Some(OnFailure::Stop) => SiteFailure::Stop,
            Some(OnFailure::GoOn) => SiteFailure::GoOn,
        }
    }

    /// As it is sent: 0 where nobody said.
    #[must_use]
    pub fn at_once(&self) -> u32 {
        self.at_once.unwrap_or_default()
    }
}

/// What is stated of all machines of the site.
///
/// # Errors
/// Where a word is about anything else.
pub fn stated(site: &str, words: &[MachineWord]) -> Result<MachineStatement, Fault> {
    match words {
        [] => Ok(MachineStatement::Unspecified),
        [word] if word.instance == site => Ok(word.states()),
        [..] => Err(Fault::refused(ErrorKind::InvalidArgument, "with --site a word is about all machines of that site")
            .hint(format!("--word {site}=off, or --word {site}=fenced; what differs by machine: muster failover COMPONENT, one by one"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::moves::word;

    #[test]
    fn a_word_with_a_site_is_about_the_site_and_nothing_else() {
        assert_eq!(stated("istanbul", &[word("istanbul=off").unwrap()]).unwrap(), MachineStatement::Off);
        assert_eq!(stated("istanbul", &[]).unwrap(), MachineStatement::Unspecified);
        assert!(stated("istanbul", &[word("ankara=off").unwrap()]).unwrap_err().hint.contains("istanbul=off"));
        assert!(stated("istanbul", &[word("istanbul=off").unwrap(), word("istanbul=off").unwrap()]).is_err());
    }
}
