//! Everything that travels comes back as it went, but for nonces in reports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_common::id::{BootId, Nonce, ReignId, RuleId};
use muster_common::name::Name;
use muster_common::position::{Fork, Lsn, PostgresPosition};
use muster_common::time::Timestamp;
use muster_failover::command::Order;
use muster_failover::control::{Pledge, Role, Why};
use muster_failover::custody::Ask;
use muster_failover::directive::{Answer, Directive, Errand, Kept, Known, ManagedAs, Question, Upstream};
use muster_failover::grant::Claim;
use muster_failover::here::Span;
use muster_failover::look::Server;
use muster_failover::permit::{Confirmation, Confirmed};

use super::directive::{answer_from_proto, answer_to_proto, directive_from_proto, directive_to_proto};
use super::kept::{kept_from_proto, kept_to_proto};
use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn mark(epoch: u64) -> Mark {
    Mark { epoch: Epoch(epoch), id: ReignId::from_bytes([u8::try_from(epoch).unwrap(); 16]) }
}

fn rule() -> Rule {
    Rule { term: Term(4), id: RuleId::from_bytes([8; 16]) }
}

fn nonce() -> Nonce {
    Nonce::from_bytes([9; 16])
}

fn position() -> Position {
    let history = vec![Fork { timeline: 1, at: Lsn(0x300_0000) }];
    Position::Postgres(PostgresPosition { system_id: 7, timeline: 2, history, lsn: Lsn(0x400_0000) })
}

fn reign() -> Reign {
    Reign { epoch: Epoch(2), id: mark(2).id, writer: name("ankara"), parent: Some(mark(1).id) }
}

fn line() -> Line {
    Line::of(mark(1)).then(mark(2))
}

fn receipt() -> SignedReceipt {
    let receipt = Receipt {
        component: name("orders"),
        instance: name("istanbul"),
        reign: mark(1),
        successor: name("ankara"),
        next: mark(2),
        nonce: nonce(),
        method: Method::Killed,
        position: position(),
    };
    SignedReceipt { receipt, signature: vec![1, 2], chain: vec![vec![3], vec![4]] }
}

fn errands() -> Vec<Errand> {
    let loss = Loss { bytes: Some(3), time: None };
    let word = Word {
        operator: name("ada"),
        instance: name("izmir"),
        next: mark(2),
        states: Statement::MachineOff,
        ceiling: loss,
        at: Timestamp(1_000_000),
        signature: vec![7],
    };
    let external = External { instance: name("bursa"), next: mark(2), nonce: nonce(), hook: "power".into(), output: "off".into() };
    let claim = Claim {
        reign: reign(),
        line: line(),
        nonce: nonce(),
        possible: BTreeMap::from(
            [("istanbul", mark(1)), ("izmir", mark(1)), ("bursa", mark(1)), ("van", mark(1))].map(|(n, m)| (name(n), m)),
        ),
        proofs: BTreeMap::from([
            (name("istanbul"), Proof::Receipt(receipt())),
            (name("izmir"), Proof::Word(word)),
            (name("bursa"), Proof::External(external)),
        ]),
        held: BTreeMap::from([(name("istanbul"), position())]),
        loss,
        ceiling: Loss::UNKNOWN,
    };
    let confirmation = Confirmation {
        instance: name("istanbul"),
        reign: mark(1),
        asked: nonce(),
        by: Confirmed::Controller { rule: rule(), adopting: true },
        heard: BTreeSet::from([name("ankara")]),
        off: BTreeSet::from([name("izmir")]),
        most: Some(position()),
    };
    let lasts = Duration::from_secs(9);
    vec![
        Errand::Order(Order::Stop { for_operation: Some(lasts) }),
        Errand::Order(Order::Stop { for_operation: None }),
        Errand::Order(Order::Ask),
        Errand::Order(Order::Pledge { lasts }),
        Errand::Order(Order::Cede(Ask { reign: mark(1), next: reign(), line: line(), nonce: nonce() })),
        Errand::Order(Order::Promote(claim)),
        Errand::Order(Order::Follow),
        Errand::Vouch { instance: name("istanbul"), reign: mark(1), asked: nonce(), lasts },
        Errand::Confirm(confirmation),
        Errand::Manage { role: ManagedAs::Writer },
        Errand::Manage { role: ManagedAs::Follower },
        Errand::Unmanage,
        Errand::Rejoin,
    ]
}

#[test]
fn directives_come_back_as_they_went_on_the_wire_and_in_the_inbox() {
    let upstream = Upstream { instance: name("ankara"), host: "db.ankara".into(), port: 5432, user: "repl".into(), slot: "muster".into() };
    for (sequence, errand) in (1..).zip(errands()) {
        let directive = Directive {
            rule: rule(),
            line: line(),
            writer: name("ankara"),
            sequence,
            lasts: Some(Duration::from_millis(1_500)),
            others: BTreeSet::from([name("ankara")]),
            upstream: Some(upstream.clone()),
            errand,
        };
        assert_eq!(directive_from_proto(&directive_to_proto(&directive)).unwrap(), directive);
        let json = serde_json::to_string(&directive).unwrap();
        assert_eq!(serde_json::from_str::<Directive>(&json).unwrap(), directive, "{json}");
    }
}

#[test]
fn answers_come_back_as_they_went() {
    for answer in [
        Answer::Stopped(Some(position())),
        Answer::Stopped(None),
        Answer::Asking(Some(Question { asked: nonce(), reign: mark(1) })),
        Answer::Asking(None),
        Answer::Pledged { nonce: nonce(), position: Some(position()) },
        Answer::Ceded(Box::new(receipt())),
        Answer::Promoted { reign: mark(2), position: None },
        Answer::Follows,
        Answer::Vouched(Some(position())),
        Answer::Started(mark(1)),
        Answer::Managed(Some(position())),
        Answer::Unmanaged,
        Answer::Rejoined { fork: Some(position()), bytes: 4, was: position(), rewound: true },
    ] {
        assert_eq!(answer_from_proto(&answer_to_proto(&answer)).unwrap(), answer);
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer, "{json}");
    }
}

#[test]
fn reports_come_back_without_their_nonces() {
    let limit = Limit { boot: BootId::from_bytes([5; 16]), until: Uptime(Duration::from_secs(99)) };
    let span = Span { lasts: Duration::from_secs(60), from: Uptime(Duration::from_secs(2)) };
    for role in [
        Role::Unmanaged,
        Role::Writer { reign: mark(1) },
        Role::Stopped { reign: mark(1), why: Why::Operation, until: Some(limit), ceded_to: Some(mark(2)) },
        Role::Stopped { reign: mark(1), why: Why::Fence, until: None, ceded_to: None },
        Role::Promoting { reign: mark(2), until: limit },
        Role::Follower { kept: true },
        Role::Held { why: Why::Strayed },
        Role::Absent,
    ] {
        let pledges = |nonce| {
            vec![Pledge::Candidacy { reign: mark(1), against: name("istanbul"), nonce, span }, Pledge::Patience { reign: mark(1), span }]
        };
        let kept = |nonce| Kept {
            instance: "orders/ankara".parse().unwrap(),
            known: Some(Known {
                role: role.clone(),
                line: line(),
                writer: name("ankara"),
                rule: Some(rule()),
                sequence: 3,
                pledges: pledges(nonce),
                others: BTreeSet::from([name("istanbul")]),
            }),
            position: Some(position()),
            permit: true,
            server: Server::ReadOnly,
            locked: false,
            asks: Some(Question { asked: self::nonce(), reign: mark(1) }),
            boot: BootId::from_bytes([5; 16]),
            now: Uptime(Duration::from_secs(7)),
            trouble: String::new(),
        };
        assert_eq!(kept_from_proto(&kept_to_proto(&kept(Some(nonce())))).unwrap(), kept(None));
    }
}

#[test]
fn what_is_missing_is_refused_with_its_field() {
    let refused = |work: &link::OrderWork| directive_from_proto(work).unwrap_err().to_string();
    assert!(refused(&link::OrderWork::default()).contains("order.rule"));
    let work = link::OrderWork { rule: Some(rule_to_proto(&rule())), line: Some(link::Line::default()), ..Default::default() };
    assert!(refused(&work).contains("order.line"), "an empty line is none");
    assert!(answer_from_proto(&link::OrderResult::default()).is_err());
    assert!(kept_from_proto(&link::KeptReport::default()).is_err());
}
