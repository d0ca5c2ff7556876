//! What a store can do, tried out when a repository is registered.

/// What was tried and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// What works, in words.
    pub able: Vec<String>,
    /// What a backup needs and does not work, in words. Empty: the store can be used.
    pub missing: Vec<String>,
    /// What works, but weaker than it should, in words.
    pub weak: Vec<String>,
}
