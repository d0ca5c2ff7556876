//! `muster operator`: who may call the controller.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_identity::context::{Contexts, OperatorContext};
use muster_identity::csr::Csr;
use muster_identity::endpoint::Endpoint;
use muster_identity::key::KeyPair;
use muster_service::clock;
use muster_wire::convert;
use muster_wire::proto::v1::{
    IssueOperatorRequest, IssueOperatorResponse, ListOperatorsRequest, ListOperatorsResponse, RevokeOperatorRequest,
};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;
use crate::render::amount::age;

/// The most operators that are listed.
const MOST: usize = 10_000;

/// The arguments of `muster operator`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a file with which an operator calls the controller: `muster context import FILE`.
    #[command(
        after_help = "Examples:\n  muster operator add ada --role operator\n  muster operator add grafana --role viewer --for 400d --file /etc/grafana/muster.yaml"
    )]
    Add {
        /// The operator's name. One that exists gets a new certificate and this role.
        name: Name,
        /// What the operator may do.
        #[arg(short, long, value_enum)]
        role: Role,
        /// The file, which must not exist. It holds the key: hand it over safely. Default: NAME.muster.yaml.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How long the certificate is good, up to 400d. Default: 90d.
        #[arg(long = "for", value_name = "DURATION", value_parser = muster_common::duration::parse)]
        lasts: Option<Duration>,
    },
    /// Lists operators.
    #[command(after_help = "Examples:\n  muster operator list")]
    List,
    /// Revokes an operator's certificates at once.
    #[command(after_help = "Examples:\n  muster operator revoke ada --reason \"has left\"")]
    Revoke {
        /// The operator.
        name: Name,
        /// Why, for the record.
        #[arg(short, long, value_name = "TEXT")]
        reason: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// What an operator may do, each with all before it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// See everything.
    Viewer,
    /// Declare, back up, restore, check, cancel.
    Operator,
    /// Give a word on unknown outcomes; approve.
    Approver,
    /// Let agents and operators in and out; delete.
    Admin,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

/// Adds, lists or revokes.
///
/// # Errors
/// Where the caller may not, consent is not given, or a file cannot be written.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    match arguments.action {
        Action::Add { name, role, file, lasts } => {
            let file = file.unwrap_or_else(|| PathBuf::from(format!("{name}.muster.yaml")));
            add(app, &controller, name, role, &file, lasts).await
        }
        Action::List => {
            let answer = ListOperatorsResponse { operators: all(&controller).await?, next_page_token: String::new() };
            app.console.show(&answer, "muster.v1.ListOperatorsResponse", || render::agents::operators(&answer.operators, clock::now()))?;
            Ok(Exit::Ok)
        }
        Action::Revoke { name, reason, yes } => revoke(app, &controller, &name, reason, yes).await,
    }
}

async fn add(app: &App, controller: &Controller, name: Name, role: Role, file: &Path, lasts: Option<Duration>) -> Result<Exit, Fault> {
    if file.exists() {
        return Err(Fault::refused(ErrorKind::AlreadyExists, format!("{} exists and may hold a key", file.display()))
            .hint("give another --file, or remove it first"));
    }
    let local = |what: &str, error: &dyn std::fmt::Display| Fault::refused(ErrorKind::FailedPrecondition, format!("{what}: {error}"));
    let key = KeyPair::generate().map_err(|error| local("make a key", &error))?;
    let csr_pem = Csr::request(&key).map_err(|error| local("make a certificate request", &error))?;
    let request = IssueOperatorRequest {
        name: name.to_string(),
        role: role.word().to_owned(),
        csr_pem,
        validity: lasts.map(convert::duration_to_proto),
    };
    let answer: IssueOperatorResponse = controller
        .call(Repeat::IfNotSent, &request, |request| {
            let mut client = controller.fleet();
            async move { client.issue_operator(request).await }
        })
        .await?;
    let endpoints: Vec<Endpoint> = answer
        .endpoints
        .iter()
        .map(|endpoint| {
            endpoint.parse().map_err(|error| Fault::failed(ErrorKind::Internal, format!("the controller's endpoints: {error}")))
        })
        .collect::<Result<_, _>>()?;
    // The file's context is named as the operator's own is: whose controller it is stays visible.
    let context = OperatorContext {
        name: controller.context.clone(),
        endpoints,
        authority: answer.ca_pem,
        certificate: answer.certificate_pem,
        key: key.to_pem(),
    };
    context.credentials().map_err(|error| Fault::failed(ErrorKind::Internal, format!("the certificate that was issued: {error}")))?;
    Contexts::single(context).store(file).map_err(|error| {
        local("write the operator's file", &error)
            .effect(muster_common::fault::Effect::Done)
            .hint(format!("the certificate was issued; its key is lost: `muster operator add {name} --role {}` again", role.word()))
    })?;
    app.console.note(&format!(
        "{} lets {name} in as {}; the certificate ends {}. Hand it over safely: it holds the key. There: `muster context import {}`",
        file.display(),
        role.word(),
        age(answer.expires_at.as_ref(), clock::now()),
        file.display()
    ));
    Ok(Exit::Ok)
}

async fn all(controller: &Controller) -> Result<Vec<muster_wire::proto::v1::Operator>, Fault> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListOperatorsRequest { page_size: 1_000, page_token };
        let answer = controller
            .call(Repeat::Read, &request, |request| {
                let mut client = controller.fleet();
                async move { client.list_operators(request).await }
            })
            .await?;
        all.extend(answer.operators);
        if answer.next_page_token.is_empty() || all.len() >= MOST {
            return Ok(all);
        }
        page_token = answer.next_page_token;
    }
}

async fn revoke(app: &App, controller: &Controller, name: &Name, reason: String, yes: bool) -> Result<Exit, Fault> {
    let lost =
        format!("Operator {name} will be refused at once, also on calls that are under way. Operations that {name} started go on.\n");
    app.console.consent(&lost, name.as_str(), yes).await?;
    let request = RevokeOperatorRequest { name: name.to_string(), reason };
    controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.fleet();
            async move { client.revoke_operator(request).await }
        })
        .await?;
    app.console.note(&format!("operator {name} is revoked"));
    Ok(Exit::Ok)
}
