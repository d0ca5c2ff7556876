//! What an agent keeps of one instance: role, highest reign, pledges. Its control file holds exactly this, outside the data directory.
//!
//! ```text
//!  Unmanaged --taken over--> Writer(r) <--------- confirmed again ---------+
//!     |                        | stop, boot, a higher reign                |
//!     |                        v                                          |
//!     |                     Stopped(r) ---- signs a receipt ----> Stopped(r, ceded) --follow--> Follower
//!     |                        ^  | grant of a later reign                                          |
//!     |                        |  v                                                                 |
//!     +--> Follower -------- Promoting(r') --> Writer(r')      <----------- grant ------------------+
//! ```
//! A boot ends only what permits; what forbids survives it: pledges count afresh in full, their nonces are gone.

use std::collections::BTreeSet;

use muster_common::id::{BootId, MachineId, Nonce};
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::here::{Here, Limit, Rule, Span, Uptime};
use crate::position::Position;
use crate::reign::{Line, Mark};

/// As many pledges are kept at most; one more is refused.
pub const MOST_PLEDGES: usize = 16;

/// The control file's content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Control {
    /// The machine that it was written on.
    pub machine: MachineId,
    /// The boot that it was last written in.
    pub boot: BootId,
    /// The component.
    pub component: Name,
    /// The instance that this agent keeps.
    pub instance: Name,
    /// The highest reign known here, with its ancestors.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// What the instance is.
    pub role: Role,
    /// How far it was seen to be, each second.
    pub last: Option<Position>,
    /// What this agent refuses.
    pub pledges: Vec<Pledge>,
    /// The rule of the controller that was last obeyed.
    pub rule: Option<Rule>,
    /// The number of the last command taken on under that rule.
    pub sequence: u64,
    /// The other instances of the component, as last declared.
    pub others: BTreeSet<Name>,
    /// Nobody else was ever seeded from this writer or promoted beside it: it may start alone.
    pub sole: bool,
}

/// What an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Role {
    /// It is only observed.
    Unmanaged,
    /// It takes writes.
    Writer {
        /// In this reign.
        reign: Mark,
    },
    /// It wrote in this reign, or was to, and is stopped, or being stopped.
    Stopped {
        /// The reign.
        reign: Mark,
        /// What stopped it.
        why: Why,
        /// When it asks for a permit again by itself.
        until: Option<Limit>,
        /// The last successor that it signed a receipt for: it never writes again in its own reign nor in that one.
        ceded_to: Option<Mark>,
    },
    /// It becomes the writer of this reign.
    Promoting {
        /// The reign.
        reign: Mark,
        /// Until when the grant may be carried out.
        until: Limit,
    },
    /// It follows.
    Follower {
        /// It is kept as it is while the writer is restored in place: it takes nothing over.
        kept: bool,
    },
    /// A follower that does not run until it is seeded anew.
    Held {
        /// What was found.
        why: Why,
    },
    /// There are no data.
    Absent,
}

/// What stopped an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A step of an operation. It may come back when its limit passes, if it is confirmed.
    Operation,
    /// An operator's fence. Only `unfence` ends it.
    Fence,
    /// It may come back and asks by itself: after a boot, an unfence, a switchover that went back.
    Asking,
    /// A higher reign was shown.
    HigherReign,
    /// Its data are older than what was seen of it.
    RolledBack,
    /// It took writes as a follower, or holds more than its upstream.
    Strayed,
}

/// What this agent refuses, durably.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "pledge", rename_all = "snake_case")]
pub enum Pledge {
    /// It stands ready to be promoted after `reign`, and confirms nobody's start in it.
    Candidacy {
        /// The reign that would end.
        reign: Mark,
        /// Its writer, as known here: it must be among those that are proved.
        against: Name,
        /// Told to nobody but who asks for the proofs. Gone after a boot.
        nonce: Option<Nonce>,
        /// How long.
        span: Span,
    },
    /// It confirmed a start in `reign`: meanwhile it is promoted on receipts and external proofs only.
    Patience {
        /// The reign.
        reign: Mark,
        /// How long.
        span: Span,
    },
}

impl Pledge {
    /// How long it lasts.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Candidacy { span, .. } | Self::Patience { span, .. } => *span,
        }
    }
}

impl Control {
    /// What holds of this file in the boot `here`: unchanged in its own boot. In another one the writer is stopped and asks again, a
    /// promotion that was under way is stopped, limits are void, pledges begin afresh without their nonces.
    #[must_use]
    pub fn in_boot(&self, here: &Here) -> Self {
        if self.boot == here.boot {
            return self.clone();
        }
        let role = match &self.role {
            Role::Writer { reign } | Role::Promoting { reign, .. } => {
                Role::Stopped { reign: *reign, why: Why::Asking, until: None, ceded_to: None }
            }
            // Its limit is void, and it asks at once; a receipt stays a receipt.
            Role::Stopped { reign, why: Why::Operation, ceded_to, .. } => {
                Role::Stopped { reign: *reign, why: Why::Asking, until: None, ceded_to: *ceded_to }
            }
            Role::Stopped { .. } | Role::Unmanaged | Role::Follower { .. } | Role::Held { .. } | Role::Absent => self.role.clone(),
        };
        let pledges = self.pledges.iter().map(|pledge| afresh(pledge, here.now)).collect();
        Self { boot: here.boot, role, pledges, ..self.clone() }
    }

    /// Whether it may ask for a writer's permit by itself now.
    #[must_use]
    pub fn asks(&self, here: &Here) -> bool {
        match &self.role {
            Role::Stopped { ceded_to: Some(_), .. } => false,
            Role::Stopped { why, until, .. } => match why {
                Why::Asking => true,
                Why::Operation => until.is_some_and(|limit| limit.passed(here)),
                Why::Fence | Why::HigherReign | Why::RolledBack | Why::Strayed => false,
            },
            // Its permit is gone and nothing runs: the look tells, and it asks.
            Role::Writer { .. } => true,
            Role::Promoting { .. } | Role::Unmanaged | Role::Follower { .. } | Role::Held { .. } | Role::Absent => false,
        }
    }

    /// The live nonce of its candidacy against `reign`.
    #[must_use]
    pub fn candidacy(&self, reign: Mark, now: Uptime) -> Option<(&Name, Nonce)> {
        self.pledges.iter().find_map(|pledge| match pledge {
            Pledge::Candidacy { reign: of, against, nonce: Some(nonce), span } if *of == reign && span.live(now) => Some((against, *nonce)),
            Pledge::Candidacy { .. } | Pledge::Patience { .. } => None,
        })
    }

    /// Whether it stands as a candidate against `reign`, its nonce known or gone.
    #[must_use]
    pub fn stands_against(&self, reign: Mark, now: Uptime) -> bool {
        self.pledges.iter().any(|pledge| match pledge {
            Pledge::Candidacy { reign: of, span, .. } => *of == reign && span.live(now),
            Pledge::Patience { .. } => false,
        })
    }

    /// Whether it confirmed a start and is bound by that still. A confirmation in any reign binds: reigns may move meanwhile.
    #[must_use]
    pub fn is_patient(&self, now: Uptime) -> bool {
        self.pledges.iter().any(|pledge| match pledge {
            Pledge::Patience { span, .. } => span.live(now),
            Pledge::Candidacy { .. } => false,
        })
    }

    /// The same without the pledges that have run out, and with `pledge`. `None` where there are too many.
    #[must_use]
    pub fn with_pledge(&self, pledge: Pledge, now: Uptime) -> Option<Self> {
        let mut pledges: Vec<_> = self.pledges.iter().filter(|kept| kept.span().live(now)).cloned().collect();
        if !pledges.contains(&pledge) {
            pledges.push(pledge);
        }
        (pledges.len() <= MOST_PLEDGES).then(|| Self { pledges, ..self.clone() })
    }

    /// The same with `line` known as the highest, written by `writer`. The caller has checked that it is not lower.
    #[must_use]
    pub fn knowing(&self, line: &Line, writer: &Name) -> Self {
        Self { line: line.clone(), writer: writer.clone(), ..self.clone() }
    }
}

fn afresh(pledge: &Pledge, now: Uptime) -> Pledge {
    match pledge {
        Pledge::Candidacy { reign, against, span, .. } => {
            Pledge::Candidacy { reign: *reign, against: against.clone(), nonce: None, span: Span { from: now, ..*span } }
        }
        Pledge::Patience { reign, span } => Pledge::Patience { reign: *reign, span: Span { from: now, ..*span } },
    }
}
