//! A crowd of simulated agents in a process of its own: `simulated-agents ENDPOINT CONTROLLER_STATE SITE COUNT`. They are named `a00000` and
//! so on. What happens is told as lines of JSON: how many are connected, how long each command was under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use muster_testbed::simulated::live::{Counts, Simulated};
use muster_testbed::simulated::{authority, credentials};

/// At the beginning so many connect in a second.
const JOINING: u64 = 500;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, state, site, count] = arguments.as_slice() else { bail!("simulated-agents ENDPOINT CONTROLLER_STATE SITE COUNT") };
    let endpoint: muster_identity::endpoint::Endpoint = endpoint.parse().context("ENDPOINT is host:port")?;
    let count: u64 = count.parse().context("COUNT is a number")?;
    let authority = authority(state.as_ref())?;
    let counts = Arc::new(Counts::default());
    for number in 0..count {
        let agent = Simulated::new(credentials(&authority, site, &format!("a{number:05}"))?, endpoint.clone(), counts.clone());
        let wait = Duration::from_millis(number * 1_000 / JOINING);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            agent.live().await;
        });
    }
    let mut last = String::new();
    loop {
        let told = format!(
            "{{\"connected\": {}, \"failed\": {}, \"ended\": {}, \"commands\": {}, \"repeated\": {}}}",
            counts.connected.load(Ordering::Relaxed),
            counts.failed.load(Ordering::Relaxed),
            counts.ended.load(Ordering::Relaxed),
            counts.commands.load(Ordering::Relaxed),
            counts.repeated.load(Ordering::Relaxed)
        );
        if told != last {
            println!("{told}");
            last = told;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
