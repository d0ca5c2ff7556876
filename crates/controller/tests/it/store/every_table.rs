//! Every statement of every module, on both databases: what was put in comes back, and filters, orders and bounds are the same.

use std::time::Duration;

use muster_common::counter::{Epoch, EventNumber, Revision, Term};
use muster_common::id::{CommandId, OperationId, PointId};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_controller::schedule::pause::{Pause, Scope};
use muster_controller::store::operations::{Filter, Record};
use muster_controller::store::place::Place;
use muster_controller::store::requests::Remembered;
use muster_controller::store::{
    Connection, Store, agents, answers, assignments, certificates, commands, events, findings, history, meta, operations, operators,
    pauses, points, requests, resources, shards, sightings, tokens,
};
use muster_identity::caller::Role;
use muster_wire::proto::agent::v1::{Assignment, Command, TaskOutcome};
use muster_wire::proto::v1::history_entry::Entry;
use muster_wire::proto::v1::{self, ResourceKind, resource::Spec};

const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub async fn every_table_gives_back_what_was_put_in(place: Place) {
    let store = Store::open_at(&place).await.unwrap();
    let mut write = store.write().await.unwrap();
    let connection = write.connection();
    identities(connection).await;
    inventory(connection).await;
    journal(connection).await;
    commanded(connection).await;
    remembered(connection).await;
    paused(connection).await;
    found(connection).await;
    meta::set_behind(connection, "türkçe \u{1f600} \0").await.unwrap();
    write.commit().await.unwrap();
    let mut read = store.read().await.unwrap();
    assert_eq!(meta::behind(&mut read).await.unwrap(), "türkçe \u{1f600} \u{fffd}");
    meta::last_event(&mut read).await.unwrap();
}

async fn found(connection: &mut Connection) {
    let finding =
        v1::Finding { name: "RpoBroken".into(), subject: "component/docs".into(), component: "docs".into(), ..v1::Finding::default() };
    let worse = v1::Finding { hint: "type".into(), ..finding.clone() };
    findings::put(connection, &finding).await.unwrap();
    findings::put(connection, &worse).await.unwrap();
    assert_eq!(findings::all(connection).await.unwrap(), std::slice::from_ref(&worse));
    findings::remove(connection, &worse).await.unwrap();
    assert!(findings::all(connection).await.unwrap().is_empty());

    assert_eq!(history::newest(connection).await.unwrap(), EventNumber(0));
    let role = v1::RoleChange { component: "other".into(), instance: "a".into(), text: "was standby, is down".into() };
    let first = history::insert(connection, NOW, Entry::Finding(finding.clone())).await.unwrap();
    let second = history::insert(connection, NOW, Entry::Role(role)).await.unwrap();
    assert_eq!((first, second), (EventNumber(1), EventNumber(2)));
    let events = history::findings(connection, EventNumber(0), 10).await.unwrap();
    assert_eq!(events.iter().map(|event| (event.number, event.finding.clone())).collect::<Vec<_>>(), [(1, Some(finding))]);
    assert!(history::findings(connection, EventNumber(1), 10).await.unwrap().is_empty());
    assert!(history::findings(connection, EventNumber(3), 10).await.is_err());
    let end = (Timestamp(i64::MAX), u64::MAX);
    let numbers = async |connection: &mut Connection, component: Option<&Name>, before, limit| {
        let listed = history::list(connection, component, before, limit).await.unwrap();
        listed.into_iter().map(|(_, number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(connection, None, end, 10).await, [2, 1]);
    assert_eq!(numbers(connection, None, end, 1).await, [2]);
    assert_eq!(numbers(connection, None, (NOW, 2), 10).await, [1]);
    assert_eq!(numbers(connection, Some(&name("docs")), end, 10).await, [1]);

    let instance = "docs/istanbul".parse().unwrap();
    let seen = sightings::Sighting { role: 2, version: "15.14".into(), version_before: String::new(), version_since: NOW };
    sightings::put(connection, &instance, &sightings::Sighting { role: 4, ..seen.clone() }).await.unwrap();
    sightings::put(connection, &instance, &seen).await.unwrap();
    assert_eq!(sightings::all(connection).await.unwrap(), [(instance.clone(), seen)]);
    sightings::remove(connection, &instance).await.unwrap();
    assert!(sightings::all(connection).await.unwrap().is_empty());
    assert!(operations::last_ended(connection, &name("nobody"), "backup").await.unwrap().is_none());
    assert!(operations::by_age(connection, Some(&name("nobody")), end, 10).await.unwrap().is_empty());
}

async fn identities(connection: &mut Connection) {
    let (ada, db1, site) = (name("ada"), name("db1"), name("istanbul"));
    agents::joined(connection, &db1, &site, "key", "serial", NOW).await.unwrap();
    agents::renewed(connection, &db1, "serial2", NOW.plus(Duration::from_secs(1))).await.unwrap();
    agents::heard(connection, &db1, NOW, 3).await.unwrap();
    let told = agents::Told {
        name: &name("db2"),
        site: &site,
        key_fingerprint: "k",
        serial: "s",
        certificate_until: NOW,
        authority: "ca1",
        trusts: &["ca1".to_owned(), "ca2".to_owned()],
        build: "1",
        encryption_key: "e",
        highest_term: 4,
        highest_sequence: u64::MAX,
    };
    agents::connected(connection, &told, NOW).await.unwrap();
    let told = agents::get(connection, &name("db2")).await.unwrap().unwrap();
    assert_eq!((told.authority.as_str(), told.trusts.as_slice()), ("ca1", ["ca1".to_owned(), "ca2".to_owned()].as_slice()));
    agents::trusts(connection, &name("db2"), &["ca2".to_owned()]).await.unwrap();
    assert_eq!(agents::get(connection, &name("db2")).await.unwrap().unwrap().trusts, ["ca2"]);
    assert!(agents::revoke(connection, &db1).await.unwrap());
    assert!(!agents::revoke(connection, &name("nobody")).await.unwrap());
    let all = agents::all(connection).await.unwrap();
    assert_eq!(all.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["db1", "db2"]);
    assert_eq!((all[0].refused_calls, all[0].revoked, all[0].last_heard), (3, true, Some(NOW)));
    assert_eq!(agents::get(connection, &db1).await.unwrap().as_ref(), all.first());

    operators::issued(connection, &ada, Role::Admin, "s", NOW).await.unwrap();
    assert!(operators::revoke(connection, &ada).await.unwrap());
    assert!(operators::all(connection).await.unwrap()[0].revoked);

    let invited = tokens::Invited { site: site.clone(), agent: name("db3") };
    tokens::insert(connection, "h", &invited, NOW.plus(Duration::from_secs(60)), NOW).await.unwrap();
    assert!(tokens::is_known(connection, "h", NOW).await.unwrap());
    assert_eq!(tokens::invited(connection, NOW).await.unwrap(), std::slice::from_ref(&invited));
    assert_eq!(tokens::take(connection, "h", "key3", NOW).await.unwrap(), Some(invited.clone()));
    assert_eq!(tokens::take(connection, "h", "key3", NOW).await.unwrap(), None);
    agents::joined(connection, &name("db3"), &site, "key3", "serial", NOW).await.unwrap();
    assert_eq!(tokens::take(connection, "h", "key3", NOW).await.unwrap(), Some(invited));
    assert_eq!(tokens::void_unused(connection, NOW).await.unwrap(), 0);

    let until = NOW.plus(Duration::from_secs(9));
    let signed = |serial, key, authority| certificates::Signed { serial, key, authority, until };
    certificates::issued(connection, "agent/db1", &signed("s1", "k1", "ca1"), NOW).await.unwrap();
    certificates::issued(connection, "operator/ada", &signed("o1", "ka", "ca1"), NOW).await.unwrap();
    certificates::issued(connection, "operator/bob", &signed("o2", "kb", ""), NOW).await.unwrap();
    assert_eq!(certificates::operators_of_another(connection, "ca2", NOW).await.unwrap(), ["operator/ada", "operator/bob"]);
    certificates::issued(connection, "operator/ada", &signed("o3", "ka", "ca2"), NOW).await.unwrap();
    assert_eq!(certificates::operators_of_another(connection, "ca2", NOW).await.unwrap(), ["operator/bob"]);
    certificates::revoke_subject(connection, "agent/db1", "stolen", NOW).await.unwrap();
    certificates::revoke_key(connection, "k2", "stolen", NOW).await.unwrap();
    assert!(!certificates::revoke_serial(connection, "s1", "again", NOW).await.unwrap());
    assert_eq!(certificates::revoked_serials(connection, 10).await.unwrap(), ["s1"]);
    let mut keys = certificates::revoked_keys(connection).await.unwrap();
    keys.sort();
    assert_eq!(keys, ["k1", "k2"]);
}

async fn inventory(connection: &mut Connection) {
    for (number, text) in ["b", "A-1", "a", "a-b"].into_iter().enumerate() {
        let Ok(name) = text.parse::<Name>() else { continue };
        let declared = resources::Declared {
            name,
            id: format!("{number}"),
            etag: "e".into(),
            spec: Spec::Site(v1::SiteSpec::default()),
            created: NOW,
            updated: NOW,
        };
        resources::put(connection, &declared).await.unwrap();
        resources::put(connection, &declared).await.unwrap();
        assert_eq!(resources::get(connection, ResourceKind::Site, &declared.name).await.unwrap(), Some(declared));
    }
    let listed = resources::list(connection, ResourceKind::Unspecified, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "a-b", "b"], "by bytes");
    let rest = resources::list(connection, ResourceKind::Site, Some((ResourceKind::Site, &name("a"))), 1).await.unwrap();
    assert_eq!(rest[0].name.as_str(), "a-b");
    assert!(resources::delete(connection, ResourceKind::Site, &name("b")).await.unwrap());

    let record = assignments::Record { revision: Revision(3), digest: "d".into(), assignment: Assignment::default() };
    assignments::put(connection, &name("db1"), &record).await.unwrap();
    assert_eq!(assignments::get(connection, &name("db1")).await.unwrap(), Some(record));
    assert_eq!(assignments::digests(connection).await.unwrap(), [(name("db1"), (Revision(3), "d".into()))].into());

    let kept = shards::Kept { record: None, floor: Epoch(7), floor_reign: None };
    shards::put(connection, &name("orders"), &kept).await.unwrap();
    assert_eq!(shards::get(connection, &name("orders")).await.unwrap(), kept);
    assert_eq!(shards::all(connection).await.unwrap().len(), 1);

    for byte in 1..=3_u8 {
        let point = v1::RecoveryPoint { id: PointId::from_bytes([byte; 16]).to_string(), component: "orders".into(), ..Default::default() };
        points::insert(connection, &point, NOW.plus(Duration::from_secs(u64::from(byte)))).await.unwrap();
        points::insert(connection, &point, NOW).await.unwrap();
    }
    let newest = points::list(connection, &name("orders"), None, 2).await.unwrap();
    assert_eq!(newest.iter().map(|point| point.id.get(..2).unwrap()).collect::<Vec<_>>(), ["03", "02"]);
    let before = (NOW.plus(Duration::from_secs(2)), PointId::from_bytes([2; 16]));
    assert_eq!(points::list(connection, &name("orders"), Some(before), 9).await.unwrap().len(), 1);
    assert_eq!(points::by_prefix(connection, &name("orders"), "0202").await.unwrap().len(), 1);
    points::forget(connection, &name("orders")).await.unwrap();
    assert!(points::list(connection, &name("orders"), None, 2).await.unwrap().is_empty());
}

pub fn operation(byte: u8, ended: bool) -> Record {
    Record {
        id: OperationId::from_bytes([byte; 16]),
        number: 0,
        kind: "backup".into(),
        phase: if ended { "succeeded" } else { "running" }.into(),
        ended,
        component: "orders".into(),
        instance: "istanbul".into(),
        repository: "primary".into(),
        cause: "operator/ada".into(),
        parent: String::new(),
        created: NOW,
        finished: ended.then_some(NOW),
        state_version: 1,
        journal: "{\"a\":\"\\u0000\"}".into(),
        last_event: EventNumber(1),
    }
}

async fn journal(connection: &mut Connection) {
    let mut records = Vec::new();
    for (byte, ended) in [(1, true), (2, true), (0xfe, false)] {
        let mut record = operation(byte, ended);
        operations::insert(connection, &mut record).await.unwrap();
        records.push(record);
    }
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(operations::update(connection, &records[2], EventNumber(1)).await.unwrap());
    assert!(!operations::update(connection, &records[2], EventNumber(9)).await.unwrap());
    assert_eq!(operations::get(connection, records[0].id).await.unwrap().as_ref(), records.first());
    assert_eq!(operations::by_prefix(connection, "fefe").await.unwrap().len(), 1);
    assert_eq!(operations::unfinished(connection).await.unwrap().len(), 1);
    let filter = Filter { component: Some(name("orders")), phase: Some("succeeded"), running: false, before: Some(2) };
    assert_eq!(operations::list(connection, &filter, 10).await.unwrap().len(), 1);
    let running = Filter { running: true, ..Filter::default() };
    assert_eq!(operations::list(connection, &running, 10).await.unwrap().len(), 1);
    assert_eq!(operations::of_kind(connection, &name("orders"), "backup", "succeeded", 5).await.unwrap().len(), 2);
    assert_eq!(operations::prune(connection, 2, NOW.plus(Duration::from_secs(1))).await.unwrap(), 1);

    let number = meta::next_event(connection).await.unwrap();
    let snapshot = v1::Operation { id: records[1].id.to_string(), ..Default::default() };
    events::insert(connection, number, NOW, "text", &snapshot).await.unwrap();
    assert_eq!(events::list(connection, Some(records[1].id), EventNumber(0), 5).await.unwrap().len(), 1);
    assert!(events::list(connection, None, EventNumber(50), 5).await.is_err());
}

async fn commanded(connection: &mut Connection) {
    let id = CommandId::from_bytes([9; 16]);
    let command = Command {
        id: id.to_string(),
        operation_id: OperationId::from_bytes([2; 16]).to_string(),
        sequence: meta::next_sequence(connection).await.unwrap(),
        term: 1,
        ..Default::default()
    };
    commands::insert(connection, &command, &name("db1"), "backup", NOW).await.unwrap();
    assert!(!commands::get(connection, id).await.unwrap().unwrap().ended);
    let outcome = TaskOutcome { command_id: id.to_string(), ..Default::default() };
    commands::end(connection, id, &outcome).await.unwrap();
    assert!(commands::get(connection, id).await.unwrap().unwrap().ended);
    commands::keep_stray(connection, &name("db1"), &outcome, NOW).await.unwrap();
    commands::keep_stray(connection, &name("db1"), &outcome, NOW).await.unwrap();
    let memory = commands::Memory { term: Term(3), sequence: 0 };
    commands::remember(connection, &name("db1"), &memory, None).await.unwrap();
    assert_eq!(commands::memory(connection, &name("db1")).await.unwrap(), commands::Memory { term: Term(3), sequence: command.sequence });
    assert_eq!(commands::memory(connection, &name("nobody")).await.unwrap(), commands::Memory::default());
    meta::raise_sequence(connection, 900).await.unwrap();
    assert_eq!(meta::sequence(connection).await.unwrap(), 900);
}

async fn remembered(connection: &mut Connection) {
    let known = Remembered { digest: "d".into(), operation: OperationId::from_bytes([2; 16]) };
    requests::insert(connection, "ada", "r", &known, NOW).await.unwrap();
    assert_eq!(requests::find(connection, "ada", "r", NOW).await.unwrap(), Some(known));
    let later = NOW.plus(requests::REMEMBERED + Duration::from_secs(1));
    assert_eq!(requests::find(connection, "ada", "r", later).await.unwrap(), None);
    let answer = answers::Answer { digest: "d".into(), bytes: vec![0, 1, 255] };
    answers::insert(connection, "ada", "r", &answer, NOW).await.unwrap();
    assert_eq!(answers::find(connection, "ada", "r", NOW).await.unwrap(), Some(answer));
}

async fn paused(connection: &mut Connection) {
    let later = NOW.plus(Duration::from_secs(60));
    let pause =
        Pause { scope: Scope::Component(name("orders")), since: NOW, until: later, reason: "upgrade".into(), by: "operator/ada".into() };
    pauses::put(connection, &pause).await.unwrap();
    pauses::put(connection, &pause).await.unwrap();
    assert_eq!(pauses::all(connection).await.unwrap(), std::slice::from_ref(&pause));
    pauses::delete(connection, &Scope::All).await.unwrap();
    pauses::sweep(connection, later).await.unwrap();
    assert_eq!(pauses::all(connection).await.unwrap(), []);
}

/// A store that holds something in most tables.
pub async fn filled(place: &Place) {
    every_table_gives_back_what_was_put_in(place.clone()).await;
}
