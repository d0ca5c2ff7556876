//! A number that the environment may set. Knows nothing about what it is for.

use anyhow::{Context as _, Result};

/// `name` as the environment has it, or what is usual.
pub fn setting<T: std::str::FromStr>(name: &str, usual: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(usual),
    }
}
