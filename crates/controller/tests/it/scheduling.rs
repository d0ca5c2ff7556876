//! Schedules through the whole controller, by a clock that the test sets: at their time, once, after whatever is in the way.

use std::time::Duration;

use muster_common::fault::ErrorKind;
use muster_common::time::Timestamp;
use muster_controller::schedule::clock::Clock;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{Command, command::Work};
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::{
    InventoryServiceDeleteRequest, InventoryServiceGetRequest, ListSchedulesRequest, Operation, OperationServiceListRequest, PauseRequest,
    ResourceKind, ResumeRequest, ScheduleStatus,
};
use muster_wire::status::fault;

use crate::operations::{acknowledged, asked, commanded, done};
use crate::world::{Session, World, eventually, hello, on_both_stores, report};

on_both_stores!(
    the_plans_backups_run_daily_at_two_and_each_six_hours_over_a_day_of_a_shifted_clock,
    the_plans_proof_waits_for_a_point_to_prove_and_verifies_it_then,
    a_run_waits_where_a_person_is_refused_and_goes_when_the_way_is_free,
    a_controller_that_was_away_makes_up_for_missed_runs_once_and_repeats_none,
    what_is_paused_does_not_run_and_is_made_up_for_when_it_is_resumed,
    a_component_with_a_schedule_is_not_deleted_and_a_schedule_that_is_leaves_nothing_behind,
);

/// The plan's own documents, as an operator applies them.
const PLAN: &str = include_str!("../../../../deploy/examples/database-backups.yaml");

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn text(at: Option<&prost_types::Timestamp>) -> String {
    at.map(|at| jiff::Timestamp::from_second(at.seconds).unwrap().to_string()).unwrap_or_default()
}

/// A controller whose clock stands shortly before 02:00, with the plan applied and its agent there.
async fn planned() -> (World, Session, Clock) {
    planned_at("2030-05-06T01:00:00Z").await
}

async fn planned_at(moment: &str) -> (World, Session, Clock) {
    let clock = Clock::default();
    clock.set(at(moment));
    let world = World::start_by(clock.clone()).await;
    world.apply(PLAN).await.unwrap();
    let session = agent(&world, &world.join("istanbul", "istanbul-db1").await).await;
    eventually("the lanes have begun", async || {
        schedules(&world).await.iter().all(|schedule| schedule.next_at.is_some()) && lanes(&world).await == 4
    })
    .await;
    (world, session, clock)
}

async fn agent(world: &World, credentials: &muster_identity::credentials::Credentials) -> Session {
    let session = world.session(credentials, hello()).await.unwrap();
    session.say(report("dese-db", "istanbul")).await;
    let name = "dese-db/istanbul".parse().unwrap();
    eventually("the report is taken", async || world.running.api.agents.observations.of(&name).is_some()).await;
    session
}

async fn lanes(world: &World) -> usize {
    let mut read = world.running.api.agents.store.read().await.unwrap();
    muster_controller::store::lanes::all(&mut read).await.unwrap().len()
}

async fn schedules(world: &World) -> Vec<ScheduleStatus> {
    world.inventory().list_schedules(ListSchedulesRequest::default()).await.unwrap().into_inner().schedules
}

async fn schedule(world: &World, name: &str) -> ScheduleStatus {
    schedules(world).await.into_iter().find(|schedule| schedule.schedule == name).unwrap()
}

async fn operations(world: &World) -> Vec<Operation> {
    OperationServiceClient::new(world.admins()).list(OperationServiceListRequest::default()).await.unwrap().into_inner().operations
}

fn label(command: &Command) -> &str {
    match &command.work {
        Some(Work::Backup(work)) => &work.label,
        other => panic!("{other:?}"),
    }
}

/// Takes the next command and does it; tells its label.
async fn serve(session: &mut Session) -> String {
    let command = commanded(session).await;
    session.say(done(&command)).await;
    acknowledged(session, &command).await;
    label(&command).to_owned()
}

/// Nothing is commanded while the driver looks at the clock a few times.
async fn nothing(session: &mut Session, world: &World) {
    let before = operations(world).await.len();
    let quiet = async {
        loop {
            if let ToAgent::Command(command) = session.next().await.unwrap().expect("the session ended") {
                panic!("{command:?}");
            }
        }
    };
    // The driver looks twice a second.
    assert!(tokio::time::timeout(Duration::from_millis(1_200), quiet).await.is_err());
    assert_eq!(operations(world).await.len(), before);
}

async fn the_plans_backups_run_daily_at_two_and_each_six_hours_over_a_day_of_a_shifted_clock() {
    let (world, mut session, clock) = planned().await;
    let first = schedule(&world, "database-daily").await;
    assert_eq!((first.verb.as_str(), first.timing.as_str()), ("backup", "0 2 * * * UTC"));
    assert_eq!(text(first.next_at.as_ref()), "2030-05-06T02:00:00Z");
    assert_eq!(text(schedule(&world, "database-6h").await.next_at.as_ref()), "2030-05-06T06:00:00Z");
    for (moment, expected, name) in [
        ("2030-05-06T02:00:00Z", "daily", "database-daily"),
        ("2030-05-06T06:00:00Z", "each-6h", "database-6h"),
        ("2030-05-06T12:00:00Z", "each-6h", "database-6h"),
        ("2030-05-06T18:00:00Z", "each-6h", "database-6h"),
        ("2030-05-07T00:00:00Z", "each-6h", "database-6h"),
        ("2030-05-07T02:00:00Z", "daily", "database-daily"),
    ] {
        clock.set(Timestamp(at(moment).0 - 500_000));
        assert_eq!(serve(&mut session).await, expected, "{moment}");
        eventually("the run is shown", async || text(schedule(&world, name).await.last_planned_at.as_ref()) == moment).await;
    }
    let all = operations(&world).await;
    assert_eq!(all.len(), 6);
    assert_eq!(all[0].cause, "schedule/database-daily");
    let daily = schedule(&world, "database-daily").await;
    assert_eq!(daily.last.unwrap().id, all[0].id);
    assert_eq!((text(daily.next_at.as_ref()).as_str(), daily.left_out.as_str()), ("2030-05-08T02:00:00Z", ""));
}

async fn the_plans_proof_waits_for_a_point_to_prove_and_verifies_it_then() {
    let (world, mut session, clock) = planned_at("2030-05-12T04:30:00Z").await;
    assert_eq!(text(schedule(&world, "database-proof").await.next_at.as_ref()), "2030-05-12T05:00:00Z");
    clock.set(at("2030-05-12T05:00:00Z"));
    eventually("the run waits", async || schedule(&world, "database-proof").await.waiting_for.contains("has no recovery point")).await;
    let by_hand = muster_wire::proto::v1::BackupRequest { component: "dese-db".into(), ..Default::default() };
    asked(&world, by_hand).await;
    serve(&mut session).await;
    let command = commanded(&mut session).await;
    assert!(matches!(command.work, Some(Work::Verify(_))), "{command:?}");
    let proof = schedule(&world, "database-proof").await;
    assert_eq!((proof.verb.as_str(), proof.waiting_for.as_str()), ("verify", ""));
    assert_eq!(proof.last.unwrap().cause, "schedule/database-proof");
}

async fn a_run_waits_where_a_person_is_refused_and_goes_when_the_way_is_free() {
    let (world, mut session, clock) = planned().await;
    let by_hand = muster_wire::proto::v1::BackupRequest { component: "dese-db".into(), label: "by hand".into(), ..Default::default() };
    asked(&world, by_hand).await;
    let command = commanded(&mut session).await;
    clock.set(at("2030-05-06T02:00:00Z"));
    eventually("the run waits", async || !schedule(&world, "database-daily").await.waiting_for.is_empty()).await;
    let waits = schedule(&world, "database-daily").await;
    assert!(waits.waiting_for.contains("stands against it") && waits.waiting_for.contains("muster wait"), "{waits:?}");
    assert_eq!(text(waits.waiting_planned_at.as_ref()), "2030-05-06T02:00:00Z");
    // It is one that waits still, when the other schedule's comes too: each has one.
    clock.set(at("2030-05-06T06:00:00Z"));
    eventually("both wait", async || !schedule(&world, "database-6h").await.waiting_for.is_empty()).await;
    assert_eq!(operations(&world).await.len(), 1);
    session.say(done(&command)).await;
    acknowledged(&mut session, &command).await;
    let mut labels = vec![serve(&mut session).await, serve(&mut session).await];
    labels.sort();
    assert_eq!(labels, ["daily", "each-6h"]);
    eventually("nothing waits", async || schedules(&world).await.iter().all(|schedule| schedule.waiting_for.is_empty())).await;
}

async fn a_controller_that_was_away_makes_up_for_missed_runs_once_and_repeats_none() {
    let (world, mut session, clock) = planned().await;
    let credentials = world.join_again("istanbul-db1").await;
    drop(session);
    session = agent(&world, &credentials).await;
    clock.set(at("2030-05-06T02:00:00Z"));
    let command = commanded(&mut session).await;
    // It dies with the run under way, and stays away for two days.
    drop(session);
    let world = world.restart(|clock| clock.set(at("2030-05-08T07:00:00Z"))).await;
    let mut session = agent(&world, &credentials).await;
    let again = commanded(&mut session).await;
    assert_eq!(again.id, command.id, "the run that was under way is sent again, as itself");
    session.say(done(&again)).await;
    acknowledged(&mut session, &again).await;
    let mut labels = vec![serve(&mut session).await, serve(&mut session).await];
    labels.sort();
    assert_eq!(labels, ["daily", "each-6h"], "one each stands for all that were missed");
    assert_eq!(operations(&world).await.len(), 3);
    let six = schedule(&world, "database-6h").await;
    assert!(six.left_out.starts_with("8 runs, the last planned for 2030-05-08T00:00:00Z, were left out"), "{}", six.left_out);
    // An hour back and forth: nothing comes twice.
    for moment in ["2030-05-08T06:05:00Z", "2030-05-08T05:30:00Z", "2030-05-08T06:30:00Z"] {
        clock.set(at(moment));
        nothing(&mut session, &world).await;
    }
}

async fn what_is_paused_does_not_run_and_is_made_up_for_when_it_is_resumed() {
    let (world, mut session, clock) = planned().await;
    let pause = PauseRequest {
        component: "dese-db".into(),
        duration: Some(prost_types::Duration { seconds: 10_800, nanos: 0 }),
        reason: "moving the disks".into(),
    };
    world.inventory().pause(pause).await.unwrap();
    clock.set(at("2030-05-06T02:00:00Z"));
    nothing(&mut session, &world).await;
    assert!(schedule(&world, "database-daily").await.pause.is_some());
    world.inventory().resume(ResumeRequest { component: "dese-db".into() }).await.unwrap();
    assert_eq!(serve(&mut session).await, "daily");
}

async fn a_component_with_a_schedule_is_not_deleted_and_a_schedule_that_is_leaves_nothing_behind() {
    let (world, mut session, clock) = planned().await;
    let delete = |kind: ResourceKind, name: &str| InventoryServiceDeleteRequest {
        kind: kind.into(),
        name: name.into(),
        etag: String::new(),
        request_id: String::new(),
    };
    let refused = fault(&world.inventory().delete(delete(ResourceKind::Component, "dese-db")).await.unwrap_err());
    assert!(refused.kind == ErrorKind::FailedPrecondition && refused.message.contains("schedule database-6h"), "{refused}");
    for name in ["database-6h", "database-daily", "database-proof", "database-retention"] {
        world.inventory().delete(delete(ResourceKind::Schedule, name)).await.unwrap();
    }
    eventually("the lanes are gone", async || lanes(&world).await == 0).await;
    clock.set(at("2030-05-06T06:00:00Z"));
    nothing(&mut session, &world).await;
    // Declared anew it begins anew: what was due before is not made up for.
    world.apply(PLAN).await.unwrap();
    nothing(&mut session, &world).await;
    let get = InventoryServiceGetRequest { kind: ResourceKind::Schedule.into(), name: "database-6h".into() };
    assert!(world.inventory().get(get).await.is_ok());
    let unknown = ListSchedulesRequest { schedule: "database-7h".into(), ..Default::default() };
    assert!(fault(&world.inventory().list_schedules(unknown).await.unwrap_err()).hint.contains("database-6h"));
}
