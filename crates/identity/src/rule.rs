//! Who may call what: one table over every rpc, and one function of (caller, rpc, resource).
//!
//! What always holds: an rpc that is not in the table is refused. A test walks the descriptor set and fails where a rule is missing or
//! names an rpc that is gone.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;

use crate::caller::{Caller, Role};
use crate::identity::Identity;

/// A path that names no rpc is the caller's text: so many characters of it are told.
const MAX_SHOWN: usize = 100;

/// Who may call an rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Also who shows no certificate.
    Anyone,
    /// Whoever shows a certificate that counts.
    Certified,
    /// Agents, each for itself.
    Agent,
    /// Operators with this role or more.
    AtLeast(Role),
}

/// What a call is about, as far as rules look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// Not known yet (the gate, before the message is read), or nothing that rules look at.
    Unspecified,
    /// A declared resource of this kind (`Component`, `Operator` …).
    Kind(&'a str),
    /// What belongs to this agent: its certificate, its session, an instance that it keeps.
    OfAgent {
        /// Its site.
        site: &'a Name,
        /// Its name.
        agent: &'a Name,
    },
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It needs a certificate.
    NoCertificate {
        /// What was called.
        rpc: String,
    },
    /// The certificate ran out while the connection lived.
    Expired(Identity),
    /// The certificate counts no longer.
    Revoked(Identity),
    /// The operator has no role (any more).
    NoRole(Identity),
    /// The role is too small.
    RoleTooSmall {
        /// Who.
        caller: Identity,
        /// With which role.
        has: Role,
        /// What it takes.
        needs: Role,
        /// What was called.
        rpc: String,
    },
    /// Only for agents, or only for operators.
    WrongKind {
        /// Who.
        caller: Identity,
        /// What was called.
        rpc: String,
    },
    /// An agent spoke for another.
    NotItsOwn {
        /// Who.
        caller: Identity,
        /// For whom.
        other: Identity,
        /// What was called.
        rpc: String,
    },
    /// There is no such rpc, or nobody said who may call it.
    NoRule {
        /// What was called.
        rpc: String,
    },
}

impl Denied {
    /// As operators read it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        use ErrorKind::{NotAvailable, PermissionDenied, Unauthenticated};
        match self {
            Self::NoCertificate { rpc } => Fault::refused(Unauthenticated, format!("call {rpc}: no client certificate was shown"))
                .hint("import an operator's file with `muster context import FILE`; an agent joins with a token"),
            Self::Expired(caller) => Fault::refused(Unauthenticated, format!("the certificate of {caller} has expired"))
                .hint("renew it: an operator by an admin's `muster operator add`, an agent with a new join token"),
            Self::Revoked(caller) => Fault::refused(Unauthenticated, format!("the certificate of {caller} is revoked"))
                .hint("ask an admin; if this is unexpected, somebody shut this identity out"),
            Self::NoRole(caller) => Fault::refused(PermissionDenied, format!("{caller} has no role"))
                .hint("an admin gives one: `muster operator add NAME --role ROLE`; the way back in where there is none: `muster-controller admin-cert` on its machine"),
            Self::RoleTooSmall { caller, has, needs, rpc } => {
                Fault::refused(PermissionDenied, format!("{caller} is {has}; {rpc} needs {needs}"))
                    .hint(format!("ask somebody who is {needs}"))
            }
            Self::WrongKind { caller, rpc } => Fault::refused(PermissionDenied, format!("{rpc} is not for {caller}"))
                .hint("operators use operators' certificates, agents their own"),
            Self::NotItsOwn { caller, other, rpc } => {
                Fault::refused(PermissionDenied, format!("{caller} speaks for {other} in {rpc}")).hint("an agent speaks for itself only")
            }
            Self::NoRule { rpc } => {
                Fault::refused(NotAvailable, format!("{rpc} is not served here")).hint("client and controller may differ in version")
            }
        }
    }
}

/// Whether this caller may make this call. `caller` is `None` without a certificate. The gate asks with [`Resource::Unspecified`] before a
/// message is read; a handler whose rpc is about a resource asks again with it.
///
/// # Errors
/// [`Denied`] tells why not.
pub fn allowed(caller: Option<&Caller>, rpc: &str, resource: &Resource<'_>) -> Result<(), Denied> {
    let rule = rule_for(rpc).ok_or_else(|| Denied::NoRule { rpc: rpc.chars().take(MAX_SHOWN).collect() })?;
    if rule == Rule::Anyone {
        return Ok(());
    }
    let caller = caller.ok_or_else(|| Denied::NoCertificate { rpc: rpc.to_owned() })?;
    match (rule, &caller.identity) {
        (Rule::Anyone, _) | (Rule::Certified, Identity::Agent { .. } | Identity::Controller) => Ok(()),
        (Rule::Certified, Identity::Operator { .. }) => role_of(caller).map(|_| ()),
        (Rule::Agent, Identity::Agent { site, agent }) => own(caller, rpc, (site, agent), resource),
        (Rule::AtLeast(needs), Identity::Operator { .. }) => {
            let needs = needs.max(role_for(resource));
            let has = role_of(caller)?;
            if has >= needs {
                Ok(())
            } else {
                Err(Denied::RoleTooSmall { caller: caller.identity.clone(), has, needs, rpc: rpc.to_owned() })
            }
        }
        (Rule::Agent, Identity::Operator { .. } | Identity::Controller)
        | (Rule::AtLeast(_), Identity::Agent { .. } | Identity::Controller) => {
            Err(Denied::WrongKind { caller: caller.identity.clone(), rpc: rpc.to_owned() })
        }
    }
}

fn role_of(caller: &Caller) -> Result<Role, Denied> {
    caller.role.ok_or_else(|| Denied::NoRole(caller.identity.clone()))
}

fn own(caller: &Caller, rpc: &str, itself: (&Name, &Name), resource: &Resource<'_>) -> Result<(), Denied> {
    match resource {
        Resource::OfAgent { site, agent } if (*site, *agent) != itself => Err(Denied::NotItsOwn {
            caller: caller.identity.clone(),
            other: Identity::Agent { site: (*site).clone(), agent: (*agent).clone() },
            rpc: rpc.to_owned(),
        }),
        Resource::Unspecified | Resource::Kind(_) | Resource::OfAgent { .. } => Ok(()),
    }
}

/// What touching this resource takes at least, whatever the rpc. Kinds are the user's text: what is not listed takes nothing more.
fn role_for(resource: &Resource<'_>) -> Role {
    match resource {
        Resource::Kind("Operator") => Role::Admin,
        Resource::Unspecified | Resource::Kind(_) | Resource::OfAgent { .. } => Role::Viewer,
    }
}

/// The rule of an rpc, by its full path.
#[must_use]
pub fn rule_for(rpc: &str) -> Option<Rule> {
    RULES.iter().find(|(path, _)| *path == rpc).map(|(_, rule)| *rule)
}

const VIEWER: Rule = Rule::AtLeast(Role::Viewer);
const OPERATOR: Rule = Rule::AtLeast(Role::Operator);
const APPROVER: Rule = Rule::AtLeast(Role::Approver);
const ADMIN: Rule = Rule::AtLeast(Role::Admin);

/// Every rpc with its rule.
pub const RULES: &[(&str, Rule)] = &[
    ("/grpc.health.v1.Health/Check", Rule::Anyone),
    ("/grpc.health.v1.Health/Watch", Rule::Anyone),
    ("/grpc.health.v1.Health/List", Rule::Anyone),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Rule::Certified),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Rule::Certified),
    ("/muster.agent.v1.LinkService/Session", Rule::Agent),
    ("/muster.v1.AuditService/List", ADMIN),
    ("/muster.v1.AuditService/Verify", VIEWER),
    ("/muster.v1.EnrollmentService/Enroll", Rule::Anyone),
    ("/muster.v1.EnrollmentService/Renew", Rule::Agent),
    ("/muster.v1.FleetService/CreateJoinToken", ADMIN),
    ("/muster.v1.FleetService/GetAuthorities", VIEWER),
    ("/muster.v1.FleetService/IssueOperator", ADMIN),
    ("/muster.v1.FleetService/ListAgents", VIEWER),
    ("/muster.v1.FleetService/ListOperators", ADMIN),
    ("/muster.v1.FleetService/RenewOperator", VIEWER),
    ("/muster.v1.FleetService/RetireAuthority", ADMIN),
    ("/muster.v1.FleetService/RevokeAgent", ADMIN),
    ("/muster.v1.FleetService/RevokeOperator", ADMIN),
    ("/muster.v1.FleetService/RotateAuthority", ADMIN),
    ("/muster.v1.InventoryService/Apply", OPERATOR),
    ("/muster.v1.InventoryService/Delete", ADMIN),
    ("/muster.v1.InventoryService/Get", VIEWER),
    ("/muster.v1.InventoryService/List", VIEWER),
    ("/muster.v1.InventoryService/ListSchedules", VIEWER),
    ("/muster.v1.InventoryService/Pause", OPERATOR),
    ("/muster.v1.InventoryService/Resume", OPERATOR),
    ("/muster.v1.OperationService/Approve", APPROVER),
    ("/muster.v1.OperationService/Cancel", OPERATOR),
    ("/muster.v1.OperationService/Discard", OPERATOR),
    ("/muster.v1.OperationService/Get", VIEWER),
    ("/muster.v1.OperationService/List", VIEWER),
    ("/muster.v1.OperationService/Reject", APPROVER),
    ("/muster.v1.OperationService/Resolve", APPROVER),
    ("/muster.v1.OperationService/Retry", OPERATOR),
    ("/muster.v1.OperationService/Wait", VIEWER),
    ("/muster.v1.OperationService/Watch", VIEWER),
    ("/muster.v1.RecoveryService/Backup", OPERATOR),
    ("/muster.v1.RecoveryService/Failover", APPROVER),
    ("/muster.v1.RecoveryService/FailoverSite", APPROVER),
    ("/muster.v1.RecoveryService/Adopt", APPROVER),
    ("/muster.v1.RecoveryService/AdoptRoute", OPERATOR),
    ("/muster.v1.RecoveryService/PointRoute", OPERATOR),
    ("/muster.v1.RecoveryService/ShowRoute", VIEWER),
    ("/muster.v1.RecoveryService/Fence", OPERATOR),
    ("/muster.v1.RecoveryService/Manage", OPERATOR),
    ("/muster.v1.RecoveryService/Preflight", VIEWER),
    ("/muster.v1.RecoveryService/Rejoin", OPERATOR),
    ("/muster.v1.RecoveryService/Restore", OPERATOR),
    ("/muster.v1.RecoveryService/RunHook", OPERATOR),
    ("/muster.v1.RecoveryService/Switchover", OPERATOR),
    ("/muster.v1.RecoveryService/SwitchoverSite", OPERATOR),
    ("/muster.v1.RecoveryService/Unfence", APPROVER),
    ("/muster.v1.RecoveryService/Verify", OPERATOR),
    ("/muster.v1.RepositoryService/Check", OPERATOR),
    ("/muster.v1.RepositoryService/Hold", OPERATOR),
    ("/muster.v1.RepositoryService/ListPoints", VIEWER),
    ("/muster.v1.RepositoryService/Prune", OPERATOR),
    ("/muster.v1.RepositoryService/Release", OPERATOR),
    ("/muster.v1.StatusService/Diagnose", OPERATOR),
    ("/muster.v1.StatusService/Get", VIEWER),
    ("/muster.v1.StatusService/ListFindings", VIEWER),
    ("/muster.v1.StatusService/ListHistory", VIEWER),
    ("/muster.v1.StatusService/Watch", VIEWER),
    ("/muster.v1.StatusService/WatchFindings", VIEWER),
    ("/muster.v1.StatusService/WhoAmI", Rule::Certified),
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_common::time::Timestamp;

    use super::*;
    use crate::certificate::PeerCertificate;
    use crate::fingerprint::Fingerprint;

    fn caller(identity: Identity, role: Option<Role>) -> Caller {
        let certificate = PeerCertificate {
            identity: identity.clone(),
            serial: "01".parse().unwrap(),
            not_before: Timestamp(0),
            not_after: Timestamp(i64::MAX),
            key_fingerprint: Fingerprint::of(b"key"),
            public_key: Vec::new(),
            authority: None,
        };
        Caller { identity, role, certificate: Arc::new(certificate), peer: "127.0.0.1:1".parse().unwrap() }
    }

    fn operator(role: Option<Role>) -> Caller {
        caller(Identity::Operator { name: "ayse".parse().unwrap() }, role)
    }

    fn agent(name: &str) -> Caller {
        caller(Identity::Agent { site: "istanbul".parse().unwrap(), agent: name.parse().unwrap() }, None)
    }

    #[test]
    fn every_rpc_that_is_served_has_a_rule_and_every_rule_an_rpc() {
        let outside = ["/grpc.health.v1.", "/grpc.reflection."];
        let served: Vec<String> = muster_wire::descriptor::rpcs().filter(|rpc| rpc.starts_with("/muster.")).collect();
        assert!(served.len() > 20, "{served:?}");
        for rpc in &served {
            assert!(rule_for(rpc).is_some(), "{rpc} has no rule: add one to RULES");
        }
        for (rpc, _) in RULES {
            let known = served.iter().any(|served| served == rpc) || outside.iter().any(|prefix| rpc.starts_with(prefix));
            assert!(known, "the rule for {rpc} names no rpc");
        }
        for (n, (rpc, _)) in RULES.iter().enumerate() {
            assert!(!RULES[..n].iter().any(|(other, _)| other == rpc), "{rpc} has two rules");
        }
    }

    #[test]
    fn without_a_certificate_only_enroll_and_health_pass() {
        let open: Vec<&str> = RULES.iter().map(|(rpc, _)| *rpc).filter(|rpc| allowed(None, rpc, &Resource::Unspecified).is_ok()).collect();
        assert_eq!(
            open,
            [
                "/grpc.health.v1.Health/Check",
                "/grpc.health.v1.Health/Watch",
                "/grpc.health.v1.Health/List",
                "/muster.v1.EnrollmentService/Enroll"
            ]
        );
    }

    #[test]
    fn an_rpc_without_a_rule_is_refused_to_everybody() {
        for who in [None, Some(operator(Some(Role::Admin))), Some(agent("a"))] {
            for rpc in ["/muster.v1.FleetService/Explode", "", "/muster.v1.StatusService/Get/", "muster.v1.StatusService/Get"] {
                assert!(matches!(allowed(who.as_ref(), rpc, &Resource::Unspecified), Err(Denied::NoRule { .. })), "{rpc}");
            }
        }
    }

    #[test]
    fn each_role_may_do_what_it_says_and_what_stands_before_it() {
        for (rpc, least) in [
            ("/muster.v1.StatusService/Get", Role::Viewer),
            ("/muster.v1.RecoveryService/Restore", Role::Operator),
            ("/muster.v1.OperationService/Resolve", Role::Approver),
            ("/muster.v1.FleetService/CreateJoinToken", Role::Admin),
            ("/muster.v1.InventoryService/Delete", Role::Admin),
        ] {
            for role in Role::ALL {
                let answer = allowed(Some(&operator(Some(role))), rpc, &Resource::Unspecified);
                assert_eq!(answer.is_ok(), role >= least, "{role} {rpc}");
            }
            assert!(matches!(allowed(Some(&operator(None)), rpc, &Resource::Unspecified), Err(Denied::NoRole(_))));
            assert!(matches!(allowed(Some(&agent("a")), rpc, &Resource::Unspecified), Err(Denied::WrongKind { .. })));
        }
    }

    #[test]
    fn declaring_operators_takes_an_admin_although_apply_takes_less() {
        let rpc = "/muster.v1.InventoryService/Apply";
        let somebody = operator(Some(Role::Operator));
        assert!(allowed(Some(&somebody), rpc, &Resource::Kind("Component")).is_ok());
        assert!(matches!(allowed(Some(&somebody), rpc, &Resource::Kind("Operator")), Err(Denied::RoleTooSmall { needs: Role::Admin, .. })));
    }

    #[test]
    fn an_agent_speaks_for_itself_only() {
        let (istanbul, ankara) = ("istanbul".parse().unwrap(), "ankara".parse().unwrap());
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        for rpc in ["/muster.agent.v1.LinkService/Session", "/muster.v1.EnrollmentService/Renew"] {
            assert!(allowed(Some(&agent("a")), rpc, &Resource::OfAgent { site: &istanbul, agent: &a }).is_ok());
            for (site, name) in [(&istanbul, &b), (&ankara, &a)] {
                let answer = allowed(Some(&agent("a")), rpc, &Resource::OfAgent { site, agent: name });
                assert!(matches!(answer, Err(Denied::NotItsOwn { .. })), "{site}/{name}");
            }
            assert!(matches!(allowed(Some(&operator(Some(Role::Admin))), rpc, &Resource::Unspecified), Err(Denied::WrongKind { .. })));
        }
    }

    #[test]
    fn every_refusal_has_a_hint() {
        let who = Identity::Controller;
        let rpc = "/x/Y".to_owned();
        for denied in [
            Denied::NoCertificate { rpc: rpc.clone() },
            Denied::Expired(who.clone()),
            Denied::Revoked(who.clone()),
            Denied::NoRole(who.clone()),
            Denied::RoleTooSmall { caller: who.clone(), has: Role::Viewer, needs: Role::Admin, rpc: rpc.clone() },
            Denied::WrongKind { caller: who.clone(), rpc: rpc.clone() },
            Denied::NotItsOwn { caller: who.clone(), other: who.clone(), rpc: rpc.clone() },
            Denied::NoRule { rpc },
        ] {
            assert!(!denied.fault().hint.is_empty(), "{denied:?}");
        }
    }
}
