//! Pauses through the whole controller: durable, shown, ended by themselves, in nobody's way who asks in person.

use std::time::Duration;

use muster_common::fault::ErrorKind;
use muster_controller::schedule::pauses::Pauses;
use muster_identity::caller::Role;
use muster_wire::convert::duration_to_proto;
use muster_wire::proto::v1::inventory_service_client::InventoryServiceClient;
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{
    InventoryServiceDeleteRequest, InventoryServiceGetRequest, PauseRequest, ResourceKind, ResumeRequest, StatusPage,
    StatusServiceGetRequest,
};
use muster_wire::status::fault;
use tonic::Code;

use crate::operations::{asked, backup, commanded, ready};
use crate::world::{World, name, on_both_stores};

on_both_stores!(
    a_pause_is_durable_shown_and_ended_by_resume_while_persons_go_on,
    a_pause_ends_by_itself,
    what_makes_no_pause_is_refused,
    a_component_that_takes_a_deleted_ones_name_is_not_paused,
);

fn pause(component: &str, time: Duration) -> PauseRequest {
    PauseRequest { component: component.into(), duration: Some(duration_to_proto(time)), reason: "moving the disks".into() }
}

fn resume(component: &str) -> ResumeRequest {
    ResumeRequest { component: component.into() }
}

async fn page(world: &World) -> StatusPage {
    StatusServiceClient::new(world.admins()).get(StatusServiceGetRequest::default()).await.unwrap().into_inner().page.unwrap()
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn a_pause_is_durable_shown_and_ended_by_resume_while_persons_go_on() {
    let (world, mut session) = ready().await;
    let began = world.inventory().pause(pause("docs", HOUR)).await.unwrap().into_inner().pause.unwrap();
    assert_eq!((began.by.as_str(), began.component.as_str()), ("operator/admin", "docs"));
    let shown = page(&world).await;
    assert_eq!(shown.components[0].pause.as_ref(), Some(&began));
    assert_eq!(shown.pause, None);
    let get = InventoryServiceGetRequest { kind: ResourceKind::Component.into(), name: "docs".into() };
    let docs = world.inventory().get(get).await.unwrap().into_inner().resource.unwrap();
    let paused = docs.conditions.iter().find(|condition| condition.name == "NotPaused").unwrap();
    assert!(!paused.ok && !paused.blocking && paused.hint.contains("muster resume docs"), "{paused:?}");
    // A controller that starts anew finds it.
    let again = Pauses::load(&world.running.api.agents.store).await.unwrap();
    assert_eq!(again.of(&name("docs"), muster_service::clock::now()).unwrap().reason, "moving the disks");
    // A person's backup is done all the same.
    asked(&world, backup()).await;
    commanded(&mut session).await;

    world.inventory().pause(pause("", HOUR * 2)).await.unwrap();
    assert!(page(&world).await.pause.is_some());
    let resumed = world.inventory().resume(resume("docs")).await.unwrap().into_inner();
    assert!(resumed.ended.is_some() && resumed.remaining.is_some_and(|pause| pause.component.is_empty()));
    assert!(world.inventory().resume(resume("")).await.unwrap().into_inner().ended.is_some());
    let shown = page(&world).await;
    assert!(shown.pause.is_none() && shown.components[0].pause.is_none());
    assert!(world.inventory().resume(resume("docs")).await.unwrap().into_inner().ended.is_none(), "twice is once");
}

async fn a_pause_ends_by_itself() {
    let world = World::with_docs().await;
    let began = world.inventory().pause(pause("docs", Duration::from_millis(300))).await.unwrap().into_inner().pause.unwrap();
    assert!(began.until.is_some());
    crate::world::eventually("the pause is over", async || page(&world).await.components[0].pause.is_none()).await;
    let resumed = world.inventory().resume(resume("docs")).await.unwrap().into_inner();
    assert_eq!(resumed.ended, None);
}

async fn what_makes_no_pause_is_refused() {
    let world = World::with_docs().await;
    for (request, kind) in [
        (PauseRequest { reason: "  ".into(), ..pause("docs", HOUR) }, ErrorKind::InvalidArgument),
        (pause("docs", HOUR * 24 * 31), ErrorKind::InvalidArgument),
        (pause("dcos", HOUR), ErrorKind::NotFound),
        (pause("DOCS", HOUR), ErrorKind::NotFound),
    ] {
        let refused = fault(&world.inventory().pause(request.clone()).await.unwrap_err());
        assert!(refused.kind == kind && !refused.hint.is_empty(), "{request:?}: {refused}");
    }
    assert_eq!(fault(&world.inventory().resume(resume("dcos")).await.unwrap_err()).kind, ErrorKind::NotFound);
    let vera = world.channel(&world.operator("vera", Role::Viewer).await);
    let refused = InventoryServiceClient::new(vera).pause(pause("docs", HOUR)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn a_component_that_takes_a_deleted_ones_name_is_not_paused() {
    let world = World::with_docs().await;
    world.inventory().pause(pause("docs", HOUR)).await.unwrap();
    let delete = InventoryServiceDeleteRequest {
        kind: ResourceKind::Component.into(),
        name: "docs".into(),
        etag: String::new(),
        request_id: String::new(),
    };
    world.inventory().delete(delete).await.unwrap();
    world.apply(crate::world::DOCS).await.unwrap();
    assert_eq!(page(&world).await.components[0].pause, None);
}
