//! Where and when something is decided: the machine, its boot, and time as this boot counts it. The caller reads them; nothing here has a clock.

use std::time::Duration;

use muster_common::counter::Term;
use muster_common::id::{BootId, MachineId, RuleId};
use serde::{Deserialize, Serialize};

/// Time since this boot, sleep included (`CLOCK_BOOTTIME`). It means nothing in another boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uptime(pub Duration);

/// The machine that decides, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Here {
    /// Its machine id.
    pub machine: MachineId,
    /// The kernel's boot and the run folder's, as one id.
    pub boot: BootId,
    /// How long this boot has lasted.
    pub now: Uptime,
}

/// Until when something may be done. Another boot ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limit {
    /// The boot that it was given in.
    pub boot: BootId,
    /// The last moment.
    pub until: Uptime,
}

impl Limit {
    /// A limit that passes `lasts` from now.
    #[must_use]
    pub fn after(here: &Here, lasts: Duration) -> Self {
        Self { boot: here.boot, until: Uptime(here.now.0.saturating_add(lasts)) }
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(&self, here: &Here) -> bool {
        self.boot != here.boot || here.now > self.until
    }
}

/// How long something that forbids goes on. A boot does not end it: it is counted afresh, in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Its whole length.
    pub lasts: Duration,
    /// From when it counts, in the boot of the control file that it stands in.
    pub from: Uptime,
}

impl Span {
    /// Whether it goes on.
    #[must_use]
    pub fn live(&self, now: Uptime) -> bool {
        now.0.saturating_sub(self.from.0) < self.lasts
    }
}

/// A controller's rule: the term grows at each start; the id tells apart two controllers that came to the same term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Its number.
    pub term: Term,
    /// Drawn at random when the term was taken.
    pub id: RuleId,
}

impl Rule {
    /// Whether who obeys this rule refuses `other`: a lower term, or another controller of the same one.
    #[must_use]
    pub fn refuses(&self, other: &Self) -> bool {
        other.term < self.term || (other.term == self.term && other.id != self.id)
    }
}
