//! What is declared now, in memory, for whoever asks often: each observation, each status page.
//!
//! What always holds: it is replaced after the store was, by the one that makes assignments; it never shows what was not committed.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Declared;

/// The declarations in force. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Current {
    declared: Arc<ArcSwap<Declared>>,
}

impl Current {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Arc<Declared> {
        self.declared.load_full()
    }

    /// Puts what was committed in force.
    pub fn replace(&self, declared: Declared) {
        self.declared.store(Arc::new(declared));
    }
}
