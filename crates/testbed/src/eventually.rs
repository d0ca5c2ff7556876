//! Waiting for a condition with a bound. The only place that sleeps: tests poll what they wait for and never hope.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `look` finds something, for at most `bound`.
///
/// # Errors
/// When the bound is over: says what was waited for and what the last look said. `look` itself must not hang.
pub async fn eventually<T>(what: &str, bound: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        let seen = look().await;
        match seen {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if began.elapsed() < bound => tokio::time::sleep(PAUSE).await,
            Err(_) if began.elapsed() < bound => tokio::time::sleep(PAUSE).await,
            Ok(None) => return Err(anyhow!("waited {bound:?} in vain for {what}")),
            Err(error) => return Err(error.context(format!("waited {bound:?} in vain for {what}"))),
        }
    }
}

/// The same for a plain condition.
///
/// # Errors
/// As [`eventually`].
pub async fn until(what: &str, bound: Duration, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    eventually(what, bound, async || Ok(holds().await?.then_some(()))).await
}
