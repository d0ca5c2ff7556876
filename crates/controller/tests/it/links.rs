//! Sessions of agents: who may, what is sent, who is believed, and when they end.

use std::time::{Duration, Instant};

use muster_controller::agents::session::LOST;
use muster_wire::proto::agent::v1::session_request::Message as FromAgent;
use muster_wire::proto::agent::v1::session_response::Message as ToAgent;
use muster_wire::proto::agent::v1::{AgentHeartbeat, AssignmentApplied, Hello, ProtocolVersion, Welcome};
use muster_wire::proto::v1::status_service_client::StatusServiceClient;
use muster_wire::proto::v1::{RevokeAgentRequest, StatusPage, StatusServiceGetRequest, StatusServiceWatchRequest};
use tonic::Code;

use crate::world::{BOUND, DOCS, Session, World, eventually, hello, report};

async fn welcomed(session: &mut Session) -> Welcome {
    session.until(|message| if let ToAgent::Welcome(welcome) = message { Some(welcome) } else { None }).await
}

async fn page(world: &World) -> StatusPage {
    let request = StatusServiceGetRequest { component: String::new() };
    StatusServiceClient::new(world.admins()).get(request).await.unwrap().into_inner().page.unwrap()
}

#[tokio::test]
async fn a_session_begins_with_a_welcome_and_the_assignment_and_answers_heartbeats() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    let Some(ToAgent::Welcome(welcome)) = session.next().await.unwrap() else { panic!("no welcome") };
    assert_eq!(welcome.term, world.running.api.agents.store.term().0);
    let Some(ToAgent::Assignment(assignment)) = session.next().await.unwrap() else { panic!("no assignment") };
    assert_eq!(assignment.instances.len(), 1);
    assert_eq!(assignment.instances[0].instance, "istanbul");
    session.say(FromAgent::Heartbeat(AgentHeartbeat { now: None, number: 42 })).await;
    let number = session.until(|message| if let ToAgent::Heartbeat(beat) = message { Some(beat.number) } else { None }).await;
    assert_eq!(number, 42);
    assert!(world.agent_status("istanbul-1").await.connected);
    // An agent that has it is not sent it again; a change is sent at once.
    let has = Hello { assignment_revision: assignment.revision, ..hello() };
    let mut session = world.session(&agent, has).await.unwrap();
    welcomed(&mut session).await;
    world
        .apply(&DOCS.replace("agent: istanbul-1, files: {path: /srv/docs}", "agent: istanbul-1, files: {path: /srv/other}"))
        .await
        .unwrap();
    let Some(ToAgent::Assignment(changed)) = session.next().await.unwrap() else { panic!("no assignment") };
    assert_eq!(changed.revision, assignment.revision + 1);
}

#[tokio::test]
async fn an_agent_with_a_higher_revision_than_ours_is_sent_one_above_it() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, Hello { assignment_revision: 70, ..hello() }).await.unwrap();
    let revision = session.until(|message| if let ToAgent::Assignment(a) = message { Some(a.revision) } else { None }).await;
    assert_eq!(revision, 71);
}

#[tokio::test]
async fn a_newer_session_replaces_the_older() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut older = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut older).await;
    let mut newer = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut newer).await;
    let goodbye = older.goodbye().await;
    assert!(!goodbye.r#final && goodbye.retry_after.is_some() && goodbye.reason.contains("newer session"), "{goodbye:?}");
    newer.say(FromAgent::Heartbeat(AgentHeartbeat { now: None, number: 1 })).await;
    newer.until(|message| matches!(message, ToAgent::Heartbeat(_)).then_some(())).await;
}

#[tokio::test]
async fn revocation_ends_a_live_session_for_good() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    let began = Instant::now();
    world.fleet().revoke_agent(RevokeAgentRequest { agent: "istanbul-1".into(), reason: "stolen".into() }).await.unwrap();
    assert!(session.goodbye().await.r#final);
    assert!(began.elapsed() < Duration::from_secs(2));
    let refused = world.session(&agent, hello()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_instances_only_and_the_rest_is_refused_and_counted() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    session.say(report("docs", "ankara")).await;
    session.say(report("docs", "istanbul")).await;
    eventually("its own report is shown", async || page(&world).await.components[0].instances[0].observation.is_some()).await;
    let shown = page(&world).await;
    assert_eq!(shown.components[0].instances[1].name, "ankara");
    assert_eq!(shown.components[0].instances[1].observation, None);
    assert_eq!(world.agent_status("istanbul-1").await.refused_calls, 1);
    // Without a name there is nothing to believe.
    session.say(report("Docs!", "")).await;
    eventually("both are counted", async || world.agent_status("istanbul-1").await.refused_calls == 2).await;
}

#[tokio::test]
async fn versions_that_are_not_served_are_told_which_side_to_upgrade() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    for (version, side) in [((1, 99), "upgrade the controller"), ((0, 9), "upgrade the agent")] {
        let protocol = Some(ProtocolVersion { major: version.0, minor: version.1 });
        let mut session = world.session(&agent, Hello { protocol, ..hello() }).await.unwrap();
        let goodbye = session.goodbye().await;
        assert!(goodbye.r#final && goodbye.reason.contains(side), "{goodbye:?}");
        assert_eq!(session.next().await.unwrap(), None, "the stream ends");
    }
    assert!(!world.running.api.agents.courier.is_connected(&"istanbul-1".parse().unwrap()));
}

#[tokio::test]
async fn a_first_message_that_is_no_hello_and_a_second_hello_end_the_session() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    session.say(FromAgent::Hello(hello())).await;
    let ended = loop {
        match session.next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_silent_agent_is_lost_after_eight_seconds() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    let began = Instant::now();
    let ended = loop {
        match session.next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert!(began.elapsed() >= LOST - Duration::from_secs(1) && began.elapsed() < BOUND, "{:?}", began.elapsed());
    eventually("it is shown as gone", async || !world.agent_status("istanbul-1").await.connected).await;
}

#[tokio::test]
async fn a_clock_that_is_off_and_problems_of_an_assignment_are_shown() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let ahead = muster_service::clock::now().plus(Duration::from_secs(60));
    let now = Some(muster_wire::convert::timestamp_to_proto(ahead));
    let mut session = world.session(&agent, Hello { now, ..hello() }).await.unwrap();
    welcomed(&mut session).await;
    session.say(FromAgent::Applied(AssignmentApplied { revision: 1, problems: vec!["docs/istanbul: /srv/docs is missing".into()] })).await;
    eventually("both are shown", async || world.agent_status("istanbul-1").await.problems.len() == 2).await;
    let status = world.agent_status("istanbul-1").await;
    assert!((55_000..65_000).contains(&status.clock_offset_ms), "{status:?}");
    assert!(status.problems[0].contains("NTP"), "{status:?}");
    assert_eq!(status.encryption_key, "07".repeat(32));
}

#[tokio::test]
async fn whoever_watches_the_page_sees_a_change_and_its_agents_look_closely() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    let mut client = StatusServiceClient::new(world.admins());
    let mut pages = client.watch(StatusServiceWatchRequest { component: "docs".into() }).await.unwrap().into_inner();
    let first = pages.message().await.unwrap().unwrap().page.unwrap();
    assert_eq!(first.components[0].instances[0].observation, None);
    session.until(|message| matches!(message, ToAgent::LookClosely(_)).then_some(())).await;
    session.say(report("docs", "istanbul")).await;
    let changed = async {
        loop {
            let page = pages.message().await.unwrap().unwrap().page.unwrap();
            if page.components[0].instances[0].observation.is_some() {
                break page;
            }
        }
    };
    let changed = tokio::time::timeout(BOUND, changed).await.unwrap();
    assert!(changed.components[0].instances[0].connected);
}

#[tokio::test]
async fn an_agent_that_does_not_read_costs_bounded_memory_and_its_session_ends() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    let courier = &world.running.api.agents.courier;
    let name = "istanbul-1".parse().unwrap();
    let big = || ToAgent::Goodbye(muster_wire::proto::agent::v1::Goodbye { reason: "x".repeat(60_000), ..Default::default() });
    let mut taken = 0;
    while courier.send(&name, muster_wire::proto::agent::v1::SessionResponse { message: Some(big()) }) {
        taken += 1;
        assert!(taken < 5_000, "the mailbox never filled");
        tokio::task::yield_now().await;
    }
    eventually("the session has ended", async || !courier.is_connected(&name)).await;
}

#[tokio::test]
async fn a_stop_says_goodbye_to_agents_and_ends_streams_within_its_bound() {
    let world = World::with_docs().await;
    let agent = world.join("istanbul", "istanbul-1").await;
    let mut session = world.session(&agent, hello()).await.unwrap();
    welcomed(&mut session).await;
    let mut client = StatusServiceClient::new(world.admins());
    let mut pages = client.watch(StatusServiceWatchRequest::default()).await.unwrap().into_inner();
    pages.message().await.unwrap();
    let began = Instant::now();
    let World { running, folder, .. } = world;
    running.drain(Duration::from_secs(10)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let goodbye = session.goodbye().await;
    assert!(!goodbye.r#final && goodbye.retry_after.is_some(), "{goodbye:?}");
    let ended = loop {
        match pages.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    drop(folder);
}
