//! A site's move, decided: order, bounds, failures, refusals, a cancel.

use std::collections::BTreeMap;

use muster_common::id::OperationId;
use muster_common::name::InstanceName;

use super::*;
use crate::operation::sites::task::How;
use crate::operation::state::Task as Any;
use crate::operation::{life, moves};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn planned(component: &str, after: &[&str]) -> Planned {
    Planned { component: name(component), after: after.iter().map(|text| name(text)).collect(), here: vec![name("istanbul")] }
}

fn task(on_failure: OnFailure, at_once: u32) -> Task {
    Task {
        site: name("istanbul"),
        to_site: None,
        how: How::Switchover { stop_limit: None },
        on_failure,
        at_once,
        components: vec![planned("a-db", &[]), planned("b-db", &["a-db"]), planned("c-db", &[])],
    }
}

fn view(task: &Task) -> View {
    let state = State {
        id: OperationId::from_bytes([1; 16]),
        task: Any::Site(Box::new(task.clone())),
        target: InstanceName { component: name("istanbul"), instance: name("istanbul") },
        agent: name("ankara-agent"),
        repository: None,
        epoch: muster_common::counter::Epoch(0),
        cause: "operator/ada".into(),
        parent: None,
        created: Timestamp(0),
        stall_limit_ms: 900_000,
        traceparent: String::new(),
        asked: None,
        hooks: crate::operation::done::hooks::Around::default(),
        ran: Vec::new(),
        moving: moves::task::Moving::default(),
        phase: Phase::Pending,
        steps: Vec::new(),
        cancel: None,
        finished: None,
        fault: None,
        done: None,
    };
    let here = task.components.iter().map(|planned| planned.component.clone()).collect();
    View { state, parts: BTreeMap::new(), here, refused: BTreeMap::new(), now: Timestamp(1_000_000) }
}

impl View {
    fn after(&mut self, event: &Event) -> &mut Self {
        self.state = life::apply(self.state.clone(), event, self.now);
        self
    }

    fn begin(&mut self, component: &str) -> &mut Self {
        let begun = Event::Begun { component: name(component), operation: OperationId::from_bytes([component.as_bytes()[0]; 16]) };
        self.parts.insert(name(component), Part { phase: Phase::Running, fault: None, waits: "the writer".into() });
        self.after(&begun)
    }

    fn ends(&mut self, component: &str, phase: Phase) -> &mut Self {
        let fault = (phase != Phase::Succeeded).then(|| Fault::failed(ErrorKind::Stalled, "too late").hint("again"));
        self.parts.insert(name(component), Part { phase, fault, waits: String::new() });
        let Action::Record(events) = decide(self, &self.task()) else { panic!("the end is journaled") };
        for event in &events {
            self.after(event);
        }
        self
    }

    fn task(&self) -> Task {
        let Any::Site(task) = &self.state.task else { panic!("another task") };
        (**task).clone()
    }

    fn next(&self) -> Action {
        decide(self, &self.task())
    }

    fn done(&mut self) -> (Phase, Vec<(String, End)>) {
        let Action::Record(events) = self.next() else { panic!("it goes on: {:?}", self.next()) };
        self.after(&events[0]);
        let Some(crate::operation::done::Done::Site(done)) = &self.state.done else { panic!("{:?}", self.state) };
        (self.state.phase, done.components.iter().map(|ended| (ended.component.to_string(), ended.end)).collect())
    }
}

#[test]
fn they_begin_in_order_as_many_at_once_as_asked_and_what_depends_on_another_after_it() {
    let mut view = view(&task(OnFailure::Stop, 2));
    assert_eq!(view.next(), Action::Begin(name("a-db")));
    assert_eq!(view.begin("a-db").next(), Action::Begin(name("c-db")));
    let Action::Wait { reason, .. } = view.begin("c-db").next() else { panic!("two are under way") };
    assert_eq!(reason, "the components: 0 of 3 moved; a-db: the writer; c-db: the writer");
    assert_eq!(view.ends("a-db", Phase::Succeeded).next(), Action::Begin(name("b-db")));
    view.begin("b-db").ends("b-db", Phase::Succeeded).ends("c-db", Phase::Succeeded);
    let all = ["a-db", "b-db", "c-db"].map(|component| (component.to_owned(), End::Moved)).to_vec();
    assert_eq!(view.done(), (Phase::Succeeded, all));
    assert_eq!(view.state.fault, None);
}

#[test]
fn after_a_failure_none_begins_where_it_stops_and_only_what_depends_on_it_stays_where_it_goes_on() {
    let mut stops = view(&task(OnFailure::Stop, 1));
    stops.begin("a-db").ends("a-db", Phase::Failed);
    let (phase, ended) = stops.done();
    assert_eq!((phase, ended[1].1, ended[2].1), (Phase::Failed, End::NotBegun, End::NotBegun));

    let mut goes_on = view(&task(OnFailure::GoOn, 1));
    goes_on.begin("a-db").ends("a-db", Phase::Failed);
    let Action::Record(aside) = goes_on.next() else { panic!("{:?}", goes_on.next()) };
    goes_on.after(&aside[0]);
    assert_eq!(goes_on.next(), Action::Begin(name("c-db")));
    goes_on.begin("c-db").ends("c-db", Phase::Succeeded);
    let (phase, ended) = goes_on.done();
    assert_eq!((phase, ended[1].1, ended[2].1), (Phase::Failed, End::Failed, End::Moved));
    let fault = goes_on.state.fault.unwrap();
    assert!(fault.message.ends_with("2 of 3 were not moved") && fault.evidence[1].contains("depends on a-db"), "{fault:?}");
}

#[test]
fn what_is_refused_is_asked_for_again_and_counts_as_failed_after_a_while() {
    let mut view = view(&task(OnFailure::Stop, 1));
    let refused = |since: i64, last: i64| Refused {
        fault: Fault::refused(ErrorKind::Conflict, "a backup runs").hint("wait"),
        since: Timestamp(since),
        last: Timestamp(last),
    };
    view.refused.insert(name("a-db"), refused(900_000, 900_000));
    // Another one does not wait for it.
    assert_eq!(view.next(), Action::Begin(name("c-db")));
    view.begin("c-db");
    let Action::Wait { reason, until } = view.next() else { panic!("it waits") };
    assert_eq!(until, Some(Timestamp(1_900_000)));
    assert!(reason.contains("a-db: a backup runs"), "{reason}");
    view.now = Timestamp(30_000_000);
    let Action::Record(aside) = view.next() else { panic!("it counts as failed") };
    assert!(matches!(&aside[0], Event::Aside { component, fault: Some(_) } if *component == name("a-db")));
}

#[test]
fn one_whose_writer_stands_elsewhere_is_left_and_a_cancel_begins_none_and_waits_for_those_under_way() {
    let mut view = view(&task(OnFailure::Stop, 1));
    view.here.remove(&name("a-db"));
    let Action::Record(aside) = view.next() else { panic!("nothing is to be done with it") };
    view.after(&aside[0]);
    assert_eq!(view.next(), Action::Begin(name("b-db")));
    view.begin("b-db").after(&Event::CancelAsked { by: "operator/ada".into(), reason: String::new() });
    assert!(matches!(view.next(), Action::Wait { .. }));
    view.ends("b-db", Phase::Succeeded);
    let (phase, ended) = view.done();
    assert_eq!((phase, ended[0].1, ended[1].1, ended[2].1), (Phase::Cancelled, End::Elsewhere, End::Moved, End::NotBegun));
}
