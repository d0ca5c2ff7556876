//! The operator's own program as provider: one that keeps the contract, and ones that do not.

use std::time::Duration;

use anyhow::Result;
use muster_common::fault::ErrorKind;
use muster_routes::conform::conform;
use muster_routes::program::Program;
use muster_routes::provider::Provider;
use muster_routes::route::Route;
use muster_routes::standing::Marked;
use muster_testbed::account::RunAs;
use muster_testbed::world::World;

use crate::place::{lines, mark, of, site};

/// Keeps what stands in a file; LATE: the change is seen a second after it was answered.
const HONEST: &str = r#"#!/usr/bin/python3
import fcntl, json, os, subprocess, sys
place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standing.json")
lock = open(place + ".lock", "w"); fcntl.flock(lock, fcntl.LOCK_EX)
asked = json.load(sys.stdin)
try: stands = json.load(open(place))
except FileNotFoundError: stands = {"records": None, "mark": "nothing"}
if asked["verb"] == "read": print(json.dumps({"standing": stands}))
elif asked["before"] != stands: print(json.dumps({"changed": "there stands " + json.dumps(stands)}))
elif asked["verb"] == "compare": print(json.dumps({"done": {}}))
else:
    json.dump(asked["wanted"], open(place + ".new", "w"))
    late = "sleep 1; " if "late" in sys.argv else ""
    if late: subprocess.Popen(["setsid", "sh", "-c", late + "mv '%s.new' '%s'" % (place, place)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else: os.rename(place + ".new", place)
    print(json.dumps({"done": {}}))
"#;

/// Answers as done and does nothing.
const LIAR: &str = r#"#!/bin/sh
case "$(cat)" in
*'"read"'*) echo '{"standing":{"records":{"target":{"addresses":["10.0.0.1"]},"ttl":60},"mark":"nothing"}}' ;;
*) echo '{"done":{}}' ;;
esac
"#;

fn program(world: &World, text: &str, arguments: &[&str]) -> Result<Route> {
    let path = world.file("provider", text, RunAs::Caller, 0o755)?;
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Ok(of(Provider::Program(Program { path, arguments, limit: Duration::from_secs(5) }), Vec::new()))
}

async fn moves(route: &Route) -> Result<()> {
    let (first, second) = lines();
    route.adopt(&site("istanbul"), &first).await?;
    route.preflight(&first).await?;
    let moved = route.cut_over(&site("ankara"), &second).await?;
    assert_eq!(moved.now.mark, Marked::Reign(mark(2, 2)));
    assert_eq!(route.cut_over(&site("istanbul"), &first).await.expect_err("H15").kind, ErrorKind::Conflict);
    Ok(())
}

#[tokio::test]
async fn an_operators_program_moves_a_name() -> Result<()> {
    let world = World::new()?;
    moves(&program(&world, HONEST, &[])?).await
}

#[tokio::test]
async fn a_program_is_tried_out_at_a_name_that_nobody_uses_and_a_broken_one_is_told() -> Result<()> {
    let world = World::new()?;
    let route = program(&world, HONEST, &[])?;
    let Provider::Program(honest) = &route.provider else { anyhow::bail!("a program") };
    let checks = conform(honest, &route.zone, &route.name).await?;
    assert!(checks.len() == 8 && checks.iter().all(|check| check.broken.is_none()), "{checks:?}");
    let taken = conform(honest, &route.zone, &route.name).await.expect_err("something stands there now");
    assert!(taken.message.contains("something stands"), "{taken}");

    // Compares nothing: whoever comes last wins.
    let world = World::new()?;
    let blind = program(&world, &HONEST.replace("asked[\"before\"] != stands", "False"), &[])?;
    let Provider::Program(blind) = &blind.provider else { anyhow::bail!("a program") };
    let checks = conform(blind, &route.zone, &route.name).await?;
    let broken: Vec<_> = checks.iter().filter(|check| check.broken.is_some()).map(|check| check.what).collect();
    assert_eq!(broken, ["replace from what stood before is answered with changed, and changes nothing"], "{checks:?}");
    Ok(())
}

#[tokio::test]
async fn a_change_that_is_seen_late_is_waited_for() -> Result<()> {
    let world = World::new()?;
    moves(&program(&world, HONEST, &["late"])?).await
}

#[tokio::test]
async fn a_program_that_breaks_the_contract_is_told_how() -> Result<()> {
    let world = World::new()?;
    for (text, told) in [
        ("#!/bin/sh\necho hello\n", "its answer cannot be read"),
        ("#!/bin/sh\necho 'no credentials' >&2; exit 3\n", "no credentials"),
        ("#!/bin/sh\nyes | head -c 200000\n", "64 KiB"),
        ("#!/bin/sh\nsleep 60\n", "was killed"),
        ("#!/bin/sh\necho '{\"refused\":\"not on Fridays\"}'\n", "not on Fridays"),
        (
            "#!/bin/sh\necho '{\"standing\":{\"records\":{\"target\":{\"addresses\":[\"10.0.0.1\"]},\"ttl\":60},\"mark\":\"nothing\"}}'\n",
            "answers no replace",
        ),
        (LIAR, "nothing happened"),
    ] {
        let mut route = program(&world, text, &[])?;
        if let Provider::Program(program) = &mut route.provider {
            program.limit = Duration::from_secs(1);
        }
        let fault = route.adopt(&site("istanbul"), &lines().0).await.expect_err("a broken program");
        assert!(fault.to_string().contains(told) && !fault.hint.is_empty(), "{told}: {fault}");
    }
    Ok(())
}
