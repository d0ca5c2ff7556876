//! What a keeper reports, to protobuf and back. Nonces never leave the agent here.

use muster_common::fault::Fault;
use muster_common::name::InstanceName;
use muster_failover::control::{MOST_PLEDGES, Pledge, Role, Why};
use muster_failover::directive::{Kept, Known};
use muster_failover::here::{Span, Uptime};
use muster_failover::look::Server;

use super::directive::{names_from_proto, question_from_proto, question_to_proto};
use super::{
    limit_from_proto, limit_to_proto, line_from_proto, line_to_proto, mark_from_proto, mark_to_proto, position_from_proto,
    position_to_proto, rule_from_proto, rule_to_proto,
};
use crate::convert::{duration_from_proto, duration_to_proto, id_from_proto, name_from_proto, refused, required};
use crate::proto::agent::v1::{self as link, kept_pledge, kept_role};

/// The longest text of trouble that is taken, in characters.
const MOST_TROUBLE: usize = 2_000;

/// A report.
#[must_use]
pub fn kept_to_proto(kept: &Kept) -> link::KeptReport {
    let known = kept.known.as_ref();
    link::KeptReport {
        component: kept.instance.component.to_string(),
        instance: kept.instance.instance.to_string(),
        role: known.map(|known| role_to_proto(&known.role)),
        line: known.map(|known| line_to_proto(&known.line)),
        writer: known.map(|known| known.writer.to_string()).unwrap_or_default(),
        position: kept.position.as_ref().map(position_to_proto),
        rule: known.and_then(|known| known.rule.as_ref()).map(rule_to_proto),
        sequence: known.map_or(0, |known| known.sequence),
        pledges: known.map(|known| known.pledges.iter().map(pledge_to_proto).collect()).unwrap_or_default(),
        permit: kept.permit,
        server: server_to_proto(kept.server).into(),
        locked: kept.locked,
        asks: kept.asks.as_ref().map(question_to_proto),
        boot_id: kept.boot.to_string(),
        uptime: Some(duration_to_proto(kept.now.0)),
        trouble: kept.trouble.clone(),
        others: known.map(|known| known.others.iter().map(ToString::to_string).collect()).unwrap_or_default(),
    }
}

/// A report.
///
/// # Errors
/// Where a field of it cannot be read.
pub fn kept_from_proto(report: &link::KeptReport) -> Result<Kept, Fault> {
    let instance = InstanceName {
        component: name_from_proto(&report.component, "kept.component")?,
        instance: name_from_proto(&report.instance, "kept.instance")?,
    };
    Ok(Kept {
        instance,
        known: report.role.as_ref().map(|role| known_from_proto(report, role)).transpose()?,
        position: position_from_proto(report.position.as_ref(), "kept.position")?,
        permit: report.permit,
        server: match report.server() {
            link::KeptServer::Stopped => Server::Stopped,
            link::KeptServer::ReadOnly => Server::ReadOnly,
            link::KeptServer::ReadWrite => Server::ReadWrite,
            link::KeptServer::Unclear | link::KeptServer::Unspecified => Server::Unclear,
        },
        locked: report.locked,
        asks: report.asks.as_ref().map(question_from_proto).transpose()?,
        boot: id_from_proto(&report.boot_id, "kept.boot_id")?,
        now: Uptime(duration_from_proto(&required(report.uptime, "kept.uptime")?, "kept.uptime")?),
        trouble: report.trouble.chars().take(MOST_TROUBLE).collect(),
    })
}

fn known_from_proto(report: &link::KeptReport, role: &link::KeptRole) -> Result<Known, Fault> {
    if report.pledges.len() > MOST_PLEDGES {
        return Err(refused("kept.pledges", format!("more than {MOST_PLEDGES}")));
    }
    Ok(Known {
        role: role_from_proto(role)?,
        line: line_from_proto(report.line.as_ref(), "kept.line")?,
        writer: name_from_proto(&report.writer, "kept.writer")?,
        rule: report.rule.as_ref().map(|rule| rule_from_proto(Some(rule), "kept.rule")).transpose()?,
        sequence: report.sequence,
        pledges: report.pledges.iter().map(pledge_from_proto).collect::<Result<_, _>>()?,
        others: names_from_proto(&report.others, "kept.others")?,
    })
}

fn server_to_proto(server: Server) -> link::KeptServer {
    match server {
        Server::Stopped => link::KeptServer::Stopped,
        Server::ReadOnly => link::KeptServer::ReadOnly,
        Server::ReadWrite => link::KeptServer::ReadWrite,
        Server::Unclear => link::KeptServer::Unclear,
    }
}

fn role_to_proto(role: &Role) -> link::KeptRole {
    let role = match role {
        Role::Unmanaged => kept_role::Role::Unmanaged(link::UnmanagedRole {}),
        Role::Writer { reign } => kept_role::Role::Writer(link::WriterRole { reign: Some(mark_to_proto(reign)) }),
        Role::Stopped { reign, why, until, ceded_to } => kept_role::Role::Stopped(link::StoppedRole {
            reign: Some(mark_to_proto(reign)),
            why: why_to_proto(*why).into(),
            until: until.as_ref().map(limit_to_proto),
            ceded_to: ceded_to.as_ref().map(mark_to_proto),
        }),
        Role::Promoting { reign, until } => {
            kept_role::Role::Promoting(link::PromotingRole { reign: Some(mark_to_proto(reign)), until: Some(limit_to_proto(until)) })
        }
        Role::Follower { kept } => kept_role::Role::Follower(link::FollowerRole { kept: *kept }),
        Role::Held { why } => kept_role::Role::Held(link::HeldRole { why: why_to_proto(*why).into() }),
        Role::Absent => kept_role::Role::Absent(link::AbsentRole {}),
    };
    link::KeptRole { role: Some(role) }
}

fn role_from_proto(role: &link::KeptRole) -> Result<Role, Fault> {
    Ok(match required(role.role.as_ref(), "kept.role")? {
        kept_role::Role::Unmanaged(link::UnmanagedRole {}) => Role::Unmanaged,
        kept_role::Role::Writer(writer) => Role::Writer { reign: mark_from_proto(writer.reign.as_ref(), "kept.role.reign")? },
        kept_role::Role::Stopped(stopped) => Role::Stopped {
            reign: mark_from_proto(stopped.reign.as_ref(), "kept.role.reign")?,
            why: why_from_proto(stopped.why())?,
            until: stopped.until.as_ref().map(|until| limit_from_proto(until, "kept.role.until")).transpose()?,
            ceded_to: stopped.ceded_to.as_ref().map(|mark| mark_from_proto(Some(mark), "kept.role.ceded_to")).transpose()?,
        },
        kept_role::Role::Promoting(promoting) => Role::Promoting {
            reign: mark_from_proto(promoting.reign.as_ref(), "kept.role.reign")?,
            until: limit_from_proto(required(promoting.until.as_ref(), "kept.role.until")?, "kept.role.until")?,
        },
        kept_role::Role::Follower(follower) => Role::Follower { kept: follower.kept },
        kept_role::Role::Held(held) => Role::Held { why: why_from_proto(held.why())? },
        kept_role::Role::Absent(link::AbsentRole {}) => Role::Absent,
    })
}

fn why_to_proto(why: Why) -> link::StopReason {
    match why {
        Why::Operation => link::StopReason::Operation,
        Why::Fence => link::StopReason::Fence,
        Why::Asking => link::StopReason::Asking,
        Why::HigherReign => link::StopReason::HigherReign,
        Why::RolledBack => link::StopReason::RolledBack,
        Why::Strayed => link::StopReason::Strayed,
    }
}

fn why_from_proto(why: link::StopReason) -> Result<Why, Fault> {
    Ok(match why {
        link::StopReason::Operation => Why::Operation,
        link::StopReason::Fence => Why::Fence,
        link::StopReason::Asking => Why::Asking,
        link::StopReason::HigherReign => Why::HigherReign,
        link::StopReason::RolledBack => Why::RolledBack,
        link::StopReason::Strayed => Why::Strayed,
        link::StopReason::Unspecified => return Err(refused("kept.role.why", "is missing")),
    })
}

fn pledge_to_proto(pledge: &Pledge) -> link::KeptPledge {
    let span = pledge.span();
    let pledge = match pledge {
        Pledge::Candidacy { reign, against, nonce: _, span: _ } => {
            kept_pledge::Pledge::Candidacy(link::CandidacyPledge { reign: Some(mark_to_proto(reign)), against: against.to_string() })
        }
        Pledge::Patience { reign, span: _ } => kept_pledge::Pledge::Patience(link::PatiencePledge { reign: Some(mark_to_proto(reign)) }),
    };
    link::KeptPledge { pledge: Some(pledge), lasts: Some(duration_to_proto(span.lasts)), since: Some(duration_to_proto(span.from.0)) }
}

fn pledge_from_proto(pledge: &link::KeptPledge) -> Result<Pledge, Fault> {
    let lasts = duration_from_proto(&required(pledge.lasts, "kept.pledges.lasts")?, "kept.pledges.lasts")?;
    let from = duration_from_proto(&required(pledge.since, "kept.pledges.since")?, "kept.pledges.since")?;
    let span = Span { lasts, from: Uptime(from) };
    Ok(match required(pledge.pledge.as_ref(), "kept.pledges.pledge")? {
        kept_pledge::Pledge::Candidacy(candidacy) => Pledge::Candidacy {
            reign: mark_from_proto(candidacy.reign.as_ref(), "kept.pledges.reign")?,
            against: name_from_proto(&candidacy.against, "kept.pledges.against")?,
            nonce: None,
            span,
        },
        kept_pledge::Pledge::Patience(patience) => {
            Pledge::Patience { reign: mark_from_proto(patience.reign.as_ref(), "kept.pledges.reign")?, span }
        }
    })
}
