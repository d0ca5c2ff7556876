//! The keeper on real servers: taking over, switchover, start again, each cut off between any two acts; what it refuses; on the spot.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_failover::command::Order;
use muster_failover::control::{Role, Why};
use muster_failover::directive::{Answer, Errand, ManagedAs};
use muster_failover::look::Server;

use crate::server::as_postgres;
use crate::two::Two;

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_taken_over_under_load_without_an_interruption_and_nothing_before_that() {
    let mut two = Two::new().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!two.permit("istanbul").exists(), "nobody asked for it to be kept");
    let (_, told) = two.muster_agent(&["status"]);
    assert!(told.contains("orders/istanbul: only observed"), "{told}");
    let before = (two.istanbul.postmaster().unwrap(), two.ankara.postmaster().unwrap());
    // One session that commits all the time: it sees any interruption.
    let stop = Arc::new(AtomicBool::new(false));
    let (port, sockets, ended) = (two.istanbul.port.to_string(), two.path(""), stop.clone());
    let load = std::thread::spawn(move || {
        let mut n = 0;
        while !ended.load(Ordering::Relaxed) {
            n += 1;
            let sql = format!("INSERT INTO rows SELECT {n} * 20000 + i FROM generate_series(0, 19999) i");
            let mut psql = as_postgres("/usr/lib/postgresql/15/bin/psql");
            psql.args(["-XAtq", "-p", &port, "-d", "postgres", "-c", &sql, "-h"]).arg(&sockets);
            let output = psql.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        n
    });
    for (instance, role) in [("istanbul", ManagedAs::Writer), ("ankara", ManagedAs::Follower)] {
        let answer = two.order(instance, Errand::Manage { role }).await.unwrap();
        assert!(matches!(answer, Answer::Managed(Some(_))), "{answer:?}");
    }
    two.reported("istanbul", "that it is the writer", |kept| kept.permit && kept.server == Server::ReadWrite).await;
    two.role("ankara", "that it follows", |role| *role == Role::Follower { kept: false }).await;
    // An agent that starts again in the middle of it finds nothing wrong.
    two.kill_agent();
    two.start_agent("").await;
    two.role("istanbul", "that it is still the writer", |role| matches!(role, Role::Writer { .. })).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    stop.store(true, Ordering::Relaxed);
    let batches = load.join().unwrap();
    assert!(batches > 1, "it was under load");
    assert_eq!(two.istanbul.sql("SELECT count(*) FROM rows"), (batches * 20000).to_string());
    assert_eq!((two.istanbul.postmaster().unwrap(), two.ankara.postmaster().unwrap()), before, "nothing was restarted");
    assert_eq!(two.writers_permits(), 1);
    // Again is done already; another reign is not.
    let answer = two.order("istanbul", Errand::Manage { role: ManagedAs::Writer }).await.unwrap();
    assert!(matches!(answer, Answer::Managed(_)), "{answer:?}");
    let refused = two.order("ankara", Errand::Manage { role: ManagedAs::Writer }).await.unwrap_err();
    assert!(refused.message.contains("istanbul is the writer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_by_receipt_and_an_order_that_is_older_is_refused() {
    let mut two = Two::managed().await;
    two.istanbul.sql("INSERT INTO rows VALUES (7)");
    let promote = two.prepared("ankara").await;
    assert_eq!(two.writers_permits(), 0);
    let answer = two.tell("ankara", &promote).await.unwrap();
    let Answer::Promoted { reign, .. } = answer else { panic!("{answer:?}") };
    two.shard = two.shard.promoted(reign);
    assert_eq!(two.ankara.sql("SELECT n FROM rows"), "7");
    two.ankara.sql("INSERT INTO rows VALUES (8)");
    assert_eq!(two.writers_permits(), 1);
    // Orders of before.
    let mut late = two.directive("ankara", Errand::Order(Order::Stop { for_operation: None }));
    late.sequence = 1;
    let refused = two.tell("ankara", &late).await.unwrap_err();
    assert!(refused.message.contains("has number 1"), "{refused}");
    let refused = two.order("istanbul", Errand::Order(Order::Ask)).await.unwrap_err();
    assert!(refused.message.contains("ceded"), "{refused}");
    // The old writer follows.
    let answer = two.order("istanbul", Errand::Order(Order::Follow)).await.unwrap();
    assert_eq!(answer, Answer::Follows);
    two.reported("istanbul", "that it runs as a follower", |kept| kept.server == Server::ReadOnly && kept.permit).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while two.istanbul.try_sql("SELECT count(*) FROM rows") != Ok("2".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "{:?}", two.istanbul.try_sql("SELECT count(*) FROM rows"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(two.writers_permits(), 1);
}

/// After a boot: nobody writes, the writer asks, is confirmed, and writes again.
async fn comes_back(two: &mut Two, writer: &str, other: &str) {
    assert_eq!(two.writers_permits(), 0, "nothing on disk alone starts");
    two.start_agent("").await;
    let answer = two.confirm(writer, other).await.unwrap();
    assert!(matches!(answer, Answer::Started(_)), "{answer:?}");
    two.reported(writer, "that it writes", |kept| kept.server == Server::ReadWrite && kept.permit && kept.asks.is_none()).await;
    assert_eq!(two.writers_permits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_a_boot_cuts_off_between_any_two_acts_ends_in_a_writer_that_asks() {
    let mut two = Two::managed().await;
    for window in ["keep_stopped", "remove_permit", "stop", "again", "tell"] {
        two.kill_agent();
        two.start_agent(&format!("agent.keeper.{window}=kill")).await;
        let stop = two.directive("istanbul", Errand::Order(Order::Stop { for_operation: Some(Duration::from_secs(300)) }));
        two.send("istanbul", &stop).await;
        two.agent_died().await;
        assert!(two.writers_permits() <= 1);
        two.reboot();
        comes_back(&mut two, "istanbul", "ankara").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_a_boot_cuts_off_between_any_two_acts_is_asked_for_again() {
    let mut two = Two::managed().await;
    for window in ["keep_writer", "give_permit", "start"] {
        let what = Errand::Order(Order::Stop { for_operation: Some(Duration::from_secs(300)) });
        assert!(matches!(two.order("istanbul", what).await.unwrap(), Answer::Stopped(Some(_))));
        two.kill_agent();
        // The follower is given nothing by this process.
        two.start_agent(&format!("agent.keeper.{window}=kill")).await;
        assert_eq!(two.order("istanbul", Errand::Order(Order::Ask)).await.unwrap(), Answer::Asking(None));
        let asked = two.reported("istanbul", "a question", |kept| kept.asks.is_some()).await.asks.unwrap();
        let vouch = Errand::Vouch {
            instance: crate::two::name("istanbul"),
            reign: asked.reign,
            asked: asked.asked,
            lasts: Duration::from_millis(1),
        };
        let Answer::Vouched(most) = two.order("ankara", vouch).await.unwrap() else { panic!("no vouch") };
        let question = muster_failover::shard::Question {
            instance: crate::two::name("istanbul"),
            reign: asked.reign,
            asked: asked.asked,
            heard: [crate::two::name("ankara")].into(),
            off: [].into(),
            most,
        };
        let rule = two.directive("istanbul", Errand::Unmanage).rule;
        let confirmation = two.shard.confirm(&question, (rule, false)).unwrap();
        let confirm = two.directive("istanbul", Errand::Confirm(confirmation));
        two.send("istanbul", &confirm).await;
        two.agent_died().await;
        assert!(two.writers_permits() <= 1);
        two.reboot();
        comes_back(&mut two, "istanbul", "ankara").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_a_boot_cuts_off_between_any_two_acts_ends_in_one_writer() {
    let mut two = Two::managed().await;
    let (mut from, mut to) = ("istanbul", "ankara");
    for window in ["record", "give_permit", "promote", "again", "keep_writer"] {
        let promote = two.prepared(to).await;
        two.kill_agent();
        two.start_agent(&format!("agent.keeper.{window}=kill")).await;
        two.send(to, &promote).await;
        two.agent_died().await;
        assert!(two.writers_permits() <= 1);
        two.reboot();
        two.shard = two.shard.promoted(two.shard.reign.mark());
        comes_back(&mut two, to, from).await;
        let answer = two.order(from, Errand::Order(Order::Follow)).await.unwrap();
        assert_eq!(answer, Answer::Follows);
        two.reported(from, "that it follows", |kept| kept.server == Server::ReadOnly && kept.permit).await;
        two.shard.superseded.clear();
        (from, to) = (to, from);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_another_machine_there_is_no_custody_and_no_permit() {
    let mut two = Two::managed().await;
    let _ = two.prepared("ankara").await;
    let ask = two.shard.asks();
    assert!(ask.is_empty(), "the receipt was given on the first machine");
    two.reboot();
    fs::write(two.path("machine"), "ffffffffffffffffffffffffffffffff\n").unwrap();
    two.start_agent("").await;
    let known = two.reported("istanbul", "another machine", |kept| kept.trouble.contains("machine")).await;
    assert!(known.trouble.contains("signs and starts nothing"), "{}", known.trouble);
    let next = two.shard.reign.clone();
    let again = muster_failover::custody::Ask {
        reign: two.shard.ancestors[0],
        next,
        line: two.line(),
        nonce: muster_common::id::Nonce::from_bytes([5; 16]),
    };
    let refused = two.order("istanbul", Errand::Order(Order::Cede(again))).await.unwrap_err();
    assert!(refused.message.contains("no custody"), "{refused}");
    assert_eq!(two.writers_permits(), 0);
    assert!(!two.permit("ankara").exists(), "not even a follower's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_file_that_cannot_be_read_stops_nobody_and_signs_nothing_until_it_is_confirmed() {
    let mut two = Two::managed().await;
    two.kill_agent();
    fs::write(two.path("state/keeper/orders.istanbul"), "MUSTER-CONTROL 1 crc32c:00000000 3\nxyz").unwrap();
    two.start_agent("").await;
    let kept = two.reported("istanbul", "that it is lost", |kept| kept.known.is_none()).await;
    assert!(kept.trouble.contains("checksum") && kept.trouble.contains("muster manage orders"), "{}", kept.trouble);
    assert_eq!(kept.server, Server::ReadWrite, "who runs under a permit goes on");
    let refused = two.order("istanbul", Errand::Order(Order::Stop { for_operation: None })).await.unwrap_err();
    assert!(refused.message.contains("control file is lost"), "{refused}");
    let (done, told) = two.muster_agent(&["fence", "orders/istanbul"]);
    assert!(!done && told.contains("control file is lost"), "{told}");
    two.istanbul.sql("INSERT INTO rows VALUES (1)");
    let answer = two.order("istanbul", Errand::Manage { role: ManagedAs::Writer }).await.unwrap();
    assert!(matches!(answer, Answer::Managed(_)), "{answer:?}");
    two.role("istanbul", "that it is the writer", |role| matches!(role, Role::Writer { .. })).await;
    // Removed, it is lost all the same: the data carry the mark.
    two.kill_agent();
    fs::remove_file(two.path("state/keeper/orders.istanbul")).unwrap();
    two.start_agent("").await;
    two.reported("istanbul", "that it is lost", |kept| kept.known.is_none() && kept.trouble.contains("mark")).await;
    two.istanbul.sql("INSERT INTO rows VALUES (2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_spot_an_operator_fences_with_a_running_agent_and_with_a_dead_one() {
    let mut two = Two::managed().await;
    let (done, told) = two.muster_agent(&["fence", "orders/istanbul"]);
    assert!(done && told.contains("is fenced") && told.contains("Final position"), "{told}");
    assert!(two.istanbul.try_sql("SELECT 1").is_err());
    let fenced = |role: &Role| matches!(role, Role::Stopped { why: Why::Fence, .. });
    two.role("istanbul", "that it is fenced", fenced).await;
    let (_, told) = two.muster_agent(&["status"]);
    assert!(told.contains("fenced by an operator") && told.contains("muster unfence orders"), "{told}");
    // Unfenced by the controller, and fenced again with no agent.
    assert_eq!(two.order("istanbul", Errand::Order(Order::Ask)).await.unwrap(), Answer::Asking(None));
    two.confirm("istanbul", "ankara").await.unwrap();
    two.kill_agent();
    let (done, told) = two.muster_agent(&["fence", "orders/istanbul"]);
    assert!(done && told.contains("no agent runs here") && told.contains("is fenced"), "{told}");
    assert!(two.istanbul.try_sql("SELECT 1").is_err());
    let (done, told) = two.muster_agent(&["fence", "orders/nowhere"]);
    assert!(!done && told.contains("not assigned"), "{told}");
    // It outlives a boot.
    two.reboot();
    two.start_agent("").await;
    two.role("istanbul", "that it is still fenced", fenced).await;
    assert_eq!(two.writers_permits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_given_up_by_word_is_stopped_rewound_and_follows_also_when_a_boot_comes_between() {
    use rustix::process::Signal;
    for window in ["", "agent.keeper.rejoined=kill"] {
        let mut two = Two::managed().await;
        two.istanbul.sql("INSERT INTO rows VALUES (1)");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while two.ankara.try_sql("SELECT count(*) FROM rows") != Ok("1".to_owned()) {
            assert!(std::time::Instant::now() < deadline, "it does not stream");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What only the old writer has.
        two.istanbul.signal("walsender", Signal::STOP);
        two.istanbul.sql("INSERT INTO rows VALUES (2)");
        two.istanbul.kill_all();
        two.failover_by_word("ankara").await;
        two.ankara.sql("INSERT INTO rows VALUES (3)");
        let mut told = None;
        if window.is_empty() {
            told = Some(two.order("istanbul", Errand::Rejoin).await.unwrap());
        } else {
            two.kill_agent();
            two.start_agent(window).await;
            let rejoin = two.directive("istanbul", Errand::Rejoin);
            two.send("istanbul", &rejoin).await;
            two.agent_died().await;
            two.reboot();
            two.start_agent("").await;
            two.confirm("ankara", "istanbul").await.unwrap();
            told = told.or(Some(two.order("istanbul", Errand::Rejoin).await.unwrap()));
        }
        assert!(matches!(told, Some(Answer::Rejoined { .. })), "{told:?}");
        if window.is_empty() {
            assert!(matches!(told, Some(Answer::Rejoined { rewound: true, bytes: 1.., .. })), "{told:?}");
        }
        two.reported("istanbul", "that it follows", |kept| kept.server == Server::ReadOnly && kept.permit).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while two.istanbul.try_sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM rows") != Ok("1,3".to_owned()) {
            assert!(std::time::Instant::now() < deadline, "{:?}", two.istanbul.try_sql("SELECT n FROM rows"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(two.writers_permits(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_controller_a_word_promotes_a_follower_and_starts_a_writer_and_is_refused_while_the_other_answers() {
    let mut two = Two::managed().await;
    let said = |verb: &'static str, instance: &'static str, off: &'static [&'static str]| {
        let mut arguments = vec![verb, instance, "--word", "I pulled its plug", "--operator", "ada", "--lose-at-most", "unknown"];
        arguments.extend(off);
        arguments
    };
    let (done, told) = two.muster_agent(&said("promote", "orders/ankara", &["--off", "istanbul"]));
    assert!(!done && told.contains("istanbul is not off"), "{told}");
    two.istanbul.kill_all();
    let (done, told) = two.muster_agent(&said("promote", "orders/ankara", &[]));
    assert!(!done && told.contains("--off istanbul"), "{told}");
    let (done, told) = two.muster_agent(&said("start", "orders/ankara", &["--off", "istanbul"]));
    assert!(!done && told.contains("is for a stopped writer"), "{told}");
    let (done, told) = two.muster_agent(&said("promote", "orders/ankara", &["--off", "istanbul"]));
    assert!(done && told.contains("takes writes in epoch 2"), "{told}");
    two.ankara.sql("INSERT INTO rows VALUES (5)");
    two.role("ankara", "that it is the writer", |role| matches!(role, Role::Writer { reign } if reign.epoch.0 == 2)).await;
    assert!(two.path("state/keeper/orders.ankara.word-2").exists(), "the word is kept");
    // The machine goes down and comes up, and there is nobody to ask.
    two.reboot();
    let (done, told) = two.muster_agent(&said("start", "orders/ankara", &["--off", "istanbul"]));
    assert!(done && told.contains("takes writes in epoch 3"), "{told}");
    assert_eq!(two.ankara.sql("INSERT INTO rows VALUES (6); SELECT count(*) FROM rows"), "2");
    assert_eq!(two.writers_permits(), 1);
}

/// The same file for ever: whoever changes what is written adds a version.
#[test]
fn version_1_of_the_control_file_is_read_for_ever() {
    use muster_agent::keeper::record::{Record, read, write};
    use muster_common::counter::{Epoch, Term};
    use muster_common::id::{BootId, MachineId, Nonce, ReignId, RuleId};
    use muster_common::position::{Fork, Lsn, PostgresPosition};
    use muster_failover::control::{Control, Pledge};
    use muster_failover::directive::Upstream;
    use muster_failover::here::{Limit, Rule, Span, Uptime};
    use muster_failover::position::Position;
    use muster_failover::reign::{Line, Mark};
    let mark = |n: u8| Mark { epoch: Epoch(n.into()), id: ReignId::from_bytes([n; 16]) };
    let boot = BootId::from_bytes([4; 16]);
    let history = vec![Fork { timeline: 1, at: Lsn(0x300_0000) }];
    let span = Span { lasts: Duration::from_secs(60), from: Uptime(Duration::from_secs(5)) };
    let name = crate::two::name;
    let record = Record {
        control: Control {
            machine: MachineId::from_bytes([3; 16]),
            boot,
            component: name("orders"),
            instance: name("ankara"),
            line: Line::of(mark(1)).then(mark(2)),
            writer: name("istanbul"),
            role: Role::Stopped {
                reign: mark(1),
                why: Why::Operation,
                until: Some(Limit { boot, until: Uptime(Duration::from_secs(90)) }),
                ceded_to: Some(mark(2)),
            },
            last: Some(Position::Postgres(PostgresPosition { system_id: 7, timeline: 2, history, lsn: Lsn(0x400_0000) })),
            pledges: vec![
                Pledge::Candidacy { reign: mark(1), against: name("istanbul"), nonce: Some(Nonce::from_bytes([9; 16])), span },
                Pledge::Patience { reign: mark(1), span },
            ],
            rule: Some(Rule { term: Term(6), id: RuleId::from_bytes([8; 16]) }),
            sequence: 12,
            others: [name("istanbul")].into(),
            sole: false,
        },
        upstream: Some(Upstream {
            instance: name("istanbul"),
            host: "db.istanbul".into(),
            port: 5432,
            user: "muster".into(),
            slot: "muster_ankara".into(),
        }),
    };
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/control-1");
    if std::env::var_os("MUSTER_WRITE").is_some() {
        write(&golden, &record).unwrap();
    }
    assert_eq!(read(&golden).unwrap().unwrap(), record);
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("again"), &record).unwrap();
    assert_eq!(fs::read(folder.path().join("again")).unwrap(), fs::read(&golden).unwrap(), "version 1 is written as it was");
}
