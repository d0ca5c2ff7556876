//! The inbox under duplicates, kill -9 at each write, damaged files and a full disk. Needs nothing but a temporary folder.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command as Process;
use std::time::Duration;

use muster_agent::task::command::{Command, Done, Ended, Job};
use muster_agent::task::inbox::{Inbox, InboxError, Known};
use muster_common::counter::{Epoch, Term};
use muster_common::fault::{Effect, ErrorKind};
use muster_common::id::{CommandId, ComponentId, OperationId, PointId};
use muster_common::time::Timestamp;
use muster_engine::request::{BackupOutcome, BackupRequest};

const NOW: Timestamp = Timestamp(1_900_000_000_000_000);

fn command(n: u8) -> Command {
    let request = BackupRequest {
        component: ComponentId::from_bytes([3; 16]),
        point: PointId::from_bytes([n; 16]),
        label: "nightly".to_owned(),
        level: 1,
        fast_checkpoint: true,
        dump: None,
    };
    Command {
        id: CommandId::from_bytes([n; 16]),
        term: Term(1),
        sequence: u64::from(n),
        operation: OperationId::from_bytes([9; 16]),
        instance: "orders-db/istanbul".parse().unwrap(),
        epoch: Epoch(1),
        issued_at: NOW,
        stall_limit_ms: Some(60_000),
        traceparent: String::new(),
        hooks: Default::default(),
        job: Job::Backup { request },
    }
}

fn ended(n: u8) -> Ended {
    let outcome = BackupOutcome {
        point: PointId::from_bytes([n; 16]),
        started: NOW,
        finished: NOW.plus(Duration::from_secs(5)),
        position: None,
        bytes_total: 10,
        bytes_stored: 5,
        files: 2,
        damage: Vec::new(),
        damaged_pages: 0,
        notes: Vec::new(),
    };
    Ended { at: NOW.plus(Duration::from_secs(5)), result: Ok(Done::Backup { outcome }), hooks: Vec::new() }
}

fn id(n: u8) -> CommandId {
    CommandId::from_bytes([n; 16])
}

fn open(folder: &Path) -> Inbox {
    Inbox::open(folder, NOW).unwrap()
}

#[test]
fn a_command_is_taken_on_once_whatever_is_resent_and_in_whatever_order() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    inbox.take_on(&command(2), NOW).unwrap();
    inbox.take_on(&command(1), NOW).unwrap();
    assert!(matches!(inbox.take_on(&command(2), NOW), Err(InboxError::Twice(_))));
    assert_eq!(inbox.under_way(), [command(1), command(2)], "in the order of their sequence");
    inbox.end(id(2), ended(2)).unwrap();
    assert!(matches!(inbox.take_on(&command(2), NOW), Err(InboxError::Twice(_))));
    assert!(matches!(inbox.end(id(2), ended(2)), Err(InboxError::NotUnderWay(_))));
    assert!(!inbox.acknowledge(id(1), NOW).unwrap(), "one that has not ended cannot be acknowledged");
    assert!(inbox.acknowledge(id(2), NOW).unwrap());
    assert!(!inbox.acknowledge(id(2), NOW).unwrap());
    assert!(matches!(inbox.take_on(&command(2), NOW), Err(InboxError::Twice(_))), "a late duplicate of what is buried");

    let inbox = open(folder.path());
    assert_eq!(inbox.know(id(1)).unwrap(), Known::TakenOn);
    assert_eq!(inbox.know(id(2)).unwrap(), Known::Buried(ended(2)));
    assert_eq!(inbox.know(id(3)).unwrap(), Known::Unheard);
    assert!(matches!(inbox.take_on(&command(2), NOW), Err(InboxError::Twice(_))));
}

#[test]
fn a_note_survives_a_restart_and_goes_with_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    inbox.take_on(&command(1), NOW).unwrap();
    assert_eq!(inbox.read_note(id(1)).unwrap(), None);
    inbox.keep_note(id(1), b"one").unwrap();
    inbox.keep_note(id(1), b"two").unwrap();
    assert!(matches!(inbox.keep_note(id(1), &vec![0; 65 << 10]), Err(InboxError::LongNote { .. })));
    assert!(matches!(inbox.keep_note(id(2), b"x"), Err(InboxError::NotUnderWay(_))));
    let inbox = open(folder.path());
    assert_eq!(inbox.read_note(id(1)).unwrap().as_deref(), Some(&b"two"[..]));
    inbox.end(id(1), ended(1)).unwrap();
    inbox.acknowledge(id(1), NOW).unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["tombstones"]);
}

#[test]
fn a_damaged_task_file_counts_as_ended_with_unknown_effect_and_never_runs() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).take_on(&command(1), NOW).unwrap();
    let path = folder.path().join(format!("{}.task", id(1)));
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let inbox = open(folder.path());
        assert!(inbox.under_way().is_empty());
        let Known::Ended(Ended { result: Err(fault), .. }) = inbox.know(id(1)).unwrap() else { panic!("not ended") };
        assert_eq!((fault.kind, fault.effect), (ErrorKind::DataLoss, Effect::Unknown));
        assert_eq!(inbox.unacknowledged().len(), 1);
        assert!(matches!(inbox.take_on(&command(1), NOW), Err(InboxError::Twice(_))));
    }
    let inbox = open(folder.path());
    assert!(inbox.acknowledge(id(1), NOW).unwrap());
    assert!(matches!(open(folder.path()).know(id(1)).unwrap(), Known::Buried(_)));
}

#[test]
fn a_newer_agents_inbox_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).take_on(&command(1), NOW).unwrap();
    let path = folder.path().join(format!("{}.task", id(1)));
    let text = std::fs::read_to_string(&path).unwrap().replacen("MUSTER-INBOX 1 ", "MUSTER-INBOX 2 ", 1);
    std::fs::write(&path, text).unwrap();
    let error = Inbox::open(folder.path(), NOW).unwrap_err().to_string();
    assert!(error.contains("newer agent"), "{error}");
}

#[test]
fn version_1_of_the_inbox_is_read_for_ever() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inbox-1.task");
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    inbox.take_on(&command(1), NOW).unwrap();
    inbox.end(id(1), ended(1)).unwrap();
    let path = folder.path().join(format!("{}.task", id(1)));
    if std::env::var_os("MUSTER_WRITE_GOLDEN").is_some() {
        std::fs::copy(&path, &golden).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        std::fs::read_to_string(&golden).unwrap(),
        "the format moved without a new version"
    );
    std::fs::copy(&golden, &path).unwrap();
    assert_eq!(open(folder.path()).unacknowledged(), [(id(1), ended(1))]);
}

#[test]
fn tombstones_are_dropped_after_their_time_and_the_horizon_is_remembered_first() {
    let day = Duration::from_secs(86_400);
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    inbox.take_on(&command(1), NOW).unwrap();
    inbox.end(id(1), ended(1)).unwrap();
    inbox.acknowledge(id(1), NOW).unwrap();
    inbox.drop_tombstones(NOW.plus(day * 30), day * 30, 1_000, |_| -> Result<(), InboxError> { panic!("too early") }).unwrap();
    let later = NOW.plus(day * 33);
    let refused = inbox.drop_tombstones(later, day * 30, 1_000, |_| Err(InboxError::NotUnderWay(id(1))));
    assert!(refused.is_err());
    assert!(matches!(inbox.know(id(1)).unwrap(), Known::Buried(_)), "kept where the horizon could not be remembered");
    let mut horizon = Timestamp::default();
    inbox
        .drop_tombstones(later, day * 30, 1_000, |until| {
            horizon = until;
            Ok::<_, InboxError>(())
        })
        .unwrap();
    assert!(horizon >= NOW);
    assert_eq!(inbox.know(id(1)).unwrap(), Known::Unheard);
}

/// The whole life of one command, run by the tests below in a process of its own.
#[test]
fn child_life_of_a_command() {
    let Some(folder) = std::env::var_os("MUSTER_TEST_INBOX") else { return };
    let inbox = open(Path::new(&folder));
    if inbox.know(id(1)).unwrap() == Known::Unheard {
        inbox.take_on(&command(1), NOW).unwrap();
    }
    if inbox.know(id(1)).unwrap() == Known::TakenOn {
        inbox.keep_note(id(1), b"note").unwrap();
        inbox.end(id(1), ended(1)).unwrap();
    }
    inbox.acknowledge(id(1), NOW).unwrap();
}

fn child(folder: &Path, failpoints: &str) -> std::process::ExitStatus {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "inbox::child_life_of_a_command"])
        .env("MUSTER_TEST_INBOX", folder)
        .env("MUSTER_FAILPOINTS", failpoints)
        .output()
        .unwrap()
        .status
}

#[test]
fn killed_at_each_write_it_never_goes_back_and_never_takes_on_twice() {
    // Where it is killed, and what must be known afterwards.
    let cases = [
        ("agent.inbox.write=kill@1", Known::Unheard),
        ("agent.inbox.written=kill@1", Known::TakenOn),
        ("agent.inbox.write=kill@2", Known::TakenOn),
        ("agent.inbox.written=kill@2", Known::Ended(ended(1))),
        ("agent.tombstone.append=kill", Known::Ended(ended(1))),
        ("agent.inbox.removed=kill@1", Known::Buried(ended(1))),
        ("agent.inbox.removed=kill@2", Known::Buried(ended(1))),
        ("agent.inbox.removed=kill@3", Known::Buried(ended(1))),
    ];
    for (failpoint, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let status = child(folder.path(), failpoint);
        assert_eq!(status.signal(), Some(9), "{failpoint}");
        assert_eq!(open(folder.path()).know(id(1)).unwrap(), expected, "{failpoint}");
        // What comes next finishes the same life.
        assert!(child(folder.path(), "").success(), "{failpoint}");
        assert_eq!(open(folder.path()).know(id(1)).unwrap(), Known::Buried(ended(1)), "{failpoint}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{failpoint}: only tombstones stay");
    }
}

/// Fills the inbox until the disk refuses, in a process whose files may have 4 KiB at most.
#[test]
fn child_on_a_full_disk() {
    let Some(folder) = std::env::var_os("MUSTER_TEST_FULL") else { return };
    let folder = Path::new(&folder);
    let inbox = open(folder);
    inbox.take_on(&command(1), NOW).unwrap();
    let mut long = command(2);
    long.traceparent = "x".repeat(8 << 10);
    assert!(inbox.take_on(&long, NOW).is_err());
    assert_eq!(inbox.know(id(2)).unwrap(), Known::Unheard, "what was refused is not known");
    assert!(inbox.keep_note(id(1), &[1; 8 << 10]).is_err());
    let mut full = ended(1);
    if let Ok(Done::Backup { outcome }) = &mut full.result {
        outcome.damage = vec!["x".repeat(8 << 10)];
    }
    assert!(inbox.end(id(1), full).is_err());
    assert_eq!(inbox.know(id(1)).unwrap(), Known::TakenOn, "the outcome is not told before it is durable");
    inbox.end(id(1), ended(1)).unwrap();
    println!("reached the end");
}

#[test]
fn on_a_full_disk_nothing_is_half_taken_on_and_what_was_there_stands() {
    let folder = tempfile::tempdir().unwrap();
    let binary = std::env::current_exe().unwrap();
    // `ulimit -f` counts 1 KiB blocks in bash; SIGXFSZ is ignored so that the write fails as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 4; exec '{}' --exact inbox::child_on_a_full_disk --nocapture", binary.display());
    let output = Process::new("bash").arg("-c").arg(script).env("MUSTER_TEST_FULL", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("reached the end"), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let inbox = open(folder.path());
    assert_eq!(inbox.unacknowledged(), [(id(1), ended(1))]);
    assert_eq!(inbox.know(id(2)).unwrap(), Known::Unheard);
}
