//! The agent as a process against a controller that misbehaves. Needs loopback ports and a temporary folder.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_identity::fingerprint::Fingerprint;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{
    AskTask, CancelTask, CheckWork, Command, DiscardWork, Goodbye, OutcomeAcknowledged, TaskOutcome, TaskState, command, task_outcome,
};
use muster_wire::proto::v1::{Effect, ErrorKind};

use crate::controller::Talk;
use crate::world;
use crate::world::{World, backup, id, restore_in_place};

fn fault(outcome: &TaskOutcome) -> &muster_wire::proto::v1::Fault {
    match outcome.outcome.as_ref().unwrap() {
        task_outcome::Outcome::Fault(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

fn succeeded(outcome: &TaskOutcome) {
    assert!(!matches!(outcome.outcome, Some(task_outcome::Outcome::Fault(_)) | None), "{outcome:?}");
}

async fn state(talk: &mut Talk, n: u8) -> TaskState {
    talk.say(ToAgent::Ask(AskTask { command_id: id(n).to_string(), term: 1 })).await;
    talk.hear("the report", |message| match message {
        FromAgent::Task(report) if report.command_id == id(n).to_string() => Some(report.state()),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sent_five_times_is_done_once_and_its_outcome_told_until_acknowledged() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.ready().await;
    for _ in 0..5 {
        talk.command(&backup(1)).await;
    }
    talk.accepted(1).await;
    let first = talk.outcome(1).await;
    succeeded(&first);
    // Cut without a word: the next session hears it again, as often as it comes.
    drop(talk);
    let mut talk = world.controller.welcome(1).await;
    assert_eq!(talk.hello.unfinished.len(), 1);
    assert_eq!(talk.outcome(1).await, first);
    talk.command(&backup(1)).await;
    assert_eq!(talk.outcome(1).await, first);
    talk.acknowledge(1, 1).await;
    assert_eq!(state(&mut talk, 1).await, TaskState::Ended);
    assert_eq!(talk.outcome(1).await, first, "a tombstone knows how it ended");
    talk.command(&backup(1)).await;
    assert_eq!(talk.outcome(1).await, first);
    assert_eq!(state(&mut talk, 9).await, TaskState::Unheard);
    drop(talk);
    let talk = world.controller.welcome(1).await;
    assert!(talk.hello.unfinished.is_empty());
    assert_eq!(talk.hello.highest_sequence, 1);
    assert_eq!(world.points().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_of_its_stops_the_agent_ends_in_one_effect_and_one_outcome() {
    for stop in [
        "agent.stop5.received",
        "agent.stop6.taken_on",
        "agent.stop7.working",
        "agent.stop7.done",
        "agent.stop8.recorded",
        "agent.stop8.sent",
        "agent.stop9.acknowledged",
    ] {
        let mut world = World::new().await;
        let mut agent = world.agent(&format!("{stop}=kill"));
        let mut talk = world.ready().await;
        talk.command(&backup(1)).await;
        if stop.starts_with("agent.stop9") {
            talk.outcome(1).await;
            talk.acknowledge(1, 1).await;
        }
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&agent.ended().await), Some(9), "{stop}: {}", world.log());
        let _agent = world.agent("");
        let mut talk = world.controller.welcome(1).await;
        let was_told = talk.hello.unfinished.len();
        assert_eq!(was_told, usize::from(stop != "agent.stop5.received"), "{stop}: {:?}", talk.hello.unfinished);
        // As a controller does that has no outcome yet.
        talk.command(&backup(1)).await;
        succeeded(&talk.outcome(1).await);
        talk.acknowledge(1, 1).await;
        assert_eq!(state(&mut talk, 1).await, TaskState::Ended);
        assert_eq!(world.points().await, 1, "{stop}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_in_place_restore_runs_once_moves_the_epoch_and_an_older_epoch_is_refused_after_it() {
    let mut world = World::new().await;
    let mut agent = world.agent("agent.stop7.done=kill@2");
    let mut talk = world.ready().await;
    talk.command(&backup(1)).await;
    succeeded(&talk.outcome(1).await);
    fs::write(world.files().join("one"), "changed").unwrap();
    talk.command(&restore_in_place(2, 1, 2)).await;
    // The restore is done and its outcome is not kept yet.
    agent.ended().await;
    assert_eq!(fs::read(world.files().join("one")).unwrap(), b"one");
    fs::write(world.files().join("two"), "written after the restore").unwrap();
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(1).await;
    let outcome = talk.outcome(2).await;
    succeeded(&outcome);
    assert!(world.files().join("two").exists(), "it was not restored a second time");
    let Some(task_outcome::Outcome::Restore(restored)) = &outcome.outcome else { panic!("{outcome:?}") };
    let kept = restored.kept.clone().unwrap();
    assert_eq!(fs::read(std::path::Path::new(&kept.path).join("one")).unwrap(), b"changed");
    // A controller restored from yesterday sends both again, and a new one of the old epoch.
    talk.acknowledge(2, 1).await;
    talk.command(&restore_in_place(2, 1, 2)).await;
    assert_eq!(talk.outcome(2).await, outcome);
    talk.command(&restore_in_place(3, 1, 2)).await;
    let refused = talk.outcome(3).await;
    assert_eq!((fault(&refused).kind(), fault(&refused).effect()), (ErrorKind::Conflict, Effect::None));
    assert!(fault(&refused).message.contains("epoch 1"), "{refused:?}");
    assert!(world.files().join("two").exists());
    let reported = talk
        .hear("the kept directory", |message| match message {
            FromAgent::Observation(report) => report.kept.first().cloned(),
            _ => None,
        })
        .await;
    assert_eq!(reported, kept);
    drop(talk);
    let talk = world.controller.next().await;
    assert_eq!(talk.hello.epochs.iter().map(|known| known.epoch).collect::<Vec<_>>(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_older_term_is_obeyed() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let talk = world.controller.welcome(7).await;
    world.grant(&talk).await;
    let mut talk = talk;
    talk.say(world.assignment(1, 7, 1)).await;
    talk.hear("the assignment in force", |message| matches!(message, FromAgent::Applied(_)).then_some(())).await;
    let older = world::command(1, 6, 1, backup(1).work.unwrap());
    talk.command(&older).await;
    let refused = talk.outcome(1).await;
    assert_eq!(fault(&refused).kind(), ErrorKind::Conflict);
    assert!(fault(&refused).message.contains("term 6 is lower than 7"), "{refused:?}");
    // The same id with the right term: what was refused stays refused, however it is sent again.
    talk.command(&world::command(1, 7, 1, backup(1).work.unwrap())).await;
    assert_eq!(talk.outcome(1).await, refused);
    talk.command(&world::command(2, 7, 1, backup(2).work.unwrap())).await;
    let outcome = talk.outcome(2).await;
    talk.say(ToAgent::Acknowledged(OutcomeAcknowledged { command_id: id(2).to_string(), term: 6 })).await;
    drop(talk);
    let mut talk = world.controller.next().await;
    assert_eq!(talk.hello.highest_term, 7);
    talk.welcome(6).await;
    talk.ended().await;
    // The one controller that there is took a higher term meanwhile; an agent that is started again knows the term still.
    drop(_agent);
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(8).await;
    assert_eq!(talk.hello.highest_term, 7);
    assert_eq!(talk.outcome(2).await, outcome, "an acknowledgement of an older term buries nothing");
    assert_eq!(world.points().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_too_old_foreign_or_malformed_are_refused_with_no_effect() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.ready().await;
    let old = Command { issued_at: Some(prost_types::Timestamp { seconds: 1_600_000_000, nanos: 0 }), ..backup(1) };
    let foreign = Command { instance: "ankara".into(), ..backup(2) };
    let malformed = Command { work: None, ..backup(3) };
    let elsewhere = world::command(4, 1, 1, command::Work::Discard(DiscardWork { path: world.path("repository").display().to_string() }));
    for (n, command, kind) in [
        (1, old, ErrorKind::Conflict),
        (2, foreign, ErrorKind::FailedPrecondition),
        (3, malformed, ErrorKind::InvalidArgument),
        (4, elsewhere, ErrorKind::NotFound),
    ] {
        talk.command(&command).await;
        let refused = talk.outcome(n).await;
        assert_eq!((fault(&refused).kind(), fault(&refused).effect()), (kind, Effect::None), "{refused:?}");
        assert!(!fault(&refused).hint.is_empty(), "{refused:?}");
    }
    talk.command(&Command { id: "nonsense".into(), ..backup(5) }).await;
    talk.command(&backup(6)).await;
    succeeded(&talk.outcome(6).await);
    assert_eq!(world.points().await, 1);
    assert!(world.path("repository").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_comes_before_its_command_wins_and_one_that_comes_after_the_end_changes_nothing() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.ready().await;
    let cancel = |n: u8| ToAgent::Cancel(CancelTask { command_id: id(n).to_string(), term: 1 });
    talk.say(cancel(1)).await;
    assert_eq!(fault(&talk.outcome(1).await).kind(), ErrorKind::Cancelled);
    talk.command(&backup(1)).await;
    assert_eq!(fault(&talk.outcome(1).await).kind(), ErrorKind::Cancelled);
    talk.command(&backup(2)).await;
    succeeded(&talk.outcome(2).await);
    talk.say(cancel(2)).await;
    succeeded(&talk.outcome(2).await);
    assert_eq!(world.points().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_reached_is_waited_for_and_told_and_the_stall_limit_ends_it() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(1).await;
    world.grant(&talk).await;
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(world.path("s3"), "key\nsecret\n").unwrap();
    talk.say(world.assignment_in_bucket(1, port)).await;
    talk.command(&Command { stall_limit: Some(prost_types::Duration { seconds: 3, nanos: 0 }), ..backup(1) }).await;
    let told = talk
        .hear("that it waits", |message| match message {
            FromAgent::Progress(progress) => {
                progress.progress.map(|progress| progress.phase).filter(|phase| phase.contains("waiting (try"))
            }
            _ => None,
        })
        .await;
    assert!(told.contains("primary"), "{told}");
    let outcome = talk.outcome(1).await;
    assert_eq!((fault(&outcome).kind(), fault(&outcome).effect()), (ErrorKind::Stalled, Effect::None), "{outcome:?}");
    assert!(!fault(&outcome).evidence.is_empty() && !fault(&outcome).hint.is_empty(), "{outcome:?}");
    // It comes back while another task waits for it.
    talk.command(&backup(2)).await;
    talk.accepted(2).await;
    talk.say(world.assignment(2, 1, 1)).await;
    succeeded(&talk.outcome(2).await);
    assert_eq!(world.points().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_data_key_is_a_condition_with_what_to_type_and_goes_within_seconds_of_the_grant() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(1).await;
    talk.say(world.assignment(1, 1, 1)).await;
    let data_key = |ok: bool| {
        move |message| match message {
            FromAgent::Observation(report) => {
                let conditions = report.observation.unwrap_or_default().conditions;
                conditions.into_iter().find(|condition| condition.name == "DataKey" && condition.ok == ok)
            }
            _ => None,
        }
    };
    let missing = talk.hear("the missing key", data_key(false)).await;
    assert!(missing.blocking);
    assert_eq!(missing.hint, "muster repo grant documents");
    talk.command(&backup(1)).await;
    let refused = talk.outcome(1).await;
    assert_eq!((fault(&refused).effect(), fault(&refused).hint.as_str()), (Effect::None, "muster repo grant documents"));
    let granted_at = std::time::Instant::now();
    world.grant(&talk).await;
    talk.hear("the key", data_key(true)).await;
    assert!(granted_at.elapsed() < Duration::from_secs(5), "{:?}", granted_at.elapsed());
    talk.command(&backup(2)).await;
    succeeded(&talk.outcome(2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reads_the_part_that_was_asked_for_and_names_what_is_damaged() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.ready().await;
    talk.command(&backup(1)).await;
    succeeded(&talk.outcome(1).await);
    let check = |part, of| command::Work::Check(CheckWork { read_data_part: part, read_data_of: of });
    let found = |outcome: TaskOutcome| match outcome.outcome {
        Some(task_outcome::Outcome::Check(found)) => found,
        other => panic!("no check: {other:?}"),
    };
    talk.command(&world::command(2, 1, 1, check(0, 1))).await;
    let whole = found(talk.outcome(2).await);
    assert_eq!((whole.points, whole.packs, whole.problem_count), (1, 1, 0), "{whole:?}");
    assert!(whole.store_notes.iter().any(|note| note.contains("frames were read")), "{whole:?}");
    talk.command(&world::command(3, 1, 1, check(1, 1))).await;
    assert_eq!(fault(&talk.outcome(3).await).kind(), ErrorKind::InvalidArgument);
    for pack in packs(&world.path("repository/packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        bytes[20] ^= 1;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    talk.command(&world::command(4, 1, 1, check(0, 1))).await;
    let damaged = found(talk.outcome(4).await);
    assert!(damaged.problem_count > 0 && damaged.problems[0].contains("packs/"), "{damaged:?}");
}

fn packs(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(packs(&path)) } else { all.push(path) }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_controller_is_given_up_and_a_goodbye_is_kept_to() {
    let mut world = World::new().await;
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(1).await;
    talk.fall_silent();
    talk.ended().await;
    let mut talk = world.controller.welcome(1).await;
    let retry_after = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let said = std::time::Instant::now();
    talk.say(ToAgent::Goodbye(Goodbye { reason: "the controller stops".into(), retry_after, r#final: false })).await;
    talk.ended().await;
    let _talk = world.controller.next().await;
    assert!(said.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_authority_never_shows_its_secret() {
    let world = World::new().await;
    fs::write(world.path("token"), world.controller.token(Some(Fingerprint::of(b"another")))).unwrap();
    let agent = world.agent("");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !world.log().contains("not joined yet") && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.log().contains("not joined yet"), "{}", world.log());
    assert_eq!(world.controller.enrolled.load(Ordering::Relaxed), 0);
    agent.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_at_a_third_of_its_life_and_running_work_does_not_notice() {
    let mut world = World::new().await;
    *world.controller.life.lock().unwrap() = Duration::from_secs(9);
    let hold = world.path("hold");
    let _agent = world.agent(&format!("agent.stop7.working=hold:{}", hold.display()));
    let talk = world.ready().await;
    talk.command(&backup(1)).await;
    let mut sessions = vec![talk];
    while world.controller.renewed.load(Ordering::Relaxed) < 2 {
        sessions.push(world.controller.welcome(1).await);
    }
    fs::write(hold.with_extension("go"), "").unwrap();
    let outcome = loop {
        let mut talk = world.controller.welcome(1).await;
        let heard = tokio::time::timeout(Duration::from_secs(2), talk.outcome_or_end(1)).await;
        if let Ok(Some(outcome)) = heard {
            break outcome;
        }
    };
    succeeded(&outcome);
    assert_eq!(world.controller.enrolled.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_the_agent_leaves_its_work_to_the_next_process() {
    let mut world = World::new().await;
    let hold = world.path("hold");
    let mut agent = world.agent(&format!("agent.stop7.working=hold:{}", hold.display()));
    let mut talk = world.ready().await;
    talk.command(&backup(1)).await;
    talk.accepted(1).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !hold.with_extension("hit").exists() && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    agent.terminate();
    fs::write(hold.with_extension("go"), "").unwrap();
    assert!(agent.ended().await.success(), "{}", world.log());
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(1).await;
    succeeded(&talk.outcome(1).await);
    assert_eq!(world.points().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_controller_is_away_work_goes_on_and_the_assignment_stays_in_force() {
    let mut world = World::new().await;
    let agent = world.agent("");
    let mut talk = world.ready().await;
    talk.command(&backup(1)).await;
    talk.accepted(1).await;
    drop(talk);
    agent.kill();
    let _agent = world.agent("");
    let mut talk = world.controller.welcome(2).await;
    assert_eq!(talk.hello.assignment_revision, 1);
    succeeded(&talk.outcome(1).await);
    // An older assignment is left; a command finds its instance by the stored one.
    talk.say(world.assignment(0, 1, 1)).await;
    talk.command(&world::command(2, 2, 1, backup(2).work.unwrap())).await;
    succeeded(&talk.outcome(2).await);
}
