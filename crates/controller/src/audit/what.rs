//! Which calls are recorded and what each is about: one table over every rpc of ours. Pure.
//!
//! What always holds: every rpc stands in one of the two lists, and what changes something is one request and one answer; a test walks the
//! descriptors.

use muster_wire::canonical::Read;
use muster_wire::proto::v1::ResourceKind;

/// The most resources of one call that are named.
const MOST_NAMED: usize = 5;

/// What a call that changes something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The component of the field `component`; empty means all.
    Component,
    /// The site of the field `site`.
    Site,
    /// The route of the field `route`.
    Route,
    /// The operation of the field `id`.
    Operation,
    /// The agent of the field `agent`.
    Agent,
    /// The operator of the field `name`.
    Operator,
    /// The hook of the field `hook`.
    Hook,
    /// What stands in `resources`.
    Resources,
    /// One resource, by `kind` and `name`.
    Resource,
    /// The CA.
    Authority,
    /// Who calls.
    Caller,
    /// Who joins by a token: recorded by its handler, in the transaction that lets it join, since anybody can call.
    Joining,
}

/// Every rpc that changes something.
pub const CHANGING: &[(&str, About)] = &[
    ("/muster.v1.EnrollmentService/Enroll", About::Joining),
    ("/muster.v1.EnrollmentService/Renew", About::Caller),
    ("/muster.v1.FleetService/CreateJoinToken", About::Agent),
    ("/muster.v1.FleetService/IssueOperator", About::Operator),
    ("/muster.v1.FleetService/RenewOperator", About::Caller),
    ("/muster.v1.FleetService/RetireAuthority", About::Authority),
    ("/muster.v1.FleetService/RevokeAgent", About::Agent),
    ("/muster.v1.FleetService/RevokeOperator", About::Operator),
    ("/muster.v1.FleetService/RotateAuthority", About::Authority),
    ("/muster.v1.InventoryService/Apply", About::Resources),
    ("/muster.v1.InventoryService/Delete", About::Resource),
    ("/muster.v1.InventoryService/Pause", About::Component),
    ("/muster.v1.InventoryService/Resume", About::Component),
    ("/muster.v1.OperationService/Approve", About::Operation),
    ("/muster.v1.OperationService/Cancel", About::Operation),
    ("/muster.v1.OperationService/Discard", About::Operation),
    ("/muster.v1.OperationService/Reject", About::Operation),
    ("/muster.v1.OperationService/Resolve", About::Operation),
    ("/muster.v1.OperationService/Retry", About::Operation),
    ("/muster.v1.RecoveryService/Adopt", About::Component),
    ("/muster.v1.RecoveryService/AdoptRoute", About::Route),
    ("/muster.v1.RecoveryService/PointRoute", About::Route),
    ("/muster.v1.RecoveryService/Backup", About::Component),
    ("/muster.v1.RecoveryService/Failover", About::Component),
    ("/muster.v1.RecoveryService/FailoverSite", About::Site),
    ("/muster.v1.RecoveryService/Fence", About::Component),
    ("/muster.v1.RecoveryService/Manage", About::Component),
    ("/muster.v1.RecoveryService/Rejoin", About::Component),
    ("/muster.v1.RecoveryService/Restore", About::Component),
    ("/muster.v1.RecoveryService/RunHook", About::Hook),
    ("/muster.v1.RecoveryService/Switchover", About::Component),
    ("/muster.v1.RecoveryService/SwitchoverSite", About::Site),
    ("/muster.v1.RecoveryService/Unfence", About::Component),
    ("/muster.v1.RecoveryService/Verify", About::Component),
    ("/muster.v1.RepositoryService/Check", About::Component),
    ("/muster.v1.RepositoryService/Hold", About::Component),
    ("/muster.v1.RepositoryService/Prune", About::Component),
    ("/muster.v1.RepositoryService/Release", About::Component),
];

/// Every other rpc: it only reads, or it is the agents' own link, whose commands are journaled with their operations.
pub const NOT_RECORDED: &[&str] = &[
    "/muster.agent.v1.LinkService/Session",
    "/muster.v1.AuditService/List",
    "/muster.v1.AuditService/Verify",
    "/muster.v1.FleetService/GetAuthorities",
    "/muster.v1.FleetService/ListAgents",
    "/muster.v1.FleetService/ListOperators",
    "/muster.v1.InventoryService/Get",
    "/muster.v1.InventoryService/List",
    "/muster.v1.InventoryService/ListSchedules",
    "/muster.v1.OperationService/Get",
    "/muster.v1.OperationService/List",
    "/muster.v1.OperationService/Wait",
    "/muster.v1.OperationService/Watch",
    "/muster.v1.RecoveryService/Preflight",
    "/muster.v1.RecoveryService/ShowRoute",
    "/muster.v1.RepositoryService/ListPoints",
    "/muster.v1.StatusService/Diagnose",
    "/muster.v1.StatusService/Get",
    "/muster.v1.StatusService/ListFindings",
    "/muster.v1.StatusService/ListHistory",
    "/muster.v1.StatusService/Watch",
    "/muster.v1.StatusService/WatchFindings",
    "/muster.v1.StatusService/WhoAmI",
];

/// What changes something, by its path. `None`: it is not recorded.
#[must_use]
pub fn changing(rpc: &str) -> Option<(&'static str, About)> {
    CHANGING.iter().find(|(path, _)| *path == rpc).copied()
}

/// What a request is about, in words: `component/orders-db`.
#[must_use]
pub fn resource(about: About, request: &Read, caller: &str) -> String {
    match about {
        About::Component => match request.text("component").as_str() {
            "" => "all components".to_owned(),
            name => format!("component/{name}"),
        },
        About::Site => format!("site/{}", request.text("site")),
        About::Route => format!("route/{}", request.text("route")),
        About::Operation => format!("operation/{}", request.text("id")),
        About::Agent => format!("agent/{}", request.text("agent")),
        About::Operator => format!("operator/{}", request.text("name")),
        About::Hook => format!("hook/{}", request.text("hook")),
        About::Resources => {
            let resources = request.list("resources");
            let named = resources.iter().take(MOST_NAMED).map(|one| format!("{}/{}", kind_word(&one.which("spec")), one.text("name")));
            let mut text = named.collect::<Vec<_>>().join(" ");
            if resources.len() > MOST_NAMED {
                text.push_str(&format!(" and {} more", resources.len() - MOST_NAMED));
            }
            text
        }
        About::Resource => {
            let kind = ResourceKind::try_from(request.number("kind")).unwrap_or_default().as_str_name();
            let kind = kind.strip_prefix("RESOURCE_KIND_").unwrap_or(kind).to_ascii_lowercase();
            format!("{kind}/{}", request.text("name"))
        }
        About::Authority => "ca".to_owned(),
        About::Caller => caller.to_owned(),
        About::Joining => String::new(),
    }
}

fn kind_word(spec: &str) -> &str {
    if spec.is_empty() { "resource" } else { spec }
}

#[cfg(test)]
mod tests {
    use muster_wire::canonical::is_unary;
    use muster_wire::descriptor;
    use muster_wire::proto::v1;
    use prost::Message;

    use super::*;

    #[test]
    fn every_rpc_is_recorded_or_said_not_to_be_and_what_is_recorded_is_one_request_and_one_answer() {
        let recorded: Vec<&str> = CHANGING.iter().map(|(rpc, _)| *rpc).collect();
        for rpc in descriptor::rpcs() {
            let lists = [recorded.contains(&rpc.as_str()), NOT_RECORDED.contains(&rpc.as_str())];
            assert_eq!(
                lists.iter().filter(|listed| **listed).count(),
                1,
                "{rpc}: put it into CHANGING or NOT_RECORDED, whether it changes something"
            );
        }
        for rpc in recorded.iter().chain(NOT_RECORDED) {
            assert!(is_unary(rpc).is_some(), "{rpc} is gone");
        }
        assert!(recorded.iter().all(|rpc| is_unary(rpc) == Some(true)));
    }

    #[test]
    fn what_a_call_is_about_is_told_by_kind_and_name() {
        let about = |rpc: &str, bytes: Vec<u8>| {
            let (rpc, about) = changing(rpc).unwrap();
            resource(about, &Read::request(rpc, &bytes).unwrap(), "agent/a/b")
        };
        let backup = v1::BackupRequest { component: "orders-db".into(), ..Default::default() };
        assert_eq!(about("/muster.v1.RecoveryService/Backup", backup.encode_to_vec()), "component/orders-db");
        assert_eq!(about("/muster.v1.InventoryService/Resume", Vec::new()), "all components");
        let delete = v1::InventoryServiceDeleteRequest { kind: ResourceKind::Site.into(), name: "ankara".into(), ..Default::default() };
        assert_eq!(about("/muster.v1.InventoryService/Delete", delete.encode_to_vec()), "site/ankara");
        let site = |name: usize| v1::Resource {
            name: format!("s{name}"),
            spec: Some(v1::resource::Spec::Site(v1::SiteSpec::default())),
            ..Default::default()
        };
        let apply = v1::ApplyRequest { resources: (0..7).map(site).collect(), ..Default::default() };
        assert_eq!(about("/muster.v1.InventoryService/Apply", apply.encode_to_vec()), "site/s0 site/s1 site/s2 site/s3 site/s4 and 2 more");
        assert_eq!(about("/muster.v1.EnrollmentService/Renew", Vec::new()), "agent/a/b");
        assert!(changing("/muster.v1.StatusService/Get").is_none());
    }
}
