//! What load balancers ask: is this the instance that takes writes, or one that may be read? In Patroni's and HAProxy's style: 200 for yes,
//! 503 for no, in plain HTTP, answered from the keeper's last look.
//!
//! What always holds: yes is said only of an instance that Muster keeps, by a look that is no older than [`FRESH`]. An agent that hangs, an
//! instance that is only observed, a promotion that is under way: no.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use muster_common::name::InstanceName;
use muster_failover::control::Role;
use muster_failover::directive::Kept;
use muster_failover::here::Uptime;
use muster_failover::look::Server;
use muster_service::tasks::TaskGate;
use tokio::net::TcpListener;

use crate::agent::Agent;
use crate::keeper::place;

/// The oldest look that a yes may rest on.
pub const FRESH: Duration = Duration::from_secs(3);

/// The questions, as the last part of a path: alone where the agent keeps one instance, else after `/COMPONENT/INSTANCE`.
const QUESTIONS: [(&str, Question); 4] =
    [("primary", Question::Writes), ("read-write", Question::Writes), ("replica", Question::Follows), ("read-only", Question::Reads)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Does it take writes?
    Writes,
    /// Does it follow, and can be read?
    Follows,
    /// Can it be read?
    Reads,
}

/// Answers until the gate closes.
pub async fn serve(agent: Arc<Agent>, listener: TcpListener, gate: TaskGate) {
    let router = Router::new().fallback(asked).with_state(agent);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(gate.token().clone().cancelled_owned()).await {
        tracing::error!(%error, "load balancers are no longer answered");
    }
}

async fn asked(State(agent): State<Arc<Agent>>, method: Method, uri: Uri) -> Response {
    if ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&method) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD, OPTIONS")]).into_response();
    }
    let names: Vec<InstanceName> = agent.assignments.current().instances.keys().cloned().collect();
    let (status, text) = match parse(uri.path(), &names) {
        Err(why) => (StatusCode::NOT_FOUND, why),
        Ok((question, name)) => match judge(question, agent.keepers.of(&name).last().as_ref(), place::uptime()) {
            Ok(what) => (StatusCode::OK, format!("{name} {what}")),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{name} {why}")),
        },
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text + "\n").into_response()
}

/// What is asked, and about whom.
fn parse(path: &str, names: &[InstanceName]) -> Result<(Question, InstanceName), String> {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let question = |word: &str| QUESTIONS.iter().find(|(name, _)| *name == word).map(|(_, question)| *question);
    let usage = || {
        let words: Vec<_> = QUESTIONS.iter().map(|(word, _)| format!("/{word}")).collect();
        format!("ask {}, alone or after /COMPONENT/INSTANCE", words.join(", "))
    };
    match (parts.as_slice(), names) {
        ([word], [only]) => Ok((question(word).ok_or_else(usage)?, only.clone())),
        ([word], _) if question(word).is_some() => {
            let all: Vec<_> = names.iter().map(|name| format!("/{name}/{word}")).collect();
            Err(format!("this agent keeps {} instances; ask one of {}", names.len(), all.join(", ")))
        }
        ([component, instance, word], _) => {
            let question = question(word).ok_or_else(usage)?;
            let found = names.iter().find(|name| name.component.as_str() == *component && name.instance.as_str() == *instance);
            Ok((question, found.ok_or_else(|| format!("this agent keeps no {component}/{instance}"))?.clone()))
        }
        _ => Err(usage()),
    }
}

/// Yes with what it does, or why not.
fn judge(question: Question, kept: Option<&Kept>, now: Uptime) -> Result<&'static str, String> {
    let Some(kept) = kept else { return Err("is only observed: muster manage takes it over".to_owned()) };
    let age = now.0.saturating_sub(kept.now.0);
    if age > FRESH {
        return Err(format!("was looked at last {} s ago", age.as_secs()));
    }
    let Some(known) = &kept.known else { return Err("has lost its control file".to_owned()) };
    let writes =
        matches!(known.role, Role::Writer { reign } if reign == known.line.last()) && kept.server == Server::ReadWrite && kept.permit;
    let follows = matches!(known.role, Role::Follower { .. }) && kept.server == Server::ReadOnly && kept.permit;
    match question {
        Question::Writes if writes => Ok("takes writes"),
        Question::Reads if writes => Ok("takes writes"),
        Question::Follows | Question::Reads if follows => Ok("follows"),
        Question::Writes => Err("takes no writes".to_owned()),
        Question::Follows => Err("is no follower that runs".to_owned()),
        Question::Reads => Err("cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use muster_common::counter::Epoch;
    use muster_common::id::{BootId, ReignId};
    use muster_failover::directive::Known;
    use muster_failover::reign::{Line, Mark};

    use super::*;

    const NOW: Uptime = Uptime(Duration::from_secs(100));

    fn name(text: &str) -> InstanceName {
        let (component, instance) = text.split_once('/').unwrap();
        InstanceName { component: component.parse().unwrap(), instance: instance.parse().unwrap() }
    }

    fn mark(epoch: u64) -> Mark {
        Mark { epoch: Epoch(epoch), id: ReignId::from_bytes([7; 16]) }
    }

    fn kept(role: Role, server: Server) -> Kept {
        let known = Known {
            role,
            line: Line::with(vec![mark(1)], mark(2)),
            writer: "istanbul".parse().unwrap(),
            rule: None,
            sequence: 1,
            pledges: Vec::new(),
            others: BTreeSet::new(),
        };
        Kept {
            instance: name("orders-db/istanbul"),
            known: Some(known),
            position: None,
            permit: true,
            server,
            locked: false,
            asks: None,
            boot: BootId::from_bytes([1; 16]),
            now: Uptime(Duration::from_secs(99)),
            trouble: String::new(),
        }
    }

    fn yes(question: Question, kept: &Kept) -> bool {
        judge(question, Some(kept), NOW).is_ok()
    }

    #[test]
    fn the_writer_is_primary_and_a_follower_is_a_replica_and_both_can_be_read() {
        let writer = kept(Role::Writer { reign: mark(2) }, Server::ReadWrite);
        let follower = kept(Role::Follower { kept: false }, Server::ReadOnly);
        let told = |kept: &Kept| [Question::Writes, Question::Follows, Question::Reads].map(|question| yes(question, kept));
        assert_eq!(told(&writer), [true, false, true]);
        assert_eq!(told(&follower), [false, true, true]);
    }

    #[test]
    fn what_is_old_lost_promoting_or_without_a_permit_is_nothing() {
        let writer = kept(Role::Writer { reign: mark(2) }, Server::ReadWrite);
        let nothing = |kept: &Kept| [Question::Writes, Question::Follows, Question::Reads].iter().all(|question| !yes(*question, kept));
        assert!(nothing(&Kept { now: Uptime(Duration::from_secs(96)), ..writer.clone() }));
        assert!(nothing(&Kept { permit: false, ..writer.clone() }));
        assert!(nothing(&Kept { known: None, ..writer.clone() }));
        assert!(nothing(&Kept { server: Server::Unclear, ..writer }));
        // Of a reign that is over.
        assert!(nothing(&kept(Role::Writer { reign: mark(1) }, Server::ReadWrite)));
        assert!(judge(Question::Writes, None, NOW).unwrap_err().contains("muster manage"));
    }

    #[test]
    fn one_instance_needs_no_name_and_of_several_one_is_named() {
        let (one, other) = (name("orders-db/istanbul"), name("shop/istanbul"));
        assert_eq!(parse("/primary", std::slice::from_ref(&one)), Ok((Question::Writes, one.clone())));
        let both = [one, other.clone()];
        assert!(parse("/primary", &both).unwrap_err().contains("/shop/istanbul/primary"));
        assert_eq!(parse("/shop/istanbul/replica", &both), Ok((Question::Follows, other)));
        assert!(parse("/shop/izmir/replica", &both).unwrap_err().contains("shop/izmir"));
        for wrong in ["/", "/leader", "/a/b/c/d", "/shop/istanbul/nonsense"] {
            assert!(parse(wrong, &both).unwrap_err().contains("/read-only"), "{wrong}");
        }
    }
}
