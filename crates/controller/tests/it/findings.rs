//! Findings over the API: raised, listed, watched from a number on, measured, cleared, and part of the history.

use futures::StreamExt;
use muster_common::fault::ErrorKind;
use muster_wire::proto::v1::history_entry::Entry;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{
    Finding, FindingEvent, ListFindingsRequest, ListHistoryRequest, StatusServiceGetRequest, WatchFindingsRequest,
};
use muster_wire::status::fault;
use tonic::transport::Channel;

use crate::world::{BOUND, DOCS, World, eventually, on_both_stores};

on_both_stores!(
    a_finding_is_raised_watched_measured_and_cleared_and_stays_in_the_history,
    a_number_that_was_never_given_out_and_an_unknown_component_are_refused_with_what_to_do,
);

async fn listed(status: &mut StatusServiceClient<Channel>, component: &str) -> Vec<Finding> {
    status.list_findings(ListFindingsRequest { component: component.into() }).await.unwrap().into_inner().findings
}

async fn watched(status: &mut StatusServiceClient<Channel>, after_event: u64, count: usize) -> Vec<FindingEvent> {
    let request = WatchFindingsRequest { component: String::new(), after_event };
    let stream = status.watch_findings(request).await.unwrap().into_inner();
    let events = stream.take(count).map(|answer| answer.unwrap().event.unwrap()).collect();
    tokio::time::timeout(BOUND, events).await.expect("events")
}

async fn a_finding_is_raised_watched_measured_and_cleared_and_stays_in_the_history() {
    let world = World::with_docs().await;
    let mut status = StatusServiceClient::new(world.admins());
    eventually("a finding", async || !listed(&mut StatusServiceClient::new(world.admins()), "docs").await.is_empty()).await;
    let stands = listed(&mut status, "docs").await;
    let finding = stands.first().unwrap();
    assert_eq!((finding.name.as_str(), finding.subject.as_str()), ("RtoNotMeasured", "component/docs"));
    assert!(finding.hint.contains("muster verify docs"), "{finding:?}");
    let page = status.get(StatusServiceGetRequest::default()).await.unwrap().into_inner().page.unwrap();
    assert_eq!(page.findings, stands);
    let raised = watched(&mut status, 0, 1).await;
    assert_eq!(raised[0].finding.as_ref().map(|raised| &raised.subject), Some(&finding.subject));
    let scrape = || {
        let families = world.registry.gather();
        let family = families.iter().find(|family| family.name() == "muster_finding")?;
        let metric = family.get_metric().iter().find(|metric| metric.get_label().iter().any(|label| label.value() == "component/docs"))?;
        Some(metric.get_gauge().get_value())
    };
    assert_eq!(scrape(), Some(1.0));

    // No objective, nothing to measure.
    world.apply(&DOCS.replace("rto: 30m, ", "")).await.unwrap();
    let cleared = watched(&mut status, raised[0].number, 1).await;
    assert!(cleared[0].finding.as_ref().unwrap().cleared_at.is_some(), "{cleared:?}");
    assert!(cleared[0].number > raised[0].number);
    assert!(!listed(&mut status, "docs").await.iter().any(|finding| finding.name == "RtoNotMeasured"));
    assert_eq!(scrape(), None);

    let page = |page_token: String, page_size| ListHistoryRequest { component: "docs".into(), page_size, page_token };
    let first = status.list_history(page(String::new(), 1)).await.unwrap().into_inner();
    let second = status.list_history(page(first.next_page_token, 1)).await.unwrap().into_inner();
    let cleared_at = |entries: &[muster_wire::proto::v1::HistoryEntry]| match &entries[0].entry {
        Some(Entry::Finding(finding)) => finding.cleared_at.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(cleared_at(&first.entries) && !cleared_at(&second.entries));
    assert_eq!(second.next_page_token, "");
}

async fn a_number_that_was_never_given_out_and_an_unknown_component_are_refused_with_what_to_do() {
    let world = World::with_docs().await;
    let mut status = StatusServiceClient::new(world.admins());
    let request = WatchFindingsRequest { component: String::new(), after_event: 1_000 };
    let refused = fault(&status.watch_findings(request).await.unwrap_err());
    assert_eq!(refused.kind, ErrorKind::OutOfRange, "{refused}");
    let refused = fault(&status.list_findings(ListFindingsRequest { component: "dcos".into() }).await.unwrap_err());
    assert!(refused.kind == ErrorKind::NotFound && refused.hint.contains("did you mean docs?"), "{refused}");
    let request = ListHistoryRequest { page_token: "nonsense".into(), ..ListHistoryRequest::default() };
    assert_eq!(fault(&status.list_history(request).await.unwrap_err()).kind, ErrorKind::InvalidArgument);
}
