//! The control plane's benchmark at a small size: 100 simulated agents in a process of their own. What it measures at larger sizes is told by
//! `make bench NAME=control-plane`; here only what must hold on any machine is asserted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::scenario::scenario;
use serde_json::Value;

#[test]
fn a_hundred_agents_are_served_and_come_back_after_a_kill() {
    scenario(async |world| {
        for program in ["muster", "muster-controller", "simulated-agents"] {
            world.program(program)?;
        }
        let mut launch = world.launch("bench", world.program("bench")?, RunAs::Caller);
        launch
            .environment
            .extend([("AGENTS", "100"), ("RATE", "10"), ("SECONDS", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        launch.arguments = vec!["control-plane".to_owned()];
        println!("{}", launch.run(Duration::from_secs(120)).await?.success()?);
        let figures: Value = serde_json::from_str(&std::fs::read_to_string(world.path("target/bench/control-plane.json"))?)?;
        let of = |what: &str| -> Result<f64> {
            let found = figures.as_array().into_iter().flatten().find(|one| one["what"].as_str().is_some_and(|text| text.contains(what)));
            found.and_then(|one| one["muster"].as_f64()).with_context(|| format!("no figure for {what}"))
        };
        ensure!(of("memory of the controller")? < 256.0, "more than 256 KiB for each agent");
        ensure!(of("all back")? < 30.0, "they did not come back within 30 s");
        ensure!(of("handshakes refused")? == 0.0, "handshakes were refused");
        ensure!(of("journal transitions")? > 0.0, "nothing was journaled");
        Ok(())
    });
}
