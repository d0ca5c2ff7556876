//! Every kind, crashed at every step: by SIGKILL at each of the controller's stops, and cut after each journaled transition. Each ends
//! in exactly one effect.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::StreamExt;
use muster_common::counter::EventNumber;
use muster_controller::operation::asked::{Asked, Place, What};
use muster_controller::operation::watch::WatchUpdate;
use muster_controller::store::{events, points};
use muster_wire::proto::v1::{self, OperationState};

use crate::agent::*;
use crate::sim::*;

const KINDS: [&str; 5] = ["backup", "restore", "check", "verify", "discard"];
const STOPS: [&str; 5] = [
    "controller.stop2.accepted",
    "controller.stop3.decided",
    "controller.stop4.sent",
    "controller.stop8.reported",
    "controller.stop9.recorded",
];

const FOLDER: &str = "MUSTER_TEST_CRASH_FOLDER";
const KIND: &str = "MUSTER_TEST_CRASH_KIND";

/// The request of a kind; asked again it answers the same operation.
async fn request(kind: &str, controller: &Controller) -> Asked {
    let what = match kind {
        "backup" => backup(Some("istanbul")),
        "restore" => What::Restore(restore(Place::InPlace)),
        "check" => check(),
        "verify" => verify(),
        _ => {
            let first = controller.operations.start(named("first", What::Restore(restore(Place::InPlace)))).await.unwrap();
            controller.ends(&first.id).await;
            What::Discard { restore: first.id }
        }
    };
    named("the-one", what)
}

fn named(request_id: &str, what: What) -> Asked {
    let mut asked = asked(what);
    asked.request_id = Some(request_id.into());
    asked
}

/// How many effects the agent has when all is done, and which epoch is then.
fn expected(kind: &str) -> (usize, u64) {
    match kind {
        "discard" => (2, 2),
        "restore" => (1, 2),
        _ => (1, 1),
    }
}

async fn judge(kind: &str, id: &str, controller: &Controller, agent: &Agent) {
    let ended = controller.ends(id).await;
    assert_eq!(ended.state(), OperationState::Succeeded, "{ended:?}");
    each_effect_once(agent);
    let epoch = controller.epoch().await;
    assert_eq!((agent.disk().effects.len(), epoch), expected(kind), "{kind}");
    let mut read = controller.store.read().await.unwrap();
    let known = points::list(&mut read, &name("orders-db"), None, 10).await.unwrap();
    assert_eq!(known.len(), usize::from(kind == "backup"));
    let journal = events::list(&mut read, None, EventNumber(0), 1_000).await.unwrap();
    let numbers: Vec<_> = journal.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "dense");
    let operations: std::collections::BTreeSet<_> = journal.iter().map(|event| event.operation.as_ref().unwrap().id.clone()).collect();
    assert_eq!(operations.len(), if kind == "discard" { 2 } else { 1 }, "asked twice, accepted once");
    until("the outcome is acknowledged", async || agent.disk().tasks.values().all(|task| task.acknowledged).then_some(())).await;
}

/// Does nothing of its own: the process that the next test starts, and kills at a failpoint.
#[tokio::test]
async fn child_of_the_kills() {
    let (Ok(folder), Ok(kind)) = (std::env::var(FOLDER), std::env::var(KIND)) else { return };
    let folder = PathBuf::from(folder);
    let controller = Controller::open(&folder).await;
    controller.first_reign().await;
    let agent = Agent::on_file(ISTANBUL, folder.join("agent.json"));
    let _session = agent.connect(&controller);
    let accepted = controller.operations.start(request(&kind, &controller).await).await.unwrap();
    judge(&kind, &accepted.id, &controller, &agent).await;
}

fn run_child(folder: &Path, kind: &str, failpoints: &str) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_of_the_kills", "--nocapture"])
        .env(FOLDER, folder)
        .env(KIND, kind)
        .env("MUSTER_FAILPOINTS", failpoints)
        .output()
        .unwrap()
}

#[test]
fn killed_at_each_stop_of_the_controller_every_kind_ends_in_exactly_one_effect() {
    for kind in KINDS {
        for stop in STOPS {
            let folder = tempfile::tempdir().unwrap();
            // The discard comes after a restore that passes the same stops.
            let nth = if kind == "discard" { 2 } else { 1 };
            let killed = run_child(folder.path(), kind, &format!("{stop}=kill@{nth}"));
            assert_eq!(killed.status.signal(), Some(9), "{kind} at {stop}: {}", String::from_utf8_lossy(&killed.stderr));
            let again = run_child(folder.path(), kind, "");
            assert!(again.status.success(), "{kind} at {stop}: {}", String::from_utf8_lossy(&again.stdout));
        }
    }
}

/// Waits for the event `number`, if the operation comes so far.
async fn event_comes(controller: &Controller, id: &str, number: u64) {
    let mut updates = controller.operations.watch(Some(id), EventNumber(0)).await.unwrap();
    while let Some(update) = updates.next().await {
        match update.unwrap() {
            WatchUpdate::Event(event) if event.number >= number => return,
            WatchUpdate::Event(_) | WatchUpdate::Progress(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_after_each_transition_every_kind_ends_in_exactly_one_effect() {
    for kind in KINDS {
        for number in 1..=8 {
            let folder = tempfile::tempdir().unwrap();
            let agent = Agent::new(ISTANBUL);
            let controller = Controller::open(folder.path()).await;
            controller.first_reign().await;
            let session = agent.connect(&controller);
            let accepted = controller.operations.start(request(kind, &controller).await).await.unwrap();
            let number = accepted.last_event + number - 1;
            event_comes(&controller, &accepted.id, number).await;
            drop(session);
            controller.stop().await;
            let controller = Controller::open(folder.path()).await;
            controller.observe();
            let _session = agent.connect(&controller);
            judge(kind, &accepted.id, &controller, &agent).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_after_every_single_transition_an_operation_still_comes_to_its_end() {
    for kind in ["backup", "restore", "check"] {
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::new(ISTANBUL);
        let mut seen = 0;
        let mut lives = 0;
        let id = loop {
            lives += 1;
            let controller = Controller::open(folder.path()).await;
            controller.first_reign().await;
            let _session = agent.connect(&controller);
            let accepted = controller.operations.start(request(kind, &controller).await).await.unwrap();
            event_comes(&controller, &accepted.id, seen + 1).await;
            let now = controller.operation(&accepted.id).await;
            seen = now.last_event;
            controller.stop().await;
            if v1::OperationState::Succeeded == now.state() {
                break accepted.id;
            }
            assert!(lives < 50);
        };
        let controller = Controller::open(folder.path()).await;
        let _session = agent.connect(&controller);
        judge(kind, &id, &controller, &agent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_cut_while_it_works_goes_on_and_its_controller_with_it() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let controller = Controller::open(folder.path()).await;
        controller.first_reign().await;
        let agent = Agent::new(ISTANBUL);
        let session = agent.connect(&controller);
        let request = request(kind, &controller).await;
        agent.behave(Manner { slow: true, ..Manner::default() });
        let accepted = controller.operations.start(request).await.unwrap();
        let id = until("it is taken on", async || agent.disk().tasks.iter().find(|(_, task)| !task.ended).map(|(id, _)| id.clone())).await;
        session.cut(&agent, &controller).await;
        // It ends while nobody listens.
        agent.do_work(&id);
        agent.behave(Manner::default());
        let _session = agent.connect(&controller);
        judge(kind, &accepted.id, &controller, &agent).await;
    }
}
