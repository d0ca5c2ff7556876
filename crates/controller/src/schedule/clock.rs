//! The wall clock that schedules and pauses go by: the machine's, shifted by nothing but a test of this crate.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use muster_common::time::Timestamp;

/// A wall clock. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Microseconds that are added to the machine's clock.
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(muster_service::clock::now().0.saturating_add(self.offset.load(Ordering::SeqCst)))
    }

    /// Makes it `at` now, as somebody who sets the machine's clock; it runs on from there.
    pub fn set(&self, at: Timestamp) {
        self.offset.store(at.0.saturating_sub(muster_service::clock::now().0), Ordering::SeqCst);
    }
}
