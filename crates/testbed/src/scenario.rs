//! Runs one scenario in a world of its own, with a bound, and shows the logs' last lines where it fails.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::world::World;

/// No scenario takes longer; what hangs is a failure.
const LONGEST: Duration = Duration::from_secs(600);

/// Runs `body`. A test calls this and nothing else.
///
/// # Panics
/// Where the scenario fails: with the error and the last lines of all logs.
#[expect(clippy::panic, reason = "a failed scenario is a failed test")]
pub fn scenario(body: impl AsyncFnOnce(World) -> Result<()>) {
    let world = World::new().unwrap_or_else(|error| panic!("{error:#}"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap_or_else(|error| panic!("{error}"));
    let kept = world.clone();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::time::timeout(LONGEST, body(world)).await.context("the scenario took too long").and_then(|done| done)
        })
    }));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let tails = kept.tails();
            panic!("{error:#}\n{tails}");
        }
        Err(panic) => {
            eprintln!("{}", kept.tails());
            std::panic::resume_unwind(panic);
        }
    }
}
