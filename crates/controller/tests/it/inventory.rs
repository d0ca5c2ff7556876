//! Resources: applied whole or not at all, told apart, kept over a restart.

use muster_common::fault::ErrorKind;
use muster_wire::proto::v1::{
    ApplyRequest, Change, InventoryServiceDeleteRequest, InventoryServiceGetRequest, InventoryServiceListRequest, ResourceKind,
};
use muster_wire::status::fault;
use muster_wire::yaml;

use crate::world::{DOCS, World};

fn get(name: &str) -> InventoryServiceGetRequest {
    InventoryServiceGetRequest { kind: ResourceKind::Component.into(), name: name.into() }
}

#[tokio::test]
async fn a_dry_run_tells_the_differences_and_keeps_nothing() {
    let world = World::start().await;
    let request = ApplyRequest { resources: yaml::parse(DOCS, "x").unwrap(), dry_run: true, request_id: String::new() };
    let told = world.inventory().apply(request).await.unwrap().into_inner();
    assert!(told.differences.iter().all(|difference| difference.change() == Change::Created));
    assert!(world.inventory().get(get("docs")).await.is_err());
    world.apply(DOCS).await.unwrap();
    let changed = world.apply(&DOCS.replace("first", "second").replace("rto: 30m", "rto: 20m")).await.unwrap();
    let changes: Vec<_> = changed.differences.iter().map(|d| (d.name.as_str(), d.change())).collect();
    assert_eq!(changes, [("istanbul", Change::Updated), ("ankara", Change::Unchanged), ("docs", Change::Updated)]);
    assert_eq!(changed.differences[0].fields, ["description: first -> second"]);
    assert_eq!(changed.differences[2].fields, ["objectives.rto: 1800s -> 1200s"]);
}

#[tokio::test]
async fn one_that_is_wrong_keeps_all_others_out() {
    let world = World::start().await;
    let wrong = DOCS.replace("/srv/docs", "srv/docs");
    let refused = fault(&world.apply(&wrong).await.unwrap_err());
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    assert!(refused.message.contains("instances[0].files.path") && refused.evidence.len() == 1, "{refused}");
    let listed = world.inventory().list(InventoryServiceListRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.resources, []);
    let missing = fault(&world.apply(&DOCS.replace("site: ankara,", "site: ankra,")).await.unwrap_err());
    assert!(missing.message.contains("did you mean ankara?"), "{missing}");
}

#[tokio::test]
async fn an_etag_of_before_is_a_conflict_and_a_delete_of_what_is_used_is_refused() {
    let world = World::with_docs().await;
    let docs = world.inventory().get(get("docs")).await.unwrap().into_inner().resource.unwrap();
    assert!(docs.conditions.iter().any(|condition| condition.name == "AgentConnected" && !condition.ok), "{docs:?}");
    world.apply(&DOCS.replace("rto: 30m", "rto: 20m")).await.unwrap();
    let late = ApplyRequest { resources: vec![docs.clone()], ..ApplyRequest::default() };
    assert_eq!(fault(&world.inventory().apply(late).await.unwrap_err()).kind, ErrorKind::Conflict);
    let site = |etag: &str| InventoryServiceDeleteRequest {
        kind: ResourceKind::Site.into(),
        name: "ankara".into(),
        etag: etag.into(),
        request_id: String::new(),
    };
    let used = fault(&world.inventory().delete(site("")).await.unwrap_err());
    assert!(used.kind == ErrorKind::FailedPrecondition && used.message.contains("docs"), "{used}");
    let component = InventoryServiceDeleteRequest { kind: ResourceKind::Component.into(), name: "docs".into(), ..site(&docs.etag) };
    assert_eq!(fault(&world.inventory().delete(component.clone()).await.unwrap_err()).kind, ErrorKind::Conflict);
    world.inventory().delete(InventoryServiceDeleteRequest { etag: String::new(), ..component }).await.unwrap();
    world.inventory().delete(site("")).await.unwrap();
}

#[tokio::test]
async fn a_request_id_answers_as_the_first_time_and_refuses_other_content() {
    let world = World::start().await;
    let request = |text: &str| ApplyRequest { resources: yaml::parse(text, "x").unwrap(), dry_run: false, request_id: "r-1".into() };
    let first = world.inventory().apply(request(DOCS)).await.unwrap().into_inner();
    let again = world.inventory().apply(request(DOCS)).await.unwrap().into_inner();
    assert_eq!(first, again, "the second is answered as created too");
    let other = world.inventory().apply(request(&DOCS.replace("first", "other"))).await.unwrap_err();
    assert_eq!(fault(&other).kind, ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn lists_come_in_pages_and_a_foreign_token_is_refused() {
    let world = World::with_docs().await;
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = InventoryServiceListRequest { kind: 0, page_size: 2, page_token };
        let page = world.inventory().list(request).await.unwrap().into_inner();
        assert!(page.resources.len() <= 2);
        names.extend(page.resources.into_iter().map(|resource| resource.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["ankara", "istanbul", "docs"]);
    let foreign = InventoryServiceListRequest { page_token: "00ff".into(), ..Default::default() };
    assert_eq!(fault(&world.inventory().list(foreign).await.unwrap_err()).kind, ErrorKind::InvalidArgument);
}
