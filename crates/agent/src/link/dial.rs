//! Which controller to dial next, and when. The decision is pure; the loop dials, talks and waits.

use std::time::Duration;

use muster_common::backoff::Backoff;
use muster_identity::client;
use muster_identity::endpoint::Endpoint;
use muster_service::clock;
use muster_service::tasks::TaskGate;
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::link::session::{Over, Talk, session};

/// A session that lived so long was a good one: the next wait is short again.
const GOOD: Duration = Duration::from_secs(5);

/// How long is waited where only a person can change that a controller refuses.
const FINAL: Duration = Duration::from_secs(60);

/// The longest time that a controller can put the agent off.
const LONGEST: Duration = Duration::from_secs(300);

/// Whether the agent has a session now, and what ended the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The controller of the present session.
    pub connected_to: Option<String>,
    /// What ended the last session or try.
    pub last: Option<String>,
}

/// Where the agent is in its list of controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    controller: usize,
    failures: u32,
}

/// What to do after a session or a try. Pure; `unit` in 0.0..1.0 was drawn at random.
fn after(place: Place, controllers: usize, over: &Over, lived: Duration, unit: f64) -> (Place, Duration) {
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let failures = if lived >= GOOD { 0 } else { place.failures };
    let wait = |failures: u32| backoff.map_or(Duration::from_secs(5), |backoff| backoff.delay(failures, unit));
    // One that only lost the connection may be back at once; any other trouble is its own: the next one is asked.
    let again = Place { failures: failures + 1, ..place };
    let other = Place { controller: (place.controller + 1) % controllers.max(1), failures: failures + 1 };
    // Each round of the list is one step of waiting.
    let round = failures / u32::try_from(controllers.max(1)).unwrap_or(u32::MAX);
    match over {
        Over::Goodbye { is_final: true, .. } | Over::OlderTerm { .. } => {
            (other, if controllers > 1 { wait(round) } else { FINAL.mul_f64(0.5 + unit / 2.0) })
        }
        Over::Goodbye { retry_after, is_final: false, .. } => (other, retry_after.map_or(wait(round), |after| after.min(LONGEST))),
        Over::Closed if lived >= GOOD => (again, wait(0)),
        Over::Closed | Over::Broken(_) | Over::Silent | Over::Protocol(_) => (other, wait(round)),
        Over::Disk(_) | Over::Injected(_) => (again, wait(failures)),
    }
}

/// Dials, talks and waits until the gate closes. A renewed certificate ends a session so that the next one shows the new certificate.
pub async fn serve(talk: Talk, controllers: Vec<Endpoint>, state: watch::Sender<LinkState>, gate: TaskGate) {
    let belonging = talk.belonging.clone();
    let renewed = &belonging.renewed;
    let mut place = Place::default();
    loop {
        let Some(controller) = controllers.get(place.controller) else { return };
        let channel = client::channel(belonging.client(), vec![controller.clone()]);
        let began = Instant::now();
        let welcomed = || {
            state.send_replace(LinkState { connected_to: Some(controller.to_string()), last: None });
        };
        let over = tokio::select! {
            over = session(&talk, channel, welcomed) => Some(over),
            () = renewed.notified() => None,
            () = gate.token().cancelled() => return,
        };
        let Some(over) = over else {
            tracing::info!("connecting again with the renewed certificate");
            continue;
        };
        let (next, wait) = after(place, controllers.len(), &over, began.elapsed(), rand::rng().random());
        place = next;
        state.send_replace(LinkState { connected_to: None, last: Some(format!("{controller}: {over}")) });
        // TLS does not always tell a client why it was refused.
        if matches!(&over, Over::Broken(_)) && belonging.credentials().own().is_expired(clock::now()) {
            tracing::error!(
                %controller,
                "this agent's certificate has ended. HINT: see that its clock is right, then let it join again: `muster token create --site SITE \
                 --agent NAME > FILE`, name the file as tokenFile in the agent's configuration, restart it; what it did meanwhile is told then"
            );
        }
        if matches!(&over, Over::Broken(why) if why.contains(client::OTHER_AUTHORITY)) {
            tracing::error!(
                %controller,
                "HINT: where that controller is the right one, let this agent join again: `muster token create --site SITE --agent NAME > FILE`, \
                 name the file as tokenFile in the agent's configuration, restart it"
            );
        }
        if let Over::Goodbye { is_final: true, .. } | Over::OlderTerm { .. } | Over::Protocol(_) = &over {
            tracing::error!(%controller, wait_ms = wait.as_millis(), "{over}");
        } else {
            tracing::warn!(%controller, wait_ms = wait.as_millis(), "not connected: {over}");
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = renewed.notified() => {}
            () = gate.token().cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_common::counter::Term;

    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    fn ms(wait: Duration) -> u128 {
        wait.as_millis()
    }

    #[test]
    fn every_controller_of_the_list_is_tried_and_each_round_waits_longer() {
        let mut place = Place::default();
        let mut tried = Vec::new();
        for _ in 0..7 {
            let (next, wait) = after(place, 3, &Over::Silent, SHORT, 1.0);
            tried.push((place.controller, ms(wait)));
            place = next;
        }
        assert_eq!(tried, [(0, 200), (1, 200), (2, 200), (0, 400), (1, 400), (2, 400), (0, 800)]);
    }

    #[test]
    fn a_controller_that_is_gone_for_long_is_asked_every_ten_seconds_at_most_with_jitter() {
        let place = Place { controller: 0, failures: 1_000 };
        assert_eq!(ms(after(place, 1, &Over::Silent, SHORT, 1.0).1), 10_000);
        assert_eq!(ms(after(place, 1, &Over::Silent, SHORT, 0.0).1), 5_000);
    }

    #[test]
    fn a_good_session_that_was_cut_is_begun_again_at_once_with_the_same_controller() {
        let place = Place { controller: 1, failures: 9 };
        let (next, wait) = after(place, 3, &Over::Closed, Duration::from_secs(60), 1.0);
        assert_eq!((next.controller, ms(wait)), (1, 200));
    }

    #[test]
    fn a_goodbye_is_kept_to_within_reason() {
        let goodbye =
            |seconds, is_final| Over::Goodbye { reason: String::new(), retry_after: Some(Duration::from_secs(seconds)), is_final };
        let place = Place::default();
        assert_eq!(ms(after(place, 2, &goodbye(3, false), SHORT, 1.0).1), 3_000);
        assert_eq!(ms(after(place, 2, &goodbye(99_999, false), SHORT, 1.0).1), 300_000);
        assert_eq!(ms(after(place, 1, &goodbye(1, true), SHORT, 1.0).1), 60_000);
        let older = Over::OlderTerm { theirs: Term(1), highest: Term(2) };
        assert_eq!(after(place, 2, &older, SHORT, 1.0).0.controller, 1, "the other one may rule");
    }
}
