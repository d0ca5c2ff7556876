//! Numbers that only grow: epochs, terms, revisions, event numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one. `None` at the end of 64 bits, which nothing reaches.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(next) => Some(Self(next)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

counters! {
    /// The number of a writer's reign. 0 means that none is known yet; the first is 1.
    Epoch;
    /// The number of a controller's rule. Grows at each start. The first is 1.
    Term;
    /// The number of an assignment.
    Revision;
    /// The number of a journaled transition, dense over one store from 1.
    EventNumber;
}
