//! Whoever can change a name: read, compare, replace. Two of them, behind one enum.

use muster_common::fault::Fault;

use crate::change::Wanted;
use crate::dns::Primary;
use crate::domain::Domain;
use crate::program::Program;
use crate::standing::Standing;

/// Who changes a route's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The zone's primary, by RFC 2136.
    Dns(Primary),
    /// The operator's program.
    Program(Program),
}

/// How a replacement was answered. None of these is believed: the name is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is said to be done.
    Told,
    /// It did not stand as before any more.
    Changed(Fault),
    /// No answer that says whether it was done.
    Doubt(Fault),
}

impl Provider {
    /// What stands at `name`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read(&self, zone: &Domain, name: &Domain) -> Result<Standing, Fault> {
        match self {
            Self::Dns(primary) => primary.read(zone, name).await,
            Self::Program(program) => program.read(zone, name).await,
        }
    }

    /// Whether it stands as `before` and we may ask; changes nothing.
    ///
    /// # Errors
    /// Where it stands otherwise, or we may not.
    pub async fn compare(&self, zone: &Domain, name: &Domain, before: &Standing) -> Result<(), Fault> {
        match self {
            Self::Dns(primary) => primary.compare(zone, name, before).await,
            Self::Program(program) => program.compare(zone, name, before).await,
        }
    }

    /// Makes `before` into `wanted` where it still stands so, as one step.
    ///
    /// # Errors
    /// Where it is sure that nothing was done.
    pub async fn replace(&self, zone: &Domain, name: &Domain, before: &Standing, wanted: &Wanted) -> Result<Replaced, Fault> {
        match self {
            Self::Dns(primary) => primary.replace(zone, name, before, wanted).await,
            Self::Program(program) => program.replace(zone, name, before, wanted).await,
        }
    }
}
