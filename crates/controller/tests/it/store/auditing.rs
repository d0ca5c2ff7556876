//! The audit log in the store, on both databases: what is appended stays a chain, what was changed beside the controller is found and named,
//! what the retention forgets is told.

use muster_common::time::Timestamp;
use muster_controller::audit::chain::{Known, Phase, Verdict, What};
use muster_controller::store::Store;
use muster_controller::store::audit::{self, Filter, Keep};
use muster_controller::store::place::Place;

use super::server;

const DAY: i64 = 86_400_000_000;

fn what(caller: &str, at: Timestamp) -> What {
    let rpc = "/muster.v1.RecoveryService/Backup".into();
    What { at, caller: caller.into(), rpc, resource: "component/a_b".into(), ..What::default() }
}

async fn append(store: &Store, what: What) -> u64 {
    let mut write = store.write().await.unwrap();
    let number = audit::append(write.connection(), what).await.unwrap();
    write.commit().await.unwrap();
    number
}

async fn verdict(store: &Store, known: Vec<Known>) -> Verdict {
    audit::verify(&mut store.read().await.unwrap(), known).await.unwrap()
}

fn broken_at(verdict: &Verdict) -> Option<u64> {
    match verdict {
        Verdict::Whole(_) => None,
        Verdict::Broken { number, .. } => Some(*number),
    }
}

pub async fn the_audit_log_is_a_chain_and_what_was_changed_in_it_is_named(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), None, "nothing is a whole log");
    for number in 1..=6_u64 {
        let told =
            What { message: "türkçe \0 \n".into(), ..what(&format!("operator/o{number}"), Timestamp(i64::try_from(number).unwrap())) };
        assert_eq!(append(&store, told).await, number);
    }
    let Verdict::Whole(ends) = verdict(&store, Vec::new()).await else { panic!("not whole") };
    assert_eq!((ends.first, ends.last), (1, 6));
    let known = Known { number: 6, hash: ends.head, by: "a test".into() };

    server::beside(&place, "UPDATE audit SET caller = 'operator/eve' WHERE number = 3").await;
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), Some(3));
    server::beside(&place, "UPDATE audit SET caller = 'operator/o3' WHERE number = 3").await;
    assert_eq!(broken_at(&verdict(&store, vec![known.clone()]).await), None);
    server::beside(&place, "UPDATE audit SET phase = 'other' WHERE number = 2").await;
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), Some(2), "also where it cannot be read");
    server::beside(&place, "UPDATE audit SET phase = 'asked' WHERE number = 2").await;
    server::beside(&place, "DELETE FROM audit WHERE number = 6").await;
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), Some(6), "cut at the end");
    // Together with its ends: the log is whole in itself, and whoever saw more finds it.
    server::beside(&place, "UPDATE audit_chain SET last = 5, head = (SELECT hash FROM audit WHERE number = 5)").await;
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), None);
    assert_eq!(broken_at(&verdict(&store, vec![known]).await), Some(6));
    server::beside(&place, "DELETE FROM audit WHERE number = 1").await;
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), Some(1), "cut at the front");
    // What was done to it does not keep anybody from being recorded.
    server::beside(&place, "DELETE FROM audit_chain").await;
    assert_eq!(append(&store, what("operator/ada", Timestamp(9))).await, 6);
    assert!(broken_at(&verdict(&store, Vec::new()).await).is_some());
}

pub async fn entries_are_found_by_caller_resource_and_time_and_one_line_tells_a_call(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    let asked = append(&store, what("operator/ada", Timestamp(10))).await;
    let answered = What {
        phase: Phase::Answered,
        answers: asked,
        outcome: "OK".into(),
        operation: "abcdef".into(),
        ..what("operator/ada", Timestamp(11))
    };
    append(&store, answered).await;
    append(&store, what("operator/100%", Timestamp(20))).await;
    let refused =
        What { phase: Phase::Refused, code: 7, left_out: 3, resource: "component/axb".into(), ..what("agent/istanbul/a", Timestamp(30)) };
    append(&store, refused.clone()).await;
    let listed = async |filter: Filter, limit| {
        let entries = audit::list(&mut store.read().await.unwrap(), &filter, limit).await.unwrap();
        entries.into_iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(listed(Filter::default(), 10).await, [4, 3, 2], "what was asked and has its outcome is left out");
    assert_eq!(listed(Filter { every: true, ..Filter::default() }, 10).await, [4, 3, 2, 1]);
    assert_eq!(listed(Filter { every: true, before: Some(3), ..Filter::default() }, 1).await, [2]);
    assert_eq!(listed(Filter { caller: "operator/".into(), ..Filter::default() }, 10).await, [3, 2]);
    assert_eq!(listed(Filter { caller: "0%".into(), ..Filter::default() }, 10).await, [3], "a sign of LIKE is a letter");
    assert_eq!(listed(Filter { resource: "a_b".into(), ..Filter::default() }, 10).await, [3, 2]);
    assert_eq!(listed(Filter { resource: "abcd".into(), ..Filter::default() }, 10).await, [2], "an operation is found too");
    assert_eq!(listed(Filter { since: Some(Timestamp(20)), ..Filter::default() }, 10).await, [4, 3]);
    let newest = audit::list(&mut store.read().await.unwrap(), &Filter::default(), 1).await.unwrap();
    assert_eq!(newest[0].what, refused, "as it was put in");
}

pub async fn what_the_retention_forgets_is_told_and_the_log_stays_whole(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    let forget = async |rows, since, now| {
        let mut write = store.write().await.unwrap();
        let forgotten = audit::forget(write.connection(), Keep { rows, since: Timestamp(since) }, Timestamp(now)).await.unwrap();
        write.commit().await.unwrap();
        forgotten
    };
    let mut write = store.write().await.unwrap();
    for number in 0..120_i64 {
        audit::append(write.connection(), what("operator/ada", Timestamp(number * DAY / 10))).await.unwrap();
    }
    write.commit().await.unwrap();
    assert_eq!(forget(200, i64::MIN / 2, 12 * DAY).await, 0);
    // By number: down to a little less than the bound, so that it need not be told each time.
    assert_eq!(forget(100, i64::MIN / 2, 12 * DAY).await, 30);
    assert_eq!(forget(100, i64::MIN / 2, 12 * DAY).await, 0);
    let Verdict::Whole(ends) = verdict(&store, Vec::new()).await else { panic!("not whole") };
    assert_eq!((ends.first, ends.last), (31, 121));
    let newest = audit::list(&mut store.read().await.unwrap(), &Filter::default(), 1).await.unwrap().remove(0);
    assert_eq!((newest.what.phase, newest.what.answers, newest.what.digest), (Phase::Forgotten, 30, ends.anchor));
    // By age: whole days.
    assert_eq!(forget(1_000, 3 * DAY + DAY / 2, 12 * DAY).await, 0, "the oldest is less than a day over its age");
    assert_eq!(forget(1_000, 5 * DAY, 12 * DAY).await, 20);
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), None);
    // A front that is cut beside the controller is not taken for one that was forgotten.
    server::beside(&place, "DELETE FROM audit WHERE number <= 60").await;
    server::beside(&place, "UPDATE audit_chain SET first = 61, anchor = (SELECT 'x' || hash FROM audit WHERE number = 61)").await;
    assert_eq!(broken_at(&verdict(&store, Vec::new()).await), Some(61));
}
