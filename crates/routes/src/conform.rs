//! Whether an operator's program keeps the contract: tried out at a name that nobody uses.
//!
//! It refuses a name at which anything stands. What it leaves there points at addresses that nobody has (RFC 5737).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ReignId;
use muster_failover::reign::Mark;

use crate::change::Wanted;
use crate::domain::Domain;
use crate::program::Program;
use crate::provider::Replaced;
use crate::standing::{Marked, Records, Standing, Target};

/// How long a change may take to be seen, and how often it is looked for.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What the contract says.
    pub what: &'static str,
    /// How it was broken; `None` where it was kept.
    pub broken: Option<String>,
}

/// Tries a program out. Ends at the first check that is broken: the ones behind it rest on it.
///
/// # Errors
/// Where anything stands at the name, or it cannot be read.
pub async fn conform(program: &Program, zone: &Domain, name: &Domain) -> Result<Vec<Check>, Fault> {
    let nothing = program.read(zone, name).await?;
    if nothing != (Standing { records: None, mark: Marked::Nothing }) {
        let fault =
            Fault::refused(ErrorKind::FailedPrecondition, format!("try {} out at {name}: something stands there", program.path.display()));
        return Err(fault.evidence(format!("there stands: {nothing}")).hint("give a name that nobody uses: --name conform-1.ZONE"));
    }
    let trial = Trial { program, zone, name };
    let (first, second) = (wanted(1, &["192.0.2.1"], 60), wanted(2, &["192.0.2.2", "2001:db8::2"], 30));
    let mut checks = Vec::new();
    let mut kept = |what, outcome: Result<(), String>| {
        let broken = outcome.err();
        let go_on = broken.is_none();
        checks.push(Check { what, broken });
        go_on
    };
    let all = kept("compare says done where it stands so", trial.compare(&nothing, true).await)
        && kept("replace makes a name, and read shows it", trial.replace(&nothing, &first).await)
        && kept(
            "replace from what stood before is answered with changed, and changes nothing",
            trial.stale(&nothing, &second, &first).await,
        )
        && kept("compare with what stood before is answered with changed", trial.compare(&nothing, false).await)
        && kept("compare with what stands says done, and changes nothing", trial.compare(&first.standing(), true).await)
        && kept("replace moves addresses, TTL and reign together", trial.replace(&first.standing(), &second).await)
        && kept("a change of the TTL alone is made", trial.replace(&second.standing(), &wanted(2, &["192.0.2.2", "2001:db8::2"], 5)).await);
    if all {
        kept("of two replaces at once one is done", trial.race(&wanted(2, &["192.0.2.2", "2001:db8::2"], 5).standing()).await);
    }
    Ok(checks)
}

fn wanted(epoch: u64, addresses: &[&str], ttl: u32) -> Wanted {
    let addresses: BTreeSet<IpAddr> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let id = ReignId::from_bytes([u8::try_from(epoch).unwrap_or(u8::MAX); 16]);
    Wanted { records: Records { target: Target::Addresses(addresses), ttl }, mark: Mark { epoch: Epoch(epoch), id } }
}

struct Trial<'a> {
    program: &'a Program,
    zone: &'a Domain,
    name: &'a Domain,
}

impl Trial<'_> {
    async fn compare(&self, before: &Standing, holds: bool) -> Result<(), String> {
        match (self.program.compare(self.zone, self.name, before).await, holds) {
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => Err("it said done".to_owned()),
            (Err(fault), false) if fault.kind == ErrorKind::Conflict => Ok(()),
            (Err(fault), _) => Err(fault.to_string()),
        }
    }

    async fn replace(&self, before: &Standing, wanted: &Wanted) -> Result<(), String> {
        match self.program.replace(self.zone, self.name, before, wanted).await {
            Ok(Replaced::Told) => self.stands(wanted).await,
            Ok(Replaced::Changed(fault) | Replaced::Doubt(fault)) | Err(fault) => Err(fault.to_string()),
        }
    }

    async fn stale(&self, before: &Standing, wanted: &Wanted, stands: &Wanted) -> Result<(), String> {
        match self.program.replace(self.zone, self.name, before, wanted).await {
            Ok(Replaced::Changed(_)) => self.stands(stands).await,
            Ok(Replaced::Told) => Err("it said done".to_owned()),
            Ok(Replaced::Doubt(fault)) | Err(fault) => Err(fault.to_string()),
        }
    }

    async fn race(&self, before: &Standing) -> Result<(), String> {
        let (one, other) = (wanted(3, &["192.0.2.3"], 60), wanted(4, &["192.0.2.4"], 60));
        let (first, second) = tokio::join!(
            self.program.replace(self.zone, self.name, before, &one),
            self.program.replace(self.zone, self.name, before, &other)
        );
        match (first, second) {
            (Ok(Replaced::Told), Ok(Replaced::Changed(_))) => self.stands(&one).await,
            (Ok(Replaced::Changed(_)), Ok(Replaced::Told)) => self.stands(&other).await,
            (Ok(Replaced::Told), Ok(Replaced::Told)) => Err("both were answered with done".to_owned()),
            (first, second) => Err(format!("neither done and changed, but {} and {}", told(first), told(second))),
        }
    }

    async fn stands(&self, wanted: &Wanted) -> Result<(), String> {
        let mut seen = String::new();
        for _ in 0..LOOKS {
            match self.program.read(self.zone, self.name).await {
                Ok(standing) if wanted.is(&standing) => return Ok(()),
                Ok(standing) => seen = format!("read shows {standing}, and {} is wanted", wanted.standing()),
                Err(fault) => return Err(fault.to_string()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(seen)
    }
}

fn told(replaced: Result<Replaced, Fault>) -> String {
    match replaced {
        Ok(Replaced::Told) => "done".to_owned(),
        Ok(Replaced::Changed(_)) => "changed".to_owned(),
        Ok(Replaced::Doubt(fault)) | Err(fault) => fault.to_string(),
    }
}
