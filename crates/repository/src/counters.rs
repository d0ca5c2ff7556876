//! How far a backup or a restore is, for whoever shows progress.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that only grow while work goes on. Plain bytes unless a field says otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Plain bytes read from the source, or written to the destination.
    pub bytes_done: AtomicU64,
    /// Plain bytes that there will be, as far as is known; the caller sets it.
    pub bytes_total: AtomicU64,
    /// Sealed bytes that had to be stored anew, or were fetched.
    pub bytes_stored: AtomicU64,
    /// Files finished.
    pub files_done: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
